//! The Federation Side Bus as the door sees it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use southbridge_bus::externaliser::{Acknowledgement, Event, GivenUp, Hold, Lost, QueueView};
use southbridge_bus::outgoing::FederationErrorResponse;
use southbridge_kernel::Clock;
use southbridge_words::{Instant, ServerName};

use super::api::{BusApi, Reading};
use super::checking;
use super::checks::Check;
use super::failure::{Code, Failure};
use super::question::Question;
use super::submission::{Submission, What};
use super::views::{Acknowledged, Happened, KeyRow, LostRow, QueryFailure, QueueRow, ResultLine, Verdict};
use crate::bus::{Delivery, Results, ResumeToken, SendError, SideBus};

/// A bus, and the clock by which it is shown.
#[derive(Clone)]
pub struct ServedBus {
    pub(super) bus: SideBus,
    clock: Clock,
}

impl ServedBus {
    /// `bus`, shown by `clock`, which is that of its kernel.
    pub fn new(bus: SideBus, clock: Clock) -> Self {
        Self { bus, clock }
    }
}

impl BusApi for ServedBus {
    async fn send(&self, submission: Submission) -> Result<Acknowledged, Failure> {
        let Submission { what, destinations, key } = submission;
        let sent = match what {
            What::Pdu(pdu) => self.bus.send_pdu(pdu, destinations, key).await,
            What::Edu(edu) => self.bus.send_edu(edu, destinations, key).await,
        };
        match sent {
            Ok(Acknowledgement::Durable(seq)) => Ok(Acknowledged::Durable { seq: seq.0 }),
            Ok(Acknowledgement::Volatile) => Ok(Acknowledged::Volatile),
            Err(refused) => Err(failure_of(&refused)),
        }
    }

    async fn query(&self, question: Question) -> Result<Bytes, QueryFailure> {
        let Question { destination, query, timeout } = question;
        let answered = self.bus.query(query, destination, timeout).await;
        answered.map(|response| response.bytes().clone()).map_err(query_failure)
    }

    async fn verify(&self, check: &Check<'_>, timeout: Duration) -> Result<Verdict, Failure> {
        self.check(check, timeout).await.map_err(|error| checking::failure_of(&error))
    }

    async fn keys(&self, server: &ServerName, timeout: Duration) -> Result<Vec<KeyRow>, Failure> {
        self.look_at(server, timeout).await.map_err(|error| checking::failure_of(&error))
    }

    fn forget_keys(&self, server: &ServerName) -> bool {
        self.bus.keys().forget(server)
    }

    fn wake(&self, destination: &ServerName) {
        self.bus.wake(destination);
    }

    fn queue(&self, destination: &ServerName) -> Option<QueueRow> {
        self.bus.queue(destination).map(|view| row(destination, &view, self.clock.now()))
    }

    fn queues(&self, after: Option<&ServerName>, max: usize) -> Vec<(ServerName, QueueRow)> {
        let now = self.clock.now();
        let found = self.bus.queues(after, max).into_iter();
        found.map(|(name, view)| (name.clone(), row(&name, &view, now))).collect()
    }

    async fn drop_backlog(&self, destination: &ServerName) -> Result<LostRow, Failure> {
        let dropped = self.bus.drop_backlog(destination).await;
        let Lost { items, at_least, volatile, .. } = dropped.map_err(|refused| failure_of(&refused))?;
        Ok(LostRow { items, at_least, volatile })
    }

    fn results(&self, from: Option<&str>) -> Result<Reading, Failure> {
        let from: Option<ResumeToken> = from
            .map(str::parse)
            .transpose()
            .map_err(|error| Failure::new(Code::InvalidParam, format!("from: {error}")))?;
        let results = self.bus.results(from);
        let token = results.token().to_string();
        Ok(Reading { token, lines: unfold(results, next_line).boxed_local() })
    }
}

async fn next_line(mut results: Results) -> Option<(ResultLine, Results)> {
    loop {
        let (what, token) = match results.next().await? {
            Delivery::Event { event, token } => (happened(&event), token),
            Delivery::Gap { token } => (Some(Happened::Gap), token),
        };
        // What the stream is not about is passed over.
        if let Some(what) = what {
            return Some((ResultLine { what, token: token.to_string() }, results));
        }
    }
}

