//! One query on its way.
//!
//! # Source
//! F9; K15, K16.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, Response};
use southbridge_bus::externaliser::{Answer, Failure};
use southbridge_bus::outgoing::{QueryMethod, ResolvedQuery};
use southbridge_bus::signing::{Numbers, to_canonical};
use southbridge_kernel::Repeat;
use southbridge_kernel::exchange::{Call, ExchangeError};
use southbridge_kernel::http::ResponseBody;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, Instant, ServerName, ServiceName, Step, Ticket};

use super::answers::{self, failure};
use super::inner::Inner;
use super::letter::headers;

/// What the Externaliser wants asked.
pub(super) struct Question {
    pub(super) ticket: Ticket,
    pub(super) destination: ServerName,
    pub(super) request: ResolvedQuery,
    pub(super) class: Class,
    pub(super) deadline: Instant,
    pub(super) repeatable: bool,
    /// The request, once it is made.
    pub(super) signed: Request<Bytes>,
}

/// Asks `question` and tells what came of it.
pub(super) async fn ask(inner: Rc<Inner>, question: Box<Question>) {
    let mut asker = Asker { inner, ticket: question.ticket, answered: false };
    let outcome = exchange(&asker.inner, question).await;
    asker.answered = true;
    asker.inner.handle_asked(asker.ticket, outcome);
}

/// The task of a query. One that ends otherwise than by an answer leaves word.
struct Asker {
    inner: Rc<Inner>,
    ticket: Ticket,
    answered: bool,
}

impl Drop for Asker {
    fn drop(&mut self) {
        if !self.answered {
            self.inner.leave_word_of_query(self.ticket);
        }
    }
}

async fn exchange(inner: &Inner, mut question: Box<Question>) -> Result<Answer, Failure> {
    let class = question.class;
    sign(inner, &mut question).map_err(|reason| Failure::Unfit { reason })?;
    let response = exchanging(inner, question).await.map_err(|error| failure::of_query(&error))?;
    answers::of_query(inner, response, class).await
}

/// Not an `async fn`, which would hold the call twice.
fn exchanging(
    inner: &Inner,
    question: Box<Question>,
) -> impl Future<Output = Result<Response<ResponseBody>, ExchangeError>> {
    let call = Call {
        service: ServiceName::from(&question.destination),
        discovery: inner.matrix(),
        request: question.signed,
        class: question.class,
        demand: Demand::Prompt,
        deadline: question.deadline,
        repeat: if question.repeatable { Repeat::Safe } else { Repeat::Never },
        ranked: true,
    };
    inner.kernel().exchange(call)
}

/// What is said of a query whose task ended without a word.
pub(super) fn failure_of_a_panic() -> Failure {
    Failure::PerhapsSent { step: Step::Response, reason: "the task that asked it has ended early".to_owned() }
}

/// Makes the request, signed where that is wanted.
fn sign(inner: &Inner, question: &mut Question) -> Result<(), String> {
    let query = &question.request;
    let content = match &query.body {
        Some(body) if query.signed => {
            Some(to_canonical(body, Numbers::AsPython).map_err(|error| error.to_string())?)
        }
        _ => None,
    };
    let signatures = if query.signed {
        let (method, path) = (query.method.as_str(), &query.path_and_query);
        let signed = inner.signer().authorization(method, path, &question.destination, content.as_ref());
        signed.map_err(|error| error.to_string())?
    } else {
        Vec::new()
    };
    let signed = &mut question.signed;
    *signed.headers_mut() = headers(signatures, query.body.is_some())?;
    *signed.method_mut() = match query.method {
        QueryMethod::Get => Method::GET,
        QueryMethod::Post => Method::POST,
        QueryMethod::Put => Method::PUT,
    };
    *signed.uri_mut() = query.path_and_query.parse().map_err(|_| "its path is none".to_owned())?;
    *signed.body_mut() = query.body.clone().unwrap_or_default();
    Ok(())
}
