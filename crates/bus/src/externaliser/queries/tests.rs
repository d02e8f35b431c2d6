//! Stories of queries.

use std::time::Duration;

use bytes::Bytes;
use southbridge_words::{Instant, ServerName, Step, Ticket, WallTime};

use crate::externaliser::{
    Action, Answer, Errand, Event, Externaliser, ExternaliserLimits, Failure, Moment, Refused,
};
use crate::outgoing::{FederationErrorResponse, FederationQueryResponse, OutgoingQuery, QueryMethod};

const SECOND: Duration = Duration::from_secs(1);
const T: Ticket = Ticket(7);
const CLAIM: &str = "/_matrix/federation/v1/user/keys/claim";

struct Asking {
    bus: Externaliser,
    at: Moment,
    asked: usize,
    withdrawn: usize,
    done: Option<Result<FederationQueryResponse, FederationErrorResponse>>,
}

fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

fn profile() -> OutgoingQuery {
    OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/query/profile")
        .query("user_id", "@a:b.example")
}

fn claim() -> OutgoingQuery {
    OutgoingQuery::new(QueryMethod::Post, CLAIM).body("{}")
}

impl Asking {
    fn begin(query: &OutgoingQuery, timeout: Duration) -> Self {
        let wall = WallTime::from_unix_millis(1_760_000_000_000);
        let at = Moment { now: Instant::ZERO + 1000 * SECOND, wall };
        let bus = Externaliser::new(name("a.example"), ExternaliserLimits::default(), 1);
        let mut asking = Self { bus, at, asked: 0, withdrawn: 0, done: None };
        asking.bus.query(T, query, name("b.example"), timeout, at).unwrap();
        asking.drain();
        asking
    }

