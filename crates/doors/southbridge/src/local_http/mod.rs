//! HTTP/1.1 with the programs at home: one request on one connection, as Synapse speaks to a proxy.
//!
//! What both doors have in common: reading a request strictly, noticing that the caller is gone,
//! writing a response at the pace of its reader, and refusing in JSON.
//!
//! # Why not a server library
//! A caller opens one connection for one request and closes it. Half of a general server is about
//! what happens between requests; what is needed here instead, a head refused before a byte is
//! interpreted, a first write that is not split, a cut that cannot be taken for an end, such
//! servers do not offer.
//!
//! # Source
//! RFC 9112, RFC 9110; what Synapse sends and accepts was seen on the wire.

mod accepting;
mod auth;
mod body;
mod connection;
mod count;
mod gate;
pub mod head;
mod refusal;
mod reply;
mod slots;
#[cfg(test)]
mod testing;

pub use accepting::accept_each;
pub use auth::{Denied, same_secret};
pub use body::{BodyError, BodyReader};
pub use connection::{LocalConnection, LocalIo, ReadError};
pub use count::Count;
pub use gate::Gate;
pub use head::{Credentials, Framing, HeadError, RequestHead, Target};
pub use refusal::{Cause, Refusal, Show};
pub use reply::{Gathered, Outgoing, ReplyError, ReplyLimits, gather, send};
pub use slots::{Slot, Slots};
