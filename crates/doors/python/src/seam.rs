//! The seam to the kernel: what this door asks of it, in this door's words.
//!
//! Everything that knows how the kernel is asked over HTTP is in this module, so that the rest of the door does not
//! change with it.
//!
//! # Source
//! K3, K4, K15.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version};
use southbridge::Southbridge;
use southbridge::client::{Answer, ClientError, Port};
use southbridge::federation::FederationConfig;
use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::Repeat;
use southbridge_kernel::net::AddressPolicy;
use southbridge_kernel::port::{KernelThread, PortRequest, StartError, SubmitError};
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServiceName, Ticket};
use url::Url;

/// One request, copied out of the interpreter.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What is asked.
    pub method: Method,
    /// Of whom; `http` or `https`.
    pub url: Url,
    /// Besides those that are the kernel's business.
    pub headers: HeaderMap,
    /// What is sent along.
    pub body: Bytes,
    /// How long the whole exchange may take.
    pub timeout: Duration,
}

/// The answer to an [`Outgoing`].
#[derive(Debug)]
pub struct Incoming {
    /// 200, 404 and so on.
    pub status: StatusCode,
    /// In which version of HTTP it came.
    pub version: Version,
    /// As they came.
    pub headers: HeaderMap,
    /// Where it came from.
    pub url: Url,
    /// All of it.
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The name of the exception, without `Error`.
    pub name: &'static str,
    /// How far the request had come.
    pub step: &'static str,
    /// Whether asking again cannot make the peer do the work twice.
    pub is_repeatable: bool,
    /// What happened, in a sentence.
    pub message: String,
}

/// Starts the kernel of this process.
///
/// # Errors
/// [`StartError`] when there is no thread to be had.
pub fn start() -> Result<KernelThread<Southbridge>, StartError> {
    let everywhere = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("well-formed"));
    let kernel = KernelConfig { addresses: AddressPolicy::new(everywhere, []), ..KernelConfig::default() };
    Southbridge::start(kernel, FederationConfig::default())
}

/// Hands `outgoing` in at `port`. Never blocks.
///
/// # Errors
/// [`Failure`] when it is refused on this side.
pub fn submit(port: &Port, outgoing: &Outgoing) -> Result<Ticket, Failure> {
    port.submit(request(outgoing)?).map_err(refused)
}

/// Takes at most `completions_max` completions.
pub fn drain(
    port: &Port,
    completions_max: usize,
    mut take: impl FnMut(Ticket, Result<http::Response<Bytes>, Failure>),
) -> usize {
    port.drain(completions_max, |done| {
        let ticket = done.ticket;
        match done.answer() {
            Some(Ok(Answer::Plain(response))) => take(ticket, Ok(*response)),
            Some(Err(error)) => take(ticket, Err(failed(error))),
            // Nothing else is asked for here.
            Some(Ok(_)) | None => {}
        }
    })
}

/// The answer to `outgoing`.
pub fn incoming(outgoing: &Outgoing, response: http::Response<Bytes>) -> Incoming {
    let (parts, body) = response.into_parts();
    Incoming {
        status: parts.status,
        version: parts.version,
        headers: parts.headers,
        url: outgoing.url.clone(),
        body,
    }
}

fn request(outgoing: &Outgoing) -> Result<PortRequest, Failure> {
    let url = &outgoing.url;
    let scheme = match url.scheme() {
        "http" => "http",
        "https" => "https",
        other => return Err(bad(format!("{other:?} in {url} is no scheme of a request: http or https is"))),
    };
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = http::Request::builder()
        .method(outgoing.method.clone())
        .uri(path)
        .body(outgoing.body.clone())
        .map_err(|error| bad(format!("{url} cannot be asked for: {error}")))?;
    request.headers_mut().clone_from(&outgoing.headers);
    Ok(PortRequest {
        scheme,
        service: ServiceName::new(&url[url::Position::BeforeHost..url::Position::AfterPort]),
        request,
        class: Class::Interactive,
        demand: Demand::Prompt,
        repeat: if outgoing.method.is_idempotent() { Repeat::Safe } else { Repeat::Never },
        timeout: outgoing.timeout,
        body_bytes_max: BODY_BYTES_MAX,
    })
}

fn refused(error: SubmitError) -> Failure {
    let name = match error {
        SubmitError::QueueFull { .. } => "QueueFull",
        _ => "KernelStopped",
    };
    Failure { name, step: "admission", is_repeatable: true, message: error.to_string() }
}

fn failed(error: ClientError) -> Failure {
    let name = match error {
        ClientError::Stopped => "KernelStopped",
        _ => "Request",
    };
    let (step, is_repeatable) = (error.step().name(), error.is_repeatable());
    Failure { name, step, is_repeatable, message: error.to_string() }
}

fn bad(message: String) -> Failure {
    Failure { name: "BadRequest", step: "admission", is_repeatable: true, message }
}

/// The most bytes of a response that are held in memory: 64 MiB, past which it should be streamed.
const BODY_BYTES_MAX: u64 = 64 << 20;
