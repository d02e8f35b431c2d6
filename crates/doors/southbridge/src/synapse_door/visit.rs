//! One connection of Synapse's, from its first byte to its end.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use southbridge_kernel::http::ResponseBody;
use southbridge_kernel::{Call, ExchangeError};
use southbridge_words::{Instant, ServiceName, Step};
use tokio::time::timeout_at;
use tracing::debug;

use super::classify::{Errand, Kind};
use super::last_part::{LastPart, TwoParts};
use super::media::{self, Fetcher};
use super::multipart::{Boundary, PartHeads};
use super::target::Addressee;
use super::{Inside, verdict};
use crate::local_http::head::strip_hop_by_hop;
use crate::local_http::{
    BodyError, Framing, Gathered, LocalConnection, LocalIo, Outgoing, ReadError, Refusal, ReplyError,
    ReplyLimits, RequestHead, Show, gather, send,
};
use crate::location::Place;

/// A connection, and what is known of its request so far.
pub(super) struct Visit<'d, S> {
    door: &'d Inside,
    connection: LocalConnection<S>,
    accepted_at: Instant,
    deadline: Instant,
    limits: ReplyLimits,
}

/// What a request asks for, once it is known to be one.
struct Asked {
    addressee: Addressee,
    errand: Errand,
    user_agent: Option<HeaderValue>,
}

/// Why a visit ends before its response is passed on.
enum Halt {
    /// The caller is not there any more.
    Gone,
    /// The caller has part of a response that nobody can complete.
    Cut,
    /// The caller is told so.
    Refused(Box<Refusal>),
}

impl<'d, S: LocalIo> Visit<'d, S> {
    pub(super) fn new(door: &'d Inside, stream: S) -> Self {
        let accepted_at = door.kernel.clock().now();
        let deadline = accepted_at + door.config.request_timeout.saturating_sub(ANSWER_MARGIN);
        let limits =
            ReplyLimits { show: Show::Body, version: Version::HTTP_11, stall_max: door.config.stall_max };
        Self { door, connection: LocalConnection::new(stream), accepted_at, deadline, limits }
    }

    pub(super) async fn serve(mut self) {
        match self.answer().await {
            Ok(()) => self.connection.close().await,
            Err(Halt::Gone) => self.door.counters.gone.add(1),
            Err(Halt::Cut) => self.connection.abort(),
            Err(Halt::Refused(refusal)) => self.refuse(&refusal).await,
        }
    }

    async fn refuse(mut self, refusal: &Refusal) {
        debug!(status = refusal.status.as_u16(), reason = refusal.message, "request refused");
        self.door.counters.answered(refusal.status);
        self.door.counters.refusals.add(1);
        let mut wire = Bytes::from(refusal.to_wire(self.limits.show, ""));
        if self.connection.write(&mut wire, self.limits.stall_max).await.is_ok() {
            self.connection.close().await;
        }
    }

    async fn answer(&mut self) -> Result<(), Halt> {
        let door = self.door;
        let head_deadline = self.accepted_at + door.config.head_timeout.min(door.config.request_timeout);
        let head = self.connection.head(door.kernel.clock().to_tokio(head_deadline)).await;
        let head = head.map_err(|error| self.misread(&error))?;
        self.limits = ReplyLimits { show: Show::of(&head.method), version: head.version, ..self.limits };
        let asked = self.let_in(&head)?;
        self.pass_gate(&asked).await?;
        let response = self.exchange(head, &asked).await?;
        self.pass_on(response, &asked).await
    }

