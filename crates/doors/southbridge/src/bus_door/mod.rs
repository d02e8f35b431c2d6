//! The bus door: a local HTTP/1.1 JSON API by which any homeserver uses the Federation Side Bus.
//!
//! On unix sockets or loopback ports, with a shared secret; connections are kept. What is asked for and what is
//! answered is described in `openapi.json`, which the door serves and a test compares with the code.
//!
//! # Units
//! `…_ms` are milliseconds, `…_bytes` bytes; a `seq` counts durable items from 1.
//!
//! # Source
//! F2, F16; issue 3, item 7.
#![expect(dead_code, reason = "the door opens when there is a bus behind it")]

mod answer;
mod body;
mod bounded;
mod description;
mod failure;
mod question;
mod routes;
mod serving;
mod sets;
mod stalled;
mod submission;

pub use body::BodyLimits;
pub use description::OPENAPI;
pub use failure::{Code, Failure};
pub use question::Question;
pub use routes::{Operation, ROUTES, Route};
pub use serving::ConnectionLimits;
pub use sets::{DestinationSets, SetLimits};
pub use submission::{Submission, What};
