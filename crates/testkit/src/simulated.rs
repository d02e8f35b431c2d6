//! The simulated world: pool, ranker and resolver against thousands of scripted hosts, on a virtual clock.
//!
//! A discrete-event simulation: facts lie in a queue ordered by time, each is told to the machine it is for,
//! and what the machines decide becomes new facts. Nothing here looks at a clock or a random source, so
//! one [`SimulationSpec`] tells one story, and [`Report::trace`] is its fingerprint.
//!
//! The one thread's work is simulated too: handshakes and requests queue for it, so that a storm of
//! handshakes delays everybody else as it would in the kernel.
//!
//! ```
//! use southbridge_testkit::simulated::{Kind, SimulationSpec, simulate};
//! let spec = SimulationSpec { hosts: 20, black_hole_share: 0.2, ..SimulationSpec::default() };
//! let report = simulate(&spec);
//! assert_eq!(report.trace, simulate(&spec).trace);
//! println!("{}", report.tally(Kind::Healthy, southbridge_words::Class::Interactive));
//! ```
//!
//! # Invariants
//! Checked after every fact; a breach panics with the seed and all options, which replay it.
//! - The pool's limits hold, by the simulation's own count of dials, handshakes and connections.
//! - Every request ends once, and no later than its deadline.
//! - When nobody asks any more, every lease comes back and every connection is closed.
//! - No machine asks to be woken in the past for ever.
//!
//! # Source
//! I4–I6, rows 1, 14 and 27 of the fault list; F5, F12, F19, T4; DESIGN decisions 3 and 14.

mod agenda;
mod discovery;
mod driver;
mod lending;
mod report;
mod scenery;
#[cfg(test)]
mod tests;

use std::time::Duration;

use southbridge_bus::resolver::ResolverLimits;
use southbridge_policy::pool::PoolLimits;
use southbridge_policy::ranker::RankerLimits;

pub use report::{Ending, Report, Steps, Tally};
pub use scenery::Kind;

/// What happens in a simulated world. Shares are parts of one; hosts beyond them are healthy, found on the
/// default port, and speak HTTP/1.1.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulationSpec {
    /// What decides everything that is left to chance.
    pub seed: u64,
    /// How many hosts (default 50).
    pub hosts: usize,
    /// The share that never answers a SYN.
    pub black_hole_share: f64,
    /// The share that thinks for 3 to 9 s.
    pub slow_share: f64,
    /// The share that refuses connections.
    pub refusing_share: f64,
    /// The share that refuses and cuts for half of every minute.
    pub flapping_share: f64,
    /// The share whose names cannot be resolved: SERVFAIL, or no answer.
    pub dns_failing_share: f64,
    /// The share that speaks HTTP/2 (default 0.2).
    pub h2_share: f64,
    /// The share found by `.well-known` (default 0.5).
    pub well_known_share: f64,
    /// The share found by SRV (default 0.2).
    pub srv_share: f64,
    /// The share with a port in the name (default 0.2).
    pub explicit_port_share: f64,
    /// For how long all hosts are healthy before the shares above begin to hold (default 0). What is
    /// tallied is submitted later than that.
    pub calm_for: Duration,
    /// For how long requests are made (default 120 s).
    pub lasts: Duration,
    /// How often a transaction goes to every host at once (default 30 s).
    pub fan_out_every: Duration,
    /// How often, on average, somebody wants something of each host (default 20 s).
    pub interactive_every: Duration,
    /// How long an interactive request may take (default 20 s).
    pub interactive_timeout: Duration,
    /// How long a transaction may take (default 60 s).
    pub live_timeout: Duration,
    /// How long a dial may take (default 10 s).
    pub connect_timeout: Duration,
    /// How long a `.well-known` fetch may take, its waiting for a connection included (default 8 s).
    pub fetch_timeout: Duration,
    /// What a TLS handshake costs the one thread (default 300 µs).
    pub handshake_cost: Duration,
    /// What a request costs it (default 40 µs).
    pub request_cost: Duration,
    /// The pool's limits.
    pub pool: PoolLimits,
    /// The ranker's.
    pub ranker: RankerLimits,
    /// The resolver's.
    pub resolver: ResolverLimits,
}

impl Default for SimulationSpec {
    fn default() -> Self {
        Self {
            seed: 1,
            hosts: 50,
            black_hole_share: 0.0,
            slow_share: 0.0,
            refusing_share: 0.0,
            flapping_share: 0.0,
            dns_failing_share: 0.0,
            h2_share: 0.2,
            well_known_share: 0.5,
            srv_share: 0.2,
            explicit_port_share: 0.2,
            calm_for: Duration::ZERO,
            lasts: Duration::from_secs(120),
            fan_out_every: Duration::from_secs(30),
            interactive_every: Duration::from_secs(20),
            interactive_timeout: Duration::from_secs(20),
            live_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(8),
            handshake_cost: Duration::from_micros(300),
            request_cost: Duration::from_micros(40),
            pool: PoolLimits::default(),
            ranker: RankerLimits::default(),
            resolver: ResolverLimits::default(),
        }
    }
}

/// Lives through the whole story that `spec` tells.
///
/// # Panics
/// When an invariant is broken; the message has the seed and all options.
pub fn simulate(spec: &SimulationSpec) -> Report {
    driver::Simulation::new(spec).run()
}
