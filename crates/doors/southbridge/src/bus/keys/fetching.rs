//! One fetch of keys: a request, and its answer within bounds.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Retrieving server keys": these requests are not signed.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request};
use southbridge_bus::keyring::{FetchFailure, QUERY_PATH, SERVER_PATH};
use southbridge_kernel::Repeat;
use southbridge_kernel::discovery::DiscoveryError;
use southbridge_kernel::exchange::{Call, ExchangeError};
use southbridge_kernel::http::Violation;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServerName, ServiceName, Step};

use super::driver::Inner;
use crate::bus::letter::headers;

/// What the keyring wants fetched.
pub(super) struct Fetch {
    pub(super) whom: ServerName,
    /// What a notary is asked; an origin is asked for its own keys.
    pub(super) query: Option<Bytes>,
    pub(super) bytes_max: usize,
}

/// The body of an answer with status 200.
pub(super) async fn fetch(inner: &Inner, fetch: Fetch) -> Result<Bytes, FetchFailure> {
    let deadline = inner.kernel.deadline(inner.config.fetch_timeout);
    let call = Call {
        service: ServiceName::from(&fetch.whom),
        discovery: Rc::clone(&inner.matrix),
        request: request(fetch.query),
        class: Class::Repair,
        demand: Demand::Prompt,
        deadline,
        // Asking twice changes nothing.
        repeat: Repeat::Safe,
        ranked: true,
    };
    let response = inner.kernel.exchange(call).await.map_err(|error| failure(&error))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(FetchFailure::Status(status));
    }
    let body = response.into_body().collect_all(fetch.bytes_max as u64);
    let body = tokio::time::timeout_at(inner.kernel.clock().to_tokio(deadline), body).await;
    body.map_err(|_| FetchFailure::TimedOut)?.map_err(|error| failure(&error))
}

fn request(query: Option<Bytes>) -> Request<Bytes> {
    let (method, path) = match query {
        Some(_) => (Method::POST, QUERY_PATH),
        None => (Method::GET, SERVER_PATH),
    };
    let mut request = Request::new(Bytes::new());
    *request.headers_mut() =
        headers(Vec::new(), query.is_some()).expect("there is no signature that could be unfit");
    *request.method_mut() = method;
    *request.uri_mut() = http::Uri::from_static(path);
    *request.body_mut() = query.unwrap_or_default();
    request
}

fn failure(error: &ExchangeError) -> FetchFailure {
    match error {
        ExchangeError::Discovery(DiscoveryError::Overloaded { .. })
        | ExchangeError::DeadlinePassed { step: Step::Admission, .. }
        | ExchangeError::Overloaded { .. } => FetchFailure::Overloaded,
        ExchangeError::Connect { source, .. } if source.is_ours() => FetchFailure::Overloaded,
        ExchangeError::DeadlinePassed { .. }
        | ExchangeError::Discovery(DiscoveryError::DeadlinePassed { .. }) => FetchFailure::TimedOut,
        ExchangeError::PeerMisbehaved { violation: Violation::TooLarge { .. }, .. } => FetchFailure::TooLarge,
        _ => FetchFailure::Unreachable,
    }
}
