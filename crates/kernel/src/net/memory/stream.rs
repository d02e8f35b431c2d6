//! One side of a connection within the process.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::path::Link;
use super::pipe::{End, Found, Pipe};
use super::{MemoryNetwork, NetworkEvent, Side};

/// One side of a connection. Dropped, it closes in good order.
pub struct MemoryStream(Box<Inner>);

struct Inner {
    network: MemoryNetwork,
    link: Rc<Link>,
    conn: u64,
    side: Side,
    inbound: Rc<RefCell<Pipe>>,
    outbound: Rc<RefCell<Pipe>>,
    /// Runs while something is under way to us.
    arrival: Option<Pin<Box<Sleep>>>,
}

/// Both sides of a new connection: who dialled, and who was dialled.
pub(super) fn pair(network: &MemoryNetwork, link: &Rc<Link>, conn: u64) -> (MemoryStream, MemoryStream) {
    let (out, back) = (Rc::<RefCell<Pipe>>::default(), Rc::<RefCell<Pipe>>::default());
    link.add(&out);
    link.add(&back);
    let side = |side, inbound: &Rc<RefCell<Pipe>>, outbound: &Rc<RefCell<Pipe>>| {
        MemoryStream(Box::new(Inner {
            network: network.clone(),
            link: Rc::clone(link),
            conn,
            side,
            inbound: Rc::clone(inbound),
            outbound: Rc::clone(outbound),
            arrival: None,
        }))
    };
    (side(Side::Dialler, &back, &out), side(Side::Listener, &out, &back))
}

impl MemoryStream {
    /// The number of the connection, the same on both sides.
    pub fn conn(&self) -> u64 {
        self.0.conn
    }

    /// Breaks the connection off: the other side reads what is under way already, and then an error.
    pub fn reset(self) {
        self.0.finish(End::Reset);
    }
}

impl Inner {
    /// Whether nothing comes to us for now, or goes out from us.
    fn is_cut(&self, inbound: bool) -> bool {
        let path = self.link.path();
        if (self.side == Side::Dialler) == inbound { path.is_cut_back } else { path.is_cut_out }
    }

    fn arrival_of_now(&self) -> Instant {
        Instant::now() + self.network.trip(&self.link)
    }

    fn finish(&self, end: End) {
        let at = self.arrival_of_now();
        if !self.outbound.borrow_mut().finish(end, at) {
            return;
        }
        let (conn, by) = (self.conn, self.side);
        self.network.tell(match end {
            End::Closed => NetworkEvent::Closed { conn, by },
            End::Reset => NetworkEvent::Reset { conn, by },
        });
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        if this.is_cut(true) {
            this.inbound.borrow_mut().wait(cx);
            return Poll::Pending;
        }
        loop {
            let found = this.inbound.borrow_mut().read(buffer, Instant::now(), cx);
            match found {
                Found::Read(result) => return Poll::Ready(result),
                Found::Nothing => return Poll::Pending,
                Found::Later(at) => {
                    let arrival = this.arrival.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
                    if arrival.deadline() != at {
                        arrival.as_mut().reset(at);
                    }
                    std::task::ready!(arrival.as_mut().poll(cx));
                }
            }
        }
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self.get_mut().0;
        let at = this.arrival_of_now();
        if this.inbound.borrow().has_ended(Instant::now()) && this.outbound.borrow().is_deaf() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if this.outbound.borrow().is_deaf() {
            // The far side has closed, and we do not know it yet: it will say so when this reaches it.
            let back = at + this.network.trip(&this.link);
            this.inbound.borrow_mut().finish(End::Reset, back);
        }
        this.outbound.borrow_mut().write(bytes, at, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.finish(End::Closed);
        Poll::Ready(Ok(()))
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.0.finish(End::Closed);
        self.0.inbound.borrow_mut().deafen();
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStream({}, {:?})", self.0.conn, self.0.side)
    }
}
