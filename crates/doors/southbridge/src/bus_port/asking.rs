//! What the homeserver asks others itself: profiles, joins, keys, events, media. It has made and signed the request; found,
//! dialled and ranked is whom it asks as for the bus, and on the same connections.
//!
//! A request is not behind transactions: it has the class of what it asks for, as at the Synapse door. Nothing of it is
//! changed but what frames it, and redirects are delivered. Of the response, the heads of the parts of media come as one
//! piece: Synapse's reader goes wrong when a read ends within them.
//!
//! # Source
//! F1, F3, F14, F21 (b); K4; decision 0018.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper::ext::ReasonPhrase;
use southbridge_kernel::Kernel;
use southbridge_kernel::exchange::{About, Call, Manner};
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_words::{ServerName, ServiceName};
use url::Url;

use super::BusId;
use super::errands::no_bus;
use super::post::Post;
use crate::Southbridge;
use crate::client::{
    Arrived, BodyLimits, ClientError, Fed, Flow, Incoming, OpenPart, Opened, Patience, Port, Response,
    Timing, Watch, Wish, Wishing, answer_as_wished, answer_in_pieces,
};
use crate::synapse_door::{self, Boundary, Kind, PartHeads};

/// A request to a homeserver, made and signed by the program.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    method: Method,
    server: ServerName,
    /// What was signed, byte for byte.
    target: PathAndQuery,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
    /// As it is shown to people.
    url: Url,
}

