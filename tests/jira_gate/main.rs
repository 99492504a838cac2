//! The JIRA gate from outside: bare sockets before it, a site that records behind it. Each test of
//! `checklist` is one numbered case of the protocol checklist; after an attack the test looks at what
//! the site has seen, and not only at the answer.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod answers;
mod checklist;
mod client;
mod clients;
mod gate;
mod site;
#[path = "../support/mod.rs"]
mod support;
