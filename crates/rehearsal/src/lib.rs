//! A real kernel on a clock that a test moves, against scripted peers in memory.
//!
//! A [`Rehearsal`] is the kernel that ships (corridor, ranker, discovery, pool, TLS, hyper) with nothing around it that
//! is not the test's: its connections lead to [`Peer`]s in the same process, its names are what a [`DnsScript`] says, and its time
//! stands still until [`Rehearsal::advance`]. No socket is opened, no thread is started, nothing is waited for, and one seed
//! gives one story: [`Rehearsal::log`] is the same to the letter, however busy the machine is.
//!
//! ```
//! use std::time::Duration;
//! use southbridge_rehearsal::{Rehearsal, RehearsalConfig, Reply};
//! let mut rehearsal = Rehearsal::new(RehearsalConfig { seed: 7, ..RehearsalConfig::default() })?;
//! rehearsal.dns().host("a.test", &["203.0.113.1".parse()?], 60);
//! let peer = rehearsal.peer("203.0.113.1:443".parse()?)?;
//! peer.on("/slow", Reply::json(200, "{}").after(Duration::from_secs(3)));
//!
//! let asked = rehearsal.get("https://a.test/slow", Duration::from_secs(10))?;
//! rehearsal.advance(Duration::from_secs(2));
//! assert!(asked.result().is_none());
//! rehearsal.advance(Duration::from_secs(2));
//! assert_eq!(asked.result().unwrap()?.status(), 200);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Time
//! It moves in milliseconds, from one timer to the next, and everything that becomes due on the way happens at its time and in its
//! order. [`Rehearsal::advance`] moves it by as much as is said, [`Rehearsal::settle`] lets everything happen that can happen
//! without it moving, and [`Rehearsal::run`] moves it for as long as a future needs it. Between these calls nothing happens at all. The wall
//! clock (certificates, `Retry-After` dates) begins at [`RehearsalConfig::wall`] and goes along.
//!
//! # What may be scripted
//! | what | by |
//! | --- | --- |
//! | answers, delays, drips, resets, silence, and whatever else a peer does | [`Peer`], [`Reply`] |
//! | latency, jitter, refused and lost SYNs, cuts of one direction or both, lost datagrams | [`Rehearsal::network`] and [`Path`] |
//! | every kind of DNS answer and failure, changed while it runs | [`Rehearsal::dns`] |
//! | certificates that are not good | [`Rehearsal::certificates`] |
//! | the kernel's own limits | [`RehearsalConfig::kernel`] |
//!
//! # Programs
//! A program that asks through a port does so here as well: [`Rehearsal::serve_ports`] puts a desk on the kernel, and ports
//! are attached to what it returns. [`Rehearsal::step`] then lets time pass until it is the program's turn.
//!
//! # Threads
//! A rehearsal stays on its thread. Whoever holds it from several, or from another language, lets it live on one of its own:
//! [`RehearsalThread`] runs what it is handed there, one thing after the other, and waits for it.
//!
//! # What is not the same from run to run
//! Keys and nonces of TLS are real, so the bytes below it differ, and a certificate may be a byte longer. Nothing here
//! depends on them. HTTP/2 forgets streams it has reset by the system's clock, after 30 s of real time.
//!
//! # Source
//! T4; DESIGN decision 14.

mod clerk;
mod http2;
mod log;
mod peer;
mod rehearsal;
mod reply;
mod thread;

pub use log::Log;
pub use peer::{Peer, Seen};
pub use rehearsal::{AskError, Asked, Rehearsal, RehearsalConfig, RehearsalError, Speech};
pub use reply::{Deed, Ending, Head, Reply};
pub use southbridge_kernel::net::{MemoryNetwork, Path, Syn};
pub use southbridge_testkit::certificates::{Alpn, CertificateKind, CertificatesByName};
pub use southbridge_testkit::dns::{Answer, Data, DnsScript, RecordType, SrvRecord};
pub use southbridge_testkit::raw::Step;
pub use thread::{Ended, RehearsalThread};
