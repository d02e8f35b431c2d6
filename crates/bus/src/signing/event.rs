//! Signatures and hashes of events, by the rules of their room's version.
//!
//! What a room version keeps of an event that is redacted, and so what is signed, is ruma's to know. ruma is shown
//! the keys of the event only; the values stay as they were written, whatever numbers they hold, because those of
//! room versions 1 to 5 may hold some that canonical JSON has no place for (decision 0006).
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Signing Events" and "Validating hashes and signatures on received
//! events", and the room versions.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ruma_common::canonical_json::redact_in_place;
use ruma_common::room_version_rules::{EventIdFormatVersion, RoomVersionRules};
use ruma_common::{CanonicalJsonObject, CanonicalJsonValue, RoomVersionId};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};
use southbridge_words::{ServerName, WallTime};

use super::canonical::{CanonicalError, CanonicalJson, Numbers, to_canonical, to_canonical_without};
use super::ed25519::BASE64;
use super::{KeyId, SignedJson, SignedJsonError, SigningKeys, VerifyKey, sign_json};

/// The rules of one room version.
#[derive(Clone, Debug)]
pub struct RoomVersion(RoomVersionRules);

/// An event as a homeserver sends it, read by the rules of its room's version.
#[derive(Debug)]
pub struct Event<'v> {
    version: &'v RoomVersion,
    text: Vec<u8>,
    members: Raw,
}

/// How an event that its servers signed is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Signatures and hash fit.
    Whole,
    /// The signatures fit and the hash does not: only what a redaction leaves of it is theirs.
    RedactedOnly,
}

/// Why an event cannot be read, hashed or believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// A room version nobody here knows.
    #[error("room version is not known")]
    UnknownRoomVersion,
    /// It has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Larger than an event may be.
    #[error("event has {length} bytes, the most is {EVENT_BYTES_MAX}")]
    TooLarge {
        /// How many.
        length: usize,
    },
    /// Something that must be there is not, or is something else.
    #[error("event has no {field:?} that can be used")]
    Field {
        /// What.
        field: &'static str,
    },
    /// Not signed by who must have, or not with a key that is known.
    #[error("event is not signed by {server} with a known key")]
    NotSigned {
        /// Who.
        server: ServerName,
    },
    /// A signature does not fit, or they cannot be read.
    #[error(transparent)]
    Signed(#[from] SignedJsonError),
}

type Raw = BTreeMap<String, Box<RawValue>>;

impl RoomVersion {
    /// The rules of the room version `version`.
    ///
    /// # Errors
    /// [`EventError::UnknownRoomVersion`].
    pub fn parse(version: &str) -> Result<Self, EventError> {
        let id = RoomVersionId::try_from(version).map_err(|_| EventError::UnknownRoomVersion)?;
        id.rules().map(Self).ok_or(EventError::UnknownRoomVersion)
    }

    /// Whether a signature counts only if the key was good when the event was made (room versions from 5 on).
    pub fn enforces_key_validity(&self) -> bool {
        self.0.enforce_key_validity
    }

    fn numbers(&self) -> Numbers {
        if self.0.authorization.strict_canonical_json { Numbers::Canonical } else { Numbers::AsPython }
    }
}

