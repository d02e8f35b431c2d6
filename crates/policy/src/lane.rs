//! Which of the two lanes a request travels in.

use std::fmt;

/// Hosts that answer well have the open lane to themselves; everyone else shares a limited one (F5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// For healthy hosts: bounded by the pool's totals only.
    Open,
    /// For slow, failing and unknown hosts, and probes: bounded to a part of the pool, so that they
    /// can never hold a slot that a well-behaved host could use.
    Limited,
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Limited => "limited",
        })
    }
}
