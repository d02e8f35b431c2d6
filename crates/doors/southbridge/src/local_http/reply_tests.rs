use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::super::testing::{Broken, End, Script};
use super::*;

const LIMITS: ReplyLimits =
    ReplyLimits { show: Show::Body, version: Version::HTTP_11, stall_max: Duration::from_secs(30) };

fn outgoing(length: Option<u64>) -> Outgoing {
    let mut headers = HeaderMap::new();
    headers.append("x-first", "1".parse().unwrap());
    headers.append("content-length", "999".parse().unwrap());
    Outgoing { status: StatusCode::OK, headers, length, gathered: Gathered::default(), suffix: Bytes::new() }
}

/// More than is gathered before the first write.
static BIG: [u8; GATHERED_BYTES] = [b'x'; GATHERED_BYTES];

async fn sent(
    outgoing: Outgoing,
    script: Script,
    limits: ReplyLimits,
) -> (String, Result<u64, ReplyError<Broken>>) {
    let (near, mut far) = duplex(64 * 1024);
    let mut connection = LocalConnection::new(near);
    let mut body = Box::pin(script);
    let result = send(&mut connection, outgoing, body.as_mut(), limits).await;
    drop(connection);
    let mut wire = String::new();
    far.read_to_string(&mut wire).await.unwrap();
    (wire, result)
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nx-first: 1\r\n";

#[tokio::test]
async fn a_body_of_known_length_is_passed_on_with_it() {
    let (wire, result) =
        sent(outgoing(Some(5)), Script::new(&[b"he", b"", b"llo"], End::Clean), LIMITS).await;
    assert_eq!(wire, format!("{HEAD}content-length: 5\r\nconnection: close\r\n\r\nhello"));
    assert_eq!(result.unwrap(), 5);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_passed_on_in_chunks() {
    let (wire, result) = sent(outgoing(None), Script::new(&[&BIG, b"he", b"llo"], End::Clean), LIMITS).await;
    assert!(
        wire.starts_with(&format!(
            "{HEAD}transfer-encoding: chunked\r\nconnection: close\r\n\r\n4000\r\nxxx"
        ))
    );
    assert!(wire.ends_with("xxx\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"));
    assert_eq!(result.unwrap(), BIG.len() as u64 + 5);
}

#[tokio::test]
async fn an_old_caller_is_told_the_end_by_the_end() {
    let limits = ReplyLimits { version: Version::HTTP_10, ..LIMITS };
    let (wire, _) = sent(outgoing(None), Script::new(&[&BIG, b"he", b"llo"], End::Clean), limits).await;
    assert!(wire.starts_with(&format!("{HEAD}connection: close\r\n\r\nxxx")));
    assert!(wire.ends_with("xxxhello"));
}

#[tokio::test]
async fn what_was_gathered_whole_goes_out_with_its_length() {
    let mut outgoing = outgoing(None);
    outgoing.gathered = Gathered { bytes: BytesMut::from("hello"), ended: true };
    outgoing.suffix = Bytes::from_static(b"!");
    let (wire, result) = sent(outgoing, Script::new(&[], End::Never), LIMITS).await;
    assert_eq!(wire, format!("{HEAD}content-length: 6\r\nconnection: close\r\n\r\nhello!"));
    assert_eq!(result.unwrap(), 6);
}

#[tokio::test]
async fn a_suffix_follows_the_last_chunk_of_the_body() {
    let mut outgoing = outgoing(None);
    outgoing.gathered.bytes.extend_from_slice(&BIG);
    outgoing.suffix = Bytes::from_static(b"z");
    let (wire, result) = sent(outgoing, Script::new(&[b"b"], End::Clean), LIMITS).await;
    assert!(wire.ends_with("xxx\r\n1\r\nb\r\n1\r\nz\r\n0\r\n\r\n"));
    assert_eq!(result.unwrap(), BIG.len() as u64 + 2);
}

#[tokio::test]
async fn responses_that_have_no_body_are_sent_without_one() {
    let head_only = ReplyLimits { show: Show::HeadOnly, ..LIMITS };
    let (wire, _) = sent(outgoing(Some(5)), Script::new(&[], End::Never), head_only).await;
    assert_eq!(wire, format!("{HEAD}content-length: 5\r\nconnection: close\r\n\r\n"));
    let no_content = Outgoing { status: StatusCode::NO_CONTENT, ..outgoing(Some(5)) };
    let (wire, _) = sent(no_content, Script::new(&[], End::Never), LIMITS).await;
    assert_eq!(wire, "HTTP/1.1 204 No Content\r\nx-first: 1\r\nconnection: close\r\n\r\n");
}

/// A peer dies in the middle. The caller must not find an end where there is none.
#[tokio::test]
async fn a_body_that_breaks_off_is_never_ended() {
    for length in [None, Some(100_000)] {
        let (wire, result) = sent(outgoing(length), Script::new(&[&BIG], End::Broken), LIMITS).await;
        assert!(matches!(result, Err(ReplyError::Peer(Broken))), "{result:?}");
        assert!(!wire.ends_with("0\r\n\r\n"));
    }
}

/// A peer dies at once. Nothing was promised yet, and so the caller can be told in words.
#[tokio::test]
async fn a_body_that_breaks_off_at_its_beginning_leaves_the_connection_untouched() {
    let (wire, result) = sent(outgoing(Some(10)), Script::new(&[b"half"], End::Broken), LIMITS).await;
    assert!(matches!(result, Err(ReplyError::Early(Broken))), "{result:?}");
    assert_eq!(wire, "");
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_cut() {
    for frames in [&[&b"hell"[..]][..], &[&b"hello!"[..]]] {
        let (wire, result) = sent(outgoing(Some(5)), Script::new(frames, End::Clean), LIMITS).await;
        assert!(matches!(result, Err(ReplyError::Length { length: 5, .. })), "{result:?}");
        assert!(!wire.ends_with('!'), "{wire}");
    }
}

fn pair(room: usize) -> (LocalConnection<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(room);
    (LocalConnection::new(near), far)
}

/// The caller closes while the peer is silent: whoever waits for the peer learns of it at once.
#[tokio::test]
async fn a_caller_that_goes_away_ends_a_silent_body() {
    let (mut connection, far) = pair(1024);
    let mut body = Box::pin(Script::new(&[b"x"], End::Never));
    let gone = async { drop(far) };
    let (result, ()) = tokio::join!(send(&mut connection, outgoing(None), body.as_mut(), LIMITS), gone);
    assert!(matches!(result, Err(ReplyError::CallerGone)), "{result:?}");
}

/// The caller stays, and reads nothing: it may hold its connection for a while, not for ever.
#[tokio::test(start_paused = true)]
async fn a_caller_that_never_reads_is_cut_off() {
    let (mut connection, _far) = pair(16);
    let mut body = Box::pin(Script::new(&[b"x"], End::Clean));
    let result = send(&mut connection, outgoing(None), body.as_mut(), LIMITS).await;
    assert!(matches!(result, Err(ReplyError::CallerStalled)), "{result:?}");
}

#[tokio::test]
async fn gathering_stops_when_there_is_enough_or_all() {
    let mut gathered = Gathered::default();
    let mut body = Box::pin(Script::new(&[b"ab", b"cd", b"ef"], End::Clean));
    gather(body.as_mut(), &mut gathered, |bytes| bytes.len() >= 3).await.unwrap();
    assert_eq!((&gathered.bytes[..], gathered.ended), (&b"abcd"[..], false));
    gather(body.as_mut(), &mut gathered, |_| false).await.unwrap();
    assert_eq!((&gathered.bytes[..], gathered.ended), (&b"abcdef"[..], true));
}

/// Bytes after the request are nothing that this connection serves.
#[tokio::test]
async fn a_second_request_on_the_connection_is_surplus() {
    let (mut connection, mut far) = pair(1024);
    far.write_all(b"\r\nGET").await.unwrap();
    assert!(matches!(connection.gone().await, ReadError::Surplus));
}
