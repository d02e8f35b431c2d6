//! The kinds of traffic, each one request to every homeserver.

use std::fmt;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use southbridge_tests::client_api::ClientApi;
use southbridge_tests::patience::eventually;
use southbridge_tests::{Failure, Result};

use crate::internet::Internet;

/// What is sent, and in which state of affairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// `keys/query` to hosts that were never met.
    KeysFirst,
    /// `keys/query` once more, at once.
    KeysOpen,
    /// A transaction with a message of an encrypted room's keys, right afterwards.
    SendOpen,
    /// Profiles, one call of a client each, right afterwards.
    ProfilesOpen,
    /// `keys/query` when all connections have been closed for idleness.
    KeysClosed,
    /// A transaction when all connections have been closed for idleness.
    SendClosed,
}

impl Traffic {
    /// In the order in which they are sent: each finds what the last one left.
    pub const ALL: [Self; 6] = [
        Self::KeysFirst,
        Self::KeysOpen,
        Self::SendOpen,
        Self::ProfilesOpen,
        Self::KeysClosed,
        Self::SendClosed,
    ];

    /// Whether the homeservers close all connections first.
    pub fn begins_hung_up(self) -> bool {
        matches!(self, Self::KeysClosed | Self::SendClosed)
    }

    /// Sends it to the homeservers of all `users`, and waits until each has had it.
    ///
    /// # Errors
    /// One could not be reached, or the Synapse refused.
    pub async fn send(self, from: &ClientApi, users: &[String], internet: &Internet) -> Result<()> {
        match self {
            Self::KeysFirst | Self::KeysOpen | Self::KeysClosed => query_keys(from, users).await,
            Self::SendOpen | Self::SendClosed => send_keys(from, users, internet).await,
            Self::ProfilesOpen => look_up_profiles(from, users).await,
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::KeysFirst => "keys, hosts never met",
            Self::KeysOpen => "keys, connections open",
            Self::KeysClosed => "keys, connections closed since",
            Self::SendOpen => "transactions, connections open",
            Self::SendClosed => "transactions, connections closed since",
            Self::ProfilesOpen => "profiles, connections open",
        })
    }
}

async fn query_keys(from: &ClientApi, users: &[String]) -> Result<()> {
    let failures = from.keys_of_all(users).await?;
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(format!(
            "{} of {} homeservers did not answer for keys, the first {first}",
            failures.len(),
            users.len()
        ))),
    }
}

async fn look_up_profiles(from: &ClientApi, users: &[String]) -> Result<()> {
    let asking = stream::iter(users).map(|user| from.display_name_of(user)).buffer_unordered(AT_ONCE);
    asking.try_for_each(|_| async { Ok(()) }).await
}

/// The client is answered before anything is sent: the transactions are waited for where they arrive.
async fn send_keys(from: &ClientApi, users: &[String], internet: &Internet) -> Result<()> {
    let marker = format!("{}{}", from.user(), internet.others.counts().requests);
    let content = json!({
        "algorithm": "m.olm.v1.curve25519-aes-sha2", "marker": marker, "ciphertext": "k".repeat(CIPHERTEXT_BYTES),
    });
    from.send_to_devices(users, &content).await?;
    eventually(ARRIVAL_MAX, "all transactions have arrived", || {
        let received = internet.others.received();
        let arrived = received.iter().filter(|request| {
            request.target.starts_with("/_matrix/federation/v1/send/")
                && String::from_utf8_lossy(&request.body).contains(&marker)
        });
        let all = arrived.count() >= users.len();
        async move { Ok(all.then_some(())) }
    })
    .await
}

/// As many as a client shows faces on a screen.
const AT_ONCE: usize = 20;
/// One Megolm session, encrypted.
const CIPHERTEXT_BYTES: usize = 700;
const ARRIVAL_MAX: Duration = Duration::from_secs(60);
