//! Which answer Synapse is given when there is no response to pass on.
//!
//! The status decides what Synapse does next, so it is chosen by that:
//!
//! | Synapse sees | on `/send` | on everything else |
//! | --- | --- | --- |
//! | 5xx, 429 | asks again after 4, 16, 60 … seconds, ten times, then gives the host up for ten minutes | asks up to three times within 4 s unless the call has a timer of its own, then gives the host up; tries the next server of a room |
//! | another 4xx | gives the host up at once | fails at once, keeps the host, does **not** try the next server |
//!
//! - A host that is *known to be down*: 424 on `/send`, which ends the ten retries; 502 on the rest,
//!   because a join or a backfill must go on to the next server, and retries of what is answered at
//!   once cost nothing.
//! - A failure *now* (refused, TLS, discovery, broken HTTP): 502; out of time: 504.
//! - *Our own* overload or lack of descriptors says nothing about the host: 503 on `/send`, so that
//!   Synapse keeps the transaction and comes back; 424 on the rest, which fails the call but does not make an
//!   innocent host unreachable for ten minutes.
//! - *Media elsewhere*: a redirect that must not be followed, or that leads to a web server that fails, is a
//!   failed request like any other, 502: a caller may rely on it, though Synapse then leaves the host alone for a while.
//!
//! # Source
//! Seen on Synapse 1.163 (`matrixfederationclient.py`, `retryutils.py`, `federation_client.py`).

use std::error::Error;
use std::time::Duration;

use http::StatusCode;
use southbridge_kernel::ExchangeError;
use southbridge_kernel::http::explain;
use southbridge_kernel::net::ConnectError;
use southbridge_words::Step;

use super::classify::Kind;
use crate::local_http::{Cause, Refusal};

/// What went wrong, as far as the answer is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KnownDown,
    Now,
    Late,
    Ours,
    Request,
}

/// The answer for `error` on the way to `host`.
pub fn refusal(error: &ExchangeError, host: &str, kind: Kind) -> Refusal {
    let fault = fault(error);
    let retry_in = match error {
        ExchangeError::HostDown { down, .. } => Some(down.retry_in),
        _ => None,
    };
    let message = with_causes(error);
    let mut refusal = Refusal::new(status(fault, kind), "M_UNKNOWN", message);
    refusal.cause = Some(Cause { step: error.step(), host: host.to_owned(), retry_in });
    if fault == Fault::Ours {
        refusal.retry_after = Some(COME_BACK_AFTER);
    }
    refusal
}

/// The answer when the time was up at `step`, before the kernel was asked or after it had answered.
pub fn too_late(host: &str, step: Step, kind: Kind) -> Refusal {
    let fault = if step == Step::Admission { Fault::Ours } else { Fault::Late };
    let message = match fault {
        Fault::Ours => format!("the request for {host} waited for its turn until its time was up"),
        _ => format!("{host} did not answer in time; it was at the step {step}"),
    };
    let mut refusal = Refusal::new(status(fault, kind), "M_UNKNOWN", message);
    refusal.cause = Some(Cause { step, host: host.to_owned(), retry_in: None });
    refusal
}

/// The answer when the response of `host` cannot be passed on.
pub fn unusable(host: &str, reason: &str) -> Refusal {
    let message = format!("the response of {host} cannot be passed on: {reason}");
    let mut refusal = Refusal::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message);
    refusal.cause = Some(Cause { step: Step::Response, host: host.to_owned(), retry_in: None });
    refusal
}

/// The answer when `host` has redirected its media to where they cannot be had.
pub fn astray(host: &str, reason: &str) -> Refusal {
    let message = format!("the media of {host} cannot be had where it redirects to: {reason}");
    let mut refusal = Refusal::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message);
    refusal.cause = Some(Cause { step: Step::Response, host: host.to_owned(), retry_in: None });
    refusal
}

/// The answer when too much is held already.
pub fn overloaded(host: &str, what: &str, kind: Kind) -> Refusal {
    let error = ExchangeError::Overloaded { what: what.to_owned() };
    refusal(&error, host, kind)
}

fn fault(error: &ExchangeError) -> Fault {
    match error {
        ExchangeError::HostDown { .. } => Fault::KnownDown,
        ExchangeError::Overloaded { .. }
        | ExchangeError::Withdrawn { .. }
        | ExchangeError::Discovery(southbridge_kernel::discovery::DiscoveryError::Overloaded { .. })
        | ExchangeError::DeadlinePassed { step: Step::Admission, .. } => Fault::Ours,
        ExchangeError::Connect { source, .. } if source.is_ours() => Fault::Ours,
        ExchangeError::Connect { source, .. }
            if matches!(**source, ConnectError::TimedOut { .. } | ConnectError::HandshakeTimedOut { .. }) =>
        {
            Fault::Late
        }
        ExchangeError::DeadlinePassed { .. }
        | ExchangeError::Discovery(southbridge_kernel::discovery::DiscoveryError::DeadlinePassed {
            ..
        }) => Fault::Late,
        ExchangeError::BadRequest { .. } => Fault::Request,
        _ => Fault::Now,
    }
}

