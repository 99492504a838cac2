//! What an operator typed, and what it means.
