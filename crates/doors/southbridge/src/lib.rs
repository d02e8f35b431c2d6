//! The Rust API of Southbridge: the kernel and the Federation Side Bus, brought together.
//!
//! Floor 3 of the house.

pub mod federation;
