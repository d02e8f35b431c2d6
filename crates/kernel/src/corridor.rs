//! The corridor: admission → ranker → discovery → pool → transport, and back.
//!
//! # Units
//! Latency runs from our first byte written to the head of their response.
//!
//! # Source
//! K14, K15, K16, F5, F12; DESIGN, "One picture".

use std::rc::Rc;
use std::time::Duration;

use ::http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use ::http::{Method, Request, Response, StatusCode, Uri, Version};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use southbridge_policy::lane::Lane;
use southbridge_policy::ranker::Advice;
use southbridge_words::{HostState, Instant, Outcome, ServiceName, Step};

use crate::discovery::{DiscoveryError, Route};
use crate::exchange::{Call, ExchangeError, Repeat};
use crate::http::{
    Ending, FromPeer, HeadFault, Pace, ResponseBody, SendFailure, Sent, Violation, check_framing,
};
use crate::kernel::Shared;
use crate::pool::{LendError, Lent, Need};
use crate::underway::Mark;

impl Shared {
    /// Carries `call` to its host and brings the head of the response back; the body follows by itself.
    pub(crate) async fn exchange(
        self: Rc<Self>,
        call: Call,
    ) -> Result<Response<ResponseBody>, ExchangeError> {
        check_request(&call)?;
        let mut passage = self.admit(&call)?;
        let lane = self.rank(&call, &mut passage)?;
        let deadline = self.clock.to_tokio(call.deadline);
        let outcome = tokio::time::timeout_at(deadline, self.attempts(&call, lane, &passage.mark)).await;
        match outcome {
            Ok(Ok(answered)) => Ok(self.deliver(&call, passage, answered)),
            Ok(Err(error)) => Err(passage.fail(error)),
            Err(_) => {
                let waited = self.clock.now().saturating_since(passage.mark.started_at());
                let step = self.overdue_step(&passage.mark);
                Err(passage.fail(ExchangeError::DeadlinePassed {
                    service: call.service.clone(),
                    step,
                    waited,
                }))
            }
        }
    }

    fn admit(self: &Rc<Self>, call: &Call) -> Result<Passage, ExchangeError> {
        let now = self.clock.now();
        let bytes = call.request.body().len() as u64;
        let mark = self.underway.enter(&call.service, call.class, now);
        let admitted =
            self.admission.borrow_mut().handle_request(mark.ticket(), &call.service, call.class, bytes);
        admitted.map_err(|overload| {
            self.stats.overloads.add(1);
            ExchangeError::Overloaded { what: overload.to_string() }
        })?;
        self.stats.requests[call.class].add(1);
        self.budget.borrow_mut().handle_request(now);
        Ok(Passage { shared: Rc::clone(self), mark, verdict: None })
    }

    fn rank(&self, call: &Call, passage: &mut Passage) -> Result<Lane, ExchangeError> {
        if !call.ranked {
            return Ok(self.errand_lane(call, passage.mark.started_at()));
        }
        let advice = self.ranker.borrow_mut().ask(&call.service, call.demand, passage.mark.started_at());
        let lane = match advice {
            Advice::Go { lane } => lane,
            Advice::Probe => Lane::Limited,
            Advice::Refuse(down) => {
                self.stats.refused_down.add(1);
                return Err(ExchangeError::HostDown { service: call.service.clone(), down });
            }
        };
        passage.verdict = Some(call.service.clone());
        Ok(lane)
    }

    /// A side errand for a host that does well is as urgent as the request that waits for it; one to
    /// somewhere unknown must not take the place of a request to a good host.
    fn errand_lane(&self, call: &Call, now: Instant) -> Lane {
        let view = self.ranker.borrow().view(&call.service, now);
        match view {
            Some(view) if view.state == HostState::Healthy => Lane::Open,
            _ => Lane::Limited,
        }
    }

    /// Where a request was when its time ran out. One that waited for a connection that nobody had begun
    /// to open was in our own queue, and that is not the host's fault.
    fn overdue_step(&self, mark: &Mark) -> Step {
        match mark.step() {
            Step::Connect if !mark.peer().is_some_and(|peer| self.lending.is_connecting(peer)) => Step::Admission,
            step => step,
        }
    }

