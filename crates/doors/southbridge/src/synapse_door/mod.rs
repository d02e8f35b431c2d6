//! The door for Synapse's outbound federation (`outbound_federation_restricted_to`).
//!
//! # Source
//! F1; issue 2, item 6; Synapse 1.163 as it was seen on the wire.

mod classify;
mod location;
mod multipart;
mod target;
pub mod verdict;

pub use classify::{Errand, Kind};
pub use location::{LocationError, Place};
pub use multipart::{Boundary, MultipartError, PartHeads};
pub use target::{AddressError, Addressee, ReadHeadError, read_head};