impl<'v> Event<'v> {
    /// Reads an event.
    ///
    /// # Errors
    /// [`EventError`] when it is too large, no object, or not canonical where its room version asks for it.
    pub fn parse(text: &[u8], version: &'v RoomVersion) -> Result<Self, EventError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(EventError::TooLarge { length: text.len() });
        }
        let text: Vec<u8> = to_canonical_without(text, version.numbers(), &[])?.into_bytes().into();
        if text.len() > EVENT_BYTES_MAX {
            return Err(EventError::TooLarge { length: text.len() });
        }
        // Canonical JSON is JSON, so this reads; still, its depth may be too much for this reader.
        let members = serde_json::from_slice(&text).map_err(|_| EventError::Field { field: "content" })?;
        Ok(Self { version, text, members })
    }

    /// The hash of all of it but `hashes`, `signatures` and `unsigned`.
    ///
    /// # Errors
    /// [`EventError::Canonical`], which cannot come of an event that was read.
    pub fn content_hash(&self) -> Result<[u8; 32], EventError> {
        let hashed =
            to_canonical_without(&self.text, self.version.numbers(), &["hashes", "signatures", "unsigned"])?;
        Ok(Sha256::digest(hashed.as_bytes()).into())
    }

    /// The hash of what a redaction leaves of it: what names an event since room version 3.
    ///
    /// # Errors
    /// [`EventError::Field`] when it has no type.
    pub fn reference_hash(&self) -> Result<[u8; 32], EventError> {
        let redacted = self.redacted()?;
        let hashed =
            to_canonical_without(redacted.as_bytes(), self.version.numbers(), &["signatures", "unsigned"])?;
        Ok(Sha256::digest(hashed.as_bytes()).into())
    }

    /// Its name.
    ///
    /// # Errors
    /// [`EventError::Field`] when it should carry one and does not, or has no type.
    pub fn event_id(&self) -> Result<String, EventError> {
        match self.version.0.event_id_format {
            EventIdFormatVersion::V1 => self.text_of("event_id"),
            EventIdFormatVersion::V2 => Ok(format!("${}", BASE64.encode(self.reference_hash()?))),
            _ => Ok(format!("${}", URL_SAFE_NO_PAD.encode(self.reference_hash()?))),
        }
    }

    /// What a redaction leaves of it, in canonical form.
    ///
    /// # Errors
    /// [`EventError::Field`] when it has no type, or a content that is no object.
    pub fn redacted(&self) -> Result<CanonicalJson, EventError> {
        let mut skeleton = skeleton_of_event(&self.members, &self.text_of("type")?)?;
        redact_in_place(&mut skeleton, &self.version.0.redaction, None)
            .map_err(|_| EventError::Field { field: "content" })?;
        let kept = retain(&self.members, &skeleton)?;
        Ok(to_canonical(kept.get().as_bytes(), self.version.numbers())?)
    }

    /// The servers that must have signed it.
    ///
    /// # Errors
    /// [`EventError::Field`] when it does not say who made it.
    pub fn signers(&self) -> Result<BTreeSet<ServerName>, EventError> {
        let rules = &self.version.0.signatures;
        let mut servers = BTreeSet::new();
        let content = self.content();
        if !self.is_invite_by_third_party(&content)? {
            servers.insert(server_of(&self.text_of("sender")?, "sender")?);
        }
        if rules.check_event_id_server {
            servers.insert(server_of(&self.text_of("event_id")?, "event_id")?);
        }
        let authorised = content.get("join_authorised_via_users_server");
        if rules.check_join_authorised_via_users_server
            && let Some(user) = authorised
            && self.text_of("type")? == "m.room.member"
        {
            let field = "join_authorised_via_users_server";
            servers.insert(server_of(&text(user).ok_or(EventError::Field { field })?, field)?);
        }
        Ok(servers)
    }

    /// When it was made, as it says itself (`origin_server_ts`).
    ///
    /// # Errors
    /// [`EventError::Field`] when it does not say.
    pub fn made_at(&self) -> Result<WallTime, EventError> {
        let field = "origin_server_ts";
        let millis = self.members.get(field).and_then(|value| serde_json::from_str(value.get()).ok());
        millis.map(WallTime::from_unix_millis).ok_or(EventError::Field { field })
    }

    /// Which keys can verify it: of each server that must have signed it, the names of those it says to have signed
    /// with, at most [`Event::KEYS_PER_SIGNER_MAX`].
    ///
    /// # Errors
    /// [`EventError`] when one of them says nothing of the kind, or that cannot be known.
    pub fn signing_keys(&self) -> Result<Vec<(ServerName, Vec<KeyId>)>, EventError> {
        let signed = SignedJson::parse(self.redacted()?.as_bytes())?;
        let signers = self.signers()?.into_iter().map(|server| {
            let keys = signed.keys_of(server.as_str()).take(Self::KEYS_PER_SIGNER_MAX).cloned();
            let keys: Vec<KeyId> = keys.collect();
            if keys.is_empty() { Err(EventError::NotSigned { server }) } else { Ok((server, keys)) }
        });
        signers.collect()
    }

    /// The most signatures of one server that are looked at. Servers sign with one key, and with two while they change
    /// it.
    pub const KEYS_PER_SIGNER_MAX: usize = 8;

    /// Checks that everybody who must have signed it did, with a key that `key_of` knows, and compares the hash.
    ///
    /// Which keys are good for an event of its time is for `key_of` to say
    /// ([`Keyring`](crate::keyring::Keyring)).
    ///
    /// # Errors
    /// [`EventError`] when one of them did not, or that cannot be known.
    pub fn verify(
        &self,
        key_of: impl Fn(&ServerName, &KeyId) -> Option<VerifyKey>,
    ) -> Result<Verified, EventError> {
        let signed = SignedJson::parse(self.redacted()?.as_bytes())?;
        for server in self.signers()? {
            let known = signed.keys_of(server.as_str()).find_map(|id| Some((id, key_of(&server, id)?)));
            let Some((id, key)) = known else { return Err(EventError::NotSigned { server }) };
            signed.verify(server.as_str(), id, &key)?;
        }
        let hash = self.members.get("hashes").and_then(|hashes| object(hashes));
        let hash = hash.and_then(|hashes| text(hashes.get("sha256")?));
        let fits = hash.and_then(|hash| BASE64.decode(hash).ok()) == Some(self.content_hash()?.to_vec());
        Ok(if fits { Verified::Whole } else { Verified::RedactedOnly })
    }

    /// The event with its hash and the signature of `signer`, made with each of the keys that sign.
    ///
    /// # Errors
    /// [`EventError`] when it lacks what must be there, or holds numbers that must not be signed any more.
    pub fn sign(&self, signer: &ServerName, keys: &SigningKeys) -> Result<CanonicalJson, EventError> {
        let hash = BASE64.encode(self.content_hash()?);
        let mut members = self.members.clone();
        let mut hashes = members.get("hashes").and_then(|hashes| object(hashes)).unwrap_or_default();
        hashes.insert("sha256".to_owned(), raw(&hash)?);
        members.insert("hashes".to_owned(), raw(&hashes)?);
        let hashed = Self { version: self.version, text: Vec::new(), members };
        let signed = sign_json(hashed.redacted()?.as_bytes(), signer.as_str(), keys)?;
        let signed: Raw =
            serde_json::from_slice(signed.as_bytes()).map_err(|_| SignedJsonError::Signatures)?;
        let mut members = hashed.members;
        members.extend(signed.into_iter().filter(|(key, _)| key == "signatures"));
        Ok(to_canonical(raw(&members)?.get().as_bytes(), self.version.numbers())?)
    }

    fn content(&self) -> Raw {
        self.members.get("content").and_then(|content| object(content)).unwrap_or_default()
    }

    fn text_of(&self, field: &'static str) -> Result<String, EventError> {
        self.members.get(field).and_then(|value| text(value)).ok_or(EventError::Field { field })
    }

    /// Such an invite is made by a server that its sender does not belong to.
    fn is_invite_by_third_party(&self, content: &Raw) -> Result<bool, EventError> {
        let is_invite = content.get("membership").and_then(|value| text(value)).as_deref() == Some("invite");
        let by_third_party = content.get("third_party_invite").is_some_and(|value| object(value).is_some());
        Ok(self.text_of("type")? == "m.room.member" && is_invite && by_third_party)
    }
}

