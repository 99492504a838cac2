#![no_main]

use libfuzzer_sys::fuzz_target;
use rowarden_fuzz::{checks, worker};

fuzz_target!(|data: &[u8]| worker::run(checks::reply::check, data));
