//! What came of a simulation.

use std::fmt;
use std::time::Duration;

use southbridge_policy::pool::PoolUse;
use southbridge_words::{Class, Instant};

use super::{Kind, SimulationSpec};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Delivered,
    /// Without one, for the host's reasons.
    Failed,
    /// At once, because the host is down.
    Refused,
    /// Its time was up while it waited in our own queues, or they were full.
    Crowded,
}

/// The requests of one class to hosts of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How long each delivered request took, in order once the report is out.
    latencies: Vec<Duration>,
    /// How long the others took to end.
    pub longest_failure: Duration,
    /// Requests that ended with [`Ending::Failed`].
    pub failed: u32,
    /// Requests that ended with [`Ending::Refused`].
    pub refused: u32,
    /// Requests that ended with [`Ending::Crowded`].
    pub crowded: u32,
}

impl Tally {
    fn note(&mut self, ending: Ending, took: Duration) {
        match ending {
            Ending::Delivered => return self.latencies.push(took),
            Ending::Failed => self.failed += 1,
            Ending::Refused => self.refused += 1,
            Ending::Crowded => self.crowded += 1,
        }
        self.longest_failure = self.longest_failure.max(took);
    }

    /// Requests with an answer.
    pub fn delivered(&self) -> usize {
        self.latencies.len()
    }

    /// All requests.
    pub fn submitted(&self) -> usize {
        self.delivered() + (self.failed + self.refused + self.crowded) as usize
    }

    /// The latency that `share` (0 to 1) of the delivered requests did not exceed; zero without any.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let at = (share * self.latencies.len() as f64).ceil() as usize;
        self.latencies.get(at.saturating_sub(1).min(last)).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p99, all] = [0.5, 0.99, 1.0].map(|share| self.quantile(share));
        write!(f, "{} of {} delivered (", self.delivered(), self.submitted())?;
        write!(f, "p50 {p50:.0?}, p99 {p99:.0?}, all {all:.0?}); {} failed, ", self.failed)?;
        write!(f, "{} refused, {} crowded out", self.refused, self.crowded)
    }
}

/// Work done by the machines: facts taken in, and decisions given out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the machines")]
pub struct Steps {
    pub resolver: u64,
    pub ranker: u64,
    pub pool: u64,
}

impl Steps {
    /// All machines together.
    pub fn total(&self) -> u64 {
        self.resolver + self.ranker + self.pool
    }
}

/// What came of a simulation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// A hash over every fact and every decision with their times: two stories that agree in it are one.
    pub trace: u64,
    /// Work done.
    pub steps: Steps,
    /// The most that was in use at once, each by the simulation's own count.
    pub most: PoolUse,
    /// Dials that were begun.
    pub dials: u64,
    /// TLS handshakes that were begun.
    pub handshakes: u64,
    /// Dials and handshakes that were given up because others waited for their places.
    pub given_up: u64,
    /// What replays the story.
    pub spec: SimulationSpec,
    /// When the last connection was closed.
    pub ended_at: Instant,
    tallies: [[Tally; 6]; 6],
}

impl Report {
    /// The requests of one class to hosts of one kind that were submitted after the calm.
    pub fn tally(&self, kind: Kind, class: Class) -> &Tally {
        &self.tallies[kind as usize][class as usize]
    }

    pub(super) fn new(spec: &SimulationSpec) -> Self {
        Self { spec: spec.clone(), ..Self::default() }
    }

    pub(super) fn note(&mut self, kind: Kind, class: Class, ending: Ending, took: Duration) {
        self.tallies[kind as usize][class as usize].note(ending, took);
    }

    pub(super) fn close(&mut self, ended_at: Instant) {
        self.ended_at = ended_at;
        self.tallies.iter_mut().flatten().for_each(|tally| tally.latencies.sort_unstable());
    }

    /// Folds `numbers` into the trace.
    pub(super) fn fold(&mut self, numbers: [u64; 4]) {
        for number in numbers {
            // SplitMix64's finaliser, chained: order counts.
            let mut z = (self.trace ^ number).wrapping_add(0x9E37_79B9_7F4A_7C15);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            self.trace = z ^ (z >> 31);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            for class in Class::ALL {
                let tally = self.tally(kind, class);
                if tally.submitted() > 0 {
                    writeln!(f, "{:>11} {class}: {tally}", kind.name())?;
                }
            }
        }
        let (most, steps) = (&self.most, &self.steps);
        writeln!(
            f,
            "at most {} connections, {} dials, {} handshakes at once",
            most.connections, most.dials, most.handshakes
        )?;
        write!(f, "{} dials and {} handshakes in all, ", self.dials, self.handshakes)?;
        writeln!(f, "{} given up; steps: {steps:?}", self.given_up)?;
        write!(f, "trace {:016x} of {:?}", self.trace, self.spec)
    }
}
