//! The I/O kernel: the one thread that owns all outside communication.
//!
//! Floor 2 of the house. A request goes down one corridor and comes back the same way:
//! admission → ranker → discovery → pool → transport. No step calls back into an earlier one.
//!
//! # Architecture Invariants
//! - The kernel has never heard of Matrix: a *service* is a name, *discovery* turns it into a route.
//! - Inside the I/O thread there are no locks: everything here is `Rc` and `RefCell`, and `&mut` is the lock.
//!   Threads meet in [`port`] and [`stats`] only.
//! - The kernel decides nothing that a machine of `policy` can decide: it tells them facts and does what they say.

pub mod admin;
pub mod alarm;
pub mod clock;
mod corridor;
pub mod debug;
mod declared;
pub mod discovery;
pub mod dns;
pub mod exchange;
pub mod http;
pub mod kernel;
pub mod mishap;
pub mod net;
mod pool;
pub mod port;
pub mod stats;
pub mod surroundings;
pub mod tls;
mod underway;

pub use alarm::Alarm;
pub use clock::Clock;
pub use declared::{Declared, ServiceTerms, Told};
pub use exchange::{Call, ExchangeError, Repeat};
pub use kernel::{Kernel, KernelConfig, KernelError, OpenError};
pub use pool::{ConnectionView, OpeningConfig, PeerView};
pub use surroundings::Surroundings;
pub use underway::RequestView;