/// The event without its values: what a redaction looks at. Only the type is there, and the keys of objects as deep
/// as a redaction goes.
fn skeleton_of_event(members: &Raw, event_type: &str) -> Result<CanonicalJsonObject, EventError> {
    let mut skeleton = CanonicalJsonObject::new();
    for (key, value) in members {
        let value = match key.as_str() {
            "type" => CanonicalJsonValue::String(event_type.to_owned()),
            "content" => {
                let content = object(value).ok_or(EventError::Field { field: "content" })?;
                CanonicalJsonValue::Object(bones(&content, REDACTION_DEPTH))
            }
            _ => CanonicalJsonValue::Null,
        };
        skeleton.insert(key.clone(), value);
    }
    Ok(skeleton)
}

fn bones(members: &Raw, depth: u32) -> CanonicalJsonObject {
    let bone = |value: &RawValue| match object(value).filter(|_| depth > 1) {
        Some(inner) => CanonicalJsonValue::Object(bones(&inner, depth - 1)),
        None => CanonicalJsonValue::Null,
    };
    members.iter().map(|(key, value)| (key.clone(), bone(value))).collect()
}

/// Of `members` what is left in `skeleton`.
fn retain(members: &Raw, skeleton: &CanonicalJsonObject) -> Result<Box<RawValue>, EventError> {
    let mut kept = Raw::new();
    for (key, value) in members {
        let value = match skeleton.get(key) {
            None => continue,
            Some(CanonicalJsonValue::Object(inner)) => retain(&object(value).unwrap_or_default(), inner)?,
            Some(_) => value.clone(),
        };
        kept.insert(key.clone(), value);
    }
    raw(&kept)
}

fn object(value: &RawValue) -> Option<Raw> {
    serde_json::from_str(value.get()).ok()
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>, EventError> {
    to_raw_value(value).map_err(|_| EventError::Field { field: "content" })
}

/// The server that a user or event id ends with.
fn server_of(id: &str, field: &'static str) -> Result<ServerName, EventError> {
    let server = id.split_once(':').and_then(|(_, server)| ServerName::parse(server).ok());
    server.ok_or(EventError::Field { field })
}

/// The specification's bound for an event in canonical form.
const EVENT_BYTES_MAX: usize = 65_536;
/// With escapes and white space that canonical JSON has not.
const TEXT_BYTES_MAX: usize = 4 * EVENT_BYTES_MAX;
/// Levels of `content` that a redaction looks into: `third_party_invite.signed`.
const REDACTION_DEPTH: u32 = 3;
