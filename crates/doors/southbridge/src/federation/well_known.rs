//! Fetches .well-known documents through the kernel.
//!
//! # Source
//! Matrix specification v1.19, "Resolving server names" step 3: redirects are followed, loops avoided;
//! faults row 12: https only, bounded, every hop judged by the address policy.

use std::sync::Arc;

use southbridge_bus::resolver::{CacheHeaders, WellKnownAnswer, WellKnownFailure, WellKnownResult};
use southbridge_kernel::discovery::DiscoveryError;
use southbridge_kernel::exchange::{Call, ExchangeError, Repeat};
use southbridge_kernel::http::{ResponseBody, Violation};
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, Instant, Step};

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, DATE, EXPIRES, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT,
};
use http::uri::PathAndQuery;
use http::{Response, Uri};

use super::discovery::Inner;
use crate::location::Place;

/// Fetches the document of `host`.
pub(super) async fn fetch(inner: &Inner, host: &Arc<str>) -> WellKnownResult {
    let deadline = inner.kernel.deadline(inner.config.well_known_timeout);
    match follow(inner, host, deadline).await {
        Ok(answer) => WellKnownResult::Answered(answer),
        Err(failure) => WellKnownResult::Failed(failure),
    }
}

async fn follow(
    inner: &Inner,
    host: &Arc<str>,
    deadline: Instant,
) -> Result<WellKnownAnswer, WellKnownFailure> {
    let mut place = first_place(host);
    for _hop in 0..=REDIRECTS_MAX {
        let response = get(inner, &place, deadline).await.map_err(|error| failure(&error))?;
        let Some(location) = redirect(&response)? else { return read(inner, response, deadline).await };
        place = place.join(location.as_bytes()).map_err(|_| WellKnownFailure::Redirect)?;
    }
    Err(WellKnownFailure::Redirect)
}

fn first_place(host: &Arc<str>) -> Place {
    Place::Web {
        authority: Arc::clone(host),
        path_and_query: PathAndQuery::from_static("/.well-known/matrix/server"),
    }
}

async fn get(
    inner: &Inner,
    place: &Place,
    deadline: Instant,
) -> Result<Response<ResponseBody>, ExchangeError> {
    // What is followed from a web server leads to web servers.
    let Place::Web { authority, path_and_query } = place else {
        return Err(ExchangeError::BadRequest { reason: "a document lies at a web server".to_owned() });
    };
    let request = http::Request::get(Uri::from(path_and_query.clone()))
        .header(USER_AGENT, concat!("Southbridge/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::new())
        .map_err(|error| ExchangeError::BadRequest { reason: error.to_string() })?;
    let call = Call {
        service: Arc::clone(authority).into(),
        discovery: std::rc::Rc::clone(&inner.web),
        request,
        class: Class::Interactive,
        demand: Demand::Prompt,
        deadline,
        repeat: Repeat::Safe,
        ranked: false,
    };
    inner.kernel.exchange(call).await
}

async fn read(
    inner: &Inner,
    response: Response<ResponseBody>,
    deadline: Instant,
) -> Result<WellKnownAnswer, WellKnownFailure> {
    let (head, body) = response.into_parts();
    let at = inner.kernel.clock().to_tokio(deadline);
    let body = tokio::time::timeout_at(at, body.collect_all(BODY_BYTES_MAX)).await;
    let body = body.map_err(|_| WellKnownFailure::TimedOut)?.map_err(|error| failure(&error))?;
    Ok(WellKnownAnswer {
        status: head.status.as_u16(),
        caching: caching(&head.headers),
        body: body.to_vec(),
        received_at: inner.kernel.clock().wall(),
    })
}

/// Where a response leads on to, if it does.
fn redirect(response: &Response<ResponseBody>) -> Result<Option<HeaderValue>, WellKnownFailure> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).ok_or(WellKnownFailure::Redirect)?;
    Ok(Some(location.clone()))
}

fn caching(headers: &HeaderMap) -> CacheHeaders {
    let joined = |name: HeaderName| {
        let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!lines.is_empty()).then(|| lines.join(","))
    };
    CacheHeaders {
        cache_control: joined(CACHE_CONTROL),
        expires: joined(EXPIRES),
        date: joined(DATE),
        age: joined(AGE),
    }
}

fn failure(error: &ExchangeError) -> WellKnownFailure {
    match error {
        ExchangeError::Discovery(DiscoveryError::Overloaded { .. }) => WellKnownFailure::Overloaded,
        ExchangeError::Discovery(_) => WellKnownFailure::Dns,
        ExchangeError::Connect { source, .. } if source.is_ours() => WellKnownFailure::Overloaded,
        ExchangeError::Connect { source, .. } if source.step() == Step::Handshake => WellKnownFailure::Tls,
        ExchangeError::Connect { .. } => WellKnownFailure::Connect,
        // Our own queue was too long: nothing is learned about the host.
        ExchangeError::DeadlinePassed { step: Step::Admission, .. } => WellKnownFailure::Overloaded,
        ExchangeError::DeadlinePassed { .. } => WellKnownFailure::TimedOut,
        ExchangeError::Overloaded { .. } => WellKnownFailure::Overloaded,
        ExchangeError::PeerMisbehaved { violation: Violation::TooLarge { .. }, .. } => {
            WellKnownFailure::TooLarge
        }
        ExchangeError::BadRequest { .. } => WellKnownFailure::Redirect,
        _ => WellKnownFailure::Protocol,
    }
}

/// As Synapse takes; a delegation needs forty bytes.
const BODY_BYTES_MAX: u64 = 50 * 1024;
/// Enough for http-to-www-to-matrix chains; Synapse takes 20, and nobody has been seen to need them.
const REDIRECTS_MAX: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// A redirect may change the path and the host, and nothing else: no other scheme, no user, no name that
    /// is none.
    #[test]
    fn redirects_lead_to_https_only() {
        let lead = |location: &str| first_place(&"a.example".into()).join(location.as_bytes()).ok();
        let to = |authority: &str, path: &'static str| {
            Some(Place::Web { authority: authority.into(), path_and_query: PathAndQuery::from_static(path) })
        };
        assert_eq!(lead("/x?y"), to("a.example", "/x?y"));
        assert_eq!(lead("client"), to("a.example", "/.well-known/matrix/client"));
        assert_eq!(lead("https://b.example:444/z"), to("b.example:444", "/z"));
        assert_eq!(lead("//b.example/z"), to("b.example", "/z"));
        assert_eq!(lead("https://b.example"), to("b.example", "/"));
        for refused in [
            "http://b.example/",
            "file:///etc/passwd",
            "https://u:p@b.example/",
            "gopher://x",
            "https://b.example:0/",
            "https://b:1:2/",
            "https://b%2eexample/",
        ] {
            assert_eq!(lead(refused), None, "{refused}");
        }
    }
}
