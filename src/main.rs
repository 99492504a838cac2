//! The one binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    rowarden::cli::run(std::env::args_os()).into()
}
