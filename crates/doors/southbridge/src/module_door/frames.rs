//! How what is said at the module door is framed.
//!
//! ```text
//! to the daemon:   length: u32   head length: u32   head: JSON   body: bytes as they are sent to homeservers
//! to the module:   length: u32   head: JSON
//! ```
//! Numbers are big-endian. A length counts what comes after it.
//!
//! # Source
//! K14: a frame has a bound. The body beside the head, so that the bytes that are signed are nobody's to read.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

/// Reads frames of at most `bytes_max`; a longer one is an error, and read no further.
pub fn reader<R: AsyncRead>(stream: R, bytes_max: usize) -> FramedRead<R, LengthDelimitedCodec> {
    LengthDelimitedCodec::builder().max_frame_length(bytes_max).new_read(stream)
}

/// The head and the body of a frame from a module.
///
/// # Errors
/// Says what it lacks.
pub fn parted(mut frame: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let length = frame.try_get_u32().map_err(|_| "a frame is shorter than the length of its head")?;
    let length = usize::try_from(length).map_err(|_| "the head of a frame is longer than memory")?;
    frame.split_at_checked(length).ok_or("the head of a frame is longer than the frame")
}

/// A frame from a module, with its length.
pub fn to_daemon(head: &[u8], body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(8 + head.len() + body.len());
    frame.put_u32(length(4 + head.len() + body.len()));
    frame.put_u32(length(head.len()));
    frame.put_slice(head);
    frame.put_slice(body);
    frame.freeze()
}

/// A frame to a module, with its length.
pub fn to_module(head: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(4 + head.len());
    frame.put_u32(length(head.len()));
    frame.put_slice(head);
    frame.freeze()
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("what is said at this door is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    /// Two frames, cut at every byte, and one that is too long.
    #[tokio::test]
    async fn frames_come_whole_however_they_are_cut() {
        let sent = [to_daemon(b"[1]", b"body"), to_daemon(b"[2]", b"")].concat();
        for cut in 0..=sent.len() {
            let pieces = tokio_test_pieces(&sent[..cut], &sent[cut..]);
            let mut frames = reader(pieces, 64);
            let first = frames.next().await.unwrap().unwrap();
            assert_eq!(parted(&first).unwrap(), (&b"[1]"[..], &b"body"[..]));
            let second = frames.next().await.unwrap().unwrap();
            assert_eq!(parted(&second).unwrap(), (&b"[2]"[..], &b""[..]));
            assert!(frames.next().await.is_none());
        }
        let long = to_daemon(b"[3]", &[0; 64]);
        assert!(reader(&long[..], 64).next().await.unwrap().is_err());
        assert!(reader(&long[..long.len() - 1], 128).next().await.unwrap().is_err());
    }

    fn tokio_test_pieces<'a>(one: &'a [u8], other: &'a [u8]) -> impl AsyncRead + 'a {
        tokio::io::AsyncReadExt::chain(one, other)
    }

    #[test]
    fn a_head_does_not_reach_beyond_its_frame() {
        assert!(parted(b"").is_err());
        assert!(parted(b"\0\0\0").is_err());
        assert!(parted(b"\0\0\0\x01").is_err());
        assert!(parted(b"\xff\xff\xff\xff[]").is_err());
        assert_eq!(parted(b"\0\0\0\0rest"), Ok((&b""[..], &b"rest"[..])));
        assert_eq!(parted(b"\0\0\0\x02[]"), Ok((&b"[]"[..], &b""[..])));
    }
}
