//! rowarden, the read-only warden: it stands on the wire and lets every read pass and no write.
//!
//! The modules, in the order in which traffic meets them.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;

pub mod listen;

pub mod dial;

pub mod jira;
pub mod policy;
pub mod postgres;

pub mod audit;

pub mod demo;
