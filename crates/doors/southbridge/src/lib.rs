//! Under construction.

pub mod local_http;
pub mod synapse_door;