    /// Checks who asks, and for what; nothing is looked up before that.
    fn let_in(&self, head: &RequestHead) -> Result<Asked, Halt> {
        let counters = &self.door.counters;
        head.credentials.check_bearer(self.door.config.secret.expose()).map_err(|denied| {
            counters.denied.add(1);
            refused(Refusal::new(StatusCode::UNAUTHORIZED, denied.errcode(), denied.to_string()))
        })?;
        let addressee = Addressee::of(head).map_err(|error| {
            counters.malformed.add(1);
            refused(Refusal::new(error.status(), "M_INVALID_PARAM", error.to_string()))
        })?;
        let errand = Errand::of(&head.method, addressee.path_and_query.path());
        counters.requests[errand.class].add(1);
        Ok(Asked { addressee, errand, user_agent: head.headers.get(header::USER_AGENT).cloned() })
    }

    /// Waits while the house is not ready.
    async fn pass_gate(&mut self, asked: &Asked) -> Result<(), Halt> {
        if self.door.gate.is_open() {
            return Ok(());
        }
        let deadline = self.door.kernel.clock().to_tokio(self.deadline);
        let door = self.door;
        let waiting = timeout_at(deadline, door.gate.pass());
        let passed = tokio::select! {
            biased;
            passed = waiting => passed,
            error = self.connection.gone_early() => return Err(self.misread(&error)),
        };
        match passed {
            Ok(()) => Ok(()),
            Err(_) => Err(refused(verdict::too_late(asked.host(), Step::Admission, asked.errand.kind))),
        }
    }

    async fn exchange(&mut self, head: RequestHead, asked: &Asked) -> Result<Response<ResponseBody>, Halt> {
        let door = self.door;
        let announced = match head.framing {
            Framing::Length(length) => length,
            Framing::Chunked => door.config.request_body_bytes_max,
        };
        let bytes_max = door.config.request_body_bytes_max;
        let held = door.hold(announced.min(bytes_max)).ok_or_else(|| {
            let what = format!("{} bytes of request bodies are held", door.bodies_bytes.get());
            refused(verdict::overloaded(asked.host(), &what, asked.errand.kind))
        })?;
        let deadline = door.kernel.clock().to_tokio(self.deadline);
        let body = self.connection.body(&head, bytes_max, deadline).await;
        let body = body.map_err(|error| self.misread(&error))?;
        door.counters.bytes_in.add(body.len() as u64);
        let exchange = door.kernel.exchange(self.call(head, body, asked));
        let response = self.connection.unless_gone(exchange).await.map_err(|error| self.misread(&error))?;
        drop(held);
        response.map_err(|error| {
            debug!(host = asked.host(), class = %asked.errand.class, %error, "exchange failed");
            refused(verdict::refusal(&error, asked.host(), asked.errand.kind))
        })
    }

    fn call(&self, head: RequestHead, body: Bytes, asked: &Asked) -> Call {
        let mut request = Request::new(body);
        *request.method_mut() = head.method;
        *request.uri_mut() = Uri::from(asked.addressee.path_and_query.clone());
        *request.headers_mut() = head.headers;
        // Synapse decodes nothing, so nothing encoded is asked for.
        request.headers_mut().remove(header::ACCEPT_ENCODING);
        Call {
            service: ServiceName::from(&asked.addressee.server),
            discovery: Rc::clone(&self.door.discoveries.matrix),
            request,
            class: asked.errand.class,
            demand: asked.errand.demand(),
            deadline: self.deadline,
            repeat: asked.errand.repeat,
            ranked: true,
        }
    }

    async fn pass_on(&mut self, response: Response<ResponseBody>, asked: &Asked) -> Result<(), Halt> {
        let mut response = response;
        if let Some(location) = media::redirect(response.status(), response.headers()) {
            if asked.errand.kind == Kind::LegacyMedia {
                drop(response);
                response = self.fetch(&location, asked).await?;
            } else {
                response.headers_mut().remove(header::LOCATION);
            }
        } else if response.status().is_redirection() {
            response.headers_mut().remove(header::LOCATION);
        }
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        check_encoding(&mut parts.headers, asked.host())?;
        let length = content_length(&parts.headers);
        let outgoing = Outgoing {
            status: parts.status,
            headers: parts.headers,
            length,
            gathered: Gathered::default(),
            suffix: Bytes::new(),
        };
        let boundary = match asked.errand.kind {
            Kind::FederationMedia if outgoing.status == StatusCode::OK => boundary(&outgoing.headers, asked)?,
            _ => None,
        };
        match boundary {
            Some(boundary) => self.pass_on_parts(outgoing, body, &boundary, asked).await,
            None => self.reply(outgoing, body, asked).await,
        }
    }

