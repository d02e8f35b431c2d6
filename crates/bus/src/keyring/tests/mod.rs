//! Stories of the keyring.

mod memory;
mod notaries;
mod promises;
mod row_30;
mod searching;
mod world;
