//! Datagrams within the process: lost, doubled and overtaken as their path says.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::path::Syn;
use super::{MemoryNetwork, NetworkEvent};

/// A socket for datagrams.
pub struct MemorySocket {
    network: MemoryNetwork,
    address: SocketAddr,
    peer: Option<SocketAddr>,
    mailbox: Rc<Mailbox>,
}

/// What is under way to one address.
#[derive(Default)]
pub(super) struct Mailbox {
    /// By time of arrival; of equal ones, the one that set out first.
    coming: RefCell<Vec<Datagram>>,
    arrived: Notify,
    /// The peer, or its system, has said that nobody listens there.
    is_refused: Cell<bool>,
}

struct Datagram {
    at: Instant,
    from: SocketAddr,
    bytes: Bytes,
}

impl MemorySocket {
    pub(super) fn open(
        network: &MemoryNetwork,
        address: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> io::Result<Self> {
        let mut mailboxes = network.shared.mailboxes.borrow_mut();
        if mailboxes.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let mailbox = Rc::<Mailbox>::default();
        mailboxes.insert(address, Rc::clone(&mailbox));
        Ok(Self { network: network.clone(), address, peer, mailbox })
    }

    /// Sends `bytes` to the one peer of this socket.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let peer = self.peer.ok_or(io::ErrorKind::NotConnected)?;
        self.send_to(bytes, peer);
        Ok(())
    }

    /// The next datagram of the one peer of this socket; what does not fit is cut off.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let (bytes, from) = self.recv_from().await?;
            if self.peer.is_none_or(|peer| peer == from) {
                let length = bytes.len().min(buffer.len());
                buffer[..length].copy_from_slice(&bytes[..length]);
                return Ok(length);
            }
        }
    }

    /// Sends `bytes` to `to`, and hears no more of it.
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) {
        let far = if self.peer.is_some() { to } else { self.address };
        let link = self.network.link(far.ip());
        let path = link.path();
        let is_cut = if self.peer.is_some() { path.is_cut_out } else { path.is_cut_back };
        if is_cut || path.syn == Syn::Lost || self.network.happens(path.lost_permille) {
            return self.network.tell(NetworkEvent::Lost { to });
        }
        let mailbox = self.network.shared.mailboxes.borrow().get(&to).map(Rc::clone);
        let Some(mailbox) = mailbox.filter(|_| path.syn == Syn::Answered) else {
            self.network.tell(NetworkEvent::Refused { by: to });
            self.mailbox.is_refused.set(true);
            return self.mailbox.arrived.notify_one();
        };
        let copies = 1 + usize::from(self.network.happens(path.twice_permille));
        for _ in 0..copies {
            let at = Instant::now() + self.network.trip(&link);
            mailbox.put(Datagram { at, from: self.address, bytes: Bytes::copy_from_slice(bytes) });
        }
    }

    /// The next datagram, and whose it is.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] when nobody listens where the last one was sent to.
    pub async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        loop {
            if self.mailbox.is_refused.take() {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let arrived = self.mailbox.arrived.notified();
            match self.mailbox.take(Instant::now()) {
                Ok(datagram) => return Ok((datagram.bytes, datagram.from)),
                Err(None) => arrived.await,
                Err(Some(at)) => tokio::select! {
                    biased;
                    () = arrived => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }
}

impl Mailbox {
    /// A mailbox that is full drops what comes, as a real one does.
    fn put(&self, datagram: Datagram) {
        let mut coming = self.coming.borrow_mut();
        if coming.len() < COMING_MAX {
            let at = coming.partition_point(|other| other.at <= datagram.at);
            coming.insert(at, datagram);
            self.arrived.notify_one();
        }
    }

    /// What has arrived by `now`, or when the next will.
    fn take(&self, now: Instant) -> Result<Datagram, Option<Instant>> {
        let mut coming = self.coming.borrow_mut();
        match coming.first() {
            None => Err(None),
            Some(first) if first.at > now => Err(Some(first.at)),
            Some(_) => Ok(coming.remove(0)),
        }
    }
}

impl Drop for MemorySocket {
    fn drop(&mut self) {
        self.network.shared.mailboxes.borrow_mut().remove(&self.address);
    }
}

impl fmt::Debug for MemorySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemorySocket({})", self.address)
    }
}

const COMING_MAX: usize = 4096;
