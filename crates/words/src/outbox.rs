//! The words of the outbox: what is accepted, where it stands, how far each destination has come.
//!
//! Every durable item (a PDU, or an EDU that must not be lost) stands at one position of one stream; a
//! destination sees those of them that are for it, in that order. What has been delivered to it is
//! therefore one cursor.
//!
//! # Units
//! Positions count accepted items from 1; zero is before the first. Times are wall-clock.
//!
//! # Source
//! F7, F15, F16; DESIGN decisions 7 and 8.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::{ServerName, WallTime};

/// Where an item stands: those accepted later stand higher. Never used twice in one outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

impl Seq {
    /// Before every item.
    pub const START: Self = Self(0);
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// What an item is, and so where in a transaction it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ItemKind {
    /// A PDU, as the raw bytes it was signed as.
    Pdu,
    /// An EDU that must not be lost, as the JSON object that goes into the transaction.
    Edu,
}

/// One durable item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it stands.
    pub seq: Seq,
    /// What it is.
    pub kind: ItemKind,
    /// Its JSON, never re-serialised.
    pub bytes: Bytes,
    /// When it was accepted.
    pub accepted_at: WallTime,
}

/// An item to be accepted, for all its destinations at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// What it is.
    pub kind: ItemKind,
    /// Its JSON.
    pub bytes: Bytes,
    /// For whom; each once, at least one. Rooms repeat their sets: stores keep each set once.
    pub destinations: Arc<[ServerName]>,
    /// When it was handed in.
    pub accepted_at: WallTime,
    /// The caller's name for this item, if it may hand it in again: the second time it is known and not
    /// accepted anew (faults row 24).
    pub key: Option<Arc<str>>,
}

/// What became of an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It stands here now, durably.
    New(Seq),
    /// Its key was accepted before, and it stands or stood here. Nothing was added.
    Known(Seq),
}

/// A transaction that was begun and whose 200 has not been seen: it must be sent again as it was (F16).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its id.
    pub id: Arc<str>,
    /// Its `origin_server_ts`.
    pub origin_server_ts: WallTime,
    /// It holds every durable item for its destination after the cursor and up to here.
    pub upto: Seq,
    /// The EDUs in it that are not items, as JSON objects separated by commas; may be empty.
    pub volatile_edus: Bytes,
    /// A hash of its body, to notice if it could not be rendered again as it was.
    pub body_hash: u64,
}

/// Something to remember of one destination's progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A transaction is about to be sent for the first time.
    Begun {
        /// To whom.
        destination: ServerName,
        /// Which.
        transaction: OpenTransaction,
    },
    /// Everything up to `upto` was delivered; no transaction is open.
    Delivered {
        /// To whom.
        destination: ServerName,
        /// The new cursor.
        upto: Seq,
    },
    /// The open transaction was surely not processed and will be cut into smaller ones.
    Withdrawn {
        /// Whose.
        destination: ServerName,
    },
    /// Everything up to `upto` is given up, by an operator's order or a retention limit.
    Dropped {
        /// For whom.
        destination: ServerName,
        /// The new cursor.
        upto: Seq,
    },
}

impl Mark {
    /// Whose progress it is.
    pub const fn destination(&self) -> &ServerName {
        match self {
            Self::Begun { destination, .. }
            | Self::Delivered { destination, .. }
            | Self::Withdrawn { destination }
            | Self::Dropped { destination, .. } => destination,
        }
    }
}

/// How one destination stands, as far as it has something to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Who.
    pub destination: ServerName,
    /// Everything up to here was delivered.
    pub delivered: Seq,
    /// The last item for it.
    pub last: Seq,
    /// The transaction that was under way, if one was.
    pub open: Option<OpenTransaction>,
}

/// What an outbox held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The destinations that something is to be sent to, of the partitions owned.
    pub backlogs: Vec<Backlog>,
    /// The destinations that are ours to serve.
    pub owned: Partitions,
}

/// A part of one destination's stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Items in order.
    pub items: Vec<Item>,
    /// Whether there are more after them.
    pub more: bool,
}

/// What changed in an outbox without its user's doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Destinations with something to be sent that became ours, or for which another process accepted
    /// something.
    pub backlogs: Vec<Backlog>,
    /// Which destinations are ours now, if that changed. Work for others must stop at once.
    pub owned: Option<Partitions>,
    /// What was given up at a retention limit.
    pub expired: Vec<Expired>,
}

/// What a retention limit cost one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// Who will not get it.
    pub destination: ServerName,
    /// Everything up to here is given up.
    pub upto: Seq,
    /// How many items that were.
    pub items: u64,
}

/// A share of all destinations, the unit in which several Southbridges split them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(u8);

impl Partition {
    /// How many there are.
    pub const COUNT: usize = 256;

