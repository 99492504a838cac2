//! One module a target.

pub mod frames;
pub mod session;
pub mod sql;
pub mod startup;

mod pseudo_server;
mod wire;

use std::sync::{Arc, LazyLock};

use rowarden::policy::file::Policy;

/// The policy that is built in, read once.
fn policy() -> Arc<Policy> {
    static POLICY: LazyLock<Arc<Policy>> =
        LazyLock::new(|| Arc::new(Policy::shipped().expect("the shipped policy is right")));
    Arc::clone(&POLICY)
}
