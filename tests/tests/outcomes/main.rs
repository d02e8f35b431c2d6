//! What callers can rely on, asked of the daemon itself: real sockets on both sides, and nothing known of its inside.
//!
//! Each file takes one promise or a few that belong together; each test starts a daemon of its own, with the sockets
//! passed to it as a service manager would. Bounds are shortened where a test would wait for them.
//!
//! # Source
//! Issue 2, "Outcomes that callers can rely on"; rows 1, 2, 4, 9, 12, 13, 14, 15 and 29 of the fault list.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod bodies;
mod caller;
mod deadlines;
mod entry;
mod forward_proxy;
mod framing;
mod house;
mod media;
mod names;
mod refusing_hosts;
mod restarts;
mod words;
