//! A world of servers with keys, and notaries that vouch for some of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use southbridge_words::{Instant, ServerName, Ticket, WallTime};

use crate::externaliser::Moment;
use crate::keyring::{
    Action, FetchFailure, FetchId, KeyError, Keyring, KeyringLimits, Notary, Purpose, Sources, Wanted,
};
use crate::signing::{KeyId, SigningKey, SigningKeys, VerifyKey, sign_json};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn name(text: &str) -> ServerName {
    ServerName::parse(text).unwrap()
}

/// The signing key `ed25519:VERSION` that `seed` makes.
pub(super) fn key(version: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(KeyId::of_version(version).unwrap(), &[seed; 32])
}

/// What a key server says, before anybody signs it.
pub(super) fn unsigned(server: &str, keys: &[&SigningKey], valid_until: WallTime) -> Value {
    let verify_keys: BTreeMap<_, _> =
        keys.iter().map(|key| (key.id().to_string(), json!({"key": key.verify_key().to_string()}))).collect();
    json!({
        "server_name": server,
        "valid_until_ts": valid_until.unix_millis(),
        "verify_keys": verify_keys,
        "old_verify_keys": {},
    })
}

/// `document` with the signature of `signer`.
pub(super) fn signed(document: &Value, signer: &str, key: &SigningKey) -> Value {
    let signed = sign_json(document.to_string().as_bytes(), signer, &SigningKeys::of(key.clone())).unwrap();
    serde_json::from_slice(signed.as_bytes()).unwrap()
}

/// What a key server says, signed with each of `keys`.
pub(super) fn published(server: &str, keys: &[&SigningKey], valid_until: WallTime) -> Value {
    keys.iter().fold(unsigned(server, keys, valid_until), |document, key| signed(&document, server, key))
}

/// The same with a key that signs no longer.
pub(super) fn with_old(
    mut document: Value,
    server: &str,
    by: &SigningKey,
    old: &SigningKey,
    expired: WallTime,
) -> Value {
    document["old_verify_keys"][old.id().as_str()] =
        json!({"key": old.verify_key().to_string(), "expired_ts": expired.unix_millis()});
    document.as_object_mut().unwrap().remove("signatures");
    signed(&document, server, by)
}

pub(super) struct World {
    pub(super) keyring: Keyring,
    pub(super) now: Instant,
    pub(super) wall: WallTime,
    /// What servers publish. Who is not there cannot be reached.
    pub(super) origins: BTreeMap<String, Value>,
    /// What notaries have of whom, before they sign it.
    pub(super) stores: BTreeMap<String, BTreeMap<String, Value>>,
    /// With what notaries sign.
    notary_keys: BTreeMap<String, SigningKey>,
    asked: Vec<String>,
    tickets: u64,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(KeyringLimits::default(), Sources::default())
    }

    pub(super) fn with(limits: KeyringLimits, sources: Sources) -> Self {
        Self {
            keyring: Keyring::new(limits, sources, 7),
            now: Instant::ZERO + DAY,
            wall: WallTime::from_unix_millis(1_800_000_000_000),
            origins: BTreeMap::new(),
            stores: BTreeMap::new(),
            notary_keys: BTreeMap::new(),
            asked: Vec::new(),
            tickets: 0,
        }
    }

    /// A world with these notaries, whose keys the operator knows.
    pub(super) fn with_notaries(notaries: &[&str], sources: &Sources) -> Self {
        let keys: BTreeMap<String, SigningKey> =
            notaries.iter().zip(100..).map(|(notary, seed)| ((*notary).to_owned(), key("n", seed))).collect();
        let pinned = |notary: &&str| {
            let key = &keys[*notary];
            Notary { server: name(notary), keys: vec![(key.id().clone(), key.verify_key())] }
        };
        let sources = Sources { notaries: notaries.iter().map(pinned).collect(), ..sources.clone() };
        let mut world = Self::with(KeyringLimits::default(), sources);
        world.notary_keys = keys;
        world
    }

    /// A notary that signs with `key`, which the operator does not know.
    pub(super) fn notary_signs_with(&mut self, notary: &str, key: SigningKey) {
        self.notary_keys.insert(notary.to_owned(), key);
    }

    /// `server` publishes `keys`, good for `validity` from now.
    pub(super) fn publish(&mut self, server: &str, keys: &[&SigningKey], validity: Duration) {
        self.origins.insert(server.to_owned(), published(server, keys, self.wall + validity));
    }

    /// `notary` has this document of `server`.
    pub(super) fn store(&mut self, notary: &str, server: &str, document: Value) {
        self.stores.entry(notary.to_owned()).or_default().insert(server.to_owned(), document);
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { now: self.now, wall: self.wall }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.wall = self.wall + time;
    }

    pub(super) fn want(&mut self, server: &str, version: &str, purpose: Purpose) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let wanted = Wanted { server: name(server), key: KeyId::of_version(version).unwrap(), purpose };
        self.keyring.handle_wanted(ticket, wanted, self.moment());
        ticket
    }

    /// The answer to one question, everybody asked answering at once.
    pub(super) fn ask(
        &mut self,
        server: &str,
        version: &str,
        purpose: Purpose,
    ) -> Result<VerifyKey, KeyError> {
        let ticket = self.want(server, version, purpose);
        let mut answers = self.settle();
        answers.remove(&ticket).expect("every ticket is answered")
    }

    pub(super) fn ask_for_request(&mut self, server: &str, version: &str) -> Result<VerifyKey, KeyError> {
        self.ask(server, version, Purpose::Request)
    }

    /// Does what the keyring says until it says nothing more.
    pub(super) fn settle(&mut self) -> BTreeMap<Ticket, Result<VerifyKey, KeyError>> {
        let mut answers = BTreeMap::new();
        while let Some(action) = self.keyring.poll() {
            if let Action::Answer { ticket, result } = action {
                assert!(answers.insert(ticket, result).is_none(), "{ticket} is answered twice");
            } else {
                self.perform(action);
            }
        }
        answers
    }

    pub(super) fn perform(&mut self, action: Action) {
        let (id, body) = match action {
            Action::FetchOrigin { id, server, .. } => {
                self.asked.push(server.to_string());
                (id, self.origins.get(server.as_str()).map(Value::to_string))
            }
            Action::FetchNotary { id, notary, body, .. } => {
                let body: Value = serde_json::from_slice(&body).unwrap();
                let servers: Vec<_> = body["server_keys"].as_object().unwrap().keys().cloned().collect();
                self.asked.push(format!("{notary}: {}", servers.join(" ")));
                (id, self.notarise(notary.as_str(), &servers))
            }
            Action::Answer { .. } | Action::Searched { .. } => return,
        };
        self.fetched(id, body.as_deref().map(str::as_bytes).ok_or(FetchFailure::Unreachable));
    }

    pub(super) fn fetched(&mut self, id: FetchId, result: Result<&[u8], FetchFailure>) {
        self.keyring.handle_fetched(id, result, self.moment());
    }

    fn notarise(&self, notary: &str, servers: &[String]) -> Option<String> {
        let (store, key) = (self.stores.get(notary)?, self.notary_keys.get(notary)?);
        let documents: Vec<_> =
            servers.iter().filter_map(|server| Some(signed(store.get(server)?, notary, key))).collect();
        Some(json!({"server_keys": documents}).to_string())
    }

    pub(super) fn take_asked(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked)
    }
}
