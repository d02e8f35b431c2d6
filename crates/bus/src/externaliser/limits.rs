//! The bounds and paces of the Federation Side Bus.

use std::time::Duration;

use southbridge_policy::budget::BudgetLimits;
use southbridge_policy::limits::InvalidLimit;

use crate::queue::QueueLimits;

/// Bounds and paces of the Externaliser. Counts are counts, sizes bytes; each field says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternaliserLimits {
    /// Those of each destination's queue.
    pub queue: QueueLimits,
    /// Whether somebody else puts items into the streams of our own destinations (a homeserver whose database is
    /// the outbox). Then nothing is sent straight from memory: every queue reads its items back, so that it misses none
    /// of theirs. Default false: the outboxes in `stores` have one writer for a stream.
    pub outbox_shared: bool,
    /// Destinations of one item. Default 100,000: ten times the largest rooms.
    pub destinations_max: usize,
    /// Items that wait to be written. Default 4096: two seconds of a busy server.
    pub accepting_max: usize,
    /// Bytes of items that wait to be written. Default 32 MiB.
    pub accepting_bytes_max: usize,
    /// Items in one write. Default 1024: enough to share a sync, and no write lasts long.
    pub write_items_max: usize,
    /// Marks in one write. Default 4096.
    pub write_marks_max: usize,
    /// Bytes of items in one write, but for the first. Default 8 MiB.
    pub write_bytes_max: usize,
    /// How long an item waits for an outbox that does not answer before it is refused. Default 10 s: its caller
    /// still has it, and a caller's patience is about that.
    pub accepting_patience: Duration,
    /// How long the outbox is left alone after it was full or did not answer; doubles up to a minute. Default 1 s.
    pub outbox_retry: Duration,
    /// Transactions asked for or under way. Default 4096: as many as the pool has connections. At most a quarter of them
    /// for the sake of volatile EDUs alone.
    pub sends_max: usize,
    /// How many of those for hosts that did not answer last time, or were never asked. Default 1536: three
    /// eighths, so that dead hosts cannot hold what live ones could use, and a cold start still fills the pool's
    /// places for dials.
    pub doubtful_sends_max: usize,
    /// How many of those for backlogs. Default 256: each holds a page of items in memory, and live traffic keeps
    /// the rest.
    pub catch_up_sends_max: usize,
    /// Bytes of items in memory, of all queues; beyond that a queue remembers only how far its items go and reads
    /// them back. Default 64 MiB.
    pub memory_bytes_max: usize,
    /// Bytes of volatile EDUs that wait, of all queues, as if nothing were shared; beyond that they are dropped
    /// (presence first, then the oldest). Default 256 MiB: some million parts of about 30 bytes each in truth, for
    /// destinations share what they say.
    pub volatile_bytes_max: usize,
    /// How many destinations are given a volatile EDU in a second, each counted for each of its parts. Default 400,000: an
    /// eighth of the I/O thread. What is beyond that waits and is collapsed.
    pub spreads_per_second: u32,
    /// How many transactions a second may begin for the sake of volatile EDUs alone. Default 1,000: an eighth of the I/O
    /// thread. The fewer begin, the more of them share one.
    pub volatile_sends_per_second: u32,
    /// Destinations without a queue of which something is remembered (a smaller byte limit, or that they answered
    /// last time). Default 50,000, at some 60 bytes each.
    pub remembered_max: usize,
    /// First contacts a second after a start. Default 500: ten thousand destinations within 20 s, no herd.
    pub first_contacts_per_second: u32,
    /// What retries may add to the traffic. Default: 20 %, or ten a second, counted over 2 s, so that they do not
    /// come in bursts.
    pub retries: BudgetLimits,
    /// Queries under way. Default 10,000.
    pub queries_max: usize,
    /// Queries under way for one destination. Default 300: the kernel admits 512 requests to one service, but a
    /// transaction that catches up only while there are fewer than 307, and a live one while there are fewer than 460.
    /// However many questions wait for a host, its transactions go out.
    pub queries_per_destination_max: usize,
    /// How long one attempt of a query may take. Default 60 s, as Synapse.
    pub query_attempt_max: Duration,
    /// The wait before a query is tried again; doubles. Default 500 ms.
    pub query_retry_first: Duration,
    /// The longest such wait. Default 30 s.
    pub query_retry_max: Duration,
}

