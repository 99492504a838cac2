//! One module a target.

pub mod frames;
pub mod reply;
pub mod router;
pub mod session;
pub mod sql;
pub mod startup;
pub mod target;

mod pseudo_server;
mod wire;

use std::sync::{Arc, LazyLock};

use rowarden::policy::file::Policy;
use rowarden::policy::jira::operation::Group;
use rowarden::policy::jira::table::JiraPolicy;

/// The policy that is built in, read once.
fn policy() -> Arc<Policy> {
    static POLICY: LazyLock<Arc<Policy>> =
        LazyLock::new(|| Arc::new(Policy::shipped().expect("the shipped policy is right")));
    Arc::clone(&POLICY)
}

/// The table that is built in with every group open, read once.
fn jira_policy() -> Arc<JiraPolicy> {
    static POLICY: LazyLock<Arc<JiraPolicy>> = LazyLock::new(|| {
        let shipped = JiraPolicy::shipped().expect("the shipped table is right");
        Arc::new(shipped.open(Group::ALL))
    });
    Arc::clone(&POLICY)
}