impl PeerRequest {
    /// A request for `uri` (`matrix-federation://name/path?query`), all of which, body included, is over after `timeout`.
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`] when that is nothing that a homeserver can be asked for.
    pub fn new(
        method: Method,
        uri: &str,
        mut headers: HeaderMap,
        body: Bytes,
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let invalid = |reason: String| ClientError::InvalidRequest { reason };
        let rest = uri
            .strip_prefix(SCHEME)
            .ok_or_else(|| invalid(format!("{uri:?} is not of the scheme {SCHEME}")))?;
        let (name, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let server = ServerName::parse(name).map_err(|error| invalid(format!("{name:?}: {error}")))?;
        let target = if target.is_empty() { "/" } else { target };
        let target = target.parse().map_err(|error| invalid(format!("{target:?} is no target: {error}")))?;
        let url = Url::parse(uri).map_err(|error| invalid(format!("{uri:?} is no URL: {error}")))?;
        // The kernel says whom it asks, once it is known.
        headers.remove(HOST);
        if let http::header::Entry::Occupied(mut lines) = headers.entry(AUTHORIZATION) {
            lines.iter_mut().for_each(|line| line.set_sensitive(true));
        }
        Ok(Self { method, server, target, headers, body, timeout, url })
    }

    /// What is done.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// Where, as it is shown to people.
    pub fn url(&self) -> &Url {
        &self.url
    }

    async fn arrive(
        self,
        kernel: Kernel,
        post: Option<Rc<Post>>,
    ) -> Result<(Arrived, Option<OpenPart>), ClientError> {
        let post = post.ok_or_else(no_bus)?;
        let watch = Watch {
            kernel: kernel.clone(),
            started_at: kernel.clock().now(),
            read: None,
            total: Some(self.timeout),
        };
        let Self { method, server, target, headers, body, url, .. } = self;
        let errand = synapse_door::Errand::of(&method, target.path());
        let about =
            About { method: method.clone(), url: format!("{SCHEME}{server}{}", target.path()), mark: None };
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        let call = Call {
            service: ServiceName::from(&server),
            discovery: Rc::clone(&post.matrix),
            request,
            class: errand.class,
            demand: errand.demand(),
            deadline: watch.deadline(),
            repeat: errand.repeat,
            ranked: true,
        };
        // The bus may be closed meanwhile.
        drop(post);
        let manner = Manner { about: Some(Rc::new(about)), ..Manner::default() };
        let response = kernel.exchange_as(call, manner).await;
        let response = response.map_err(|error| ClientError::of_exchange(&error, Patience::Total))?;
        let (parts, body) = response.into_parts();
        let head = watch.elapsed();
        let response = Response {
            status: parts.status,
            version: parts.version,
            headers: parts.headers,
            url,
            history: Vec::new(),
            body: Bytes::new(),
            reason: parts.extensions.get::<ReasonPhrase>().cloned(),
            decoded: false,
            trailers: None,
            timing: Timing { head, total: head },
        };
        let mut incoming = Incoming::new(body, None, server.as_str().to_owned(), watch);
        let mut part = None;
        if errand.kind == Kind::FederationMedia
            && let Some(boundary) = boundary(&response)
        {
            let mut heads = Ok(PartHeads::Incomplete);
            incoming
                .gather(|bytes| {
                    heads = boundary.find_heads(bytes);
                    heads != Ok(PartHeads::Incomplete)
                })
                .await;
            if let Ok(PartHeads::Complete { content_at, location: None }) = heads {
                part = Some(OpenPart { content_at, delimiter: boundary.delimiter().into() });
            }
        }
        Ok((Arrived { response, incoming }, part))
    }
}

/// Asks in the world of `bus`; the answer is `Answer::Head`, and the body is drawn. Takes two places at the port.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn ask(port: &Port, bus: BusId, request: PeerRequest) -> Result<Opened, ClientError> {
    let (ticket, draw) = port.open(|opening| {
        let (flow, draw) = opening.downward(BodyLimits::default().buffer_bytes)?;
        Ok((Ask { bus, request: Box::new(request), flow }, draw))
    })?;
    Ok(Opened { ticket, draw, feed: None })
}

/// The same; when the head has come, nothing of the body flows but the heads of parts until the feed is finished, and then
/// it goes where `wish` says. What is fed is for nobody. Takes three places at the port.
///
/// # Errors
/// As [`ask`].
pub fn ask_as_wished(
    port: &Port,
    bus: BusId,
    request: PeerRequest,
    wish: Arc<Wish>,
) -> Result<Opened, ClientError> {
    let room = BodyLimits::default().buffer_bytes;
    let (ticket, (draw, feed)) = port.open(|opening| {
        let (flow, draw) = opening.downward(room)?;
        let (feed, fed) = opening.upward(room)?;
        Ok((Wished { ask: Ask { bus, request: Box::new(request), flow }, fed, wish }, (draw, feed)))
    })?;
    Ok(Opened { ticket, draw, feed: Some(feed) })
}

/// The boundary between the parts of media. What comes of parts that are none is for Synapse to say.
fn boundary(response: &Response) -> Option<Boundary> {
    let content_type = response.headers.get(CONTENT_TYPE).filter(|_| response.status == StatusCode::OK)?;
    Boundary::of(content_type).ok().flatten()
}

struct Ask {
    bus: BusId,
    request: Box<PeerRequest>,
    flow: Flow,
}

impl Errand<Southbridge> for Ask {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { bus, request, flow } = *self;
        let (kernel, post) = (desk.kernel().clone(), desk.buses().get(bus));
        line.carry(move |reply| async move {
            let arriving = async { request.arrive(kernel, post).await.map(|(arrived, _part)| arrived) };
            answer_in_pieces(reply, flow, arriving).await;
        })
    }
}

struct Wished {
    ask: Ask,
    fed: Fed,
    wish: Arc<Wish>,
}

impl Errand<Southbridge> for Wished {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let Self { ask: Ask { bus, request, flow }, fed, wish } = *self;
        let (kernel, post) = (desk.kernel().clone(), desk.buses().get(bus));
        let wishing = Wishing { fed, wish, files: Rc::clone(desk.files()) };
        line.carry(move |reply| async move {
            answer_as_wished(reply, flow, wishing, request.arrive(kernel, post)).await;
        })
    }
}

/// Synapse's name for requests to homeservers.
const SCHEME: &str = "matrix-federation://";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<PeerRequest, ClientError> {
        PeerRequest::new(Method::GET, uri, HeaderMap::new(), Bytes::new(), Duration::from_secs(1))
    }

    /// What was signed is what is sent.
    #[test]
    fn the_target_is_kept_byte_for_byte() {
        for (name, target) in [
            ("a.example", "/_matrix/x/%21r%3Aa/../%2e%2E/'~?a=%2f&b=c%20d"),
            ("A.example:8448", "//x"),
            ("[::1]:81", "/"),
            ("1.2.3.4", "?a"),
        ] {
            let request = read(&format!("{SCHEME}{name}{target}")).unwrap();
            assert_eq!(request.server.as_str(), name);
            let sent = Uri::from(request.target).to_string();
            assert_eq!(sent, if target.starts_with('?') { format!("/{target}") } else { target.to_owned() });
        }
    }

    #[test]
    fn what_names_no_homeserver_is_refused() {
        for uri in [
            "https://a.example/",
            "matrix-federation:///x",
            "matrix-federation://u@a/",
            "matrix-federation://a:0/x",
        ] {
            assert!(matches!(read(uri), Err(ClientError::InvalidRequest { .. })), "{uri}");
        }
    }
}
