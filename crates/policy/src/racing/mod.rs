//! Which address of a service is tried first, which next, and when.
//!
//! [`order`] turns the endpoints of a service into the order they are to be tried in, [`AddressMemory`]
//! moves to its end what has failed of late, and [`Race`] says when the next one's turn has come.
//!
//! # Source
//! RFC 2782 (priority and weight); RFC 8305 sections 4 (families interleaved), 5 and 8 (the step between
//! attempts); faults row 3.

mod memory;
mod order;
mod race;

pub use memory::{AddressMemory, AddressMemoryLimits};
pub use order::{ADDRESSES_MAX, Addresses, Family, order, order_preferring};
pub use race::{Race, RaceLimits, Try};
