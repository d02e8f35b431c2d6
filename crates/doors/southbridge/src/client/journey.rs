//! One request's way on the I/O thread: from hop to hop, until there is a response to deliver.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::COOKIE;
use http::{HeaderMap, Method, Uri};
use http_body::Body;
use hyper::ext::ReasonPhrase;
use southbridge_kernel::exchange::{About, Call, ExchangeError, Manner};
use southbridge_kernel::http::{ResponseBody, StreamedBody};
use southbridge_kernel::net::AddressPolicy;
use southbridge_words::{Instant, Step};
use url::{Position, Url};

use super::ClientError;
use super::clients::ClientState;
use super::decode::Decoder;
use super::error::Patience;
use super::incoming::{Incoming, Watch};
use super::redirect::{Turn, turn, without_secrets};
use super::request::{Payload, Prepared};
use super::response::{Response, Timing, Visited};
use super::routes::{Destination, NamedBy};
use super::services::shown;
use super::settings::Settings;
use super::uploading::{fed_body, segments_body};
use crate::Southbridge;

/// A response whose body is still to come.
pub(crate) struct Arrived {
    pub(crate) response: Response,
    pub(crate) incoming: Incoming,
}

/// One request under way.
pub(super) struct Journey {
    desk: Rc<Southbridge>,
    settings: Arc<Settings>,
    state: Rc<ClientState>,
    method: Method,
    url: Url,
    headers: HeaderMap,
    payload: Payload,
    /// The body that is sent in pieces, once it has been begun.
    streamed: Option<StreamedBody>,
    cookies: Vec<(String, String)>,
    /// Whether this is still where the program asked: what the client always sends goes nowhere else.
    is_at_home: bool,
    prepared: Terms,
    named_by: NamedBy,
    history: Vec<Visited>,
    watch: Watch,
}

/// What stays the same on the way.
struct Terms {
    connect: Option<Duration>,
    redirects_max: u32,
    decompress: bool,
    class: southbridge_words::Class,
    repeat: southbridge_kernel::Repeat,
    demand: southbridge_policy::ranker::Demand,
    mark: Option<Arc<str>>,
}

impl Journey {
    /// In a box: it is handed from future to future, and each of them would have room for all of it.
    pub(super) fn new(desk: Rc<Southbridge>, settings: Arc<Settings>, prepared: Prepared) -> Box<Self> {
        let state = desk.clients().state(&settings);
        let kernel = desk.kernel().clone();
        let Prepared { method, url, headers, payload, timeouts, cookies, .. } = prepared;
        Box::new(Self {
            watch: Watch {
                started_at: kernel.clock().now(),
                kernel,
                read: timeouts.read,
                total: timeouts.total,
            },
            desk,
            settings,
            state,
            method,
            url,
            headers,
            payload,
            streamed: None,
            cookies,
            is_at_home: true,
            prepared: Terms {
                connect: timeouts.connect,
                redirects_max: prepared.redirects_max,
                decompress: prepared.decompress,
                class: prepared.class,
                repeat: prepared.repeat,
                demand: prepared.demand,
                mark: prepared.mark,
            },
            named_by: NamedBy::Program,
            history: Vec::new(),
        })
    }

    pub(super) fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Goes from hop to hop until a response is to be delivered.
    pub(super) async fn arrive(mut self: Box<Self>) -> Result<Arrived, ClientError> {
        loop {
            let destination = self.destination();
            let (parts, body) = self.exchange(&destination).await?.into_parts();
            if self.settings.config.cookies {
                self.state.jar.borrow_mut().take_up(&parts.headers, &self.url);
            }
            let has_body = self.has_body();
            let downgrade = self.settings.config.downgrade;
            let turn = match self.prepared.redirects_max {
                0 => None,
                _ => turn(&self.url, &self.method, has_body, parts.status, &parts.headers, downgrade)?,
            };
            let Some(turn) = turn else { return self.deliver(&destination, parts, body) };
            self.follow(turn, &parts, body.remote())?;
            let service = shown(&destination.service);
            Incoming::new(body, None, service, self.watch.clone()).discard().await;
        }
    }

