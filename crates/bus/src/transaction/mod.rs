//! Transactions: what goes into one, and its bytes.
//!
//! A transaction holds a strict prefix of a destination's durable items, then volatile EDUs in the room that is
//! left. Its bytes are a pure function of what is in it, so one that was begun can be rendered again after a crash
//! (F16), and ten thousand destinations of one message share one rendering.
//!
//! # Units
//! Sizes are bytes of JSON.
//!
//! # Source
//! F7; Matrix specification v1.19, Server-Server API, "Transactions"; DESIGN decision 7.

mod body;
mod prefix;
mod press;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use southbridge_words::WallTime;

pub use body::{body_hash, render};
pub use prefix::{Prefix, TransactionLimits};
pub use press::{Press, Rendering};

/// PDUs in one transaction at most.
pub const PDUS_MAX: usize = 50;
/// EDUs in one transaction at most.
pub const EDUS_MAX: usize = 100;

/// A transaction, immutable: sent with this id it is always these bytes (I2).
#[derive(Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Its id: URL-safe, and unlike any other of this origin.
    pub id: Arc<str>,
    /// Its `origin_server_ts`.
    pub origin_server_ts: WallTime,
    /// Its JSON.
    pub body: Bytes,
}

impl Transaction {
    /// The path it is put to.
    pub fn path(&self) -> String {
        format!("/_matrix/federation/v1/send/{}", self.id)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction({}, [redacted], {} bytes)", self.id, self.body.len())
    }
}
