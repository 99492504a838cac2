//! The audit log: one event type for everything that happens, recorded before it happens.

pub mod event;
