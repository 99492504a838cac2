//! `rowarden audit keygen`, `verify` and `prove`.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::audit::keys::{self, KeyError};
use crate::audit::note::Verifier;
use crate::audit::verify::{self, Broken, Whole};
use crate::cli::Exit;
use crate::cli::audit::{Place, Progress, bad_argument, failed, with_causes};

/// Make the key that signs checkpoints; the gate does so itself on its first start
#[derive(Args, Debug)]
pub(super) struct Keygen {
    #[command(flatten)]
    place: Place,
}

/// Verify that no line was changed, removed or put in
#[derive(Args, Debug)]
pub(super) struct Verify {
    #[command(flatten)]
    place: Place,
    /// A public key that came another way than with the log
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// A checkpoint that was kept elsewhere: the log must agree with it, and is read from there on
    #[arg(long, value_name = "FILE")]
    from_checkpoint: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Print a proof that a line is in the log, to be checked by anyone with the public key
#[derive(Args, Debug)]
pub(super) struct Prove {
    #[command(flatten)]
    place: Place,
    /// The line's number
    seq: u64,
    /// A public key that came another way than with the log
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn keygen(keygen: &Keygen, out: &mut impl Write) -> io::Result<Exit> {
    let dir = match keygen.place.folder(out)? {
        Ok(dir) => dir,
        Err(exit) => return Ok(exit),
    };
    DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
    match keys::make(&dir) {
        Ok(key) => {
            write!(out, "{}", key.text())?;
            Ok(Exit::Good)
        }
        Err(error @ KeyError::Exists(_)) => Ok(bad_argument(error)),
        Err(error) => Ok(failed(&error)),
    }
}

pub(super) fn verify(verify: &Verify, out: &mut impl Write) -> io::Result<Exit> {
    let dir = match verify.place.folder(out)? {
        Ok(dir) => dir,
        Err(exit) => return Ok(exit),
    };
    let key = match keys::verifier(verify.key.as_ref().unwrap_or(&dir)) {
        Ok(key) => key,
        Err(error) => return Ok(failed(&error)),
    };
    let outcome = checked(verify, &dir, &key);
    if verify.json {
        writeln!(out, "{}", as_json(&key, &outcome))?;
        return Ok(if outcome.is_ok() { Exit::Good } else { Exit::Failed });
    }
    match outcome {
        Ok(whole) => {
            tell(&whole, &key, out)?;
            Ok(Exit::Good)
        }
        Err(broken) => Ok(failed(&broken)),
    }
}

fn checked(verify: &Verify, dir: &std::path::Path, key: &Verifier) -> Result<Whole, Broken> {
    let known = match &verify.from_checkpoint {
        None => None,
        Some(file) => {
            let known = verify::checkpoint_in(file, key)?;
            Some(known.ok_or_else(|| Broken::NoCheckpoint(file.clone()))?)
        }
    };
    let mut progress = Progress::start();
    verify::verify(dir, key, known.as_ref(), |bytes| progress.add(bytes))
}

fn tell(whole: &Whole, key: &Verifier, out: &mut impl Write) -> io::Result<()> {
    let Whole { first, next, signed, checkpoints, torn } = whole;
    writeln!(out, "whole      lines {first} to {}", next.saturating_sub(1))?;
    writeln!(out, "signed     the first {signed}, by {}", key.name())?;
    writeln!(out, "agreeing   {checkpoints} checkpoints")?;
    if *first > 0 {
        writeln!(out, "not read   lines 0 to {}: removed, or before the checkpoint", first - 1)?;
    }
    if next > signed {
        writeln!(out, "unsigned   {} lines, until the next checkpoint", next - signed)?;
    }
    if *torn > 0 {
        writeln!(out, "unfinished {torn} bytes of a line that is being written")?;
    }
    Ok(())
}

fn as_json(key: &Verifier, outcome: &Result<Whole, Broken>) -> serde_json::Value {
    match outcome {
        Ok(whole) => json!({
            "whole": true,
            "log": key.name(),
            "first": whole.first,
            "next": whole.next,
            "signed": whole.signed,
            "checkpoints": whole.checkpoints,
            "torn_bytes": whole.torn,
        }),
        Err(broken) => json!({ "whole": false, "log": key.name(), "why": with_causes(broken) }),
    }
}

pub(super) fn prove(prove: &Prove, out: &mut impl Write) -> io::Result<Exit> {
    let dir = match prove.place.folder(out)? {
        Ok(dir) => dir,
        Err(exit) => return Ok(exit),
    };
    let key = match keys::verifier(prove.key.as_ref().unwrap_or(&dir)) {
        Ok(key) => key,
        Err(error) => return Ok(failed(&error)),
    };
    match verify::prove(&dir, &key, prove.seq) {
        Ok(proof) => {
            out.write_all(proof.as_bytes())?;
            Ok(Exit::Good)
        }
        Err(broken) => Ok(failed(&broken)),
    }
}