    /// Passes federation media on once both part heads are here, or what they point to.
    async fn pass_on_parts(
        &mut self,
        mut outgoing: Outgoing,
        body: ResponseBody,
        boundary: &Boundary,
        asked: &Asked,
    ) -> Result<(), Halt> {
        let mut body = body;
        let mut heads = Ok(PartHeads::Incomplete);
        let gathering = gather(Pin::new(&mut body), &mut outgoing.gathered, |bytes| {
            heads = boundary.find_heads(bytes);
            heads != Ok(PartHeads::Incomplete)
        });
        let deadline = self.door.kernel.clock().to_tokio(self.deadline);
        let gathered = self.connection.unless_gone(timeout_at(deadline, gathering)).await;
        match gathered.map_err(|error| self.misread(&error))? {
            Ok(gathered) => gathered.map_err(|error| broke_off(&error, asked))?,
            Err(_) => return Err(refused(verdict::too_late(asked.host(), Step::Body, asked.errand.kind))),
        }
        let (location, content_at) = match heads {
            Ok(PartHeads::Complete { location, content_at }) => (location, content_at),
            Ok(PartHeads::Incomplete) => return Err(unusable(asked, "it ends within its part heads")),
            Err(error) => return Err(unusable(asked, &error.to_string())),
        };
        if let Some(location) = location {
            drop(body);
            return self.pass_on_fetched(&location, asked).await;
        }
        let mut last = LastPart::of(boundary);
        // From the line end before the content: an empty part has no other.
        last.advance(&outgoing.gathered.bytes[content_at - 2..])
            .map_err(|error| unusable(asked, &error.to_string()))?;
        self.reply(outgoing, TwoParts::new(body, last, ServiceName::from(&asked.addressee.server)), asked)
            .await
    }

