//! Signing requests and JSON, and believing what others signed (F18).
//!
//! Functions of their arguments only: no clock, no chance, no file. Whether a key is still good is the
//! [`keyring`](crate::keyring)'s to say.
//!
//! ```text
//! key file ──▶ SigningKeys ──▶ Signer ── method, uri, destination, CanonicalJson ──▶ Authorization: X-Matrix …
//! Authorization ──▶ XMatrix ── key of its origin ──▶ verify
//! GET /_matrix/key/v2/server ──▶ ServerKeys          event ──▶ Event ── keys ──▶ verify, event_id
//! ```
//!
//! # Source
//! F18; Matrix specification v1.19, appendices, "Signing JSON", and Server-Server API, "Request Authentication",
//! "Retrieving server keys", "Signing Events".

pub mod canonical;
mod ed25519;
mod event;
mod key_file;
mod key_id;
mod request;
mod server_keys;
mod signed_json;
mod x_matrix;

pub use canonical::{CanonicalError, CanonicalJson, Numbers, to_canonical, to_canonical_without};
pub use ed25519::{BadSignature, InvalidKey, SecretKey, Signature, VerifyKey};
pub use event::{Event, EventError, RoomVersion, Verified};
pub use key_file::{ExpiredKey, KeyFileError, LineProblem, SigningKey, SigningKeys};
pub use key_id::{InvalidKeyId, KeyId};
pub use request::{RequestError, SignedRequest, Signer, UnfitRequest};
pub use server_keys::{ServerKeys, ServerKeysError};
pub use signed_json::{SignedJson, SignedJsonError, sign_json, verify_json};
pub use x_matrix::{XMatrix, XMatrixError};
