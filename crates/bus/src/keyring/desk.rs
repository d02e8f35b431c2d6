//! Where what one notary is to be asked is gathered.
//!
//! The first query goes out at once; while as many are under way as may be, what is asked further is gathered into
//! the next. So a single key waits for nobody, and the keys of a thousand servers make a few dozen queries.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use southbridge_words::{Instant, ServerName, WallTime};

use super::limits::Notary;
use crate::signing::KeyId;

/// One notary.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) notary: Notary,
    /// Servers to be asked about.
    pub(super) gathered: VecDeque<ServerName>,
    /// Queries under way.
    pub(super) under_way: usize,
    /// Whether its own keys are being fetched.
    pub(super) awaits_keys: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    /// Until when it is left alone.
    pub(super) retry_at: Instant,
}

impl Desk {
    pub(super) fn new(notary: Notary) -> Self {
        Self {
            notary,
            gathered: VecDeque::new(),
            under_way: 0,
            awaits_keys: false,
            failures: 0,
            retry_at: Instant::ZERO,
        }
    }

    /// The servers of the next query.
    pub(super) fn take_batch(&mut self, batch_max: usize) -> Vec<ServerName> {
        self.under_way += 1;
        let count = self.gathered.len().min(batch_max);
        self.gathered.drain(..count).collect()
    }
}

/// The body of a query: each server, with the keys wanted of it and until when they must be valid.
pub(super) fn query<'q>(servers: impl Iterator<Item = (&'q ServerName, Vec<(KeyId, WallTime)>)>) -> Bytes {
    let of_server = |wanted: Vec<(KeyId, WallTime)>| {
        let criteria = |(id, time): (KeyId, WallTime)| {
            (id.as_str().to_owned(), Criteria { minimum_valid_until_ts: time.unix_millis() })
        };
        wanted.into_iter().map(criteria).collect()
    };
    let server_keys = servers.map(|(server, wanted)| (server.as_str(), of_server(wanted))).collect();
    serde_json::to_vec(&Query { server_keys }).expect("names and numbers are always JSON").into()
}

#[derive(Serialize)]
struct Query<'q> {
    server_keys: BTreeMap<&'q str, BTreeMap<String, Criteria>>,
}

#[derive(Serialize)]
struct Criteria {
    minimum_valid_until_ts: u64,
}

/// The entries of a notary's answer that are about one of `asked`, in the order they came. `None` when it cannot be
/// read.
pub(super) fn entries<'b>(body: &'b [u8], asked: &[ServerName]) -> Option<Vec<(ServerName, &'b [u8])>> {
    let answer: Answer<'b> = serde_json::from_slice(body).ok()?;
    let mut entries: Vec<(ServerName, &[u8])> = Vec::new();
    for raw in answer.server_keys {
        let Ok(Named { server_name }) = serde_json::from_str(raw.get()) else { continue };
        let Some(server) = asked.iter().find(|asked| asked.as_str() == server_name) else { continue };
        // Each entry costs signatures to check.
        if entries.iter().filter(|(of, _)| of == server).count() < ENTRIES_PER_SERVER_MAX {
            entries.push((server.clone(), raw.get().as_bytes()));
        }
    }
    Some(entries)
}

#[derive(Deserialize)]
struct Answer<'b> {
    #[serde(borrow)]
    server_keys: Vec<&'b RawValue>,
}

#[derive(Deserialize)]
struct Named {
    server_name: String,
}

/// A notary may answer with what the server said at different times.
const ENTRIES_PER_SERVER_MAX: usize = 4;
