//! The whole thing in one command, on a real PostgreSQL.

pub mod client;
pub mod cluster;
pub mod finder;
pub mod scratch;
