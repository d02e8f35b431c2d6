//! Tasks that end with whoever started them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A task that is aborted when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Starts `work` on the current runtime.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Accepts for ever; every connection is served by what `serve` returns, and ends when the task does.
pub(crate) async fn accept_each<F>(listener: TcpListener, mut serve: impl FnMut(TcpStream, SocketAddr) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut served = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    served.spawn(serve(stream, peer));
                }
                // Out of descriptors, or a peer that was gone already: neither is a reason to stop.
                Err(_) => tokio::time::sleep(RECOVERY).await,
            },
            Some(_) = served.join_next() => {}
        }
    }
}

/// A listener with a long queue, so that a fan-out to thousands of names is not refused by the kernel.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const BACKLOG: i32 = 8192;
/// Long enough for a descriptor to come free, short enough not to be noticed.
const RECOVERY: Duration = Duration::from_millis(5);