fn status(fault: Fault, kind: Kind) -> StatusCode {
    match (fault, kind) {
        (Fault::KnownDown, Kind::Transaction) => StatusCode::FAILED_DEPENDENCY,
        (Fault::KnownDown | Fault::Now, _) => StatusCode::BAD_GATEWAY,
        (Fault::Late, _) => StatusCode::GATEWAY_TIMEOUT,
        (Fault::Ours, Kind::Transaction) => StatusCode::SERVICE_UNAVAILABLE,
        (Fault::Ours, _) => StatusCode::FAILED_DEPENDENCY,
        (Fault::Request, _) => StatusCode::BAD_REQUEST,
    }
}

/// The sentence of an error, followed by those of its causes, within a bound: a peer has a say in some of them.
pub fn with_causes(error: &dyn Error) -> String {
    let mut sentence = explain(error);
    if sentence.len() > SENTENCE_MAX {
        let end = (0..=SENTENCE_MAX).rev().find(|at| sentence.is_char_boundary(*at)).unwrap_or(0);
        sentence.truncate(end);
        sentence.push('…');
    }
    sentence
}

/// Long enough for the queue to move, short enough to be in time for the next try.
const COME_BACK_AFTER: Duration = Duration::from_secs(2);
/// Bytes of an error's sentence that are passed on.
const SENTENCE_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use southbridge_kernel::discovery::DiscoveryError;
    use southbridge_kernel::http::Violation;
    use southbridge_policy::ranker::Down;
    use southbridge_words::ServiceName;

    use super::*;

    fn service() -> ServiceName {
        ServiceName::new("a.example")
    }

    fn connect(source: ConnectError) -> ExchangeError {
        ExchangeError::Connect { service: service(), source: Rc::new(source) }
    }

    fn down() -> ExchangeError {
        let minute = Duration::from_secs(60);
        let down = Down { failures: 8, failing_for: minute, last: Some(Step::Connect), retry_in: minute };
        ExchangeError::HostDown { service: service(), down }
    }

    #[test]
    fn each_fault_has_the_status_that_makes_synapse_do_the_right_thing() {
        let attempts = || vec![("192.0.2.1:8448".parse().unwrap(), "refused".to_owned())];
        let late = |step| ExchangeError::DeadlinePassed { service: service(), step, waited: Duration::ZERO };
        let waited = Duration::ZERO;
        let cases: Vec<(ExchangeError, u16, u16)> = vec![
            (down(), 424, 502),
            (connect(ConnectError::Unreachable { attempts: attempts() }), 502, 502),
            (connect(ConnectError::TimedOut { attempts: attempts(), waited }), 504, 504),
            (connect(ConnectError::Exhausted { reason: "descriptors".to_owned() }), 503, 424),
            (DiscoveryError::NotFound { step: "address", name: "a.example".to_owned() }.into(), 502, 502),
            (DiscoveryError::DeadlinePassed { name: "a.example".to_owned() }.into(), 504, 504),
            (late(Step::Response), 504, 504),
            (late(Step::Admission), 503, 424),
            (ExchangeError::Overloaded { what: "queue".to_owned() }, 503, 424),
            (ExchangeError::BadRequest { reason: "x".to_owned() }, 400, 400),
            (
                ExchangeError::PeerMisbehaved {
                    service: service(),
                    violation: Violation::Unreadable { reason: "x".to_owned() },
                },
                502,
                502,
            ),
        ];
        for (error, on_send, on_others) in cases {
            assert_eq!(refusal(&error, "a.example", Kind::Transaction).status, on_send, "{error}");
            assert_eq!(refusal(&error, "a.example", Kind::Other).status, on_others, "{error}");
        }
    }

    #[test]
    fn the_sentence_names_host_step_and_reason() {
        let error = connect(ConnectError::Unreachable {
            attempts: vec![("192.0.2.1:8448".parse().unwrap(), "connection refused".to_owned())],
        });
        let refusal = refusal(&error, "a.example", Kind::Other);
        assert_eq!(
            refusal.message,
            "a.example cannot be reached: no address answered: 192.0.2.1:8448: connection refused"
        );
        assert_eq!(refusal.cause.unwrap().step, Step::Connect);
    }

    #[test]
    fn a_host_that_is_down_comes_with_the_time_of_its_next_probe() {
        let cause = refusal(&down(), "a.example", Kind::Transaction).cause.unwrap();
        assert_eq!(cause.retry_in, Some(Duration::from_secs(60)));
    }

    /// A peer's words end up in our answer, but not a megabyte of them.
    #[test]
    fn a_long_sentence_is_cut_between_characters() {
        let error = ExchangeError::BadRequest { reason: "é".repeat(SENTENCE_MAX) };
        let sentence = with_causes(&error);
        assert!(
            sentence.len() <= SENTENCE_MAX + '…'.len_utf8() && sentence.ends_with("é…"),
            "{}",
            sentence.len()
        );
    }
}
