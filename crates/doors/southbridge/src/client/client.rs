//! The client, as a program holds it.

use std::sync::Arc;

use http::Method;
use southbridge_kernel::port::{Errand, Opening, SubmitError};
use southbridge_words::Ticket;
use url::Url;

use super::config::ClientConfig;
use super::cookies::WhichCookies;
use super::download::{Download, Progress, Save};
use super::errands::{Cookies, Fetch, Stream, Wished, WithCookies};
use super::given::GivenCookie;
use super::keeping::Wish;
use super::request::{Body, Request};
use super::settings::Settings;
use super::{ClientError, Draw, Feed, Port};
use crate::Southbridge;

/// An HTTP client: settings, and cookies of its own. Cheap to clone, and all clones are one; any thread may use it,
/// each with a port of its own. Connections are the kernel's, and shared with all others.
#[derive(Clone)]
pub struct Client {
    settings: Arc<Settings>,
}

/// A request whose bodies are in pieces.
#[derive(Debug)]
pub struct Opened {
    /// Its number; the answer to it is the head of the response.
    pub ticket: Ticket,
    /// Where the body of the response is drawn.
    pub draw: Draw,
    /// Where the body of the request is fed, if it is fed.
    pub feed: Option<Feed>,
}

/// A download under way.
#[derive(Debug)]
pub struct Downloading {
    /// Its number.
    pub ticket: Ticket,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// Something is drawn here when it is worth looking at `progress` again, ten times a second at most. May be dropped.
    pub ticks: Draw,
}

impl Client {
    /// A client with these settings. Reads the files that they name, and the environment where they say so.
    ///
    /// # Errors
    /// [`ClientError::InvalidSetting`] names the first that does not work.
    pub fn new(config: ClientConfig) -> Result<Self, ClientError> {
        Ok(Self { settings: Arc::new(Settings::new(config)?) })
    }

    /// Its settings.
    pub fn config(&self) -> &ClientConfig {
        &self.settings.config
    }