    /// The partition of `destination`: the same in every process and version.
    pub fn of(destination: &ServerName) -> Self {
        // FNV-1a (draft-eastlake-fnv), folded: stable, and good enough to split names by.
        let hash = destination
            .as_str()
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [a, b, c, d] = hash.to_le_bytes();
        Self(a ^ b ^ c ^ d)
    }

    /// The partition with this number.
    pub const fn new(number: u8) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }
}

/// A set of partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions([u64; 4]);

impl Partitions {
    /// Every one: the outbox has one user.
    pub const ALL: Self = Self([u64::MAX; 4]);
    /// None.
    pub const NONE: Self = Self([0; 4]);

    /// Whether `partition` is one of them.
    pub const fn contains(&self, partition: Partition) -> bool {
        self.0[partition.0 as usize / 64] >> (partition.0 % 64) & 1 == 1
    }

    /// Whether `destination` falls into one of them.
    pub fn own(&self, destination: &ServerName) -> bool {
        *self == Self::ALL || self.contains(Partition::of(destination))
    }

    /// Adds `partition`.
    pub fn insert(&mut self, partition: Partition) {
        self.0[partition.0 as usize / 64] |= 1 << (partition.0 % 64);
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self::ALL
    }
}

/// Where the truth about the queues lies: our own outbox, or a homeserver's own database that is asked for
/// what is missing and told what was delivered (F16).
///
/// Calls block; whoever drives an outbox runs it on a thread of its own and puts what has gathered
/// meanwhile into one call (group commit).
pub trait Outbox: Send {
    /// What there is to be done, at the start.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be read.
    fn recover(&mut self) -> Result<Recovered, OutboxError>;

    /// Accepts `appends`, in this order, and remembers `marks`: all of it or nothing. On `Ok` all of it
    /// survives a power cut. One answer for each append.
    ///
    /// # Errors
    /// [`OutboxError`]; nothing of it was accepted, and none of it will turn up later.
    fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError>;

    /// The items for `destination` after `after`, at most `items_max` of them and, but for the first, no more
    /// than `bytes_max` bytes.
    ///
    /// # Errors
    /// [`OutboxError`] when they cannot be read, or are not as they were written.
    fn read(
        &mut self,
        destination: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError>;

    /// What is to be done now and then: letting go of what everybody has, retention limits, leases. Bounded:
    /// a fraction of a second.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be done.
    fn upkeep(&mut self, now: WallTime) -> Result<Upkeep, OutboxError>;

    /// What other processes did since it was asked last, and nothing else: for when somebody rings. An outbox with one
    /// user has none.
    ///
    /// # Errors
    /// [`OutboxError`] when it cannot be found out; the next upkeep does.
    fn news(&mut self) -> Result<Upkeep, OutboxError> {
        Ok(Upkeep::default())
    }

    /// Nobody will call any more: the others, if there are any, need not wait for a lease to end.
    ///
    /// # Errors
    /// [`OutboxError`] when they cannot be told. Nothing that was accepted is lost by that.
    fn close(&mut self) -> Result<(), OutboxError> {
        Ok(())
    }
}

/// Why an outbox did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutboxError {
    /// There is no room, on the disk or within the operator's limit: nothing durable is accepted until there is.
    #[error("the outbox is full: {reason}")]
    Full {
        /// Which bound was met, with its number and where it is set.
        reason: String,
    },
    /// It does not answer just now; asking again may help.
    #[error("the outbox cannot be reached: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// What was read is not what was written.
    #[error("the outbox is damaged at {place}: {reason}")]
    Damaged {
        /// Where.
        place: String,
        /// How that was noticed.
        reason: String,
    },
    /// A write or its sync failed: what is on the disk is not known, and this outbox is used no more.
    #[error("the outbox has failed and is used no more: {reason}")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// Another process serves these destinations now.
    #[error("the lease of {partitions} partitions was lost to another process")]
    Fenced {
        /// How many were concerned.
        partitions: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes of different versions must agree on who serves whom.
    #[test]
    fn a_destination_stays_in_its_partition() {
        let of = |name: &str| Partition::of(&ServerName::parse(name).unwrap()).number();
        assert_eq!(of("matrix.org"), of("matrix.org"));
        assert_eq!([of("a.example"), of("b.example:8448"), of("[::1]")], [37, 147, 246]);
    }

    /// Thousand names do not end up in a few partitions.
    #[test]
    fn destinations_spread_over_the_partitions() {
        let mut owned = Partitions::NONE;
        for number in 0..2000 {
            owned.insert(Partition::of(&ServerName::parse(&format!("s{number}.example")).unwrap()));
        }
        assert!(owned.count() > 240, "{} of 256", owned.count());
    }
}
