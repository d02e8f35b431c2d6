//! What went through the door, in numbers that only grow.

use http::StatusCode;
use southbridge_words::{Class, PerClass};

use crate::local_http::Count;

/// The numbers of one Synapse door. They live on the I/O thread.
#[derive(Debug, Default)]
pub struct DoorCounters {
    /// Connections accepted.
    pub connections: Count,
    /// Requests let in, by class.
    pub requests: PerClass<Count>,
    /// Requests kept out for want of the right secret.
    pub denied: Count,
    /// Requests refused for their form: head, target, body.
    pub malformed: Count,
    /// Answers written, by the first digit of their status (2 to 5).
    pub answers: [Count; 4],
    /// Answers of our own making among them.
    pub refusals: Count,
    /// Callers that went away before they had an answer.
    pub gone: Count,
    /// Responses cut off because the peer's body broke off.
    pub cut: Count,
    /// Callers cut off because they did not read.
    pub stalled: Count,
    /// Media redirects followed, hop by hop.
    pub redirects: Count,
    /// Bytes of request bodies taken.
    pub bytes_in: Count,
    /// Bytes of response bodies passed on.
    pub bytes_out: Count,
}

/// The numbers of a door at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the field of DoorCounters that has its name")]
pub struct DoorSnapshot {
    pub connections: u64,
    pub in_progress: u32,
    pub requests: PerClass<u64>,
    pub denied: u64,
    pub malformed: u64,
    pub answers: [u64; 4],
    pub refusals: u64,
    pub gone: u64,
    pub cut: u64,
    pub stalled: u64,
    pub redirects: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl DoorCounters {
    /// Counts an answer with `status`.
    pub fn answered(&self, status: StatusCode) {
        let digit = usize::from(status.as_u16() / 100);
        if let Some(count) = digit.checked_sub(2).and_then(|index| self.answers.get(index)) {
            count.add(1);
        }
    }

    /// All numbers at once; `in_progress` is how many connections are served now.
    pub fn snapshot(&self, in_progress: u32) -> DoorSnapshot {
        let mut requests = PerClass::default();
        for class in Class::ALL {
            requests[class] = self.requests[class].value();
        }
        DoorSnapshot {
            connections: self.connections.value(),
            in_progress,
            requests,
            denied: self.denied.value(),
            malformed: self.malformed.value(),
            answers: std::array::from_fn(|index| self.answers[index].value()),
            refusals: self.refusals.value(),
            gone: self.gone.value(),
            cut: self.cut.value(),
            stalled: self.stalled.value(),
            redirects: self.redirects.value(),
            bytes_in: self.bytes_in.value(),
            bytes_out: self.bytes_out.value(),
        }
    }
}