    /// A request for `url`, which may be relative to the client's base URL.
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`] when it is no URL.
    pub fn request(&self, method: Method, url: &str) -> Result<Request, ClientError> {
        let read = match &self.settings.config.base_url {
            None => self.settings.urls.parse(url),
            Some(base) => base.join(url),
        };
        let read = read.map_err(|error| ClientError::invalid(format!("{url:?} is no URL: {error}")))?;
        Ok(Request::at(method, read))
    }

    /// Hands `request` in at `port`; the answer is `Answer::Response`. Never blocks.
    ///
    /// # Errors
    /// [`ClientError::InvalidRequest`], or [`ClientError::Overloaded`] when the port is full.
    pub fn submit(&self, port: &Port, request: Request) -> Result<Ticket, ClientError> {
        let prepared = Box::new(request.prepare(&self.settings.config, None)?);
        Ok(port.submit(Fetch { settings: Arc::clone(&self.settings), prepared })?)
    }

    /// Hands `request` in at `port`; the answer is `Answer::Head`, and the bodies go in pieces. Takes two places at the
    /// port, or three where the body of the request is fed (`Body::Stream`). Never blocks.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn open(&self, port: &Port, request: Request) -> Result<Opened, ClientError> {
        let room = self.settings.config.limits.buffer_bytes;
        let is_fed = matches!(request.body, Body::Stream { .. });
        let settings = Arc::clone(&self.settings);
        let (ticket, (draw, feed)) = open(port, |opening| {
            let (flow, draw) = opening.downward(room)?;
            let (feed, fed) = if is_fed { Some(opening.upward(room)?) } else { None }.unzip();
            let prepared = Box::new(request.prepare(&settings.config, fed)?);
            Ok((Stream { settings, prepared, flow }, (draw, feed)))
        })?;
        Ok(Opened { ticket, draw, feed })
    }

    /// The same for a request whose body is not fed. When the head of the response has come, its body is held back until the
    /// feed is finished, and then goes where `wish` says; what is fed is for nobody. Takes three places at the port.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn open_as_wished(
        &self,
        port: &Port,
        request: Request,
        wish: Arc<Wish>,
    ) -> Result<Opened, ClientError> {
        let room = self.settings.config.limits.buffer_bytes;
        let settings = Arc::clone(&self.settings);
        let (ticket, (draw, feed)) = open(port, |opening| {
            let (flow, draw) = opening.downward(room)?;
            let (feed, fed) = opening.upward(room)?;
            let prepared = Box::new(request.prepare(&settings.config, None)?);
            Ok((Wished { stream: Stream { settings, prepared, flow }, fed, wish }, (draw, feed)))
        })?;
        Ok(Opened { ticket, draw, feed: Some(feed) })
    }

    /// Hands `request` in at `port`, whose body is fed (`Body::Stream`); the answer is `Answer::Response`. Takes two
    /// places at the port. Never blocks.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn upload(&self, port: &Port, request: Request) -> Result<(Ticket, Feed), ClientError> {
        let room = self.settings.config.limits.buffer_bytes;
        let settings = Arc::clone(&self.settings);
        open(port, |opening| {
            let (feed, fed) = opening.upward(room)?;
            let prepared = Box::new(request.prepare(&settings.config, Some(fed))?);
            Ok((Fetch { settings, prepared }, feed))
        })
    }

    /// Hands `request` in at `port`; the answer is `Answer::Saved`, or `Answer::Response` for a status that brings no file.
    /// Takes two places at the port. Never blocks.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn download(
        &self,
        port: &Port,
        request: Request,
        download: Download,
    ) -> Result<Downloading, ClientError> {
        let settings = Arc::clone(&self.settings);
        let progress = Arc::new(Progress::default());
        let (ticket, ticks) = open(port, |opening| {
            let (flow, draw) = opening.downward(1)?;
            let _sound = request.clone().prepare(&settings.config, None)?;
            let (request, progress) = (Box::new(request), Arc::clone(&progress));
            Ok((Save { settings, request, download, progress, ticks: flow }, draw))
        })?;
        Ok(Downloading { ticket, progress, ticks })
    }

    /// Asks for the cookies; the answer is `Answer::Cookies`.
    ///
    /// # Errors
    /// [`ClientError::Overloaded`] when the port is full.
    pub fn cookies(&self, port: &Port) -> Result<Ticket, ClientError> {
        self.with_cookies(port, WithCookies::Show)
    }

    /// Forgets those cookies that are meant; the answer is `Answer::Done`.
    ///
    /// # Errors
    /// As [`Client::cookies`].
    pub fn clear_cookies(&self, port: &Port, which: WhichCookies) -> Result<Ticket, ClientError> {
        self.with_cookies(port, WithCookies::Clear(which))
    }

    /// Keeps these cookies, which are the program's own; the answer is `Answer::Done`, or
    /// [`ClientError::InvalidRequest`] for the first that is none: those before it are kept.
    ///
    /// # Errors
    /// As [`Client::cookies`]; [`ClientError::InvalidSetting`] when this client keeps none.
    pub fn give_cookies(&self, port: &Port, cookies: Vec<GivenCookie>) -> Result<Ticket, ClientError> {
        if !self.settings.config.cookies {
            let reason = "it is false, and this client keeps none".to_owned();
            return Err(ClientError::InvalidSetting { setting: "cookies", reason });
        }
        self.with_cookies(port, WithCookies::Give(cookies))
    }

    /// Keeps a cookie as if `url` had set it with `line` (`name=value; Path=/…`); the answer is `Answer::Done`, or
    /// [`ClientError::InvalidRequest`] when it may not be kept.
    ///
    /// # Errors
    /// As [`Client::cookies`].
    pub fn set_cookie(&self, port: &Port, url: &Url, line: &str) -> Result<Ticket, ClientError> {
        self.with_cookies(port, WithCookies::Set { url: url.clone(), line: line.to_owned() })
    }

    fn with_cookies(&self, port: &Port, what: WithCookies) -> Result<Ticket, ClientError> {
        Ok(port.submit(Cookies { settings: Arc::clone(&self.settings), what })?)
    }
}

/// Hands in what `make` makes, whose faults are the client's.
fn open<E: Errand<Southbridge>, T>(
    port: &Port,
    make: impl FnOnce(&Opening<'_, Southbridge>) -> Result<(E, T), ClientError>,
) -> Result<(Ticket, T), ClientError> {
    let mut invalid = None;
    let opened = port.open(|opening| {
        make(opening).map_err(|error| {
            invalid = Some(error);
            SubmitError::Stopped
        })
    });
    opened.map_err(|error| invalid.unwrap_or_else(|| error.into()))
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.settings.id).finish_non_exhaustive()
    }
}
