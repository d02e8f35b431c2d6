//! What is shown of the bus, as JSON.
//!
//! # Units
//! `…_ms` are milliseconds. A `seq` counts durable items from 1.

use std::collections::BTreeMap;

use serde::Serialize;

/// What became of a submission that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "acknowledgement", rename_all = "snake_case")]
pub enum Acknowledged {
    /// It is in the outbox and survives a power cut.
    Durable {
        /// Where it stands there.
        seq: u64,
    },
    /// It is in memory, may be superseded or shed, and does not survive the process.
    Volatile,
}

/// How the queue of one destination stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueRow {
    /// Whose it is.
    pub destination: String,
    /// What it does just now: one of [`QUEUE_STATES`].
    pub state: &'static str,
    /// Everything up to here was delivered.
    pub delivered: u64,
    /// The last durable item for it.
    pub last: u64,
    /// Durable items not delivered yet, as many as are known of.
    pub items: u64,
    /// Whether there may be more of them than were counted.
    pub at_least: bool,
    /// How many of them are in memory.
    pub held: usize,
    /// Volatile EDUs that wait.
    pub volatile: usize,
    /// The id of the transaction that is under way or to be repeated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// Attempts without success in a row.
    pub failures: u32,
    /// For how long there has been no success, if there were failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_for_ms: Option<u64>,
    /// Why it waits, or has waited last, if the last attempt came to nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// In how long it will be tried again, if it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// The size of a transaction for this host, in bytes.
    pub transaction_bytes_max: usize,
}

impl QueueRow {
    /// What is lost when all that waits in it is given up.
    pub fn at_stake(&self) -> LostRow {
        LostRow { items: self.items, at_least: self.at_least, volatile: self.volatile as u64 }
    }
}

/// What is lost, or would be, when what waits for a destination is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LostRow {
    /// Durable items.
    pub items: u64,
    /// Whether there may be more of them than were counted.
    pub at_least: bool,
    /// Volatile EDUs.
    pub volatile: u64,
}

/// What a homeserver answered, when it was not what was asked for; or why there is no answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QueryFailure {
    /// Its error code, or ours.
    pub errcode: String,
    /// For people.
    pub error: String,
    /// Its status, when it answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What else stood in its error.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// What was signed as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verified", rename_all = "snake_case")]
pub enum Verdict {
    /// An event: signatures and hash fit.
    Whole {
        /// Its id.
        event_id: String,
    },
    /// An event whose signatures fit and whose hash does not: only what a redaction leaves of it is its signers'.
    RedactedOnly {
        /// Its id.
        event_id: String,
    },
    /// An object.
    Object,
    /// A request.
    Request {
        /// Who sent it.
        origin: String,
    },
}

/// One key of a homeserver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyRow {
    /// Its name.
    pub id: String,
    /// The key, in base64 without padding.
    pub key: String,
    /// `signing`, or `old`: it did once.
    pub standing: &'static str,
    /// Until when the server stands by it; when it ceased to sign.
    pub until_ms: u64,
    /// Whether it verifies what is signed now.
    pub good_now: bool,
}

/// One line of the stream of results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ResultLine {
    /// What happened.
    #[serde(flatten)]
    pub what: Happened,
    /// A stream from here goes on behind this line.
    pub token: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Happened {
    /// A destination has a transaction.
    Delivered {
        /// Who.
        destination: String,
        /// The id of the transaction.
        transaction: String,
        /// Every durable item for it up to here was delivered; none when nothing in it was durable.
        #[serde(skip_serializing_if = "Option::is_none")]
        upto: Option<u64>,
        /// How many durable items were in it.
        items: u32,
        /// What the destination said against single PDUs, by their event ids.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pdu_errors: BTreeMap<String, String>,
    },
    /// Accepted items will not be delivered.
    GivenUp {
        /// Who will not get them.
        destination: String,
        /// Everything up to here is given up.
        upto: u64,
        /// How many they are, as far as that is known.
        items: u64,
        /// Why.
        reason: String,
    },
    /// A transaction could not be rendered again as it was; its items go out under a new id.
    Diverged {
        /// Whose.
        destination: String,
        /// The id that is given up.
        transaction: String,
    },
    /// Results were missed.
    Gap,
    /// There was nothing to tell for a while.
    Heartbeat,
    /// The bus ends or hands over; nothing follows.
    End,
}

/// The states of queues.
pub const QUEUE_STATES: [&str; 6] = ["ready", "waiting", "reading", "asked", "beginning", "flying"];