    async fn attempts(&self, call: &Call, lane: Lane, mark: &Mark) -> Result<Answered, ExchangeError> {
        let mut fresh = false;
        let mut attempt = 1;
        loop {
            let ticket = if attempt == 1 { mark.ticket() } else { self.underway.next_ticket() };
            let need = Need { ticket, class: call.class, lane, deadline: call.deadline, fresh };
            let failed = match self.attempt(call, need, mark).await {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            let may_repeat = failed.may_repeat(call) && attempt < ATTEMPTS_MAX;
            if !may_repeat || self.budget.borrow_mut().handle_retry(self.clock.now()).is_err() {
                return Err(failed.into_error(call));
            }
            self.stats.retries.add(1);
            attempt += 1;
            // A host that closed one idle connection has likely closed the others as well.
            fresh = true;
        }
    }

    async fn attempt(&self, call: &Call, need: Need, mark: &Mark) -> Result<Answered, Failed> {
        mark.reach(Step::Discovery);
        let route = call.discovery.discover(&call.service, call.deadline).await.map_err(Failed::Discovery)?;
        mark.reach(Step::Connect);
        let mut lent = self.lending.borrow(&route, need, mark).await.map_err(Failed::Lend)?;
        mark.sent_to(lent.remote());
        mark.reach(Step::Request);
        if !lent.ready().await {
            return Err(Failed::Stale);
        }
        let request = outgoing(call, &route, &lent).map_err(Failed::Request)?;
        let gauge = Rc::clone(lent.gauge());
        let read_before = gauge.read();
        if lent.is_http2() {
            gauge.allow(u64::from(self.head_bytes_max));
        } else {
            gauge.begin_head(self.head_bytes_max);
        }
        let sent_at = self.clock.now();
        if call.ranked {
            self.ranker.borrow_mut().handle_sent(&call.service, sent_at);
        }
        self.stats.sent(call.class, sent_at.saturating_since(mark.started_at()));
        mark.reach(Step::Response);
        match lent.send(request).await {
            Ok(response) => {
                if let Err(violation) = check_framing(response.version(), response.headers()) {
                    lent.discard();
                    return Err(Failed::Violation(violation));
                }
                let latency = self.clock.now().saturating_since(sent_at);
                Ok(Answered { response, lent, latency })
            }
            Err(failure) => {
                let silent = lent.is_reused() && gauge.read() == read_before && !failure.misread;
                let fault = gauge.fault();
                lent.discard();
                Err(Failed::Send { failure, silent, fault })
            }
        }
    }

    fn deliver(
        self: &Rc<Self>,
        call: &Call,
        mut passage: Passage,
        answered: Answered,
    ) -> Response<ResponseBody> {
        let Answered { response, lent, latency } = answered;
        passage.mark.reach(Step::Body);
        let (parts, incoming) = response.into_parts();
        passage.report(outcome_of(parts.status, retry_after(&parts), latency));
        self.stats.responded(parts.status, latency);
        let from = FromPeer {
            incoming,
            gauge: Rc::clone(lent.gauge()),
            pace: Pace::new(self.body_rate_min, call.deadline),
            clock: self.clock,
            service: call.service.clone(),
            rate_min: self.body_rate_min,
            timer: None,
            ending: Box::new(Delivery { lent, passage }),
        };
        Response::from_parts(parts, ResponseBody::from_peer(from))
    }
}

/// A request's way through the corridor: whatever ends it, its places are given up.
struct Passage {
    shared: Rc<Shared>,
    mark: Mark,
    /// The host whose ranker is still owed an outcome.
    verdict: Option<ServiceName>,
}

impl Passage {
    fn report(&mut self, outcome: Outcome) {
        if let Some(host) = self.verdict.take() {
            self.shared.ranker.borrow_mut().handle_outcome(&host, outcome, self.shared.clock.now());
        }
    }

    fn fail(mut self, error: ExchangeError) -> ExchangeError {
        self.report(error.outcome());
        self.shared.stats.failed(error.step());
        error
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.report(Outcome::Abandoned);
        self.shared.admission.borrow_mut().handle_done(self.mark.ticket());
    }
}

/// What is still held while a body is delivered.
struct Delivery {
    lent: Lent,
    passage: Passage,
}

impl Ending for Delivery {
    fn complete(self: Box<Self>, received: u64) {
        self.passage.shared.stats.body_bytes.add(received);
        self.lent.give_back();
    }

    fn failed(self: Box<Self>, received: u64, _error: &ExchangeError) {
        let Self { lent, passage } = *self;
        passage.shared.stats.body_bytes.add(received);
        passage.shared.stats.failed(Step::Body);
        lent.discard();
    }
}

struct Answered {
    response: Response<Incoming>,
    lent: Lent,
    latency: Duration,
}

/// Why one attempt failed.
enum Failed {
    Discovery(DiscoveryError),
    Lend(LendError),
    /// The connection was gone before anything was written.
    Stale,
    Request(String),
    Violation(Violation),
    Send {
        failure: SendFailure,
        silent: bool,
        fault: Option<HeadFault>,
    },
}

impl Failed {
    /// Whether another attempt can do no harm (K16): nothing left us, or nothing came back on a
    /// connection that may have been closed under us and the request is safe to repeat.
    fn may_repeat(&self, call: &Call) -> bool {
        match self {
            Self::Stale => true,
            Self::Send { failure, silent, fault: None } => {
                failure.sent == Sent::Nothing || (*silent && call.repeat == Repeat::Safe)
            }
            _ => false,
        }
    }

