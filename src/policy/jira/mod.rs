//! The rules for JIRA: a request in, a read or a refusal out.
//!
//! The HTTP method says little about what JIRA does (searches are POSTs, some GETs write, one endpoint
//! takes queries and mutations alike), and neither do its own OAuth scopes. So there is a table of
//! operations, [`table::JiraPolicy`]; [`judge::route`] finds the one that a request asks for and judges
//! path and query, and [`judge::Routed::clear`] judges the body. What is not in the table is refused.

pub mod body;
pub mod judge;
pub mod operation;
mod query;
pub mod router;
pub mod table;
pub mod target;
mod template;
