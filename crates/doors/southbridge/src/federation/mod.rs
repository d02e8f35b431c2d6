//! Federation over the kernel: the Federation Resolver's machine with real DNS and real fetches under it.
//!
//! The bus decides what to look up; the kernel looks it up; here the two meet.
//!
//! # Source
//! F3; DESIGN decisions 3 and 9.

mod discovery;
mod well_known;

pub use discovery::{FederationConfig, FederationDiscovery};
