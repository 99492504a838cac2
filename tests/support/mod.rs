//! What the live tests share.
//!
//! A test that needs PostgreSQL fails without one and says how to install it: a security suite that
//! silently skips is worth nothing.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what it shares"
)]

pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod gate;
pub(crate) mod recorder;
pub(crate) mod serving;
pub(crate) mod talk;
pub(crate) mod tap;
pub(crate) mod tls;
pub(crate) mod users;

use std::thread;
use std::time::{Duration, Instant};

use rowarden::demo::cluster::{Cluster, ClusterOptions};
use rowarden::demo::finder::{Installation, Search};

/// The PostgreSQL of this machine.
pub(crate) fn installation() -> Installation {
    Search::here(None).find().unwrap_or_else(|error| panic!("{error}"))
}

/// A fresh cluster of its own for one test.
pub(crate) fn cluster() -> Cluster {
    cluster_with(&ClusterOptions::default())
}

/// A fresh cluster of this kind.
pub(crate) fn cluster_with(options: &ClusterOptions) -> Cluster {
    Cluster::start(&installation(), options).unwrap_or_else(|error| panic!("{error}"))
}

/// Asks until there is an answer. Nobody waits for the whole minute unless the test fails.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_mins(1);
    while Instant::now() < deadline {
        if let Some(answer) = ask() {
            return answer;
        }
        thread::park_timeout(Duration::from_millis(10));
    }
    panic!("waited in vain: {what}")
}
