//! What a peer does with one request.

use std::time::Duration;

use bytes::Bytes;
use southbridge_testkit::raw::Step;

/// What a peer does with one request. See the methods that put them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    steps: Vec<Step>,
    is_held: bool,
}

impl Reply {
    /// An answer with this status, these headers beside `Content-Length`, and this body.
    pub fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut head = head(status, headers);
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut whole = head.into_bytes();
        whole.extend_from_slice(&body);
        Self::steps(vec![Step::Write(whole.into())])
    }

    /// JSON with this status.
    pub fn json(status: u16, body: &str) -> Self {
        Self::new(status, &[("content-type", "application/json")], body.to_owned())
    }

    /// 200, and a body that comes `piece` bytes at a time with a `pause` after each.
    pub fn drip(body: impl Into<Bytes>, piece: usize, pause: Duration) -> Self {
        let bytes = body.into();
        let head = format!("{}content-length: {}\r\n\r\n", head(200, &[]), bytes.len());
        Self::steps(vec![Step::write(head), Step::WriteSlowly { bytes, piece, pause }])
    }

    /// The connection is reset.
    pub fn reset() -> Self {
        Self::steps(vec![Step::Reset])
    }

    /// The connection is closed in good order, without a word.
    pub fn close() -> Self {
        Self::steps(vec![Step::Close])
    }

    /// Nothing comes, for as long as the other side likes to wait.
    pub fn never() -> Self {
        Self::steps(vec![Step::Stall])
    }

    /// Nothing comes until the test says what: see [`Peer::release`](crate::Peer::release).
    pub fn held() -> Self {
        Self { steps: Vec::new(), is_held: true }
    }

    /// Whatever else there is to be done with bytes.
    pub fn steps(steps: Vec<Step>) -> Self {
        Self { steps, is_held: false }
    }

    /// The same, after so long a time.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.steps.insert(0, Step::Pause(pause));
        self
    }

    /// The same, and then the connection is closed without having said so: the next request on it is in vain.
    #[must_use]
    pub fn then_close(mut self) -> Self {
        self.steps.push(Step::Close);
        self
    }

    pub(crate) fn parts(&self) -> (&[Step], bool) {
        (&self.steps, self.is_held)
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Unknown"));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}