fn happened(event: &Event) -> Option<Happened> {
    Some(match event {
        Event::Delivered { destination, transaction, upto, items, response, .. } => Happened::Delivered {
            destination: destination.to_string(),
            transaction: transaction.to_string(),
            upto: upto.map(|seq| seq.0),
            items: *items,
            pdu_errors: response.errors.clone(),
        },
        Event::GivenUp { destination, upto, items, reason } => Happened::GivenUp {
            destination: destination.to_string(),
            upto: upto.0,
            items: *items,
            reason: reason_of(*reason),
        },
        Event::Diverged { destination, transaction } => {
            Happened::Diverged { destination: destination.to_string(), transaction: transaction.to_string() }
        }
        _ => return None,
    })
}

fn reason_of(reason: GivenUp) -> String {
    match reason {
        GivenUp::Rejected(status) => format!("rejected with {status}"),
        GivenUp::Retention => "retention".to_owned(),
        GivenUp::Ordered => "ordered".to_owned(),
        GivenUp::Unfit => "unfit".to_owned(),
        _ => "other".to_owned(),
    }
}

fn row(destination: &ServerName, view: &QueueView, now: Instant) -> QueueRow {
    QueueRow {
        destination: destination.to_string(),
        state: view.state.name(),
        delivered: view.delivered.0,
        last: view.last.0,
        items: view.items,
        at_least: view.at_least,
        held: view.held,
        volatile: view.volatile,
        transaction: view.transaction.as_ref().map(ToString::to_string),
        failures: view.failures,
        failing_for_ms: view.failing_since.map(|since| millis(now, since)),
        hold: view.hold.map(hold_of),
        retry_in_ms: view.until.map(|until| millis(until, now)),
        transaction_bytes_max: view.transaction_bytes_max,
    }
}

fn millis(later: Instant, earlier: Instant) -> u64 {
    u64::try_from(later.saturating_since(earlier).as_millis()).unwrap_or(u64::MAX)
}

/// Why a queue waits, in words.
fn hold_of(hold: Hold) -> String {
    match hold {
        Hold::Down => "the host is down".to_owned(),
        Hold::Unreachable => "it could not be reached, or did not answer".to_owned(),
        Hold::Overloaded => "no room on our side".to_owned(),
        Hold::RateLimited => "it answered 429: too many requests".to_owned(),
        Hold::Failing(status) => format!("it answered {status}, or what is no answer to a transaction"),
        Hold::TooLarge(status) => format!("it answered {status}: transactions become smaller"),
        Hold::Rejected(status) => format!("it answered {status}: something in the transaction is refused"),
        Hold::Unwelcome(status) => format!("it answered {status}: it does not want us now"),
        Hold::Gone => "it answered 410: it is gone".to_owned(),
        Hold::Unfit => "something in the transaction cannot be made into a request".to_owned(),
        Hold::Outbox => "the outbox could not remember or read it".to_owned(),
        Hold::Budget => "the share of retries is used up".to_owned(),
        Hold::Start => "one of many to be contacted after a start".to_owned(),
        _ => "for another reason".to_owned(),
    }
}

fn failure_of(refused: &SendError) -> Failure {
    let code = match refused {
        SendError::TooManyDestinations { .. } | SendError::TooLarge { .. } => Code::TooLarge,
        SendError::NoDestination => Code::BadJson,
        SendError::OutboxFull { .. } => Code::OutboxFull,
        SendError::OutboxUnavailable { .. } | SendError::OutboxFailed { .. } => Code::OutboxFailed,
        SendError::Closing => Code::Closing,
        _ => Code::LimitExceeded,
    };
    Failure::new(code, refused.to_string())
}

fn query_failure(failed: FederationErrorResponse) -> QueryFailure {
    let FederationErrorResponse { response, errcode, error, other } = failed;
    QueryFailure { errcode, error, status: response.map(|response| response.status), extra: other }
}
