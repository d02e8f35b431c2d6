//! The Federation Side Bus as a process, between a homeserver's hands and recording peers.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod kills;
mod shared;

use serde_json::Value;
use southbridge_testkit::homeserver::SentTransaction;

/// The numbers of all messages in `transactions`, as they came.
fn numbers(transactions: &[SentTransaction]) -> Vec<u64> {
    let pdus = transactions.iter().flat_map(|transaction| {
        let body: Value = transaction.json();
        body["pdus"].as_array().cloned().unwrap_or_default()
    });
    pdus.filter_map(|pdu| pdu["content"]["number"].as_u64()).collect()
}