impl Default for ExternaliserLimits {
    fn default() -> Self {
        Self {
            queue: QueueLimits::default(),
            outbox_shared: false,
            destinations_max: 100_000,
            accepting_max: 4096,
            accepting_bytes_max: 32 * 1024 * 1024,
            write_items_max: 1024,
            write_marks_max: 4096,
            write_bytes_max: 8 * 1024 * 1024,
            accepting_patience: Duration::from_secs(10),
            outbox_retry: Duration::from_secs(1),
            sends_max: 4096,
            doubtful_sends_max: 1536,
            catch_up_sends_max: 256,
            memory_bytes_max: 64 * 1024 * 1024,
            volatile_bytes_max: 256 * 1024 * 1024,
            spreads_per_second: 400_000,
            volatile_sends_per_second: 1_000,
            remembered_max: 50_000,
            first_contacts_per_second: 500,
            retries: BudgetLimits { window: Duration::from_secs(2), ..BudgetLimits::default() },
            queries_max: 10_000,
            queries_per_destination_max: 300,
            query_attempt_max: Duration::from_secs(60),
            query_retry_first: Duration::from_millis(500),
            query_retry_max: Duration::from_secs(30),
        }
    }
}

impl ExternaliserLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        self.queue.validate()?;
        self.retries.validate()?;
        for (field, value) in self.counts() {
            unless(value > 0, field, "must be more than zero")?;
        }
        let parts = [
            (self.doubtful_sends_max, "doubtful_sends_max"),
            (self.catch_up_sends_max, "catch_up_sends_max"),
        ];
        for (part, field) in parts {
            unless(part <= self.sends_max, field, "must be at most sends_max")?;
        }
        unless(!self.outbox_retry.is_zero(), "outbox_retry", "must be more than zero")?;
        unless(!self.query_retry_first.is_zero(), "query_retry_first", "must be more than zero")?;
        let (first, most) = (self.query_retry_first, self.query_retry_max);
        unless(first <= most, "query_retry_max", "must be at least query_retry_first")
    }

    fn counts(&self) -> [(&'static str, usize); 16] {
        [
            ("destinations_max", self.destinations_max),
            ("accepting_max", self.accepting_max),
            ("accepting_bytes_max", self.accepting_bytes_max),
            ("write_items_max", self.write_items_max),
            ("write_marks_max", self.write_marks_max),
            ("write_bytes_max", self.write_bytes_max),
            ("sends_max", self.sends_max),
            ("doubtful_sends_max", self.doubtful_sends_max),
            ("catch_up_sends_max", self.catch_up_sends_max),
            ("memory_bytes_max", self.memory_bytes_max),
            ("volatile_bytes_max", self.volatile_bytes_max),
            ("spreads_per_second", self.spreads_per_second as usize),
            ("volatile_sends_per_second", self.volatile_sends_per_second as usize),
            ("first_contacts_per_second", self.first_contacts_per_second as usize),
            ("queries_max", self.queries_max),
            ("queries_per_destination_max", self.queries_per_destination_max),
        ]
    }
}

pub(crate) const fn unless(
    holds: bool,
    field: &'static str,
    problem: &'static str,
) -> Result<(), InvalidLimit> {
    if holds { Ok(()) } else { Err(InvalidLimit { field, problem }) }
}

#[cfg(test)]
mod tests {
    use southbridge_policy::admission::{Admission, AdmissionLimits};
    use southbridge_words::{Class, ServiceName, Ticket};

    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(ExternaliserLimits::default().validate(), Ok(()));
    }

    /// Questions of the most urgent class, as many as there may be: a transaction of the least urgent is admitted.
    #[test]
    fn questions_leave_room_for_transactions() {
        let mut admission = Admission::new(AdmissionLimits::default(), 1);
        let host = ServiceName::new("b.example");
        let questions = ExternaliserLimits::default().queries_per_destination_max as u64;
        for ticket in 1..=questions {
            admission.handle_request(Ticket(ticket), &host, Class::Interactive, 0).expect("there is room");
        }
        let transaction = Ticket(questions + 1);
        assert_eq!(admission.handle_request(transaction, &host, Class::Backfill, 0), Ok(()));
    }

    #[test]
    fn a_part_is_not_more_than_the_whole() {
        let limits = ExternaliserLimits { sends_max: 10, ..ExternaliserLimits::default() };
        assert_eq!(limits.validate().unwrap_err().field, "doubtful_sends_max");
    }
}
