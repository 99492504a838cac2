//! The whole thing in one command, on a real PostgreSQL.
