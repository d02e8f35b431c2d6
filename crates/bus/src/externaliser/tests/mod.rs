//! Stories of the whole bus, with an outbox in memory and peers that do as they are told.

mod answers;
mod crowds;
mod outbox;
mod promises;
mod store;
mod stories;
mod world;
