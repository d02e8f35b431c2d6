//! What both simulations know of names: whose they are, and what a `.well-known` document says.

use southbridge_bus::resolver::{WellKnownAnswer, WellKnownFailure, WellKnownResult};
use southbridge_words::{Outcome, Step, WallTime};

/// The place of the host that `name` is about: its domain, with a port or without, its SRV names, or a delegated name.
pub(crate) fn index_of(name: &str) -> usize {
    let mut labels = name.split(['.', ':']);
    let index = labels.find_map(|label| label.strip_prefix("hs")?.parse().ok());
    index.expect("machines ask for names they were given")
}

/// The answer of a `.well-known` host that delegates to `delegate`, or to nobody.
pub(crate) fn well_known(delegate: Option<&str>, received_at: WallTime) -> WellKnownAnswer {
    let (status, body) = match delegate {
        Some(delegate) => (200, format!(r#"{{"m.server":"{delegate}"}}"#)),
        None => (404, String::new()),
    };
    WellKnownAnswer { status, body: body.into_bytes(), received_at, ..WellKnownAnswer::default() }
}

/// What a resolver is told of a fetch that brought no answer.
pub(crate) fn fetch_failed(outcome: Outcome) -> WellKnownResult {
    WellKnownResult::Failed(match outcome {
        Outcome::Failed { step: Step::Discovery } => WellKnownFailure::Dns,
        Outcome::Failed { step: Step::Connect } => WellKnownFailure::Connect,
        Outcome::Failed { step: Step::Handshake } => WellKnownFailure::Tls,
        Outcome::Failed { .. } => WellKnownFailure::TimedOut,
        _ => WellKnownFailure::Overloaded,
    })
}
