//! The checks of the fuzz targets, over the inputs that are committed for them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    unreachable_pub,
    reason = "a test fails by panicking; the checks are shared with the fuzz targets"
)]

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;
use std::thread;

#[path = "../fuzz/src/checks/mod.rs"]
mod checks;

/// As large as the gate's own judges have it, and as much again for a build without optimisation.
const STACK_BYTES: usize = 128 << 20;

fn run_over(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs = fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path());
    let inputs: Vec<_> = inputs.filter(|path| path.is_file()).collect();
    assert!(inputs.len() >= 5, "only {} inputs for {target}", inputs.len());
    let all = move || {
        let fails = |path: &&std::path::PathBuf| {
            let input = fs::read(path).expect("an input");
            catch_unwind(|| check(&input)).is_err()
        };
        inputs.iter().filter(fails).map(|path| path.display().to_string()).collect::<Vec<_>>()
    };
    let worker = thread::Builder::new().stack_size(STACK_BYTES).spawn(all).expect("a thread");

    let failed = worker.join().expect("an outcome");

    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_readers_of_frames_hold_on_the_saved_inputs() {
    run_over("frames", checks::frames::check);
}

#[test]
fn whole_conversations_hold_on_the_saved_inputs() {
    run_over("session", checks::session::check);
}

#[test]
fn the_judge_holds_on_the_saved_inputs() {
    run_over("sql", checks::sql::check);
}

#[test]
fn the_start_up_holds_on_the_saved_inputs() {
    run_over("startup", checks::startup::check);
}

#[test]
fn the_judge_of_requests_holds_on_the_saved_inputs() {
    run_over("target", checks::target::check);
}

#[test]
fn the_table_of_operations_holds_on_the_saved_inputs() {
    run_over("router", checks::router::check);
}

#[test]
fn the_rewriter_of_answers_holds_on_the_saved_inputs() {
    run_over("reply", checks::reply::check);
}
