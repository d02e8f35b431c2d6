//! What the door asks of a bus.
//!
//! There are two: the Federation Side Bus, and one whose answers are written down, by which the door is tested without
//! a federation (full outboxes, gaps, questions that nobody answers).

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use southbridge_words::ServerName;

use super::checks::Check;
use super::failure::Failure;
use super::question::Question;
use super::submission::Submission;
use super::views::{Acknowledged, KeyRow, LostRow, QueryFailure, QueueRow, ResultLine, Verdict};

/// A bus on the I/O thread. Cheap to clone; all clones are one.
pub trait BusApi: Clone + 'static {
    /// Takes a submission when the future is first polled, in that order; ends when it is accepted or refused.
    fn send(&self, submission: Submission) -> impl Future<Output = Result<Acknowledged, Failure>>;

    /// Asks one homeserver. Dropping the future gives the question up.
    fn query(&self, question: Question) -> impl Future<Output = Result<Bytes, QueryFailure>>;

    /// Checks what somebody signed.
    fn verify(&self, check: &Check<'_>, timeout: Duration) -> impl Future<Output = Result<Verdict, Failure>>;

    /// The keys of a homeserver, which is asked for them when none is known that is good now.
    fn keys(
        &self,
        server: &ServerName,
        timeout: Duration,
    ) -> impl Future<Output = Result<Vec<KeyRow>, Failure>>;

    /// Forgets the keys of a homeserver; whether anything was known of them.
    fn forget_keys(&self, server: &ServerName) -> bool;

    /// Ends the back-off of a destination.
    fn wake(&self, destination: &ServerName);

    /// How a queue stands; none when there is none.
    fn queue(&self, destination: &ServerName) -> Option<QueueRow>;

    /// At most `max` queues behind `after`, sorted by name.
    fn queues(&self, after: Option<&ServerName>, max: usize) -> Vec<(ServerName, QueueRow)>;

    /// Gives up what waits for a destination.
    fn drop_backlog(&self, destination: &ServerName) -> impl Future<Output = Result<LostRow, Failure>>;

    /// Results behind `from`, or from now on, until the bus ends.
    ///
    /// # Errors
    /// [`Failure`] when `from` is no token.
    fn results(&self, from: Option<&str>) -> Result<Reading, Failure>;
}

/// A reader of results.
pub struct Reading {
    /// Where it begins.
    pub token: String,
    /// What follows.
    pub lines: LocalBoxStream<'static, ResultLine>,
}
