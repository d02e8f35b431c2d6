//! The body of a request: of bounded length, within a bounded time, and all of them together within a bound.
//!
//! # Source
//! K14: everything that a caller can make grow has a limit.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;

use super::failure::{Code, Failure};

/// The bounds of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of one body. Default 16 MiB: a message to 10,000 homeservers that are named with it has 300 KB.
    pub body_bytes_max: u64,
    /// Bytes of all bodies held at a time. Default 64 MiB.
    pub bodies_bytes_max: u64,
    /// From the head of a request to the end of its body. Default 30 s.
    pub body_timeout: Duration,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { body_bytes_max: 16 << 20, bodies_bytes_max: 64 << 20, body_timeout: Duration::from_secs(30) }
    }
}

/// How many bytes of bodies are held.
#[derive(Debug, Default)]
pub(super) struct Held(Cell<u64>);

impl Held {
    /// Bytes held at the moment.
    pub(super) fn bytes(&self) -> u64 {
        self.0.get()
    }
}

/// A body that was read to its end. Its bytes are counted as held until it is dropped.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Request {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What one body has of the bytes that all may have.
#[derive(Debug)]
struct Share {
    held: Rc<Held>,
    bytes: u64,
}

impl Share {
    fn grow(&mut self, bytes: u64, limits: &BodyLimits) -> Result<(), Failure> {
        let wanted = self.bytes.saturating_add(bytes);
        if wanted > limits.body_bytes_max {
            return Err(Failure::new(
                Code::TooLarge,
                format!(
                    "the body has more than {} bytes, which is the most; send it in parts",
                    limits.body_bytes_max
                ),
            ));
        }
        let all = self.held.0.get().saturating_add(bytes);
        if all > limits.bodies_bytes_max {
            return Err(Failure::new(
                Code::LimitExceeded,
                format!(
                    "bodies of other requests take {} of {} bytes; ask again when they are done",
                    self.held.0.get(),
                    limits.bodies_bytes_max
                ),
            ));
        }
        self.held.0.set(all);
        self.bytes = wanted;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.set(self.held.0.get() - self.bytes);
    }
}

/// Reads `body` to its end.
///
/// # Errors
/// [`Failure`] when it is too large, too slow, breaks off, or there is no room for it. Nothing of it is held then.
pub(super) async fn read<B>(body: B, held: &Rc<Held>, limits: &BodyLimits) -> Result<Request, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    tokio::time::timeout(limits.body_timeout, read_all(body, held, limits)).await.unwrap_or_else(|_| {
        let text = format!("the body did not arrive within {:?}; send it at once", limits.body_timeout);
        Err(Failure::new(Code::Slow, text))
    })
}

async fn read_all<B>(mut body: B, held: &Rc<Held>, limits: &BodyLimits) -> Result<Request, Failure>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut share = Share { held: Rc::clone(held), bytes: 0 };
    // A length that is announced is taken at its word, so that a body without room is refused before it is sent.
    let announced = body.size_hint().exact().unwrap_or(0);
    share.grow(announced, limits)?;
    let mut bytes = BytesMut::with_capacity(usize::try_from(announced).unwrap_or(0));
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::new(Code::NotJson, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        let beyond = (bytes.len() + data.len()) as u64;
        share.grow(beyond.saturating_sub(share.bytes), limits)?;
        bytes.extend_from_slice(&data);
    }
    Ok(Request { bytes: bytes.freeze(), _share: share })
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, stream};
    use http_body::Frame;
    use http_body_util::{Empty, Full, StreamBody};
    use std::convert::Infallible;

    use super::*;

    const LIMITS: BodyLimits =
        BodyLimits { body_bytes_max: 8, bodies_bytes_max: 10, body_timeout: Duration::from_secs(1) };

    fn pieces(pieces: &'static [&'static str]) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        StreamBody::new(stream::iter(
            pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))),
        ))
    }

    #[tokio::test]
    async fn what_is_held_is_counted_until_it_is_dropped() {
        let held = Rc::new(Held::default());
        let first = read(Full::new(Bytes::from("12345678")), &held, &LIMITS).await.unwrap();
        assert_eq!((first.as_ref(), held.bytes()), (b"12345678".as_slice(), 8));
        let second = read(pieces(&["1", "2", "3"]), &held, &LIMITS).await.unwrap_err();
        assert_eq!((second.code, held.bytes()), (Code::LimitExceeded, 8));
        drop(first);
        assert_eq!(held.bytes(), 0);
        assert!(read(pieces(&["1", "2", "3"]), &held, &LIMITS).await.is_ok());
        assert!(read(Empty::<Bytes>::new(), &held, &LIMITS).await.is_ok());
        assert_eq!(held.bytes(), 0);
    }

    #[tokio::test]
    async fn a_body_beyond_its_bound_is_refused_announced_or_not() {
        let held = Rc::new(Held::default());
        let announced = read(Full::new(Bytes::from("123456789")), &held, &LIMITS).await.unwrap_err();
        let counted = read(pieces(&["12345", "6789"]), &held, &LIMITS).await.unwrap_err();
        assert_eq!((announced.code, counted.code, held.bytes()), (Code::TooLarge, Code::TooLarge, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let held = Rc::new(Held::default());
        let never = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert_eq!(read(never, &held, &LIMITS).await.unwrap_err().code, Code::Slow);
        assert!(read(pieces(&["1"]), &held, &LIMITS).now_or_never().is_some());
    }
}
