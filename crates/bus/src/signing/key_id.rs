//! The names of keys.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The name of an Ed25519 signing key: `ed25519:` and a version. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(Arc<str>);

/// Why a text does not name an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKeyId {
    /// Another algorithm, or none.
    #[error("key id does not begin with \"ed25519:\"")]
    Algorithm,
    /// The version is empty, too long, or has other characters than letters, digits and underscores.
    #[error("version of the key id is not 1 to {VERSION_LENGTH_MAX} letters, digits and underscores")]
    Version,
}

impl KeyId {
    /// Reads `ed25519:VERSION`.
    ///
    /// # Errors
    /// [`InvalidKeyId`] says which half is wrong. The grammar is that of the Server-Server API, "Retrieving
    /// server keys".
    pub fn parse(text: &str) -> Result<Self, InvalidKeyId> {
        let version = text.strip_prefix(PREFIX).ok_or(InvalidKeyId::Algorithm)?;
        let of_version = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if version.is_empty() || version.len() > VERSION_LENGTH_MAX || !version.bytes().all(of_version) {
            return Err(InvalidKeyId::Version);
        }
        Ok(Self(text.into()))
    }

    /// The key of that version.
    ///
    /// # Errors
    /// [`InvalidKeyId::Version`], as for [`KeyId::parse`].
    pub fn of_version(version: &str) -> Result<Self, InvalidKeyId> {
        Self::parse(&format!("{PREFIX}{version}"))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What comes after the algorithm.
    pub fn version(&self) -> &str {
        &self.0[PREFIX.len()..]
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

const PREFIX: &str = "ed25519:";
/// The grammar has no bound. Versions in use have 1 to 8 characters; some software takes the public key itself (43).
const VERSION_LENGTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_are_ed25519_and_a_plain_version() {
        let id = KeyId::parse("ed25519:a_AbCd").unwrap();
        assert_eq!((id.as_str(), id.version()), ("ed25519:a_AbCd", "a_AbCd"));
        assert_eq!(KeyId::of_version("a_AbCd"), Ok(id));
        for text in ["", "ed25519", "rsa:1", "ED25519:1", " ed25519:1"] {
            assert_eq!(KeyId::parse(text), Err(InvalidKeyId::Algorithm), "{text}");
        }
        for version in ["", "a-b", "a b", "a\"", "a,b", "é", &"a".repeat(129)] {
            assert_eq!(KeyId::of_version(version), Err(InvalidKeyId::Version), "{version}");
        }
    }
}
