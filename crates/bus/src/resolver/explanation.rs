//! How a name was resolved, for people.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use southbridge_words::ServerName;

use super::{ResolveError, ResolvedFederationAddress};

/// The steps one resolution took, in order, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The name that was resolved.
    pub name: ServerName,
    /// What was done.
    pub steps: Vec<ExplainedStep>,
    /// What came of it.
    pub outcome: Result<Arc<ResolvedFederationAddress>, ResolveError>,
    /// The whole time.
    pub took: Duration,
}

/// One step of a resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedStep {
    /// Which step.
    pub kind: StepKind,
    /// What was asked for.
    pub subject: Arc<str>,
    /// What came of it, in words.
    pub outcome: String,
    /// Where the answer came from.
    pub source: StepSource,
    /// How long it took.
    pub took: Duration,
}

/// The steps of the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// Reading the name itself: literal, port, or neither.
    Name,
    /// Fetching the .well-known document.
    WellKnown,
    /// SRV records.
    Srv,
    /// A and AAAA records.
    Addresses,
}

/// Where the answer of a step came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepSource {
    /// From the name alone.
    Rule,
    /// Its source was asked.
    Asked,
    /// A cache had it.
    Cached,
    /// A cache had it, past its time: its source fails.
    Stale,
}

impl StepKind {
    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::WellKnown => "well-known",
            Self::Srv => "srv",
            Self::Addresses => "addresses",
        }
    }
}

impl StepSource {
    /// The name used in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Asked => "asked",
            Self::Cached => "cached",
            Self::Stale => "stale",
        }
    }

    pub(super) const fn of(cached: bool, stale: bool) -> Self {
        match (cached, stale) {
            (_, true) => Self::Stale,
            (true, _) => Self::Cached,
            _ => Self::Asked,
        }
    }
}

impl fmt::Display for StepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for StepSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for ExplainedStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, subject, outcome, source, took } = self;
        write!(f, "{kind:<10} {subject}: {outcome} ({source}, {took:.1?})")
    }
}
