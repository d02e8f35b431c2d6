//! Scripts for the faults that have a name.
//!
//! Each reads one request first, unless it says otherwise. Where a list is given, a test can walk it:
//! every member of [`misframed`] must cost the connection, every member of [`endless`] must be cut at a cap.
//!
//! # Source
//! Rows 2, 4, 5, 6, 9 of the fault list; RFC 9112, sections 6 and 11.2; K19.

use std::time::Duration;

use super::Step;

/// A fault's name and its script.
pub type Named = (&'static str, Vec<Step>);

/// Answers every request on a connection with 200 and `{}`.
pub fn well() -> Vec<Step> {
    vec![Step::ReadRequest, Step::write(WELL), Step::Again]
}

/// Reads a request, answers with `response` word for word, and waits for the peer to close.
pub fn answer(response: &str) -> Vec<Step> {
    vec![Step::ReadRequest, Step::write(response), Step::Stall]
}

/// Answers once; closes in good order as soon as the head of the second request has come.
pub fn keep_alive_race() -> Vec<Step> {
    vec![Step::ReadRequest, Step::write(WELL), Step::ReadHead, Step::Close]
}

/// The same with a reset.
pub fn keep_alive_reset() -> Vec<Step> {
    vec![Step::ReadRequest, Step::write(WELL), Step::ReadHead, Step::Reset]
}

/// Answers once, and closes at once without a `Connection: close`: an idle connection that died.
pub fn close_when_idle() -> Vec<Step> {
    vec![Step::ReadRequest, Step::write(WELL), Step::Close]
}

/// Responses whose framing is ambiguous, early or surplus: the connection must never be used again.
pub fn misframed() -> Vec<Named> {
    let mut all: Vec<Named> = MISFRAMED.iter().map(|(name, response)| (*name, answer(response))).collect();
    all.push((
        "response before the end of the request",
        vec![Step::ReadHead, Step::write(WELL), Step::Stall],
    ));
    all.push(("response before any request", vec![Step::write(WELL), Step::ReadRequest, Step::Stall]));
    all
}

/// Answers that never end, each up to `bytes_max` bytes.
pub fn endless(bytes_max: u64) -> Vec<Named> {
    let on = |start: &str, unit: &'static str| {
        let unit = bytes::Bytes::from_static(unit.as_bytes());
        vec![Step::ReadRequest, Step::write(start), Step::Endless { unit, bytes_max }, Step::Stall]
    };
    vec![
        ("interim responses", on("", "HTTP/1.1 102 Processing\r\n\r\n")),
        ("header lines", on("HTTP/1.1 200 OK\r\n", "X-More: and more and more\r\n")),
        ("one header line", on("HTTP/1.1 200 OK\r\nX-Long: ", "and more ")),
        ("status line", on("HTTP/1.1 200 ", "very OK ")),
        ("chunk extension", on(&chunked("1;x="), "xxxxxxxx")),
        ("chunks of one byte", on(&chunked(""), "1\r\nx\r\n")),
        ("trailers", on(&chunked("0\r\n"), "X-More: and more and more\r\n")),
        ("chunked body", on(&chunked(""), "10\r\n0123456789abcdef\r\n")),
        ("body until close", on("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "0123456789abcdef")),
    ]
}

/// Bodies that end before their framing says so, in every way a connection can end.
pub fn cut_off() -> Vec<Named> {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n0123456789";
    let chunks = chunked("a\r\n0123456789\r\n");
    let end = |start: &str, ending| vec![Step::ReadRequest, Step::write(start), ending];
    vec![
        ("close within a length", end(length, Step::Close)),
        ("reset within a length", end(length, Step::Reset)),
        ("truncation within a length", end(length, Step::Drop)),
        ("close within chunks", end(&chunks, Step::Close)),
        ("truncation within chunks", end(&chunks, Step::Drop)),
        ("close within the head", end("HTTP/1.1 200 OK\r\nContent-Le", Step::Close)),
        ("close before the head", vec![Step::ReadRequest, Step::Close]),
        ("reset before the head", vec![Step::ReadRequest, Step::Reset]),
    ]
}

/// 200 with so long a body, `piece` bytes every `pause`: a slow loris with manners.
pub fn drip(body_bytes: usize, piece: usize, pause: Duration) -> Vec<Step> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body_bytes}\r\n\r\n");
    let bytes = vec![b'x'; body_bytes].into();
    vec![Step::ReadRequest, Step::write(head), Step::WriteSlowly { bytes, piece, pause }, Step::Stall]
}

/// A healthy answer whose head comes one byte at a time.
pub fn drip_head(pause: Duration) -> Vec<Step> {
    let bytes = bytes::Bytes::from_static(WELL.as_bytes());
    vec![Step::ReadRequest, Step::WriteSlowly { bytes, piece: 1, pause }, Step::Stall]
}

fn chunked(rest: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{rest}")
}

const WELL: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

const MISFRAMED: &[(&str, &str)] = &[
    (
        "content-length and chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    ("two content-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "),
    ("a list of content-lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{} "),
    ("a signed content-length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"),
    ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\n\n{}"),
    ("a folded header", "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}"),
    ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}"),
    ("a bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n"),
    (
        "a huge chunk size",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    ),
    (
        "an unknown coding",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ),
    ("a body on 204", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}"),
    ("a body on 304", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}"),
    ("chunks on 304", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    (
        "an early second response",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ),
    ("surplus bytes", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}surplus"),
    ("no HTTP at all", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
];
