//! Why something was not accepted.

/// Why something was not accepted. Nothing of it is kept; whoever handed it in still has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// There is nobody to send it to.
    #[error("it has no destination")]
    NoDestination,
    /// There are more destinations than a set may have.
    #[error("it has {count} destinations, the most is {count_max}")]
    TooManyDestinations {
        /// How many it has.
        count: usize,
        /// The most that are taken.
        count_max: usize,
    },
    /// The item alone is larger than a transaction may be.
    #[error("it has {bytes} bytes, the most is {bytes_max}")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// The most that are taken.
        bytes_max: usize,
    },
    /// More waits to be written to the outbox than may.
    #[error(
        "{waiting} items ({bytes} bytes) wait to be written already, the most is {waiting_max} ({bytes_max} bytes)"
    )]
    Overloaded {
        /// Items that wait.
        waiting: usize,
        /// The most that may.
        waiting_max: usize,
        /// Bytes that wait.
        bytes: usize,
        /// The most that may.
        bytes_max: usize,
    },
    /// The query cannot be asked.
    #[error("the query cannot be asked: {reason}")]
    InvalidQuery {
        /// What is wrong with it.
        reason: String,
    },
    /// More queries are under way than may be.
    #[error("{under_way} queries are under way {scope} already, the most is {under_way_max}")]
    TooManyQueries {
        /// `"in all"` or `"for this destination"`.
        scope: &'static str,
        /// How many are.
        under_way: usize,
        /// The most that may be.
        under_way_max: usize,
    },
    /// There is no room in the outbox. Volatile traffic goes on.
    #[error("the outbox is full: {reason}")]
    OutboxFull {
        /// What it said.
        reason: String,
    },
    /// The outbox did not answer for as long as an item may wait for it.
    #[error("the outbox cannot be reached: {reason}")]
    OutboxUnavailable {
        /// What it said.
        reason: String,
    },
    /// The outbox has failed or is damaged, and takes nothing more in this process. Volatile traffic goes on.
    #[error("the outbox takes nothing more: {reason}")]
    OutboxFailed {
        /// What it said.
        reason: String,
    },
    /// It was cancelled before it was accepted.
    #[error("it was cancelled")]
    Cancelled,
    /// The bus is being closed.
    #[error("the bus is being closed")]
    Closing,
}
