//! A connection while it is lent: give it back, or dropping it does.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use southbridge_policy::pool::{Lease, Returned};

use super::Inner;
use crate::http::{Gauge, SendFailure, Sender};

/// The use of one connection for one request.
pub(crate) struct Lent {
    inner: Rc<Inner>,
    lease: Option<Lease>,
    sender: Option<Sender>,
    gauge: Rc<Gauge>,
    remote: SocketAddr,
    used: bool,
}

impl Lent {
    pub(super) fn new(
        inner: Rc<Inner>,
        lease: Lease,
        sender: Sender,
        gauge: Rc<Gauge>,
        remote: SocketAddr,
    ) -> Self {
        Self { inner, lease: Some(lease), sender: Some(sender), gauge, remote, used: false }
    }

    pub(crate) fn gauge(&self) -> &Rc<Gauge> {
        &self.gauge
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self.sender, Some(Sender::Http2(_)))
    }

    /// Whether the connection has carried a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.reused)
    }

    /// Waits until the connection takes a request; `false` when it turned out to be gone.
    pub(crate) async fn ready(&mut self) -> bool {
        match &mut self.sender {
            Some(sender) => sender.ready().await,
            None => false,
        }
    }

    /// Sends `request`; its response must be read to the end, or the connection is spent.
    pub(crate) async fn send(
        &mut self,
        request: ::http::Request<Full<Bytes>>,
    ) -> Result<::http::Response<Incoming>, SendFailure> {
        self.used = true;
        let sender = self.sender.as_mut().expect("a lease has its sender until it is given back");
        sender.send(request).await
    }

    /// The response has been read to its end: the connection may serve again.
    pub(crate) fn give_back(mut self) {
        self.end(Returned::Reusable);
    }

    /// The connection must not serve again.
    pub(crate) fn discard(mut self) {
        self.end(Returned::Spent);
    }

    fn end(&mut self, returned: Returned) {
        let Some(lease) = self.lease.take() else { return };
        let sender = self.sender.take();
        // A connection that hyper has closed (Connection: close, GOAWAY) is spent whatever the caller thinks.
        let closed = sender.as_ref().is_none_or(Sender::is_closed);
        let returned = if closed { Returned::Spent } else { returned };
        let sender = sender.filter(|_| returned == Returned::Reusable);
        self.inner.give_back(lease, sender, returned);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // An HTTP/2 stream that is dropped is reset, and its connection lives; an HTTP/1.1 connection in
        // the middle of a response is of no use to anybody.
        let reusable = !self.used || self.is_http2();
        self.end(if reusable { Returned::Reusable } else { Returned::Spent });
    }
}
