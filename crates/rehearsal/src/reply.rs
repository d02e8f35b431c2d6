//! What a peer does with one request.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use southbridge_testkit::raw::Step;

/// What a peer does with one request. See the methods that put them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply(pub(crate) Script);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// What is to be done is not known yet.
    Held,
    /// In any version of HTTP.
    Deed(Deed),
    /// With the bytes of HTTP/1.1.
    Steps(Vec<Step>),
}

/// What is done with one request, in whichever version of HTTP it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// How long nothing happens at first.
    pub after: Duration,
    /// The head of the answer, if there is one.
    pub head: Option<Head>,
    /// What its body consists of, each piece after a pause.
    pub pieces: Vec<(Duration, Bytes)>,
    /// How it ends.
    pub ending: Ending,
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// 200, and so on: from 100 to 999.
    pub status: u16,
    /// Beside `Content-Length`, which follows from the pieces where it is not among them.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// How a peer's deed ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In good order.
    Whole,
    /// In good order, and then the connection is closed without having said so.
    ThenClose,
    /// The connection is closed, whatever was promised.
    Cut,
    /// The connection is reset; over HTTP/2, the stream.
    Reset,
    /// It does not end: nothing more comes, for as long as the other side likes to wait.
    Never,
}

impl Reply {
    /// An answer with this status, these headers beside `Content-Length`, and this body.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let head = Head { status, headers: headers.collect() };
        Self::answer(head, vec![(Duration::ZERO, body.into())])
    }

    /// JSON with this status.
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status, &[("content-type", "application/json")], body.to_owned())
    }

    /// 200, and a body that comes `piece` bytes at a time with a `pause` after each.
    pub fn drip(body: impl Into<Bytes>, piece: usize, pause: Duration) -> Self {
        let body: Bytes = body.into();
        let mut pieces: Vec<_> =
            body.chunks(piece.max(1)).map(|piece| (pause, body.slice_ref(piece))).collect();
        if let Some(first) = pieces.first_mut() {
            first.0 = Duration::ZERO;
            pieces.push((pause, Bytes::new()));
        }
        Self::answer(Head { status: 200, headers: Vec::new() }, pieces)
    }

    /// The connection is reset.
    pub fn reset() -> Self {
        Self::silence(Ending::Reset)
    }

    /// The connection is closed in good order, without a word.
    pub fn close() -> Self {
        Self::silence(Ending::Cut)
    }

    /// Nothing comes, for as long as the other side likes to wait.
    pub fn never() -> Self {
        Self::silence(Ending::Never)
    }

    /// Nothing comes until the test says what: see [`Peer::release`](crate::Peer::release).
    pub fn held() -> Self {
        Self(Script::Held)
    }

    /// Whatever else there is to be done with bytes, over HTTP/1.1 alone.
    pub fn steps(steps: Vec<Step>) -> Self {
        Self(Script::Steps(steps))
    }

    /// The same, after so long a time.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        match &mut self.0 {
            Script::Held => {}
            Script::Deed(deed) => deed.after += pause,
            Script::Steps(steps) => steps.insert(0, Step::Pause(pause)),
        }
        self
    }

    /// The same, and then the connection is closed without having said so: the next request on it is in vain.
    #[must_use]
    pub fn then_close(mut self) -> Self {
        match &mut self.0 {
            Script::Held => {}
            Script::Deed(deed) => deed.ending = Ending::ThenClose,
            Script::Steps(steps) => steps.push(Step::Close),
        }
        self
    }

    fn answer(head: Head, pieces: Vec<(Duration, Bytes)>) -> Self {
        Deed { after: Duration::ZERO, head: Some(head), pieces, ending: Ending::Whole }.into()
    }

    fn silence(ending: Ending) -> Self {
        Deed { after: Duration::ZERO, head: None, pieces: Vec::new(), ending }.into()
    }
}

impl From<Deed> for Reply {
    fn from(deed: Deed) -> Self {
        Self(Script::Deed(deed))
    }
}

impl Deed {
    /// The bytes of HTTP/1.1, in answer to a request by `method`.
    pub(crate) fn steps(&self, method: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let pause = |pause: Duration, steps: &mut Vec<Step>| {
            if !pause.is_zero() {
                steps.push(Step::Pause(pause));
            }
        };
        pause(self.after, &mut steps);
        if let Some(head) = &self.head {
            let mut ahead = head.bytes(self.bytes());
            let has_body = head.has_body(method);
            for (after, piece) in self.pieces.iter().filter(|_| has_body) {
                if after.is_zero() {
                    ahead.extend_from_slice(piece);
                    continue;
                }
                write(&mut ahead, &mut steps);
                pause(*after, &mut steps);
                ahead.extend_from_slice(piece);
            }
            write(&mut ahead, &mut steps);
        }
        match self.ending {
            Ending::Whole => {}
            Ending::ThenClose | Ending::Cut => steps.push(Step::Close),
            Ending::Reset => steps.push(Step::Reset),
            Ending::Never => steps.push(Step::Stall),
        }
        steps
    }

    /// How long the body is.
    pub(crate) fn bytes(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| piece.len()).sum()
    }
}

fn write(ahead: &mut Vec<u8>, steps: &mut Vec<Step>) {
    if !ahead.is_empty() {
        steps.push(Step::Write(std::mem::take(ahead).into()));
    }
}

impl Head {
    /// Whether an answer to a request by `method` has a body (RFC 9110 §6.4.1).
    pub(crate) fn has_body(&self, method: &str) -> bool {
        method != "HEAD" && !matches!(self.status, 100..=199 | 204 | 304)
    }

    /// Whether `Content-Length` is to be added.
    pub(crate) fn wants_length(&self) -> bool {
        let frames = |name: &str| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        };
        !matches!(self.status, 100..=199 | 204 | 304) && !self.headers.iter().any(|(name, _)| frames(name))
    }

    fn bytes(&self, length: usize) -> Vec<u8> {
        let reason = StatusCode::from_u16(self.status).ok().and_then(|status| status.canonical_reason());
        let mut bytes = format!("HTTP/1.1 {} {}\r\n", self.status, reason.unwrap_or("Unknown")).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if self.wants_length() {
            bytes.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A deed is written out as HTTP/1.1 wants it: a body only where there may be one, and pauses where they belong.
    #[test]
    fn deeds_become_bytes() {
        let text = |reply: &Reply, method: &str| {
            let Script::Deed(deed) = &reply.0 else { panic!("it is a deed") };
            deed.steps(method)
        };
        let well = Reply::new(200, &[("a", "b")], "body");
        let whole = Step::write("HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n\r\nbody");
        assert_eq!(text(&well, "GET"), std::slice::from_ref(&whole));
        assert_eq!(text(&well.clone().after(SECOND), "GET"), [Step::Pause(SECOND), whole]);
        let head = Step::write("HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 4\r\n\r\n");
        assert_eq!(text(&well, "HEAD"), [head]);
        assert_eq!(text(&Reply::new(204, &[], "x"), "GET"), [Step::write("HTTP/1.1 204 No Content\r\n\r\n")]);
        let drip = [
            Step::write("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab"),
            Step::Pause(SECOND),
            Step::write("c"),
            Step::Pause(SECOND),
        ];
        assert_eq!(text(&Reply::drip("abc", 2, SECOND), "GET"), drip);
        assert_eq!(text(&Reply::reset(), "GET"), [Step::Reset]);
        let lie = Reply::new(200, &[("Content-Length", "9")], "x").then_close();
        let lie = text(&lie, "GET");
        assert_eq!(lie, [Step::write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"), Step::Close]);
    }
}