    fn drain(&mut self) {
        while let Some(action) = self.bus.poll() {
            match action {
                Action::Ask { ticket: T, .. } => self.asked += 1,
                Action::Withdraw(Errand::Query(T)) => self.withdrawn += 1,
                Action::Tell(Event::QueryDone { ticket: T, result }) => {
                    assert_eq!(self.done, None, "told twice");
                    self.done = Some(result);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.bus.handle_query_answer(T, answer, self.at);
        self.drain();
    }

    fn fail(&mut self, failure: Failure) {
        self.bus.handle_query_failed(T, failure, self.at);
        self.drain();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.at.now + time;
        while let Some(due) = self.bus.poll_timeout().filter(|due| *due <= end) {
            self.at.now = due;
            self.bus.handle_timeout(self.at);
            self.drain();
        }
        self.at.now = end;
    }

    fn errcode(&self) -> Option<&str> {
        Some(self.done.as_ref()?.as_ref().err()?.errcode.as_str())
    }
}

fn silence() -> Failure {
    Failure::PerhapsSent { step: Step::Response, reason: "reset".to_owned() }
}

fn unreached() -> Failure {
    Failure::NotSent { step: Step::Connect, reason: "refused".to_owned() }
}

/// The JSON of an answer is handed on as it came; what a peer refuses is final, with all its keys.
#[test]
fn an_answer_ends_a_query() {
    let mut asking = Asking::begin(&profile(), 10 * SECOND);
    asking.answer(Answer::new(200, r#"{ "displayname":"A"}"#));
    let done = asking.done.unwrap().unwrap();
    assert_eq!(done.bytes(), &Bytes::from_static(br#"{ "displayname":"A"}"#));
    let mut asking = Asking::begin(&profile(), 10 * SECOND);
    asking.answer(Answer::new(404, r#"{"errcode":"M_NOT_FOUND","error":"no","x":1}"#));
    assert_eq!((asking.errcode(), asking.asked), (Some("M_NOT_FOUND"), 1));
}

/// A proxy restarts, a host is overloaded, a connection breaks: asked again within the deadline.
#[test]
fn transient_errors_are_retried_within_the_deadline() {
    let mut asking = Asking::begin(&profile(), 30 * SECOND);
    asking.answer(Answer::new(502, "<html>"));
    asking.pass(SECOND);
    asking.fail(silence());
    asking.pass(2 * SECOND);
    asking.answer(Answer { status: 429, retry_after: Some("5".to_owned()), body: Bytes::new() });
    asking.pass(4 * SECOND);
    assert_eq!(asking.asked, 3, "not before it said");
    asking.pass(2 * SECOND);
    asking.answer(Answer::new(200, "{}"));
    assert_eq!((asking.asked, asking.done.is_some_and(|done| done.is_ok())), (4, true));
}

/// Each claim uses up keys: it is asked again only when it surely did not arrive.
#[test]
fn keys_are_never_claimed_twice() {
    let mut asking = Asking::begin(&claim(), 30 * SECOND);
    asking.fail(unreached());
    asking.pass(SECOND);
    assert_eq!(asking.asked, 2);
    asking.fail(silence());
    assert_eq!((asking.errcode(), asking.asked), (Some("ORG.SOUTHBRIDGE.UNREACHABLE"), 2));
    for status in [500, 429, 200] {
        let mut asking = Asking::begin(&claim(), 30 * SECOND);
        asking.answer(Answer::new(status, "<html>"));
        asking.pass(60 * SECOND);
        assert_eq!((asking.asked, asking.done.is_some()), (1, true), "{status}");
    }
}

/// Past its deadline a query ends with an error, whether it was sent or not; what is under way is stopped.
#[test]
fn a_query_ends_by_its_deadline() {
    let mut asking = Asking::begin(&profile(), 10 * SECOND);
    asking.pass(9 * SECOND);
    assert_eq!(asking.done, None);
    asking.pass(SECOND);
    assert_eq!((asking.errcode(), asking.withdrawn), (Some("ORG.SOUTHBRIDGE.TIMEOUT"), 1));
    asking.answer(Answer::new(200, "{}"));
    let mut asking = Asking::begin(&profile(), 10 * SECOND);
    asking.fail(Failure::Down { retry_in: 20 * SECOND });
    assert!(asking.done.is_some(), "nothing can come of it any more");
}

/// Zero is for ever: a host that is down for a day is asked in the end.
#[test]
fn a_timeout_of_zero_is_for_ever() {
    let mut asking = Asking::begin(&profile(), Duration::ZERO);
    for _ in 0..24 {
        asking.fail(Failure::Down { retry_in: 3600 * SECOND });
        assert_eq!(asking.done, None);
        asking.pass(4000 * SECOND);
    }
    asking.answer(Answer::new(200, "{}"));
    assert_eq!((asking.asked, asking.done.is_some_and(|done| done.is_ok())), (25, true));
    assert_eq!(asking.bus.poll_timeout(), None);
}

/// Something was heard from the host: what waits for it is asked at once.
#[test]
fn a_wake_up_ends_the_wait_of_a_query() {
    let mut asking = Asking::begin(&profile(), Duration::ZERO);
    asking.fail(Failure::Down { retry_in: 3600 * SECOND });
    asking.pass(10 * SECOND);
    for _ in 0..100 {
        asking.bus.wake(&name("b.example"), asking.at);
        asking.drain();
        asking.fail(unreached());
    }
    assert_eq!(asking.asked, 2, "and not at every word");
}

/// The caller went away: the request is stopped, and nothing more is said.
#[test]
fn a_cancelled_query_is_withdrawn() {
    let mut asking = Asking::begin(&profile(), 10 * SECOND);
    asking.bus.cancel(T, asking.at);
    asking.drain();
    assert_eq!((asking.withdrawn, asking.bus.counts().queries), (1, 0));
    asking.pass(60 * SECOND);
    assert_eq!(asking.done, None);
}

/// So many and no more, for one destination and in all; and what cannot be asked is refused at once.
#[test]
fn queries_are_bounded() {
    let limits = ExternaliserLimits {
        queries_max: 3,
        queries_per_destination_max: 2,
        ..ExternaliserLimits::default()
    };
    let mut bus = Externaliser::new(name("a.example"), limits, 1);
    let mut ask = |ticket, to| bus.query(Ticket(ticket), &profile(), name(to), SECOND, Moment::default());
    assert_eq!((ask(1, "b.example"), ask(2, "b.example")), (Ok(()), Ok(())));
    assert!(matches!(
        ask(3, "b.example"),
        Err(Refused::TooManyQueries { scope: "for this destination", .. })
    ));
    assert_eq!(ask(4, "c.example"), Ok(()));
    assert!(matches!(ask(5, "d.example"), Err(Refused::TooManyQueries { scope: "in all", .. })));
    let query = OutgoingQuery::new(QueryMethod::Get, "/admin");
    let refused = bus.query(Ticket(6), &query, name("b.example"), SECOND, Moment::default());
    assert!(matches!(refused, Err(Refused::InvalidQuery { .. })));
}