    /// Puts the file that is elsewhere where the peer should have put it.
    async fn pass_on_fetched(&mut self, location: &[u8], asked: &Asked) -> Result<(), Halt> {
        let (mut parts, body) = self.fetch(location, asked).await?.into_parts();
        check_encoding(&mut parts.headers, asked.host())?;
        let boundary = Boundary::random();
        let unnamed = HeaderValue::from_static("application/octet-stream");
        let content_type = parts.headers.get(header::CONTENT_TYPE).unwrap_or(&unnamed);
        let preface = boundary.preface(content_type, parts.headers.get(header::CONTENT_DISPOSITION));
        let suffix = boundary.epilogue();
        let around = (preface.len() + suffix.len()) as u64;
        let length = content_length(&parts.headers).and_then(|length| length.checked_add(around));
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, boundary.content_type())]);
        let gathered = Gathered { bytes: preface, ended: false };
        self.reply(Outgoing { status: StatusCode::OK, headers, length, gathered, suffix }, body, asked).await
    }

    async fn fetch(&mut self, location: &[u8], asked: &Asked) -> Result<Response<ResponseBody>, Halt> {
        let door = self.door;
        let fetcher = Fetcher {
            kernel: &door.kernel,
            matrix: &door.discoveries.matrix,
            web: &door.discoveries.web,
            hops_max: door.config.redirects_max,
            hops: &door.counters.redirects,
            server: &asked.addressee.server,
            user_agent: asked.user_agent.clone(),
            deadline: self.deadline,
        };
        let from = Place::Peer { path_and_query: asked.addressee.path_and_query.clone() };
        let fetched = self.connection.unless_gone(fetcher.fetch(from, location)).await;
        fetched.map_err(|error| self.misread(&error))?.map_err(refused)
    }

    async fn reply<B>(&mut self, outgoing: Outgoing, body: B, asked: &Asked) -> Result<(), Halt>
    where
        B: Body<Data = Bytes, Error = ExchangeError>,
    {
        let body = pin!(body);
        let status = outgoing.status;
        let sent = send(&mut self.connection, outgoing, body, self.limits).await;
        let bytes = sent.map_err(|error| self.cut_off(&error, asked))?;
        let counters = &self.door.counters;
        counters.answered(status);
        counters.bytes_out.add(bytes);
        let taken = self.door.kernel.clock().now().saturating_since(self.accepted_at);
        debug!(
            host = asked.host(),
            class = %asked.errand.class,
            status = status.as_u16(),
            bytes,
            taken_ms = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX),
            "request answered"
        );
        Ok(())
    }

    fn cut_off(&self, error: &ReplyError<ExchangeError>, asked: &Asked) -> Halt {
        let counters = &self.door.counters;
        let reason = match error {
            ReplyError::Early(error) => return broke_off(error, asked),
            ReplyError::CallerGone => return Halt::Gone,
            ReplyError::CallerStalled => {
                counters.stalled.add(1);
                error.to_string()
            }
            ReplyError::Peer(cause) => {
                counters.cut.add(1);
                verdict::with_causes(cause)
            }
            ReplyError::Length { .. } => {
                counters.cut.add(1);
                error.to_string()
            }
        };
        debug!(host = asked.host(), reason, "response cut off");
        Halt::Cut
    }

    /// What becomes of a request that could not be read to its end.
    fn misread(&self, error: &ReadError) -> Halt {
        let (status, errcode) = match error {
            ReadError::Gone => return Halt::Gone,
            ReadError::Head(error) => (error.status(), "M_UNKNOWN"),
            ReadError::Body(BodyError::TooLarge { .. }) => (StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE"),
            ReadError::TimedOut => (StatusCode::REQUEST_TIMEOUT, "M_UNKNOWN"),
            _ => (StatusCode::BAD_REQUEST, "M_UNKNOWN"),
        };
        self.door.counters.malformed.add(1);
        refused(Refusal::new(status, errcode, error.to_string()))
    }
}

impl Asked {
    fn host(&self) -> &str {
        self.addressee.server.as_str()
    }
}

fn refused(refusal: Refusal) -> Halt {
    Halt::Refused(Box::new(refusal))
}

fn unusable(asked: &Asked, reason: &str) -> Halt {
    refused(verdict::unusable(asked.host(), reason))
}

/// Nothing of the response has been passed on yet, so that it can still fail in words.
fn broke_off(error: &ExchangeError, asked: &Asked) -> Halt {
    refused(verdict::refusal(error, asked.host(), asked.errand.kind))
}

/// Synapse decodes nothing: what is encoded although nobody asked for it is of no use to it.
fn check_encoding(headers: &mut HeaderMap, host: &str) -> Result<(), Halt> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    match codings.find(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        Some(coding) => {
            let reason = format!("it is encoded as {coding:?}, which was not asked for");
            Err(refused(verdict::unusable(host, &reason)))
        }
        None => {
            headers.remove(header::CONTENT_ENCODING);
            Ok(())
        }
    }
}

/// The boundary of the parts of federation media, if it has parts.
fn boundary(headers: &HeaderMap, asked: &Asked) -> Result<Option<Boundary>, Halt> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let found = types.next().map_or(Ok(None), Boundary::of);
    if types.next().is_some() {
        return Err(unusable(asked, "it has more than one Content-Type"));
    }
    found.map_err(|error| unusable(asked, &error.to_string()))
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The deadline is met by the caller's clock, not by ours: an answer takes a moment to arrive.
const ANSWER_MARGIN: Duration = Duration::from_millis(500);
