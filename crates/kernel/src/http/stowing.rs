//! An HTTP/1.1 connection that is stowed while nobody uses it.
//!
//! hyper keeps for each connection a buffer to read into, one to write from, and room for 32 requests on their way to
//! it: 26 of the 32 KB that an open connection takes. Between two requests it knows nothing that it would not know if
//! it began there. So a connection that has been idle for a while is taken apart, and what is left of it is the
//! stream, which is read only to see that it ends; for the next request hyper is begun anew on it.
//!
//! ```text
//!            stow, between two requests
//!    speaking ─────────────────────────▶ stowed ── the peer closes ──▶ closing ──▶ over
//!     │   ▲                              │    │                                     ▲
//!     │   └───────── the next request ───┘    └── a byte nobody asked for ──────────┤
//!     └── hyper has ended, or whoever drove it has let go ──────────────────────────┘
//! ```
//!
//! # Source
//! M1; RFC 9112 §9.3 (what a client may expect of a connection that is kept open).

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use futures_util::FutureExt;
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::{End, HttpLimits, explain, http1_builder};
use super::{Gauged, RequestBody};

/// Sends requests on an HTTP/1.1 connection, one at a time.
pub struct Http1 {
    /// hyper's, unless it is stowed.
    speaking: Option<SendRequest<RequestBody>>,
    line: Rc<dyn Line>,
}

/// What moves the bytes of an [`Http1`], stowed or not, until it ends. With it the stream is let go of.
pub(super) struct Http1Driver<S: AsyncRead + AsyncWrite + Unpin + 'static>(Rc<Kept<S>>);

/// Begins to speak on `stream`.
pub(super) fn open_http1<S>(stream: Gauged<S>, limits: HttpLimits) -> Result<(Http1, Http1Driver<S>), String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (speaking, connection) = begin(stream, limits)?;
    let state = RefCell::new(State::Speaking(Box::new(connection)));
    let kept = Rc::new(Kept { limits, state, driver: RefCell::default() });
    let line: Rc<dyn Line> = Rc::<Kept<S>>::clone(&kept);
    Ok((Http1 { speaking: Some(speaking), line }, Http1Driver(kept)))
}

impl Http1 {
    /// Waits until a request can be sent; `None` when the connection is gone.
    pub(super) async fn ready(&mut self) -> Option<&mut SendRequest<RequestBody>> {
        if let Some(speaking) = &mut self.speaking {
            if !speaking.is_ready() {
                speaking.ready().await.ok()?;
            }
        } else {
            self.speaking = self.line.speak();
        }
        self.speaking.as_mut()
    }

    /// Whether the connection is known to be gone.
    pub(super) fn is_closed(&self) -> bool {
        self.speaking.as_ref().map_or_else(|| self.line.is_over(), SendRequest::is_closed)
    }

    /// Lets go of what only a request needs. Nothing happens in the middle of one.
    pub(crate) fn stow(&mut self) {
        if self.speaking.as_ref().is_some_and(SendRequest::is_ready) && self.line.stow() {
            self.speaking = None;
        }
    }
}

impl fmt::Debug for Http1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http1").field("stowed", &self.speaking.is_none()).finish_non_exhaustive()
    }
}

/// The connection as its sender knows it, whatever it runs over.
trait Line {
    /// hyper, begun anew.
    fn speak(&self) -> Option<SendRequest<RequestBody>>;
    /// Takes hyper's connection apart; whether there was one.
    fn stow(&self) -> bool;
    fn is_over(&self) -> bool;
}

struct Kept<S: AsyncRead + AsyncWrite + Unpin + 'static> {
    limits: HttpLimits,
    state: RefCell<State<S>>,
    /// Who is to look at the state when it has been changed from outside.
    driver: RefCell<Option<Waker>>,
}

