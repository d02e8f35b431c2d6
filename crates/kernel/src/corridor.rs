//! The corridor: admission → ranker → discovery → pool → transport, and back.
//!
//! # Units
//! Latency runs from our first byte written to the head of their response.
//!
//! # Source
//! K14, K15, K16, F5, F12; DESIGN, "One picture".

mod answer;
mod failed;
mod outgoing;

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ::http::{Method, Request, Response};
use hyper::body::Incoming;
use southbridge_policy::lane::Lane;
use southbridge_policy::ranker::Advice;
use southbridge_words::{HostState, Instant, Outcome, ServiceName, Step};

use crate::alarm::TooLate;
use crate::discovery::Route;
use crate::exchange::{Call, ExchangeError, Manner};
use crate::http::{
    Ending, FromPeer, Loss, Pace, RequestBody, ResponseBody, SendFailure, StreamedBody, check_framing,
    ends_connection,
};
use crate::kernel::Shared;
use crate::net::ConnectError;
use crate::pool::{LendError, Lent, Need};
use crate::stats::ServiceFigures;
use crate::underway::Mark;
use answer::outcome_of;
pub(crate) use failed::Failed;
use outgoing::{check_request, outgoing, text_bytes};

impl Shared {
    /// Carries `call` to its host and brings the head of the response back; the body follows by itself.
    #[allow(
        clippy::manual_async_fn,
        reason = "an `async fn` holds what it is given twice; thousands of these wait"
    )]
    pub(crate) fn exchange(
        self: Rc<Self>,
        call: Call,
        manner: Manner<'_>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ExchangeError>> {
        async move {
            if manner.composer.is_none() {
                check_request(&call.request)?;
            }
            let mut passage = self.admit(&call)?;
            passage.mark.describe(call.deadline, manner.about.as_ref());
            let lane = self.rank(&call, &mut passage)?;
            let outcome = {
                let attempts = pin!(self.attempts(&call, &manner, lane, &passage));
                match call.deadline {
                    // No timer for what has none.
                    Instant::FAR_FUTURE => Ok(attempts.await),
                    deadline => self.around.alarm.bound(deadline, attempts).await,
                }
            };
            match outcome {
                Ok(Ok(answered)) => Ok(self.deliver(&call, passage, answered)),
                Ok(Err(error)) => Err(passage.fail(error)),
                Err(TooLate) => {
                    let waited = self.clock.now().saturating_since(passage.mark.started_at());
                    let (service, step) = (call.service.clone(), self.overdue_step(&passage.mark));
                    Err(passage.fail(ExchangeError::DeadlinePassed { service, step, waited }))
                }
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
        // An errand is not what somebody asked of the service.
        let figures = call.ranked.then(|| self.stats.service(&call.service));
        figures.iter().for_each(|figures| figures.requested());
        Ok(Passage { shared: Rc::clone(self), mark, figures, verdict: None, has_ended: false })
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
                passage.has_ended = true;
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
            Step::Connect if !mark.peer().is_some_and(|peer| self.lending.is_connecting(peer)) => {
                Step::Admission
            }
            step => step,
        }
    }

    async fn attempts(
        &self,
        call: &Call,
        manner: &Manner<'_>,
        lane: Lane,
        passage: &Passage,
    ) -> Result<Answered, ExchangeError> {
        let mark = &passage.mark;
        let mut fresh = false;
        let mut attempt = 1;
        loop {
            let ticket = if attempt == 1 { mark.ticket() } else { self.underway.next_ticket() };
            let deadline = manner.connect_by.map_or(call.deadline, |by| by.min(call.deadline));
            let need = Need { ticket, class: call.class, lane, deadline, fresh };
            let failed = match self.attempt(call, manner, need, mark).await {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            let now = self.clock.now();
            let at_once = failed.may_repeat(call.repeat);
            let pause = if at_once { None } else { self.pause(call, manner, &failed, attempt + 1) };
            let may_repeat = (at_once || pause.is_some()) && attempt < manner.attempts.attempts_max;
            let is_burden = pause.is_some() || failed.burdened_peer();
            let spent = || is_burden && self.budget.borrow_mut().handle_retry(now).is_err();
            let is_gone = || manner.body.as_ref().is_some_and(|body| !body.rewind());
            if !may_repeat || is_gone() || spent() {
                return Err(failed.into_error(call, now.saturating_since(mark.started_at())));
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            passage.blame(&failed);
            self.stats.retries.add(1);
            passage.figures.iter().for_each(|figures| figures.repeated());
            attempt += 1;
            // A host that closed one idle connection has likely closed the others as well.
            fresh = true;
        }
    }

    /// How long to wait before attempt `next`, if what has failed is the peer's fault, may be asked again, and the
    /// service is not down by now.
    fn pause(&self, call: &Call, manner: &Manner<'_>, failed: &Failed, next: u32) -> Option<Duration> {
        let pause = manner.attempts.pause_before(next).filter(|_| failed.may_repeat_later(call.repeat))?;
        let view = self.ranker.borrow().view(&call.service, self.clock.now());
        let is_down = view.is_some_and(|view| view.state == HostState::Down);
        (!is_down).then_some(pause)
    }

    async fn attempt(
        &self,
        call: &Call,
        manner: &Manner<'_>,
        need: Need,
        mark: &Mark,
    ) -> Result<Answered, Failed> {
        mark.reach(Step::Discovery);
        let route = call.discovery.discover(&call.service, need.deadline).await.map_err(Failed::Discovery)?;
        mark.reach(Step::Connect);
        let borrowed = self.lending.borrow(&route, need, mark).await;
        if let Err(LendError::Failed(why)) = &borrowed
            && !why.is_ours()
        {
            call.discovery.distrust(&call.service);
        }
        let lent = borrowed.map_err(Failed::Lend)?;
        // Boxed: thousands may wait for a connection, and need no room yet for what comes after.
        Box::pin(self.send(call, manner, mark, &route, lent)).await
    }

    /// Sends the request on the connection that was lent for it, and waits for the head of the answer.
    async fn send(
        &self,
        call: &Call,
        manner: &Manner<'_>,
        mark: &Mark,
        route: &Route,
        mut lent: Lent,
    ) -> Result<Answered, Failed> {
        mark.sent_to(lent.remote());
        mark.reach(Step::Request);
        let composed = match manner.composer {
            None => None,
            Some(composer) => match composer.compose().await {
                Some(composed) => Some(composed),
                None => return Err(withdraw(lent)),
            },
        };
        if !lent.ready().await {
            return Err(Failed::Stale);
        }
        let request = composed.unwrap_or_else(|| call.request.clone());
        let method = request.method().clone();
        let streamed = manner.body.as_ref();
        let request = outgoing(request, streamed, route, lent.is_http2()).map_err(Failed::Request)?;
        let request_bytes = text_bytes(&request);
        let sent_at = self.clock.now();
        if call.ranked {
            self.ranker.borrow_mut().handle_sent(&call.service, sent_at);
        }
        self.stats.sent(call.class, sent_at.saturating_since(mark.started_at()));
        mark.reach(Step::Response);
        let response = match manner.silence_max {
            None => lent.send(request, self.head_bytes_max, sent_at).await.map_err(Unanswered::Failed),
            // Boxed, so that those without such a bound (thousands of transactions) need no room for it.
            Some(silence_max) => {
                Box::pin(self.answer(&mut lent, request, manner, sent_at, silence_max)).await
            }
        };
        let answered_at = self.clock.now();
        let latency = answered_at.saturating_since(sent_at);
        let (failed, loss) = match response {
            Ok(response) => match judge(&method, &response, &mut lent, request_bytes, streamed) {
                Ok(()) => return Ok(Answered { response, lent, latency, at: answered_at }),
                Err(failed) => (failed, Loss::Connection),
            },
            Err(Unanswered::Failed(failure)) => {
                let loss = failure.loss;
                (lent.explain(failure), loss)
            }
            // What becomes of the connection is for the lease to say, as when the caller gives up.
            Err(Unanswered::Silent { waited }) => return Err(Failed::Silent { waited }),
        };
        if failed.wants_http1() {
            self.lending.avoid_http2(route);
        }
        lent.lose(loss);
        Err(failed)
    }

    /// Sends `request` and waits for the head of its answer, for as long as the peer takes or gives anything.
    async fn answer(
        &self,
        lent: &mut Lent,
        request: Request<RequestBody>,
        manner: &Manner<'_>,
        sent_at: Instant,
        silence_max: Duration,
    ) -> Result<Response<Incoming>, Unanswered> {
        let gauge = Rc::clone(lent.gauge());
        // What moves on a connection that many share says nothing about one of them.
        let is_own = !lent.is_http2() || manner.body.is_some();
        let mut sending = pin!(lent.send(request, self.head_bytes_max, sent_at));
        let (mut seen, mut looks) = ((gauge.read(), gauge.written()), 0);
        while looks < LOOKS {
            let look_at = self.clock.now() + silence_max / LOOKS;
            match self.around.alarm.bound(look_at, &mut sending).await {
                Ok(answer) => return answer.map_err(Unanswered::Failed),
                Err(TooLate) if is_own && seen != (gauge.read(), gauge.written()) => {
                    (seen, looks) = ((gauge.read(), gauge.written()), 0);
                }
                Err(TooLate) => looks += 1,
            }
        }
        Err(Unanswered::Silent { waited: silence_max })
    }

    fn deliver(
        self: &Rc<Self>,
        call: &Call,
        mut passage: Passage,
        answered: Answered,
    ) -> Response<ResponseBody> {
        let Answered { response, lent, latency, at } = answered;
        passage.mark.reach(Step::Body);
        let (parts, incoming) = response.into_parts();
        passage.report_at(outcome_of(&parts, latency, || self.clock.wall()), at);
        self.stats.responded(parts.status, latency);
        if let Some(figures) = &passage.figures {
            figures.responded(parts.status, latency);
            figures.endpoint(lent.remote(), |endpoint| endpoint.responded(parts.status, latency));
        }
        let from = FromPeer {
            incoming,
            gauge: Rc::clone(lent.gauge()),
            remote: lent.remote(),
            pace: Some(Pace::new(self.body_rate_min, call.deadline)),
            clock: self.clock,
            service: call.service.clone(),
            rate_min: self.body_rate_min,
            timer: None,
            ending: Box::new(Delivery { lent, passage }),
        };
        Response::from_parts(parts, ResponseBody::from_peer(from))
    }
}

/// Whether `response` may be handed on, and what it means for the connection that brought it.
fn judge(
    method: &Method,
    response: &Response<Incoming>,
    lent: &mut Lent,
    request_bytes: u64,
    streamed: Option<&StreamedBody>,
) -> Result<(), Failed> {
    let (version, status, headers) = (response.version(), response.status(), response.headers());
    check_framing(version, status, headers).map_err(Failed::Violation)?;
    // An answer that came before the end of the request may belong to another one, and a peer that has
    // stopped reading will never make room for the next.
    let is_being_made = streamed.is_some_and(|body| !body.has_ended());
    let early = !lent.is_http2() && (is_being_made || lent.sent_bytes_when_answered() < request_bytes);
    if early || ends_connection(version, method, status, headers) {
        lent.spend();
    }
    Ok(())
}

/// The connection goes back as it came: nothing is left to be sent on it.
fn withdraw(lent: Lent) -> Failed {
    lent.give_back();
    Failed::Withdrawn
}

/// A request's way through the corridor: whatever ends it, its places are given up.
struct Passage {
    shared: Rc<Shared>,
    mark: Mark,
    /// Those of its service, unless it is an errand.
    figures: Option<Rc<ServiceFigures>>,
    /// The host whose ranker is still owed an outcome.
    verdict: Option<ServiceName>,
    /// Whether it came to an end of its own: an answer to the last byte, or an error. Else its caller has given it up.
    has_ended: bool,
}

impl Passage {
    fn report(&mut self, outcome: Outcome) {
        if self.verdict.is_some() {
            self.report_at(outcome, self.shared.clock.now());
        }
    }

    fn report_at(&mut self, outcome: Outcome, now: Instant) {
        if let Some(host) = self.verdict.take() {
            self.shared.ranker.borrow_mut().handle_outcome(&host, outcome, now);
            self.shared.look_at(&host);
        }
    }

    fn fail(mut self, error: ExchangeError) -> ExchangeError {
        self.report(error.outcome());
        if let ExchangeError::Connect { source, .. } = &error {
            self.blame_addresses(source);
        }
        self.failed_at(error.step());
        error
    }

    fn failed_at(&mut self, step: Step) {
        self.has_ended = true;
        self.shared.stats.failed(step);
        if let Some(figures) = &self.figures {
            figures.failed(step);
            if let Some(remote) = self.mark.remote().filter(|_| step >= Step::Request) {
                figures.endpoint(remote, |endpoint| endpoint.failed(step));
            }
        }
    }

    /// An attempt has failed that will be made again: what it says of the endpoint is counted, and nothing else.
    fn blame(&self, failed: &Failed) {
        match failed {
            Failed::Lend(LendError::Failed(why)) => self.blame_addresses(why),
            Failed::Violation(_) | Failed::Silent { .. } | Failed::Send { .. } => {
                if let (Some(figures), Some(remote)) = (&self.figures, self.mark.remote()) {
                    figures.endpoint(remote, |endpoint| endpoint.failed(self.mark.step()));
                }
            }
            // Nothing was asked of it.
            Failed::Discovery(_)
            | Failed::Lend(_)
            | Failed::Stale
            | Failed::Withdrawn
            | Failed::Request(_) => {}
        }
    }

    fn blame_addresses(&self, why: &ConnectError) {
        let Some(figures) = &self.figures else { return };
        why.addresses().for_each(|address| figures.endpoint(address, |endpoint| endpoint.failed(why.step())));
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.report(Outcome::Abandoned);
        if !self.has_ended {
            self.shared.stats.cancelled.add(1);
        }
        self.shared.admission.borrow_mut().handle_done(self.mark.ticket());
    }
}

/// What is still held while a body is delivered.
struct Delivery {
    lent: Lent,
    passage: Passage,
}

impl Ending for Delivery {
    fn complete(mut self: Box<Self>, received: u64) {
        self.passage.has_ended = true;
        self.passage.shared.stats.body_bytes.add(received);
        self.lent.give_back();
    }

    fn failed(self: Box<Self>, received: u64, loss: Loss) {
        let Self { lent, mut passage } = *self;
        passage.shared.stats.body_bytes.add(received);
        passage.failed_at(Step::Body);
        lent.lose(loss);
    }
}

/// Why a request has no answer.
enum Unanswered {
    Failed(SendFailure),
    Silent { waited: Duration },
}

struct Answered {
    response: Response<Incoming>,
    lent: Lent,
    latency: Duration,
    at: Instant,
}

/// How often a peer that may be silent is looked at before it counts as such: one that said something right after
/// the first look is borne for a quarter longer.
const LOOKS: u32 = 4;
