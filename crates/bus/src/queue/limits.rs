//! The bounds and paces of one queue.

use std::time::Duration;

use southbridge_policy::limits::InvalidLimit;

use crate::edus::EduLimits;
use crate::externaliser::unless;

/// Bounds and paces of one destination's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Durable items in memory, of one destination. Default 100: two transactions; the rest is read back.
    pub items_max: usize,
    /// Items read back at once. Default 50: one transaction of PDUs, so that hardly any of a page is read twice.
    pub page_items: usize,
    /// Bytes read back at once, but for the first item. Default 512 KiB.
    pub page_bytes: usize,
    /// How much that is volatile waits, and how long.
    pub edus: EduLimits,
    /// Bytes of volatile EDUs, as if each part were alone, that go along with items. Default 4 KiB: what a message costs
    /// itself, and twenty of its EDUs. If more wait, none of them goes along: the message goes out without delay, as
    /// the same bytes to everybody, and the EDUs with the next transaction.
    pub along_bytes_max: usize,
    /// The size of a transaction's body. Default 1 MiB: hosts behind a CDN answer larger ones with 520
    /// (synapse #17035).
    pub transaction_bytes_max: usize,
    /// How small that may become for a host that answers 413 or 520. Default 32 KiB; a larger single item goes alone.
    pub transaction_bytes_min: usize,
    /// How long a transaction may take, from asking for a connection to the head of the response. Default
    /// 90 s: Synapse's 60 s, and half as much for waiting on our side.
    pub send_timeout: Duration,
    /// From what age on items are history and no longer live traffic. Default 5 min.
    pub live_age: Duration,
    /// The wait after a first failure, 5xx or 429 without `Retry-After`; doubles. Default 1 s.
    pub failure_first: Duration,
    /// The longest such wait. Default 5 min: what hosts are down for longer, the ranker says.
    pub failure_max: Duration,
    /// The most that is honoured of a `Retry-After`, or of what the ranker says. Default 1 h.
    pub retry_after_max: Duration,
    /// The wait after a first 401, 403, 404 or the like; doubles. Default 1 min: our key may not be known yet.
    pub unwelcome_first: Duration,
    /// The longest such wait. Default 6 h (synapse #16101: millions of log lines after a 401).
    pub unwelcome_max: Duration,
    /// The wait after a 410. Default 7 days; whatever is heard from the host ends it.
    pub gone: Duration,
    /// How often wake-ups can end a wait. Default every 5 s: a host may speak to us all the time and not listen.
    pub wake_every: Duration,
    /// From what wait on nothing is held in memory meanwhile. Default 5 s.
    pub hold_max: Duration,
    /// How long a host may have been out of reach before volatile EDUs for it are not taken any more. Default
    /// 5 min: typing and presence are long stale.
    pub volatile_patience: Duration,
    /// How often the same transaction is sent to a host that answers 400 or 520 before it is cut into smaller
    /// ones, and a single item before it is given up. Default 3.
    pub rejections_max: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            items_max: 100,
            page_items: 50,
            page_bytes: 512 * 1024,
            along_bytes_max: 4 * 1024,
            edus: EduLimits::default(),
            transaction_bytes_max: 1024 * 1024,
            transaction_bytes_min: 32 * 1024,
            send_timeout: Duration::from_secs(90),
            live_age: Duration::from_secs(300),
            failure_first: Duration::from_secs(1),
            failure_max: Duration::from_secs(300),
            retry_after_max: Duration::from_secs(3600),
            unwelcome_first: Duration::from_secs(60),
            unwelcome_max: Duration::from_secs(6 * 3600),
            gone: Duration::from_secs(7 * 24 * 3600),
            wake_every: Duration::from_secs(5),
            hold_max: Duration::from_secs(5),
            volatile_patience: Duration::from_secs(300),
            rejections_max: 3,
        }
    }
}

impl QueueLimits {
    /// Checks the limits.
    ///
    /// # Errors
    /// The first limit that makes no sense.
    pub fn validate(&self) -> Result<(), InvalidLimit> {
        let positive = "must be more than zero";
        unless(self.items_max > 0, "items_max", positive)?;
        unless(self.page_items > 0, "page_items", positive)?;
        unless(self.page_bytes > 0, "page_bytes", positive)?;
        unless(self.transaction_bytes_min >= 1024, "transaction_bytes_min", "must be at least 1024")?;
        let (least, most) = (self.transaction_bytes_min, self.transaction_bytes_max);
        unless(least <= most, "transaction_bytes_max", "must be at least transaction_bytes_min")?;
        unless(!self.send_timeout.is_zero(), "send_timeout", positive)?;
        unless(!self.failure_first.is_zero(), "failure_first", positive)?;
        let (first, longest) = (self.failure_first, self.failure_max);
        unless(first <= longest, "failure_max", "must be at least failure_first")?;
        unless(!self.unwelcome_first.is_zero(), "unwelcome_first", positive)?;
        let (first, longest) = (self.unwelcome_first, self.unwelcome_max);
        unless(first <= longest, "unwelcome_max", "must be at least unwelcome_first")?;
        unless(self.rejections_max > 0, "rejections_max", positive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(QueueLimits::default().validate(), Ok(()));
    }

    #[test]
    fn a_wait_that_cannot_grow_is_refused() {
        let limits = QueueLimits { failure_max: Duration::ZERO, ..QueueLimits::default() };
        assert_eq!(limits.validate().unwrap_err().field, "failure_max");
    }
}
