//! The rules, as pure functions: a request in, a [`verdict::Verdict`] out.
//!
//! Nothing here opens a socket, reads a clock, logs or awaits. That is what makes the rules
//! testable with a table, fuzzable with a string, and equal for every gate that asks. If a rule
//! needs to know something about the world, the caller puts it into the request.

pub mod catalog;
pub mod document;
mod explanation;
pub mod file;
pub mod jira;
pub mod limits;
pub mod reason;
pub mod sql;
pub mod verdict;
