//! Carries bytes both ways between two connections until both are done, one breaks, or nobody speaks.
//!
//! # Source
//! RFC 9110 §9.3.6: each side's end is passed on to the other, and half of a tunnel may go on alone.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep_until};

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides said all they had to say.
    Finished,
    /// One side broke.
    Broken,
    /// No byte moved for too long.
    Idle,
}

/// What went through a tunnel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// From the caller.
    pub up: u64,
    /// To the caller.
    pub down: u64,
}

/// Carries bytes between `near` and `far`. The caller cuts both unless the tunnel has `Finished`.
pub async fn carry<A, B>(near: &mut A, far: &mut B, idle_max: Duration) -> (TunnelEnd, Carried)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved_at = Rc::new(Cell::new(Instant::now()));
    let mut near = Watched { stream: near, read: 0, moved_at: Rc::clone(&moved_at) };
    let mut far = Watched { stream: far, read: 0, moved_at: Rc::clone(&moved_at) };
    let copying = copy_bidirectional_with_sizes(&mut near, &mut far, BUFFER_BYTES, BUFFER_BYTES);
    let end = tokio::select! {
        biased;
        copied = copying => if copied.is_ok() { TunnelEnd::Finished } else { TunnelEnd::Broken },
        () = silence(&moved_at, idle_max) => TunnelEnd::Idle,
    };
    (end, Carried { up: near.read, down: far.read })
}

/// Returns once nothing has moved for `idle_max`.
async fn silence(moved_at: &Cell<Instant>, idle_max: Duration) {
    loop {
        let until = moved_at.get() + idle_max;
        sleep_until(until).await;
        if moved_at.get() + idle_max <= until {
            return;
        }
    }
}

/// A stream that notes what moves through it.
struct Watched<'s, S> {
    stream: &'s mut S,
    read: u64,
    moved_at: Rc<Cell<Instant>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.read += read as u64;
            self.moved_at.set(Instant::now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        if polled.is_ready() {
            self.moved_at.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

/// Held twice by each tunnel. A tunnel is slower than a pipe, and there may be a thousand of them.
const BUFFER_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const IDLE_MAX: Duration = Duration::from_secs(60);

    /// The caller has said all and waits; the far side goes on, and both ends are passed on.
    #[tokio::test]
    async fn half_of_a_tunnel_goes_on_when_the_other_half_has_ended() {
        let ((mut near, mut caller), (mut far, mut peer)) = (duplex(64), duplex(64));
        let talk = async {
            caller.write_all(b"question").await.unwrap();
            caller.shutdown().await.unwrap();
            let (mut question, mut answer) = (String::new(), Vec::new());
            peer.read_to_string(&mut question).await.unwrap();
            let answering = async {
                peer.write_all(&[b'x'; 1000]).await.unwrap();
                peer.shutdown().await.unwrap();
            };
            let ((), read) = tokio::join!(answering, caller.read_to_end(&mut answer));
            (question, read.unwrap())
        };
        let (carried, talked) = tokio::join!(carry(&mut near, &mut far, IDLE_MAX), talk);
        assert_eq!(talked, ("question".to_owned(), 1000));
        assert_eq!(carried, (TunnelEnd::Finished, Carried { up: 8, down: 1000 }));
    }

    /// Nobody speaks. Each word lengthens the tunnel's life, and silence ends it.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_in_which_nobody_speaks_is_ended() {
        let ((mut near, mut caller), (mut far, _peer)) = (duplex(64), duplex(64));
        let started = Instant::now();
        let speaking = async {
            tokio::time::advance(IDLE_MAX / 2).await;
            caller.write_all(b"x").await.unwrap();
        };
        let (carried, ()) = tokio::join!(carry(&mut near, &mut far, IDLE_MAX), speaking);
        assert_eq!(carried, (TunnelEnd::Idle, Carried { up: 1, down: 0 }));
        assert!(started.elapsed() >= IDLE_MAX * 3 / 2, "{:?}", started.elapsed());
    }
}
