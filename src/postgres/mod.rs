//! The PostgreSQL gate. Pure half first, in the order in which a connection meets it, then the half
//! that moves bytes.

pub mod frame;
pub mod message;
pub mod startup;

pub mod catalog;
pub mod handshake;
pub mod posture;

pub mod scram;
pub mod users;

pub mod outbox;
pub mod prepared;
pub mod reply;
pub mod session;

pub mod dismissal;

pub mod catalogs;
pub mod verdicts;

pub mod cancel;
pub mod upstream;
pub mod wire;

pub mod clock;
pub mod credential;
pub mod entrance;
mod farewell;
pub mod gate;
pub mod gatekeeper;
pub mod identity;
pub mod login;
pub mod pump;
pub mod stopper;
mod visit;
