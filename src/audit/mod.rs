//! The audit log: one event type for everything that happens, recorded before it happens.
//!
//! Road of an entry: [`event`] (what happened, no clock and no file) → [`redact`] (what of the SQL
//! text may be kept) → [`line`](mod@line) (the exact bytes) → [`log`] (one lock, one flusher) →
//! `writer` (whole lines or none) → `segment` (the files, found and repaired on start).
//!
//! The bytes of a line without its newline are what a Merkle leaf is taken over and what every
//! export is a function of, so nothing ever changes a line that has been written: checkpoints and
//! rotation belong beside `segment`, sinks follow the files with a cursor, and exports and
//! verification read lines and know nothing of this road.

pub mod event;
mod json;
pub mod line;
pub mod log;
pub mod redact;
mod segment;
mod writer;
