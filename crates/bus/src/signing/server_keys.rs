//! What a key server answers: the keys of one homeserver, signed with themselves.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Retrieving server keys". Of the keys listed one has to have
//! signed, as most homeservers have it; all of them would exclude servers that are believed elsewhere.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use southbridge_words::{ServerName, WallTime};

use super::{ExpiredKey, KeyId, SignedJson, SignedJsonError, VerifyKey};

/// The keys of one server, as it signed them itself. Whether they are still good is another question.
#[derive(Clone, Debug)]
pub struct ServerKeys {
    /// The keys that sign, by name.
    pub current: Vec<(KeyId, VerifyKey)>,
    /// The keys that no longer sign, by name; none that is in `current`.
    pub expired: Vec<ExpiredKey>,
    /// Until when the server stands by `current`.
    pub valid_until: WallTime,
    signed: SignedJson,
}

/// Why an answer of a key server is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerKeysError {
    /// It cannot be read, or lacks what must be there.
    #[error("key response cannot be read")]
    Malformed,
    /// It is about somebody else.
    #[error("key response is about another server than {asked}")]
    WrongServer {
        /// Who was asked for.
        asked: ServerName,
    },
    /// More keys than are taken of one server.
    #[error("key response of {server} has {keys} keys, the most is {keys_max}")]
    TooManyKeys {
        /// Whose.
        server: ServerName,
        /// How many.
        keys: usize,
        /// How many are taken.
        keys_max: usize,
    },
    /// None of the keys in it can be used.
    #[error("key response of {server} has no key that can be used")]
    NoKey {
        /// Whose.
        server: ServerName,
    },
    /// None of the keys in it signed it.
    #[error("key response of {server} is not signed with a key of its own")]
    Unsigned {
        /// Whose.
        server: ServerName,
    },
    /// The notary that it comes from did not sign it.
    #[error("key response of {server} is not signed by the notary {notary}")]
    NotOfNotary {
        /// Whose.
        server: ServerName,
        /// By whom it should be.
        notary: ServerName,
    },
    /// Its signatures cannot be read.
    #[error("key response cannot be used: {0}")]
    Signed(#[from] SignedJsonError),
}

impl ServerKeys {
    /// Reads an answer about `asked`, and checks that one of the keys in it signed it.
    ///
    /// Keys of other algorithms, and such as are none, are passed over. At most `keys_max` are taken, old ones
    /// counted in.
    ///
    /// # Errors
    /// [`ServerKeysError`] says why it is not believed.
    pub fn parse(text: &[u8], asked: &ServerName, keys_max: usize) -> Result<Self, ServerKeysError> {
        let members: Members = serde_json::from_slice(text).map_err(|_| ServerKeysError::Malformed)?;
        if members.server_name != asked.as_str() {
            return Err(ServerKeysError::WrongServer { asked: asked.clone() });
        }
        let keys = members.verify_keys.len() + members.old_verify_keys.len();
        if keys > keys_max {
            return Err(ServerKeysError::TooManyKeys { server: asked.clone(), keys, keys_max });
        }
        let current: Vec<_> = members.verify_keys.iter().filter_map(|(id, key)| read(id, key)).collect();
        if current.is_empty() {
            return Err(ServerKeysError::NoKey { server: asked.clone() });
        }
        let expired = members.old_verify_keys.iter().filter_map(|(id, key)| {
            let (id, verify_key) = read(id, key)?;
            let expired_at = WallTime::from_unix_millis(key.get("expired_ts")?.as_u64()?);
            Some(ExpiredKey { id, key: verify_key, expired_at })
        });
        let expired = expired.filter(|old| current.iter().all(|(id, _)| *id != old.id)).collect();
        let valid_until = WallTime::from_unix_millis(members.valid_until_ts);
        let keys = Self { current, expired, valid_until, signed: SignedJson::parse(text)? };
        if keys.is_signed_by(asked, &keys.current) { Ok(keys) } else { Err(unsigned(asked)) }
    }

    /// Checks that the notary they come from signed them with one of its `keys`.
    ///
    /// # Errors
    /// [`ServerKeysError::NotOfNotary`]; `server` is whose keys these are.
    pub fn verify_notary(
        &self,
        server: &ServerName,
        notary: &ServerName,
        keys: &[(KeyId, VerifyKey)],
    ) -> Result<(), ServerKeysError> {
        if self.is_signed_by(notary, keys) {
            return Ok(());
        }
        Err(ServerKeysError::NotOfNotary { server: server.clone(), notary: notary.clone() })
    }

    /// Whether `signer` signed them with one of its `keys`.
    pub fn is_signed_by(&self, signer: &ServerName, keys: &[(KeyId, VerifyKey)]) -> bool {
        let signing = self.signed.keys_of(signer.as_str());
        let known = signing.filter_map(|id| keys.iter().find(|(known, _)| known == id));
        // Each check costs CPU, and the peer chooses how many signatures do not fit.
        known.take(CHECKS_MAX).any(|(id, key)| self.signed.verify(signer.as_str(), id, key).is_ok())
    }
}

fn read(id: &str, key: &Value) -> Option<(KeyId, VerifyKey)> {
    Some((KeyId::parse(id).ok()?, VerifyKey::parse(key.get("key")?.as_str()?).ok()?))
}

fn unsigned(asked: &ServerName) -> ServerKeysError {
    ServerKeysError::Unsigned { server: asked.clone() }
}

#[derive(Deserialize)]
struct Members {
    server_name: String,
    valid_until_ts: u64,
    verify_keys: BTreeMap<String, Value>,
    #[serde(default)]
    old_verify_keys: BTreeMap<String, Value>,
}

/// The most signatures of one signer that are checked: about half a millisecond of CPU.
const CHECKS_MAX: usize = 8;
