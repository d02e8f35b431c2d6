//! The Rust API of Southbridge: the kernel and the Federation Side Bus, brought together.
//!
//! Floor 3 of the house. [`Southbridge`] puts the parts together; the doors let others in.

mod assembly;
pub mod bus;
pub mod bus_door;
pub mod bus_port;
pub mod client;
mod driver;
pub mod federation;
pub mod forward_proxy;
pub mod local_http;
pub mod location;
pub mod module_door;
pub mod statistics;
pub mod synapse_door;

pub use assembly::Southbridge;
