//! Reads `Authorization: X-Matrix …`, as differently as homeservers write it.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Request Authentication": parameters in any order and case, spaces
//! and tabs around commas, values quoted (with backslash escapes) or bare (with colons), unknown parameters,
//! `destination` missing. The specification's list calls the signature `signature`, its examples and all
//! implementations `sig`: both are read.

use std::fmt;

use southbridge_words::{InvalidServerName, ServerName};

use super::request::Header;
use super::{InvalidKey, InvalidKeyId, KeyId, Signature};

/// Who says to have signed a request, with which key, and the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// Who asks.
    pub origin: ServerName,
    /// Who is asked; software older than v1.3 of the specification does not say.
    pub destination: Option<ServerName>,
    /// The key of `origin` that signed.
    pub key: KeyId,
    /// What it made.
    pub signature: Signature,
}

/// Why a value of `Authorization` is not of X-Matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XMatrixError {
    /// Another scheme. The only error that does not speak of a broken client.
    #[error("authorization is of another scheme than X-Matrix")]
    OtherScheme,
    /// Longer than anybody needs.
    #[error("authorization has {length} bytes, the most is {LENGTH_MAX}")]
    TooLong {
        /// How long.
        length: usize,
    },
    /// More parameters than anybody has.
    #[error("authorization has more than {PARAMETERS_MAX} parameters")]
    TooMany,
    /// Not a list of parameters.
    #[error("authorization cannot be read at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
    },
    /// A parameter that must be there is not.
    #[error("authorization has no {name:?}")]
    Missing {
        /// Which.
        name: &'static str,
    },
    /// A parameter is there twice: which of them counts is anybody's guess.
    #[error("authorization has {name:?} more than once")]
    Twice {
        /// Which.
        name: &'static str,
    },
    /// `origin` or `destination` is not a server name.
    #[error("{name:?} of the authorization cannot be used: {source}")]
    Name {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        source: InvalidServerName,
    },
    /// `key` names no key.
    #[error("\"key\" of the authorization cannot be used: {0}")]
    Key(InvalidKeyId),
    /// `sig` is no signature.
    #[error("\"sig\" of the authorization cannot be used: {0}")]
    Signature(InvalidKey),
}

impl XMatrix {
    /// Reads the value of an `Authorization` field.
    ///
    /// # Errors
    /// [`XMatrixError`] when it is not one of X-Matrix, or not one that can be believed.
    pub fn parse(value: &[u8]) -> Result<Self, XMatrixError> {
        if value.len() > LENGTH_MAX {
            return Err(XMatrixError::TooLong { length: value.len() });
        }
        let mut reader = Reader { text: value, at: scheme_end(value)? };
        let mut found: [Option<String>; NAMES.len()] = Default::default();
        for read in 0.. {
            let Some((name, value)) = reader.parameter()? else { break };
            if read == PARAMETERS_MAX {
                return Err(XMatrixError::TooMany);
            }
            let Some(slot) = NAMES.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()))
            else {
                continue;
            };
            // A value that is not UTF-8 is none of those we know, and is refused as such.
            let value = String::from_utf8_lossy(&value).into_owned();
            if found[slot].replace(value).is_some() {
                return Err(XMatrixError::Twice { name: NAMES[slot] });
            }
        }
        Self::of_parameters(found)
    }

    fn of_parameters(found: [Option<String>; NAMES.len()]) -> Result<Self, XMatrixError> {
        let [origin, destination, key, sig, signature] = found;
        let signature = match (sig, signature) {
            (Some(_), Some(_)) => return Err(XMatrixError::Twice { name: "sig" }),
            (sig, signature) => sig.or(signature),
        };
        let needed = |name, value: Option<String>| value.ok_or(XMatrixError::Missing { name });
        let server = |name, value: &str| {
            ServerName::parse(value).map_err(|source| XMatrixError::Name { name, source })
        };
        Ok(Self {
            origin: server("origin", &needed("origin", origin)?)?,
            destination: destination.map(|value| server("destination", &value)).transpose()?,
            key: KeyId::parse(&needed("key", key)?).map_err(XMatrixError::Key)?,
            signature: Signature::parse(&needed("sig", signature)?).map_err(XMatrixError::Signature)?,
        })
    }

    /// The value as we would send it to `destination`.
    pub fn header_value(&self, destination: &ServerName) -> String {
        let Self { origin, key, signature, .. } = self;
        Header { origin, destination, key: key.as_str(), signature }.into_text()
    }
}

/// Where the scheme and the space after it end.
fn scheme_end(value: &[u8]) -> Result<usize, XMatrixError> {
    let scheme = value.get(..SCHEME.len()).ok_or(XMatrixError::OtherScheme)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(XMatrixError::OtherScheme);
    }
    match value.get(SCHEME.len()) {
        None | Some(b' ' | b'\t') => Ok(SCHEME.len()),
        Some(_) => Err(XMatrixError::OtherScheme),
    }
}

/// A name, and its value without quotes and backslashes.
type Parameter<'t> = (&'t [u8], Vec<u8>);

struct Reader<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Reader<'t> {
    /// The next `name=value`, or that there is none. Empty elements of the list are passed over.
    fn parameter(&mut self) -> Result<Option<Parameter<'t>>, XMatrixError> {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b','));
        if self.at == self.text.len() {
            return Ok(None);
        }
        let name = self.skip(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
        self.skip_space();
        if name.is_empty() || self.next() != Some(b'=') {
            return Err(self.malformed());
        }
        self.skip_space();
        let value = match self.peek() {
            Some(b'"') => self.quoted()?,
            _ => self.skip(|byte| byte.is_ascii_graphic() && byte != b',' && byte != b'"').to_vec(),
        };
        self.skip_space();
        match self.peek() {
            None | Some(b',') => Ok(Some((name, value))),
            Some(_) => Err(self.malformed()),
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>, XMatrixError> {
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.next() {
                Some(b'"') => return Ok(value),
                Some(b'\\') => match self.next() {
                    Some(escaped) if is_text(escaped) => value.push(escaped),
                    _ => return Err(self.malformed()),
                },
                Some(byte) if is_text(byte) => value.push(byte),
                _ => return Err(self.malformed()),
            }
        }
    }

    fn skip(&mut self, while_it_is: impl Fn(u8) -> bool) -> &'t [u8] {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| !while_it_is(*byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn skip_space(&mut self) {
        self.skip(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn malformed(&self) -> XMatrixError {
        XMatrixError::Malformed { at: self.at }
    }
}

/// What may stand in a quoted value.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

impl fmt::Display for XMatrix {
    /// For logs: without the signature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "X-Matrix of {} with {}", self.origin, self.key)
    }
}

const SCHEME: &[u8] = b"X-Matrix";
const NAMES: [&str; 5] = ["origin", "destination", "key", "sig", "signature"];
/// Two server names and a signature fit four times over.
const LENGTH_MAX: usize = 4_096;
const PARAMETERS_MAX: usize = 32;

#[cfg(test)]
mod tests;
