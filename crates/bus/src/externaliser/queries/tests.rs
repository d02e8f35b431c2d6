//! Stories of queries.