    fn into_error(self, call: &Call) -> ExchangeError {
        let service = call.service.clone();
        match self {
            Self::Discovery(error) => ExchangeError::Discovery(error),
            Self::Lend(LendError::Full(full)) => ExchangeError::Overloaded { what: full.to_string() },
            Self::Lend(LendError::Failed(source)) => ExchangeError::Connect { service, source },
            Self::Lend(LendError::DeadlinePassed { step }) => {
                ExchangeError::DeadlinePassed { service, step, waited: Duration::ZERO }
            }
            Self::Stale => {
                let reason = "the connection was closed before the request".to_owned();
                ExchangeError::Cut { service, step: Step::Request, reason }
            }
            Self::Request(reason) => ExchangeError::BadRequest { reason },
            Self::Violation(violation) => ExchangeError::PeerMisbehaved { service, violation },
            Self::Send { fault: Some(fault), .. } => {
                let violation = Violation::Unreadable { reason: fault.to_string() };
                ExchangeError::PeerMisbehaved { service, violation }
            }
            Self::Send { failure, .. } if failure.misread => {
                let violation = Violation::Unreadable { reason: failure.reason };
                ExchangeError::PeerMisbehaved { service, violation }
            }
            Self::Send { failure, .. } => {
                ExchangeError::Cut { service, step: Step::Response, reason: failure.reason }
            }
        }
    }
}

/// What can be seen to be wrong with a request before anybody is asked for anything.
fn check_request(call: &Call) -> Result<(), ExchangeError> {
    let refused = |reason: &str| Err(ExchangeError::BadRequest { reason: reason.to_owned() });
    if call.request.uri().path_and_query().is_none() {
        return refused("it has no path");
    }
    if *call.request.method() == Method::CONNECT {
        return refused("CONNECT is not an exchange");
    }
    Ok(())
}

/// The request as it goes out on `lent`.
fn outgoing(call: &Call, route: &Route, lent: &Lent) -> Result<Request<Full<Bytes>>, String> {
    let request = &call.request;
    let target = request.uri().path_and_query().ok_or("it has no path")?.clone();
    let mut out = Request::new(Full::new(request.body().clone()));
    *out.method_mut() = request.method().clone();
    let mut headers = request.headers().clone();
    for name in KERNELS_OWN {
        headers.remove(name);
    }
    if lent.is_http2() {
        let mut parts = ::http::uri::Parts::default();
        parts.scheme = Some(::http::uri::Scheme::HTTPS);
        parts.authority = Some(route.authority.parse().map_err(|_| "its authority is not one".to_owned())?);
        parts.path_and_query = Some(target);
        *out.uri_mut() = Uri::from_parts(parts).map_err(|error| error.to_string())?;
        *out.version_mut() = Version::HTTP_2;
    } else {
        *out.uri_mut() = Uri::from(target);
        headers.insert(HOST, host_value(route)?);
        if request.body().is_empty() && !matches!(*request.method(), Method::GET | Method::HEAD) {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
    *out.headers_mut() = headers;
    Ok(out)
}

fn host_value(route: &Route) -> Result<HeaderValue, String> {
    HeaderValue::from_str(&route.authority).map_err(|_| "its Host is not a header value".to_owned())
}

/// What a response says about its host (DESIGN decision 6): 4xx proves that it lives; 5xx and 429 count
/// against it.
fn outcome_of(status: StatusCode, retry_after: Option<Duration>, latency: Duration) -> Outcome {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        Outcome::Unwilling { latency, retry_after }
    } else {
        Outcome::Answered { latency }
    }
}

fn retry_after(parts: &::http::response::Parts) -> Option<Duration> {
    let value = parts.headers.get(::http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    value.parse::<u32>().ok().map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// Framing and the connection's own affairs are never the caller's to set.
const KERNELS_OWN: [HeaderName; 6] = [
    HOST,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    ::http::header::CONNECTION,
    ::http::header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// The first attempt, one for a connection that had gone stale, one for what the peer refused to look at.
const ATTEMPTS_MAX: u32 = 3;
