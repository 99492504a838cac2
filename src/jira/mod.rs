//! The JIRA gate. Pure half first, in the order in which a request meets it, then the half that
//! moves bytes.

pub mod site;

pub mod framing;
pub mod request;

pub mod access;

pub mod headers;
pub mod outbox;

pub mod reply;
pub mod rewrite;

pub mod refusal;

pub mod limits;

pub mod doorway;
pub mod upstream;

pub mod body;
pub mod exchange;

pub mod gate;
