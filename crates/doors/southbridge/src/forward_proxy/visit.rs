//! One connection to the forward proxy, from its first byte to its end.

use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use southbridge_kernel::http::ResponseBody;
use southbridge_kernel::kernel::OpenError;
use southbridge_kernel::net::{ConnectError, Stream};
use southbridge_kernel::{Call, Repeat};
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, Instant, ServiceName, Step};
use tokio::time::timeout;
use tracing::debug;

use super::Inside;
use super::target::Destination;
use super::tunnel::{Carried, TunnelEnd, carry};
use crate::local_http::head::strip_hop_by_hop;
use crate::local_http::{
    BodyError, Cause, Framing, Gathered, LocalConnection, LocalIo, Outgoing, ReadError, Refusal, ReplyError,
    ReplyLimits, RequestHead, Show, Slot, send,
};
use crate::synapse_door::{Kind, verdict};

/// A connection, and what is known of its request so far.
pub(super) struct Visit<'p, S> {
    proxy: &'p Inside,
    connection: LocalConnection<S>,
    accepted_at: Instant,
    limits: ReplyLimits,
}

/// How a visit goes on once its request has been answered, or why it has not.
enum Turn {
    /// It becomes a tunnel.
    Tunnel(Stream, Slot),
    /// It ends.
    Done,
    /// The caller is not there any more.
    Gone,
    /// The caller has part of a response that nobody can complete.
    Cut,
    /// The caller is told why not.
    Refused(Box<Refusal>),
}

impl<'p, S: LocalIo> Visit<'p, S> {
    pub(super) fn new(proxy: &'p Inside, stream: S) -> Self {
        let limits =
            ReplyLimits { show: Show::Body, version: Version::HTTP_11, stall_max: proxy.config.stall_max };
        let accepted_at = proxy.kernel.clock().now();
        Self { proxy, connection: LocalConnection::new(stream), accepted_at, limits }
    }

    pub(super) async fn serve(mut self) {
        match self.answer().await.unwrap_or_else(|turn| turn) {
            Turn::Tunnel(far, slot) => self.tunnel(far, slot).await,
            Turn::Done => self.connection.close().await,
            Turn::Gone => {}
            Turn::Cut => {
                self.proxy.counters.cut.add(1);
                self.connection.abort();
            }
            Turn::Refused(refusal) => self.refuse(&refusal).await,
        }
    }

    async fn refuse(mut self, refusal: &Refusal) {
        debug!(status = refusal.status.as_u16(), reason = refusal.message, "proxy request refused");
        self.proxy.counters.refusals.add(1);
        let asks = refusal.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        let fields = if asks { "proxy-authenticate: Basic realm=\"southbridge\"\r\n" } else { "" };
        let mut wire = Bytes::from(refusal.to_wire(self.limits.show, fields));
        if self.connection.write(&mut wire, self.limits.stall_max).await.is_ok() {
            self.connection.close().await;
        }
    }

    async fn answer(&mut self) -> Result<Turn, Turn> {
        let config = &self.proxy.config;
        let deadline = self.proxy.kernel.clock().to_tokio(self.accepted_at + config.head_timeout);
        let head = self.connection.head(deadline).await.map_err(|error| misread(&error))?;
        self.limits = ReplyLimits { show: Show::of(&head.method), version: head.version, ..self.limits };
        config.guard.check(&head.credentials).map_err(|denied| {
            self.proxy.counters.denied.add(1);
            let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
            refused(Refusal::new(status, denied.errcode(), denied.to_string()))
        })?;
        let destination = Destination::of(&head, &config.ports_denied)
            .map_err(|error| refused(Refusal::new(error.status(), "M_INVALID_PARAM", error.to_string())))?;
        match destination {
            Destination::Tunnel { host, port } => self.connect(&head, &host, port).await,
            Destination::Plain { authority, path_and_query } => {
                self.exchange(head, &authority, path_and_query).await
            }
        }
    }

