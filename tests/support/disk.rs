//! A disk so small that a test can fill it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system in memory, gone with this value.
pub(crate) struct Tmpfs(TempDir);

impl Tmpfs {
    /// One of 64 KiB; `None` where mounting is not allowed.
    pub(crate) fn mount() -> Option<Self> {
        Self::mount_of("64k")
    }

    /// One of this size; `None` where mounting is not allowed.
    pub(crate) fn mount_of(size: &str) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output()
            .ok()?;
        mount.status.success().then(|| Self(dir))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) {
        let mut filler = File::create(self.filler()).unwrap();
        while filler.write_all(&[0; 512]).is_ok() {}
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazy: a failed test may still hold files open.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