    fn destination(&self) -> Destination {
        // A stranger cannot send anybody to a service of ours.
        if self.named_by == NamedBy::Program
            && let Some(service) = self.desk.services().find(&self.url)
        {
            return service;
        }
        self.state.origins.find(&self.url, self.named_by, &self.settings, self.desk.kernel())
    }

    async fn exchange(
        &mut self,
        destination: &Destination,
    ) -> Result<http::Response<ResponseBody>, ClientError> {
        let kernel = self.desk.kernel().clone();
        let (whole, streamed) = match self.body().await? {
            Sending::Whole(bytes) => (bytes, None),
            Sending::Streamed(streamed) => (Bytes::new(), Some(streamed)),
        };
        let now = self.watch.now();
        let connect_by = self.prepared.connect.map(|connect| now + connect);
        let call = Call {
            service: destination.service.clone(),
            discovery: Rc::clone(&destination.discovery),
            request: self.head(whole)?,
            class: self.prepared.class,
            demand: destination.demand.unwrap_or(self.prepared.demand),
            deadline: self.watch.deadline(),
            repeat: self.prepared.repeat,
            ranked: true,
        };
        let manner = Manner {
            body: streamed,
            connect_by,
            silence_max: self.watch.read,
            about: Some(self.about()),
            attempts: destination.attempts,
            ..Manner::default()
        };
        // Whatever is still there while it is under way, thousands have.
        kernel.exchange_as(call, manner).await.map_err(|error| self.explain(&error, connect_by))
    }

    /// What people are told who ask what is under way.
    fn about(&self) -> Rc<About> {
        let mark = self.prepared.mark.clone();
        let mut url = without_secrets(&self.url);
        if url.len() > URL_SHOWN_MAX {
            // All but the end is ASCII.
            url = url.chars().take(URL_SHOWN_MAX).chain(['…']).collect();
        }
        Rc::new(About { method: self.method.clone(), url, mark })
    }

    /// The method, target and headers of the next hop, with `body`.
    fn head(&self, body: Bytes) -> Result<http::Request<Bytes>, ClientError> {
        let target = &self.url[Position::BeforePath..Position::AfterQuery];
        let target: Uri = target.parse().map_err(|error| {
            ClientError::invalid(format!("{} is no target: {error}", without_secrets(&self.url)))
        })?;
        let mut request = http::Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = target;
        *request.headers_mut() = self.headers.clone();
        let config = &self.settings.config;
        let always = if self.is_at_home { config.cookies_always.as_slice() } else { &[] };
        let cookies = if config.cookies {
            self.state.jar.borrow().header(&self.url, always, &self.cookies)
        } else {
            super::cookies::Jar::default().header(&self.url, always, &self.cookies)
        };
        if let Some(cookies) = cookies {
            request.headers_mut().append(COOKIE, cookies);
        }
        Ok(request)
    }

    async fn body(&mut self) -> Result<Sending, ClientError> {
        if let Some(streamed) = &self.streamed {
            return Ok(Sending::Streamed(streamed.clone()));
        }
        let streamed = match &mut self.payload {
            Payload::Whole(bytes) => return Ok(Sending::Whole(bytes.clone())),
            Payload::Segments(segments) => segments_body(segments, self.desk.files()).await?,
            Payload::Fed { .. } => {
                let taken = std::mem::replace(&mut self.payload, Payload::Whole(Bytes::new()));
                let Payload::Fed { fed, bytes } = taken else { return Ok(Sending::Whole(Bytes::new())) };
                fed_body(fed, bytes)
            }
        };
        self.streamed = Some(streamed.clone());
        Ok(Sending::Streamed(streamed))
    }

