//! Runs a check on a thread with a large stack, as the gate itself judges on one.
//!
//! libFuzzer calls its target on the main thread, whose stack is 8 MiB. Coverage is counted for the
//! whole process, so it does not matter which thread runs. libFuzzer also aborts at every panic, even
//! one that the judge catches and turns into a refusal; here only a panic that leaves the check
//! counts.

use std::cell::RefCell;
use std::panic;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// Four times the gate's own: the sanitizer's frames are larger.
const STACK_BYTES: usize = 256 << 20;

type Check = fn(&[u8]);

struct Worker {
    jobs: SyncSender<(Check, Vec<u8>)>,
    outcomes: Receiver<Result<(), String>>,
}

thread_local! {
    /// On the worker: words and place of the last panic. `None` on every other thread.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `check` over `data`.
///
/// # Panics
/// When the check panics, with its words.
pub fn run(check: Check, data: &[u8]) {
    static WORKER: OnceLock<Mutex<Worker>> = OnceLock::new();
    let worker = WORKER.get_or_init(|| Mutex::new(start()));
    let worker = worker.lock().unwrap_or_else(PoisonError::into_inner);
    worker.jobs.send((check, data.to_vec())).expect("the worker takes jobs");
    if let Err(words) = worker.outcomes.recv().expect("the worker answers") {
        panic!("{words}");
    }
}

fn start() -> Worker {
    let (jobs, to_do) = sync_channel::<(Check, Vec<u8>)>(0);
    let (done, outcomes) = sync_channel(0);
    let elsewhere = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let here = LAST_PANIC
            .with_borrow_mut(|last| last.as_mut().map(|last| *last = panic.to_string()).is_some());
        if !here {
            elsewhere(panic);
        }
    }));
    let work = move || {
        LAST_PANIC.set(Some(String::new()));
        for (check, data) in to_do {
            let outcome = panic::catch_unwind(|| check(&data))
                .map_err(|_| LAST_PANIC.with_borrow(|last| last.clone()).unwrap_or_default());
            if done.send(outcome).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread");
    Worker { jobs, outcomes }
}
