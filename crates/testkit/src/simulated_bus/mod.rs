//! The simulated bus: Externaliser, admission, ranker, resolver, pool and the race between addresses, with an outbox on a disk
//! that can fail, on a virtual clock.
//!
//! A discrete-event simulation of one process and the hosts it writes to. Callers hand in PDUs, EDUs and queries; the
//! network loses, delays and repeats; hosts are slow, dead, or answer what they should not, move, and are not found, because
//! name servers and `.well-known` fail or lie; the process crashes and starts again; the disk is full, silent, gives out wrong
//! blocks, or fails to write or to sync; the wall clock is set. At [`BusSpec::lasts`] all trouble ceases,
//! and everything must come to a good end. Nothing here looks at a clock or a random source, so one [`BusSpec`]
//! tells one story, and [`BusReport::fingerprint`] is that of all that happened.
//!
//! ```
//! use southbridge_testkit::simulated_bus::{BusSpec, simulate_bus};
//! let spec = BusSpec::of_seed(7);
//! let report = simulate_bus(&spec).unwrap_or_else(|breach| panic!("{}", breach.shortened()));
//! assert_eq!(Ok(report), simulate_bus(&spec));
//! ```
//!
//! # Invariants
//! Checked by a ledger of its own while things happen, and at the end.
//! - I1: an acknowledged durable item is received, or still in the outbox, or was told as given up; the last only if its
//!   receiver refuses it by nature or an operator or a retention limit ordered it. The outbox's cursor passes nothing else.
//! - I2: a transaction id has one body, in all processes, and is on record before its first byte goes out, and until it is
//!   delivered or withdrawn no other takes its place. What a host
//!   receives for the first time comes in the order of acceptance. At most 50 PDUs, 100 EDUs, one transaction in flight.
//! - I3: nothing is sent that no connection was lent for, and none is lent that does not lead to the host, by its certificate.
//! - I4: sends, items, bytes and queries stay within their limits.
//! - I5: hosts that nothing is wrong with are served as soon as in the calm, give or take (its own tests, of two stories each).
//! - I6: each ticket is answered once, each query by its deadline; what must not be processed twice is not.
//! - Time goes on, and after all trouble has ceased nothing is left to be done.
//!
//! # Source
//! Rows 1, 3, 14 to 21, 24, 25, 27 and 28 of the fault list; F2, F5 to F9, F12, F14 to F16; DESIGN decision 14.

mod agenda;
mod breach;
mod callers;
mod carrying;
mod disk;
mod driver;
mod faults;
mod homes;
mod hosts;
mod ledger;
mod naming;
mod racing;
mod report;
#[cfg(test)]
mod rows;
mod spec;
#[cfg(test)]
mod tests;
mod wire;

pub use breach::Breach;
pub use hosts::Ailment;
pub use report::{BusReport, Most};
pub use spec::BusSpec;

/// Lives through the whole story that `spec` tells.
///
/// # Errors
/// The promise that was broken.
pub fn simulate_bus(spec: &BusSpec) -> Result<BusReport, Box<Breach>> {
    breach::run(spec, false).0
}

/// As [`simulate_bus`], and hands out what happened, a line each: the number of the fact, the time in seconds, what it
/// was, and two numbers that say to whom.
pub fn narrate_bus(spec: &BusSpec) -> (Result<BusReport, Box<Breach>>, Vec<String>) {
    breach::run(spec, true)
}
