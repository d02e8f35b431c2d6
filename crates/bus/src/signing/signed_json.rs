//! Signed JSON objects: signing them and believing them.
//!
//! # Source
//! Matrix specification v1.19, appendices, "Signing JSON": the signature of the canonical form without `signatures`
//! and `unsigned`, kept under `signatures.SIGNER.KEY_ID`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::canonical::{CanonicalError, CanonicalJson, Numbers, to_canonical, to_canonical_without};
use super::{BadSignature, KeyId, Signature, SigningKeys, VerifyKey};

/// An object, and the signatures that stand in it. None of them has been checked.
#[derive(Clone, Debug)]
pub struct SignedJson {
    message: CanonicalJson,
    signatures: BTreeMap<String, Vec<(KeyId, Signature)>>,
}

/// Why an object is not signed, or not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedJsonError {
    /// It has no canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// Its `signatures` are not an object of objects of texts.
    #[error("\"signatures\" of the object cannot be read")]
    Signatures,
    /// More signatures than anybody needs.
    #[error("object has {count} signatures, the most is {SIGNATURES_MAX}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// There is none of that signer and key.
    #[error("object has no signature of {signer} with {key}")]
    Missing {
        /// Whose.
        signer: String,
        /// With which key.
        key: KeyId,
    },
    /// The signature does not fit.
    #[error(transparent)]
    Bad(#[from] BadSignature),
}

/// Signs the object `text` for `signer` with each of the keys that sign. What comes back is canonical, with the
/// signatures added to those that were there, and with `unsigned` kept.
///
/// # Errors
/// [`SignedJsonError::Canonical`] when `text` is not an object of canonical JSON; [`SignedJsonError::Signatures`] when
/// what stands there cannot be added to.
pub fn sign_json(text: &[u8], signer: &str, keys: &SigningKeys) -> Result<CanonicalJson, SignedJsonError> {
    let message = to_canonical_without(text, Numbers::Canonical, &UNSIGNED_MEMBERS)?;
    let unreadable = |_| SignedJsonError::Signatures;
    let mut object: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(text).map_err(unreadable)?;
    let mut signatures: BTreeMap<String, BTreeMap<String, Value>> = match object.get("signatures") {
        Some(raw) => serde_json::from_str(raw.get()).map_err(unreadable)?,
        None => BTreeMap::new(),
    };
    let ours = signatures.entry(signer.to_owned()).or_default();
    for key in keys.active() {
        let signature = key.secret().sign(message.as_bytes());
        ours.insert(key.id().as_str().to_owned(), signature.to_string().into());
    }
    let raw = serde_json::value::to_raw_value(&signatures).map_err(unreadable)?;
    object.insert("signatures".to_owned(), raw);
    let signed = serde_json::to_vec(&object).map_err(unreadable)?;
    Ok(to_canonical(&signed, Numbers::Canonical)?)
}

/// Checks that `signer` signed the object `text` with `key`, whose name is `id`.
///
/// # Errors
/// [`SignedJsonError`] when it did not, or when that cannot be known.
pub fn verify_json(text: &[u8], signer: &str, id: &KeyId, key: &VerifyKey) -> Result<(), SignedJsonError> {
    SignedJson::parse(text)?.verify(signer, id, key)
}

impl SignedJson {
    /// Reads an object with its signatures. Those that no Ed25519 key can have made are passed over.
    ///
    /// # Errors
    /// [`SignedJsonError`] when it is not an object, or its signatures cannot be read.
    pub fn parse(text: &[u8]) -> Result<Self, SignedJsonError> {
        let message = to_canonical_without(text, Numbers::AsPython, &UNSIGNED_MEMBERS)?;
        let members: Members = serde_json::from_slice(text).map_err(|_| SignedJsonError::Signatures)?;
        let count = members.signatures.values().map(BTreeMap::len).sum();
        if count > SIGNATURES_MAX {
            return Err(SignedJsonError::TooMany { count });
        }
        let signatures = members.signatures.into_iter().map(|(signer, signatures)| {
            let signatures = signatures.into_iter().filter_map(|(id, signature)| {
                Some((KeyId::parse(&id).ok()?, Signature::parse(signature.as_str()?).ok()?))
            });
            (signer, signatures.collect())
        });
        Ok(Self { message, signatures: signatures.collect() })
    }

    /// The names of the keys with which `signer` says to have signed.
    pub fn keys_of(&self, signer: &str) -> impl Iterator<Item = &KeyId> {
        self.signatures_of(signer).iter().map(|(id, _)| id)
    }

    /// Checks that `signer` signed with `key`, whose name is `id`.
    ///
    /// # Errors
    /// [`SignedJsonError::Missing`] or [`SignedJsonError::Bad`].
    pub fn verify(&self, signer: &str, id: &KeyId, key: &VerifyKey) -> Result<(), SignedJsonError> {
        let found = self.signatures_of(signer).iter().find(|(found, _)| found == id);
        let Some((_, signature)) = found else {
            return Err(SignedJsonError::Missing { signer: signer.to_owned(), key: id.clone() });
        };
        Ok(key.verify(self.message.as_bytes(), signature)?)
    }

    fn signatures_of(&self, signer: &str) -> &[(KeyId, Signature)] {
        self.signatures.get(signer).map_or(&[], Vec::as_slice)
    }
}

#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    signatures: BTreeMap<String, BTreeMap<String, Value>>,
}

/// What stands in a signed object and is not signed.
const UNSIGNED_MEMBERS: [&str; 2] = ["signatures", "unsigned"];
/// A server signs with a few keys, and few servers sign the same object.
const SIGNATURES_MAX: usize = 256;
