//! Stories of the keyring.

mod kept;
mod memory;
mod notaries;
mod promises;
mod row_30;
mod searching;
mod world;
