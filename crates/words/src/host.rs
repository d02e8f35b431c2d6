//! How a host is doing, as the Host Ranker sees it.

use std::fmt;
use std::time::Duration;

use crate::{ServiceName, WallTime};

/// The rank of a host (F5).
///
/// ```text
/// unknown ──good──▶ healthy ◀──fast── slow
///    │                 │ ──slow──▶ ──┘
///    └──fail──▶ failing ◀──fail──┘
///                 │  └──good──▶ healthy | slow
///                 └──fail × n──▶ down ──good (probe or inbound)──▶ healthy | slow
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostState {
    /// Answers, and soon.
    Healthy,
    /// Answers, but takes its time.
    Slow,
    /// Nothing is known yet, or nothing recent.
    #[default]
    Unknown,
    /// Has failed lately, more than once in a row.
    Failing,
    /// Has failed so often that it is only probed.
    Down,
}

impl HostState {
    /// All states, the best first.
    pub const ALL: [Self; 5] = [Self::Healthy, Self::Slow, Self::Unknown, Self::Failing, Self::Down];

    /// The name used in metrics, logs and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow => "slow",
            Self::Unknown => "unknown",
            Self::Failing => "failing",
            Self::Down => "down",
        }
    }

    /// The state called `name`, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is kept of a host across restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Whose record this is.
    pub host: ServiceName,
    /// How it was doing.
    pub state: HostState,
    /// The latency that was expected of it.
    pub latency: Duration,
    /// Failures in a row.
    pub failures: u32,
    /// Since when it has been failing, if it has.
    pub failing_since: Option<WallTime>,
    /// Before when it is only probed, if it is.
    pub retry_at: Option<WallTime>,
    /// When it last answered, or else was last tried.
    pub seen_at: WallTime,
}
