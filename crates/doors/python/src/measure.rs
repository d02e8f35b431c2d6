//! What a completion costs by itself. In the build of `cargo xtask bench --python`, and in no other.
//!
//! `client.get("nothing:")` is a request that no peer is asked for: it crosses to the I/O thread, is a task there, and
//! comes back, by the same port, queues, drain and callbacks as every other.

use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use southbridge::Southbridge;
use southbridge::client::Timing;
use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_words::Ticket;

use crate::seam::{Answer, Failure, Incoming, Port, Request};

/// Whether no peer is to be asked.
pub fn is_nothing(request: &Request) -> bool {
    request.url.scheme() == "nothing"
}

/// Hands `request`, which [`is_nothing`], in at `port`.
///
/// # Errors
/// As any request.
pub fn submit(port: &Port, request: Request) -> Result<Ticket, Failure> {
    Ok(port.submit(Nothing(request))?)
}

struct Nothing(Request);

impl Errand<Southbridge> for Nothing {
    fn start(self: Box<Self>, _desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        line.carry(move |reply| async move { reply.give(Ok(Answer::Response(Box::new(empty(self.0))))) })
    }
}

fn empty(request: Request) -> Incoming {
    Incoming {
        status: StatusCode::NO_CONTENT,
        version: Version::HTTP_11,
        headers: HeaderMap::new(),
        url: request.url,
        history: Vec::new(),
        body: Bytes::new(),
        reason: None,
        decoded: false,
        trailers: None,
        timing: Timing::default(),
    }
}
