//! The audit log: one event type for everything that happens, recorded before it happens.
//!
//! Road of an entry: [`event`] (what happened, no clock and no file) → [`redact`] (what of the SQL
//! text may be kept) → [`line`](mod@line) (the exact bytes) → [`log`] → `desk` (one writer, for which
//! nobody waits long) → `writer` (whole lines or none) → the newest of the [`files`], which `segment`
//! has found, checked and repaired on start.
//!
//! Behind it the `keeper` hashes what is written into the tree of [`merkle`] and signs
//! [`note`](mod@note)s about it with the key of [`keys`]; the `archive` compresses and removes old
//! files as [`keeping`] says.
//!
//! The bytes of a line without its newline are what a Merkle leaf is taken over and what every
//! export is a function of, so nothing ever changes a line that has been written.

mod archive;
mod desk;
pub mod event;
pub mod export;
pub mod files;
pub mod filter;
mod http;
mod json;
mod keeper;
pub mod keeping;
pub mod keys;
pub mod line;
pub mod log;
pub mod merkle;
pub mod note;
mod process;
pub mod redact;
pub mod report;
pub mod schema;
mod segment;
pub mod verify;
mod writer;
