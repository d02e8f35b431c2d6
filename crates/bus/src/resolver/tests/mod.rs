//! The resolver against a scripted world.

mod memory;
mod promises;
mod steps;
mod world;
