//! The keys we sign with, and the file they are kept in.
//!
//! # Source
//! F18: the format of Synapse's `signing.key`. A line is `ed25519 VERSION SEED` for a key that signs, or
//! `ed25519 VERSION EXPIRED_TS KEY` for one that no longer does, where `EXPIRED_TS` is in milliseconds since the
//! Unix epoch and `KEY` is the public half. Empty lines and lines that begin with `#` are skipped.

use southbridge_words::{Secret, WallTime};

use super::ed25519::{BASE64, decode};
use super::{InvalidKey, KeyId, SecretKey, VerifyKey};

/// The keys of one homeserver: those it signs with, and those it once did. Never empty.
#[derive(Clone, Debug)]
pub struct SigningKeys {
    active: Vec<SigningKey>,
    expired: Vec<ExpiredKey>,
}

/// A key that signs.
#[derive(Clone, Debug)]
pub struct SigningKey {
    id: KeyId,
    secret: SecretKey,
}

/// A key that once signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpiredKey {
    /// Its name.
    pub id: KeyId,
    /// Its public half.
    pub key: VerifyKey,
    /// When it last signed.
    pub expired_at: WallTime,
}

/// What is wrong with a key file. Says nothing of what stands in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// A line is not as it should be.
    #[error("line {line} of the key file: {problem}")]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineProblem,
    },
    /// Nothing to sign with.
    #[error("key file has no key that signs")]
    NoKey,
    /// More keys than anybody has.
    #[error("key file has more than {KEYS_MAX} keys")]
    TooManyKeys,
}

/// What is wrong with a line of a key file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineProblem {
    /// Neither three fields nor four.
    #[error("it has {fields} fields; a key has three (ed25519, version, seed), an expired key four")]
    Fields {
        /// How many it has.
        fields: usize,
    },
    /// Another algorithm.
    #[error("its first field is not \"ed25519\", the only algorithm there is")]
    Algorithm,
    /// Its version cannot be part of a key id.
    #[error("its second field, the version, is not letters, digits and underscores")]
    Version,
    /// The version is that of an earlier line.
    #[error("its version stands in line {earlier} already")]
    Again {
        /// Where it stood first.
        earlier: usize,
    },
    /// The seed is none.
    #[error("its seed cannot be used: {0}")]
    Seed(InvalidKey),
    /// The public key of an expired key is none.
    #[error("its public key cannot be used: {0}")]
    Key(InvalidKey),
    /// The time of an expired key is not a number.
    #[error("its third field, the time of expiry, is not a number of milliseconds")]
    Time,
}

impl SigningKeys {
    /// Reads a key file.
    ///
    /// # Errors
    /// [`KeyFileError`] names the line and what is wrong with it, and never shows what stands in it.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = Self { active: Vec::new(), expired: Vec::new() };
        let mut lines_of_ids = Vec::new();
        for (index, text) in text.lines().enumerate() {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if lines_of_ids.len() == KEYS_MAX {
                return Err(KeyFileError::TooManyKeys);
            }
            let line = index + 1;
            keys.read_line(text, line, &mut lines_of_ids)
                .map_err(|problem| KeyFileError::Line { line, problem })?;
        }
        if keys.active.is_empty() { Err(KeyFileError::NoKey) } else { Ok(keys) }
    }

    /// A homeserver that has this one key.
    pub fn of(key: SigningKey) -> Self {
        Self { active: vec![key], expired: Vec::new() }
    }

    /// The keys that sign, in the order of the file.
    pub fn active(&self) -> &[SigningKey] {
        &self.active
    }

    /// The keys that no longer sign, in the order of the file.
    pub fn expired(&self) -> &[ExpiredKey] {
        &self.expired
    }

    fn read_line(
        &mut self,
        text: &str,
        line: usize,
        lines_of_ids: &mut Vec<(KeyId, usize)>,
    ) -> Result<(), LineProblem> {
        let fields: Vec<_> = text.split_ascii_whitespace().collect();
        let id = read_id(&fields)?;
        if let Some((_, earlier)) = lines_of_ids.iter().find(|(earlier, _)| *earlier == id) {
            return Err(LineProblem::Again { earlier: *earlier });
        }
        match *fields.as_slice() {
            [_, _, seed] => {
                let seed = decode(seed).map_err(LineProblem::Seed)?;
                self.active.push(SigningKey::from_seed(id.clone(), &seed));
            }
            [_, _, expired_ts, key] => {
                let expired_ts = expired_ts.parse().map_err(|_| LineProblem::Time)?;
                let expired_at = WallTime::from_unix_millis(expired_ts);
                let key = VerifyKey::parse(key).map_err(LineProblem::Key)?;
                self.expired.push(ExpiredKey { id: id.clone(), key, expired_at });
            }
            _ => return Err(LineProblem::Fields { fields: fields.len() }),
        }
        lines_of_ids.push((id, line));
        Ok(())
    }
}