enum State<S: AsyncRead + AsyncWrite + Unpin + 'static> {
    Speaking(Box<Connection<TokioIo<Gauged<S>>, RequestBody>>),
    Stowed(Gauged<S>),
    /// The peer has closed its side, and ours is being closed.
    Closing(Gauged<S>),
    Over(Result<(), End>),
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Kept<S> {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        let mut state = self.state.borrow_mut();
        loop {
            match &mut *state {
                State::Speaking(connection) => {
                    self.remember_driver(cx);
                    return connection.poll_unpin(cx).map_err(|error| ended(explain(&error)));
                }
                State::Stowed(stream) => {
                    self.remember_driver(cx);
                    let next = ready!(watch(stream, cx));
                    let stowed = std::mem::replace(&mut *state, State::Over(Ok(())));
                    *state = match (next, stowed) {
                        (Ok(()), State::Stowed(stream)) => State::Closing(stream),
                        (end, _) => State::Over(end),
                    };
                }
                State::Closing(stream) => {
                    // Whether the peer hears of it does not matter any more.
                    let _ended = ready!(Pin::new(stream).poll_shutdown(cx));
                    *state = State::Over(Ok(()));
                }
                State::Over(end) => return Poll::Ready(end.clone()),
            }
        }
    }

    fn remember_driver(&self, cx: &Context<'_>) {
        let mut driver = self.driver.borrow_mut();
        if driver.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            *driver = Some(cx.waker().clone());
        }
    }

    fn change(&self, next: State<S>) {
        *self.state.borrow_mut() = next;
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Line for Kept<S> {
    fn speak(&self) -> Option<SendRequest<RequestBody>> {
        let state = std::mem::replace(&mut *self.state.borrow_mut(), State::Over(Ok(())));
        let State::Stowed(stream) = state else {
            *self.state.borrow_mut() = state;
            return None;
        };
        match begin(stream, self.limits) {
            Ok((speaking, connection)) => {
                self.change(State::Speaking(Box::new(connection)));
                Some(speaking)
            }
            Err(reason) => {
                self.change(State::Over(Err(ended(reason))));
                None
            }
        }
    }

    fn stow(&self) -> bool {
        let state = std::mem::replace(&mut *self.state.borrow_mut(), State::Over(Ok(())));
        let State::Speaking(connection) = state else {
            *self.state.borrow_mut() = state;
            return false;
        };
        let parts = connection.into_parts();
        self.change(if parts.read_buf.is_empty() {
            State::Stowed(parts.io.into_inner())
        } else {
            State::Over(Err(ended(UNASKED.to_owned())))
        });
        true
    }

    fn is_over(&self) -> bool {
        matches!(*self.state.borrow(), State::Closing(_) | State::Over(_))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Future for Http1Driver<S> {
    type Output = Result<(), End>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Drop for Http1Driver<S> {
    /// Whoever still holds the sender must not hold the stream.
    fn drop(&mut self) {
        let state = std::mem::replace(&mut *self.0.state.borrow_mut(), State::Over(Ok(())));
        drop(state);
    }
}

type Begun<S> = (SendRequest<RequestBody>, Connection<TokioIo<Gauged<S>>, RequestBody>);

fn begin<S>(stream: Gauged<S>, limits: HttpLimits) -> Result<Begun<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match http1_builder(limits).handshake(TokioIo::new(stream)).now_or_never() {
        Some(begun) => begun.map_err(|error| explain(&error)),
        None => Err("HTTP/1.1 did not begin at once".to_owned()),
    }
}

/// Waits for the end of a stream on which nothing is expected.
fn watch(stream: &mut (impl AsyncRead + Unpin), cx: &mut Context<'_>) -> Poll<Result<(), End>> {
    let mut byte = [0];
    let mut read = ReadBuf::new(&mut byte);
    let outcome = ready!(Pin::new(stream).poll_read(cx, &mut read));
    Poll::Ready(match outcome {
        Ok(()) if read.filled().is_empty() => Ok(()),
        Ok(()) => Err(ended(UNASKED.to_owned())),
        Err(error) => Err(ended(explain(&error))),
    })
}

fn ended(reason: String) -> End {
    End { reason, broke_http2: false }
}

const UNASKED: &str = "the peer sent what nobody had asked for";

#[cfg(test)]
#[path = "stowing_tests.rs"]
mod tests;
