//! Ed25519: secret keys that sign, public keys that verify, signatures.
//!
//! # Source
//! RFC 8032, section 5.1. What the RFC leaves to the implementation is decided strictly, as libsodium does, whom
//! most homeservers ask: a public key of small order is no key, a signature whose commitment is of small order
//! is no signature, and keys and signatures have one spelling only.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::VerifyingKey;

/// A secret key with nothing known about it but how to sign. Prints as `[redacted]`, and is wiped when dropped.
#[derive(Clone)]
pub struct SecretKey {
    dalek: ed25519_dalek::SigningKey,
    /// The same, for signing: twice as fast at the length of a request.
    pair: Arc<Ed25519KeyPair>,
}

/// A public key: 32 bytes that are a point, and not one for which anybody can sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifyKey([u8; 32]);

/// 64 bytes that may be a signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

/// Why bytes are not a key or not a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// Not base64.
    #[error("it is not base64")]
    NotBase64,
    /// Another number of bytes.
    #[error("it has {length} bytes instead of {expected}")]
    Length {
        /// Bytes found.
        length: usize,
        /// Bytes there should be.
        expected: usize,
    },
    /// The bytes are not a point of the curve, or one that everybody can sign for.
    #[error("it is not a point of the curve that can be a key")]
    NotPoint,
}

/// The signature does not fit the message and the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not fit the message and the key")]
pub struct BadSignature;

impl SecretKey {
    /// The key that `seed` makes. Whoever knows the seed can sign: take it from a good source of chance.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).expect("every 32 bytes are a seed");
        Self { dalek: ed25519_dalek::SigningKey::from_bytes(seed), pair: Arc::new(pair) }
    }

    /// Signs `message`; the same message has the same signature each time.
    pub fn sign(&self, message: &[u8]) -> Signature {
        let signature = self.pair.sign(message);
        Signature(signature.as_ref().try_into().expect("a signature has 64 bytes"))
    }

    /// The public half.
    pub fn verify_key(&self) -> VerifyKey {
        VerifyKey(self.dalek.verifying_key().to_bytes())
    }

    /// The seed, to be written where only its owner reads.
    pub(super) fn seed(&self) -> &[u8; 32] {
        self.dalek.as_bytes()
    }
}

impl VerifyKey {
    /// The key that `bytes` are.
    ///
    /// # Errors
    /// [`InvalidKey::NotPoint`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let point = VerifyingKey::from_bytes(bytes).map_err(|_| InvalidKey::NotPoint)?;
        if point.is_weak() || !is_reduced(bytes) { Err(InvalidKey::NotPoint) } else { Ok(Self(*bytes)) }
    }

    /// The key that the base64 text `text` is, with padding or without.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        Self::from_bytes(&decode(text)?)
    }

    /// Checks `signature` over `message`.
    ///
    /// # Errors
    /// [`BadSignature`] when it is not this key's signature over these bytes.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let point = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        point.verify_strict(message, &signature).map_err(|_| BadSignature)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Signature {
    /// The signature that `bytes` are.
    pub fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The signature that the base64 text `text` is, with padding or without.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        decode(text).map(Self)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Adds it to `text` in base64 without padding.
    pub(super) fn write_base64(&self, text: &mut String) {
        BASE64.encode_string(self.0, text);
    }

    /// How long it is in base64.
    pub(super) const BASE64_BYTES: usize = 86;
}

/// Base64 without padding.
impl fmt::Display for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

/// Base64 without padding.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64.encode(self.0))
    }
}

impl fmt::Debug for VerifyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether the coordinate that `bytes` spell is below 2^255 − 19, as everybody writes it.
fn is_reduced(bytes: &[u8; 32]) -> bool {
    bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|byte| *byte != 0xff) || bytes[0] < 0xed
}

/// The bytes of a base64 text, with padding or without.
pub(super) fn decode<const LENGTH: usize>(text: &str) -> Result<[u8; LENGTH], InvalidKey> {
    // Nothing read here is longer; a longer text is not worth decoding.
    if text.len() > TEXT_LENGTH_MAX {
        return Err(InvalidKey::Length { length: text.len() / 4 * 3, expected: LENGTH });
    }
    let bytes = BASE64.decode(text).map_err(|_| InvalidKey::NotBase64)?;
    <[u8; LENGTH]>::try_from(bytes.as_slice())
        .map_err(|_| InvalidKey::Length { length: bytes.len(), expected: LENGTH })
}

/// Unpadded base64 out; in, as tolerant as the base64 reader that most homeservers use.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

const TEXT_LENGTH_MAX: usize = 128;
