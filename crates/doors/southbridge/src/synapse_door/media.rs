//! Fetches media from where a redirect leads, so that Synapse need not.
//!
//! Stock Synapse follows a redirect with its X-Matrix signature in hand, and around the policy that
//! says which addresses may be dialled. Here a hop is a request like any other: looked up, checked
//! at dial time, and without any field of the first one but `User-Agent`.
//!
//! # Source
//! Matrix server-server API v1.19, "Content Repository"; faults 12 and 13; issue 2 ("a media
//! redirect is never handed back to Synapse").

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use southbridge_kernel::discovery::Discover;
use southbridge_kernel::http::ResponseBody;
use southbridge_kernel::{Call, Kernel, Repeat};
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, Instant, ServerName, ServiceName};

use super::classify::Kind;
use super::verdict;
use crate::local_http::{Count, Refusal};
use crate::location::Place;

/// What is needed to follow a redirect.
pub(super) struct Fetcher<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) matrix: &'a Rc<dyn Discover>,
    pub(super) web: &'a Rc<dyn Discover>,
    pub(super) hops_max: u32,
    pub(super) hops: &'a Count,
    /// Whom the request was for.
    pub(super) server: &'a ServerName,
    pub(super) user_agent: Option<HeaderValue>,
    pub(super) deadline: Instant,
}

impl Fetcher<'_> {
    /// The file that `location`, found at `place`, leads to: a response with 200 and only the fields that
    /// describe the file.
    ///
    /// # Errors
    /// The answer to give instead.
    pub(super) async fn fetch(
        &self,
        mut place: Place,
        location: &[u8],
    ) -> Result<Response<ResponseBody>, Refusal> {
        let mut location = Bytes::copy_from_slice(location);
        for _ in 0..self.hops_max {
            place = place.join(&location).map_err(|error| self.refused(&error.to_string()))?;
            self.hops.add(1);
            let response = self.ask(&place).await?;
            match redirect(response.status(), response.headers()) {
                Some(next) => location = next,
                None => return self.accept(response),
            }
        }
        Err(self.refused(&format!("more than {} hops", self.hops_max)))
    }

    async fn ask(&self, place: &Place) -> Result<Response<ResponseBody>, Refusal> {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::GET;
        *request.uri_mut() = Uri::from(place.path_and_query().clone());
        if let Some(user_agent) = &self.user_agent {
            request.headers_mut().insert(header::USER_AGENT, user_agent.clone());
        }
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        let (service, discovery, ranked) = match place {
            Place::Peer { .. } => (ServiceName::from(self.server), self.matrix, true),
            // What a peer made up says nothing of a host that we know, and must not fill the ranker's memory.
            Place::Web { authority, .. } => (ServiceName::new(authority), self.web, false),
        };
        let name = service.clone();
        let call = Call {
            service,
            discovery: Rc::clone(discovery),
            request,
            class: Class::Media,
            demand: Demand::Prompt,
            deadline: self.deadline,
            repeat: Repeat::Safe,
            ranked,
        };
        self.kernel.exchange(call).await.map_err(|error| match place {
            Place::Peer { .. } => verdict::refusal(&error, name.as_str(), Kind::LegacyMedia),
            Place::Web { .. } => self.refused(&verdict::with_causes(&error)),
        })
    }

    fn accept(&self, response: Response<ResponseBody>) -> Result<Response<ResponseBody>, Refusal> {
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let message = format!("the media of {} is not where its redirect leads", self.server);
                return Err(Refusal::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message));
            }
            status => return Err(self.refused(&format!("its end answered {}", status.as_u16()))),
        }
        let (mut parts, body) = response.into_parts();
        parts.headers = descriptive(&parts.headers);
        Ok(Response::from_parts(parts, body))
    }

    fn refused(&self, reason: &str) -> Refusal {
        verdict::astray(self.server.as_str(), reason)
    }
}

/// Where a response redirects to, if it does.
pub(super) fn redirect(status: StatusCode, headers: &HeaderMap) -> Option<Bytes> {
    let follows = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = headers.get(header::LOCATION).filter(|_| follows)?;
    Some(Bytes::copy_from_slice(location.as_bytes()))
}

/// The fields that are about the file, and not about whoever serves it.
fn descriptive(headers: &HeaderMap) -> HeaderMap {
    [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_DISPOSITION, header::CONTENT_ENCODING]
        .into_iter()
        .filter_map(|name| headers.get(&name).cloned().map(|value| (name, value)))
        .collect()
}
