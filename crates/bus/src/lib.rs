//! The Federation Side Bus, as machines: what a Matrix homeserver's outbound half decides.
//!
//! Floor 2 of the house, beside the kernel and without a door to it: the bus is machines, the
//! kernel runs machines, `doors` brings them together.
//!
//! # Architecture Invariant
//! No socket, thread, file, clock or random source; and nothing of the kernel.

mod queue;

pub mod edus;
pub mod externaliser;
pub mod keyring;
pub mod outgoing;
pub mod owed;
pub mod resolver;
pub mod signing;
pub mod transaction;