    fn has_body(&self) -> bool {
        let whole = matches!(&self.payload, Payload::Whole(bytes) if bytes.is_empty());
        self.streamed.is_some() || !whole
    }

    /// Turns to where a redirect leads.
    fn follow(
        &mut self,
        turn: Turn,
        parts: &http::response::Parts,
        remote: Option<std::net::SocketAddr>,
    ) -> Result<(), ClientError> {
        let redirects_max = self.prepared.redirects_max;
        if self.history.len() >= redirects_max as usize {
            return Err(ClientError::TooManyRedirects { redirects_max, url: without_secrets(&turn.url) });
        }
        if turn.keeps_body {
            self.rewind()?;
        } else {
            self.payload = Payload::Whole(Bytes::new());
            self.streamed = None;
        }
        turn.strip(&mut self.headers);
        if turn.crosses {
            self.cookies.clear();
            self.is_at_home = false;
            let is_public = remote.is_some_and(|remote| AddressPolicy::default().check(remote).is_ok());
            if is_public {
                self.named_by = NamedBy::Stranger;
            }
        }
        let url = std::mem::replace(&mut self.url, turn.url);
        self.method = turn.method;
        self.history.push(Visited { status: parts.status, url, headers: parts.headers.clone() });
        Ok(())
    }

    /// Makes the body ready to be sent once more.
    fn rewind(&mut self) -> Result<(), ClientError> {
        let Some(streamed) = &self.streamed else { return Ok(()) };
        if matches!(self.payload, Payload::Segments(_)) {
            // The files are read anew.
            self.streamed = None;
        } else if !streamed.rewind() {
            let reason = "the body has been sent already, and cannot be sent again".to_owned();
            return Err(ClientError::RedirectRefused { url: without_secrets(&self.url), reason });
        }
        Ok(())
    }

    fn deliver(
        self: Box<Self>,
        destination: &Destination,
        parts: http::response::Parts,
        body: ResponseBody,
    ) -> Result<Arrived, ClientError> {
        let service = shown(&destination.service);
        let decoder = match self.prepared.decompress && !body.is_end_stream() {
            true => Decoder::of(&parts.headers, &self.settings.config.limits).map_err(|error| {
                ClientError::DecodeFailed { service: service.clone(), reason: error.to_string() }
            })?,
            false => None,
        };
        let head = self.watch.elapsed();
        let response = Response {
            status: parts.status,
            reason: parts.extensions.get::<ReasonPhrase>().cloned(),
            version: parts.version,
            headers: parts.headers,
            url: self.url,
            history: self.history,
            body: Bytes::new(),
            decoded: decoder.is_some(),
            trailers: None,
            timing: Timing { head, total: head },
        };
        Ok(Arrived { response, incoming: Incoming::new(body, decoder, service, self.watch) })
    }

    fn explain(&self, error: &ExchangeError, connect_by: Option<Instant>) -> ClientError {
        if let Some(stopped) = self.streamed.as_ref().and_then(StreamedBody::stopped) {
            return ClientError::BodyStopped { reason: stopped.reason };
        }
        let now = self.watch.now();
        let explained = ClientError::of_exchange(error, Patience::Read);
        let ClientError::TimedOut { service, step, .. } = explained else { return explained };
        let (patience, waited) = if now >= self.watch.deadline() {
            (Patience::Total, self.watch.total)
        } else if connect_by.is_some_and(|by| now >= by) && step < Step::Request {
            (Patience::Connect, self.prepared.connect)
        } else {
            (Patience::Read, self.watch.read)
        };
        ClientError::TimedOut { service, patience, step, waited: waited.unwrap_or_default() }
    }
}

/// A body as it is sent.
enum Sending {
    Whole(Bytes),
    Streamed(StreamedBody),
}

/// Characters of a URL that are shown: a thousand of them are sent at once.
const URL_SHOWN_MAX: usize = 512;
