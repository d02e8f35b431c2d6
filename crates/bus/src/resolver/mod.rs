//! The Federation Resolver: from a Matrix server name to where to connect and whom to expect (F3).
//!
//! A machine: it is told that somebody wants to reach a server name, says which .well-known document
//! to fetch and which names to look up, is told what came of it, and answers every ticket exactly once.
//!
//! ```text
//! 1  IP literal ────────────────────────────────────────────────────────▶ address:port
//! 2  name:port ──────────────────────────────────────────▶ A/AAAA ──────▶ address:port
//! 3  name ──▶ .well-known ─┬─ 3.1 IP literal ───────────────────────────▶ address:port
//!                          ├─ 3.2 host:port ─────────────▶ A/AAAA ──────▶ address:port
//!                          ├─ 3.3 host ─▶ SRV _matrix-fed ─┐
//! 4  (failed: the name itself)           3.4, 5 _matrix  ─┼▶ A/AAAA ────▶ address:port
//!                                        3.5, 6 neither  ─┘             (8448)
//! ```
//!
//! What the specification leaves open is decided so:
//! - SRV answers of NXDOMAIN and NODATA mean "no record": the next step is taken. SERVFAIL and silence
//!   mean "not known": the resolution fails, unless an earlier one can stand in. They never mean
//!   "no record", because the fallback may be somebody else's port.
//! - A sole SRV target of `.` says that the service is not offered (RFC 2782): the resolution fails.
//!   Records with port 0 or a target that is no host name are ignored.
//! - Of an SRV answer the 16 best targets are used, of a target 16 addresses, 32 endpoints in all.
//! - Failed .well-known fetches are forgiven quickly at first (2 min, doubling to 1 h). A delegation that
//!   was good stands in for days while its host fails, and is given up after two days of clean 404.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Resolving server names".

mod action;
mod caching;
mod composition;
mod delegations;
mod explanation;
mod journey;
mod limits;
mod machine;
mod srv;
mod well_known;

use std::sync::Arc;

use southbridge_words::{CertificateName, Endpoint, Instant};

pub use action::{Action, LookupId, ResolveError, WellKnownAnswer, WellKnownFailure, WellKnownResult};
pub use caching::{CacheHeaders, Lifetime, lifetime};
pub use delegations::WellKnownTrouble;
pub use explanation::{ExplainedStep, Explanation, StepKind, StepSource};
pub use limits::ResolverLimits;
pub use machine::{Resolver, ResolverCounters};
pub use well_known::{Delegation, WellKnownError, parse_body};

/// What one resolution came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedFederationAddress {
    /// The name to verify the certificate against.
    pub certificate: CertificateName,
    /// The value of `Host`.
    pub host_header: Arc<str>,
    /// Where to connect.
    pub endpoints: Arc<[Endpoint]>,
    /// Names that have the same key can share connections: certificate name, and port or `srv`.
    pub peer_key: Arc<str>,
    /// Until when this need not be asked again.
    pub fresh_until: Instant,
    /// Whether some step was served from a record past its time because its source failed.
    pub stale: bool,
}

#[cfg(test)]
mod tests;
