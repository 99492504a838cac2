"""A file system that passes everything on to a folder, and fails when it is told to.

    faultfs.py FOLDER MOUNTPOINT MODE_FILE

The mode file holds one word, read before every write and sync: `ok`; `eio` (they fail with EIO);
`sync-eio` (only syncs fail); `erofs` (writes fail with EROFS); `stall` (they do not return until the word is another, and a file `MODE_FILE.stalled` appears). For
tests/audit_faults.rs; needs Debian's python3-fusepy.
"""

import errno
import os
import sys
import time

from fusepy import FUSE, FuseOSError, Operations


class Faulty(Operations):
    def __init__(self, folder, mode_file):
        self.folder, self.mode_file = folder, mode_file

    def path(self, path):
        return self.folder + path

    def mode(self):
        with open(self.mode_file, encoding="ascii") as file:
            return file.read().strip()

    def obey(self, kind):
        while self.mode() == "stall":
            open(self.mode_file + ".stalled", "w", encoding="ascii").close()
            time.sleep(0.005)
        if self.mode() == "eio" or (kind == "sync" and self.mode() == "sync-eio"):
            raise FuseOSError(errno.EIO)
        if self.mode() == "erofs":
            raise FuseOSError(errno.EROFS)

    def getattr(self, path, handle=None):
        found = os.lstat(self.path(path))
        return {key: getattr(found, key) for key in dir(found) if key.startswith("st_")}

    def readdir(self, path, handle):
        return [".", ".."] + os.listdir(self.path(path))

    def mkdir(self, path, mode):
        os.mkdir(self.path(path), mode)

    def chmod(self, path, mode):
        os.chmod(self.path(path), mode)

    def create(self, path, mode, info=None):
        return os.open(self.path(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path, flags):
        return os.open(self.path(path), os.O_RDWR)

    def read(self, path, size, offset, handle):
        return os.pread(handle, size, offset)

    def write(self, path, data, offset, handle):
        self.obey("write")
        return os.pwrite(handle, data, offset)

    def truncate(self, path, length, handle=None):
        os.truncate(self.path(path), length)

    def fsync(self, path, datasync, handle):
        self.obey("sync")
        os.fsync(handle)

    def flush(self, path, handle):
        pass

    def release(self, path, handle):
        os.close(handle)

    def rename(self, old, new):
        os.rename(self.path(old), self.path(new))

    def unlink(self, path):
        os.unlink(self.path(path))


if __name__ == "__main__":
    FUSE(Faulty(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, nothreads=False)
