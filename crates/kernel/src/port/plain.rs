//! Plain requests: one request, one whole response, and nothing done on the way.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServiceName, Step};

use super::desk::{Desk, Errand, Line, Started, Unanswered};
use crate::discovery::Discover;
use crate::exchange::{Call, ExchangeError, Repeat};
use crate::kernel::Kernel;

/// What an application hands in.
#[derive(Debug)]
pub struct PortRequest {
    /// How the service's name becomes a route: one of the names that the desk knows.
    pub scheme: &'static str,
    /// To whom.
    pub service: ServiceName,
    /// Method, path-and-query, headers and body.
    pub request: http::Request<Bytes>,
    /// How urgent it is.
    pub class: Class,
    /// Whether to refuse at once when the host is down.
    pub demand: Demand,
    /// Whether it may be sent twice.
    pub repeat: Repeat,
    /// How long the whole exchange may take, the body included.
    pub timeout: Duration,
    /// The most bytes of body to take.
    pub body_bytes_max: u64,
}

/// Why a submission completed without a response. Unlike `ExchangeError`, it may cross threads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// How far the request had come.
    pub step: Step,
    /// Whether asking again cannot make the peer do the work twice.
    pub is_repeatable: bool,
    /// What happened, in a sentence.
    pub message: String,
}

impl<D> Errand<D> for PortRequest
where
    D: Desk,
    D::Answer: From<http::Response<Bytes>>,
    D::Error: From<PortError>,
{
    fn start(self: Box<Self>, desk: &Rc<D>, line: Line<D>) -> Started {
        let kernel = desk.kernel().clone();
        let discovery = desk.scheme(self.scheme);
        line.carry(move |reply| async move {
            let result = match discovery {
                Some(discovery) => carry(&kernel, *self, discovery).await,
                None => Err(no_scheme(self.scheme)),
            };
            reply.give(result.map(Into::into).map_err(Into::into));
        })
    }
}

fn no_scheme(name: &str) -> PortError {
    let message = format!("no discovery is called {name:?}");
    PortError { step: Step::Discovery, is_repeatable: true, message }
}

async fn carry(
    kernel: &Kernel,
    request: PortRequest,
    discovery: Rc<dyn Discover>,
) -> Result<http::Response<Bytes>, PortError> {
    let deadline = kernel.deadline(request.timeout);
    let service = request.service;
    let call = Call {
        service: service.clone(),
        discovery,
        request: request.request,
        class: request.class,
        demand: request.demand,
        deadline,
        repeat: request.repeat,
        ranked: true,
    };
    let response = kernel.exchange(call).await.map_err(|error| port_error(&error))?;
    let (parts, body) = response.into_parts();
    let collecting = pin!(body.collect_all(request.body_bytes_max));
    let collected = kernel.alarm().bound(deadline, collecting).await;
    let overdue = ExchangeError::DeadlinePassed { service, step: Step::Body, waited: request.timeout };
    let body = collected.unwrap_or(Err(overdue)).map_err(|error| port_error(&error))?;
    Ok(http::Response::from_parts(parts, body))
}

fn port_error(error: &ExchangeError) -> PortError {
    PortError {
        step: error.step(),
        is_repeatable: error.is_repeatable(),
        message: crate::http::explain(error),
    }
}

impl From<Unanswered> for PortError {
    fn from(why: Unanswered) -> Self {
        let step = if why == Unanswered::Failed { Step::Response } else { Step::Admission };
        Self { step, is_repeatable: false, message: why.to_string() }
    }
}
