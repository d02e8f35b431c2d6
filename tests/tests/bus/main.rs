//! The Federation Side Bus as a process, between a homeserver's hands and recording peers.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod kills;
mod shared;