    /// Opens a tunnel, and says so.
    async fn connect(&mut self, head: &RequestHead, host: &str, port: u16) -> Result<Turn, Turn> {
        let proxy = self.proxy;
        if head.framing != Framing::Length(0) {
            let message = "CONNECT with a body is refused";
            return Err(refused(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)));
        }
        let slot = proxy.tunnels.try_take().ok_or_else(|| {
            let message = format!("{} tunnels are open, and that is the most", proxy.tunnels.held());
            refused(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "M_LIMIT_EXCEEDED", message))
        })?;
        let opening = timeout(proxy.config.connect_timeout, proxy.kernel.open(host, port));
        let opened = self.connection.unless_gone(opening).await.map_err(|error| misread(&error))?;
        let far = match opened {
            Ok(opened) => opened.map_err(|error| refused(not_opened(&error, host)))?,
            Err(_) => return Err(refused(verdict::too_late(host, Step::Connect, Kind::Other))),
        };
        let mut wire = Bytes::from_static(b"HTTP/1.1 200 Connection established\r\n\r\n");
        self.connection.write(&mut wire, self.limits.stall_max).await.map_err(|_| Turn::Gone)?;
        proxy.counters.tunnels.add(1);
        Ok(Turn::Tunnel(far, slot))
    }

    async fn tunnel(self, mut far: Stream, slot: Slot) {
        let counters = &self.proxy.counters;
        let mut near = self.connection.into_stream();
        let (end, Carried { up, down }) = carry(&mut near, &mut far, self.proxy.config.idle_max).await;
        drop(slot);
        counters.bytes_up.add(up);
        counters.bytes_down.add(down);
        debug!(up, down, ?end, "tunnel ended");
        match end {
            TunnelEnd::Finished => return,
            TunnelEnd::Idle => counters.tunnels_idle.add(1),
            TunnelEnd::Broken => counters.tunnels_broken.add(1),
        }
        near.abort();
    }

    async fn exchange(
        &mut self,
        head: RequestHead,
        authority: &str,
        path_and_query: PathAndQuery,
    ) -> Result<Turn, Turn> {
        let proxy = self.proxy;
        let until = self.accepted_at + proxy.config.request_timeout;
        let deadline = proxy.kernel.clock().to_tokio(until);
        let body = self.connection.body(&head, proxy.config.request_body_bytes_max, deadline).await;
        let body = body.map_err(|error| misread(&error))?;
        proxy.counters.bytes_up.add(body.len() as u64);
        let call = call(proxy, head, body, authority, path_and_query, until);
        let response = self
            .connection
            .unless_gone(proxy.kernel.exchange(call))
            .await
            .map_err(|error| misread(&error))?;
        let response = response.map_err(|error| refused(verdict::refusal(&error, authority, Kind::Other)))?;
        self.pass_on(response, authority).await
    }

    async fn pass_on(&mut self, response: Response<ResponseBody>, authority: &str) -> Result<Turn, Turn> {
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.append(header::VIA, VIA);
        let length =
            parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let outgoing = Outgoing {
            status: parts.status,
            headers: parts.headers,
            length,
            gathered: Gathered::default(),
            suffix: Bytes::new(),
        };
        match send(&mut self.connection, outgoing, pin!(body), self.limits).await {
            Ok(bytes) => {
                self.proxy.counters.requests.add(1);
                self.proxy.counters.bytes_down.add(bytes);
                Ok(Turn::Done)
            }
            Err(ReplyError::Early(error)) => Err(refused(verdict::refusal(&error, authority, Kind::Other))),
            Err(ReplyError::CallerGone) => Err(Turn::Gone),
            Err(_) => Err(Turn::Cut),
        }
    }
}

fn call(
    proxy: &Inside,
    head: RequestHead,
    body: Bytes,
    authority: &str,
    path_and_query: PathAndQuery,
    deadline: Instant,
) -> Call {
    let repeat = if head.method.is_idempotent() { Repeat::Safe } else { Repeat::Never };
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = Uri::from(path_and_query);
    *request.headers_mut() = head.headers;
    request.headers_mut().append(header::VIA, VIA);
    Call {
        service: ServiceName::new(authority),
        discovery: Rc::clone(&proxy.discovery),
        request,
        class: Class::Live,
        demand: Demand::Prompt,
        deadline,
        repeat,
        // A web server may have the name of a homeserver, and its failures are not that one's.
        ranked: false,
    }
}

/// The answer when no tunnel could be opened.
fn not_opened(error: &OpenError, host: &str) -> Refusal {
    let (status, step) = match error {
        OpenError::Connect(ConnectError::Denied { .. }) => (StatusCode::FORBIDDEN, Step::Connect),
        OpenError::Connect(ConnectError::TimedOut { .. }) => (StatusCode::GATEWAY_TIMEOUT, Step::Connect),
        OpenError::Connect(ConnectError::Exhausted { .. }) => {
            (StatusCode::SERVICE_UNAVAILABLE, Step::Connect)
        }
        OpenError::Connect(_) => (StatusCode::BAD_GATEWAY, Step::Connect),
        OpenError::Discovery(_) => (StatusCode::BAD_GATEWAY, Step::Discovery),
    };
    let message = format!("{host} cannot be reached: {}", verdict::with_causes(error));
    let mut refusal = Refusal::new(status, "M_UNKNOWN", message);
    refusal.cause = Some(Cause { step, host: host.to_owned(), retry_in: None });
    refusal
}

/// What becomes of a request that could not be read to its end.
fn misread(error: &ReadError) -> Turn {
    let status = match error {
        ReadError::Gone => return Turn::Gone,
        ReadError::Head(error) => error.status(),
        ReadError::Body(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
        ReadError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        _ => StatusCode::BAD_REQUEST,
    };
    refused(Refusal::new(status, "M_UNKNOWN", error.to_string()))
}

fn refused(refusal: Refusal) -> Turn {
    Turn::Refused(Box::new(refusal))
}

/// RFC 9110 §7.6.3: a proxy says that it was there.
const VIA: HeaderValue = HeaderValue::from_static("1.1 southbridge");
