//! One transaction on its way: it asks the pool for a connection, is composed when there is one, and brings the
//! answer back.
//!
//! A letter stands in the list of its bus for as long as the Externaliser awaits its outcome. Whatever ends its
//! task, an answer, an error or a panic, is told; a letter that was withdrawn, or had nothing to carry any more,
//! stands there no longer and is not heard.
//!
//! # Source
//! F6 (grants), F7, K15; `reference/faults.md` rows 16–18.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use southbridge_bus::externaliser::{Answer, Failure};
use southbridge_bus::transaction::Transaction;
use southbridge_kernel::Repeat;
use southbridge_kernel::exchange::{Call, Compose, Composing, ExchangeError};
use southbridge_kernel::http::ResponseBody;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, Instant, ServerName, ServiceName};
use tokio::task::AbortHandle;

use super::answers::{self, failure};
use super::inner::Inner;

/// What the Externaliser wants sent.
pub(super) struct Errand {
    pub(super) destination: ServerName,
    pub(super) class: Class,
    pub(super) patient: bool,
    pub(super) deadline: Instant,
}

/// What the task of a transaction and the bus tell each other.
pub(super) struct Letter {
    errand: Errand,
    /// What the Externaliser said to the grant: a transaction, or nothing any more.
    said: RefCell<Option<Option<Transaction>>>,
    waiting: RefCell<Option<Waker>>,
    /// Whether the Externaliser awaits what becomes of it.
    awaited: Cell<bool>,
    /// Whether a connection was lent.
    granted: Cell<bool>,
    /// Whether a request was made, and so may have reached the peer.
    made: Cell<bool>,
    /// Why none could be made.
    unfit: RefCell<Option<String>>,
    task: RefCell<Option<AbortHandle>>,
}

impl Letter {
    pub(super) fn new(errand: Errand) -> Rc<Self> {
        Rc::new(Self {
            errand,
            said: RefCell::default(),
            waiting: RefCell::default(),
            awaited: Cell::new(true),
            granted: Cell::new(false),
            made: Cell::new(false),
            unfit: RefCell::default(),
            task: RefCell::default(),
        })
    }

    pub(super) fn destination(&self) -> &ServerName {
        &self.errand.destination
    }

    pub(super) fn is_carried_by(&self, task: AbortHandle) {
        self.task.replace(Some(task));
    }

    /// Whether it is still the one that the Externaliser awaits.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.get()
    }

    /// Its outcome has come, or is of no interest any more.
    pub(super) fn set_aside(&self) {
        self.awaited.set(false);
    }

    /// Answers the grant.
    pub(super) fn say(&self, transaction: Option<Transaction>) {
        self.said.replace(Some(transaction));
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// Whether a connection was lent for it.
    pub(super) fn is_begun(&self) -> bool {
        self.granted.get()
    }

    /// Stops the task, of which nothing is heard any more.
    pub(super) fn withdraw(&self) {
        self.set_aside();
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    async fn what_to_send(&self) -> Option<Transaction> {
        poll_fn(|context| {
            if let Some(said) = self.said.take() {
                return Poll::Ready(said);
            }
            self.waiting.replace(Some(context.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// What is known when the task ends before its time.
    pub(super) fn failure_of_a_panic(&self) -> Failure {
        failure::cut_off(self.made.get())
    }
}

/// Carries `letter` to its destination and tells what came of it.
pub(super) async fn carry(inner: Rc<Inner>, letter: Rc<Letter>) {
    let mut carrier = Carrier { inner, letter, arrived: false };
    let outcome = carrier.exchange().await;
    carrier.arrived = true;
    carrier.inner.handle_carried(&carrier.letter, outcome);
}

/// The task of a letter. One that ends otherwise than by arriving leaves word.
struct Carrier {
    inner: Rc<Inner>,
    letter: Rc<Letter>,
    arrived: bool,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if !self.arrived {
            self.inner.leave_word(Rc::clone(&self.letter));
        }
    }
}

impl Carrier {
    async fn exchange(&self) -> Result<Answer, Failure> {
        let response = self.exchanging().await.map_err(|error| match self.letter.unfit.take() {
            Some(reason) => Failure::Unfit { reason },
            None => failure::of_transaction(&error, self.letter.made.get()),
        })?;
        answers::of_transaction(&self.inner, response, self.letter.errand.deadline).await
    }

    /// Not an `async fn`, which would hold the call twice: thousands of these wait at a time.
    fn exchanging(&self) -> impl Future<Output = Result<Response<ResponseBody>, ExchangeError>> {
        let errand = &self.letter.errand;
        let call = Call {
            service: ServiceName::from(&errand.destination),
            discovery: self.inner.matrix(),
            request: Request::new(Bytes::new()),
            class: errand.class,
            demand: if errand.patient { Demand::Patient } else { Demand::Prompt },
            deadline: errand.deadline,
            repeat: Repeat::Safe,
            ranked: true,
        };
        self.inner.kernel().exchange_composed(call, self)
    }

    async fn composed(&self) -> Option<Request<Bytes>> {
        self.letter.granted.set(true);
        self.inner.handle_granted(&self.letter);
        let transaction = self.letter.what_to_send().await?;
        match self.inner.request_of(self.letter.destination(), &transaction) {
            Ok(request) => {
                self.letter.made.set(true);
                Some(request)
            }
            Err(reason) => {
                self.letter.unfit.replace(Some(reason));
                None
            }
        }
    }
}

impl Compose for Carrier {
    fn compose(&self) -> Composing<'_> {
        Box::pin(self.composed())
    }
}

impl Inner {
    /// `transaction` as a request, signed for `destination`.
    fn request_of(
        &self,
        destination: &ServerName,
        transaction: &Transaction,
    ) -> Result<Request<Bytes>, String> {
        let path = transaction.path();
        let content = self.canonical.of(&transaction.body).map_err(|error| error.to_string())?;
        let signed = self.signer().authorization("PUT", &path, destination, Some(&content));
        let mut request = Request::new(transaction.body.clone());
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = path.try_into().map_err(|_| "its path is none".to_owned())?;
        *request.headers_mut() = headers(signed.map_err(|error| error.to_string())?, true)?;
        Ok(request)
    }
}

/// The headers of a request: one `Authorization` for each key that signs it.
pub(super) fn headers(signatures: Vec<String>, has_body: bool) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::with_capacity(signatures.len() + HEADERS_OF_OURS);
    for signature in signatures {
        let mut value =
            HeaderValue::try_from(signature).map_err(|_| "its signature is no header value".to_owned())?;
        value.set_sensitive(true);
        headers.append(AUTHORIZATION, value);
    }
    if has_body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("Southbridge/", env!("CARGO_PKG_VERSION"))));
    Ok(headers)
}

/// Two from here, and `Host` and `Content-Length`, which the kernel adds.
const HEADERS_OF_OURS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::asking;

    fn future_bytes<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of transactions wait for a connection at a time; what each of them holds meanwhile is counted.
    #[test]
    fn what_is_under_way_is_small() {
        let (transaction, query) = (future_bytes(carry), future_bytes(asking::ask));
        println!("a transaction: {transaction} bytes, a query: {query} bytes");
        assert!(transaction <= FUTURE_BYTES_MAX && query <= FUTURE_BYTES_MAX, "{transaction}, {query}");
    }

    const FUTURE_BYTES_MAX: usize = 3 * 1024;
}