fn read_id(fields: &[&str]) -> Result<KeyId, LineProblem> {
    let (3 | 4) = fields.len() else { return Err(LineProblem::Fields { fields: fields.len() }) };
    if fields[0] != "ed25519" {
        return Err(LineProblem::Algorithm);
    }
    KeyId::of_version(fields[1]).map_err(|_| LineProblem::Version)
}

impl SigningKey {
    /// The key that `seed` makes, under the name `id`. For a new key the seed is 32 bytes of chance.
    pub fn from_seed(id: KeyId, seed: &[u8; 32]) -> Self {
        Self { id, secret: SecretKey::from_seed(seed) }
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// What signs.
    pub fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// The public half.
    pub fn verify_key(&self) -> VerifyKey {
        self.secret.verify_key()
    }

    /// Its line in a key file, without the end of line.
    pub fn line(&self) -> Secret {
        use base64::Engine;
        let line = format!("ed25519 {} {}", self.id.version(), BASE64.encode(self.secret.seed()));
        Secret::new(line.into_bytes())
    }
}

/// A homeserver has one or two keys that sign, and a few that once did.
const KEYS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &str = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
    const KEY: &str = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";

    fn problem(text: &str) -> String {
        SigningKeys::parse(text).expect_err(text).to_string()
    }

    /// The file of a server that changed its key twice, once with an overlap.
    #[test]
    fn a_key_file_has_keys_that_sign_and_keys_that_once_did() {
        let text =
            format!("# ours\ned25519 1 {SEED}\n\n ed25519\ta_AbCd {SEED}= \r\ned25519 old 1000 {KEY}\n");
        let keys = SigningKeys::parse(&text).unwrap();
        let ids: Vec<_> = keys.active().iter().map(|key| key.id().as_str()).collect();
        assert_eq!(ids, ["ed25519:1", "ed25519:a_AbCd"]);
        assert_eq!(keys.active()[0].verify_key().to_string(), KEY);
        let expired = ExpiredKey {
            id: KeyId::parse("ed25519:old").unwrap(),
            key: VerifyKey::parse(KEY).unwrap(),
            expired_at: WallTime::from_unix_millis(1000),
        };
        assert_eq!(keys.expired(), [expired]);
    }

    #[test]
    fn a_new_key_is_written_as_it_is_read() {
        let key = SigningKey::from_seed(KeyId::of_version("a_1").unwrap(), &[7; 32]);
        let line = String::from_utf8(key.line().expose().to_vec()).unwrap();
        let read = SigningKeys::parse(&line).unwrap();
        assert_eq!(read.active()[0].verify_key(), key.verify_key());
        assert_eq!(read.active()[0].id(), key.id());
    }

    /// Whoever mends the file learns the line and the reason; whoever reads the log does not learn the key.
    #[test]
    fn a_bad_key_file_is_refused_by_line_and_never_quoted() {
        let cases = [
            (format!("ed25519 {SEED}"), "line 1 of the key file: it has 2 fields"),
            (format!("\n\n{SEED}"), "line 3 of the key file: it has 1 fields"),
            (format!("{SEED} 1 ed25519"), "its first field is not"),
            (format!("ed25519 a-b {SEED}"), "its second field, the version"),
            (format!("ed25519 {SEED} 1"), "line 1 of the key file: its"),
            (
                format!("ed25519 1 {SEED}\ned25519 1 {SEED}"),
                "line 2 of the key file: its version stands in line 1",
            ),
            (format!("ed25519 1 {}", &SEED[..40]), "it has 30 bytes instead of 32"),
            (format!("ed25519 1 !{SEED}"), "it is not base64"),
            (format!("ed25519 1 {}", SEED.repeat(9)), "bytes instead of 32"),
            (format!("ed25519 1 soon {KEY}"), "its third field, the time"),
            (format!("ed25519 1 5 {}", "A".repeat(43)), "its public key cannot be used"),
            (format!("ed25519 1 1000 {KEY}"), "no key that signs"),
            (String::new(), "no key that signs"),
            ("ed25519 x y\n".repeat(2), "line 1"),
        ];
        for (text, expected) in cases {
            let problem = problem(&text);
            assert!(problem.contains(expected), "{problem:?} does not say {expected:?}");
            assert!(!problem.contains(&SEED[..8]), "{problem:?} shows the seed");
        }
        let many: String = (0..300).map(|n| format!("ed25519 k{n} {SEED}\n")).collect();
        assert_eq!(SigningKeys::parse(&many).unwrap_err(), KeyFileError::TooManyKeys);
    }

    #[test]
    fn keys_never_print() {
        let keys = SigningKeys::parse(&format!("ed25519 1 {SEED}")).unwrap();
        let printed = format!("{keys:?} {:?}", keys.active()[0].secret());
        assert!(printed.contains("[redacted]") && !printed.contains("YJDB"), "{printed}");
        assert_eq!(format!("{:?}", keys.active()[0].line()), "[redacted]");
    }
}
