//! What the live tests share.
//!
//! A test that needs PostgreSQL fails without one and says how to install it: a security suite that
//! silently skips is worth nothing.
#![allow(dead_code, reason = "every test program uses another part")]
#![allow(clippy::panic, reason = "a test fails by panicking, also in what it shares")]

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
