//! Canonical JSON: the one text that a signature is made over.
//!
//! It is made straight from text to text, in one pass: what is signed is what stands in the body that goes out,
//! and nothing of it is lost on the way through numbers and maps of our own.
//!
//! Two readings of numbers are known, because PDUs of room versions 1 to 5 may hold numbers that canonical JSON
//! has no place for ([`Numbers`]). The rest is the same in both: keys by code point, the last of two equal keys
//! counts, the shortest form of everything, UTF-8.
//!
//! # Source
//! Matrix specification v1.19, appendices, "Canonical JSON".

mod members;
mod number;
mod writer;

use std::fmt;

use bytes::Bytes;

use self::writer::Writer;

/// JSON text in canonical form. Cheap to clone: ten thousand requests with one content share its bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CanonicalJson(Bytes);

/// How numbers are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// As the specification has them: integers of at most 2^53 − 1 either way. What has the value of one is written
    /// as one (`-0`, `1e10`), anything else is refused.
    Canonical,
    /// As a homeserver in Python reads and writes them back: integers of any size digit by digit, everything with a
    /// fraction or an exponent as the shortest text of its double. For requests whose content others wrote.
    AsPython,
}

/// Why a text has no canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CanonicalError {
    /// Not UTF-8.
    #[error("text is not UTF-8 at byte {at}")]
    NotUtf8 {
        /// Where.
        at: usize,
    },
    /// Not JSON, or cut off.
    #[error("text is no JSON at byte {at}")]
    Syntax {
        /// Where.
        at: usize,
    },
    /// Nested deeper than is taken.
    #[error("JSON is nested deeper than {depth_max} levels")]
    TooDeep {
        /// The most levels that are taken.
        depth_max: u32,
    },
    /// Half a pair of UTF-16 surrogates: no text can hold it.
    #[error("JSON has half a surrogate pair at byte {at}")]
    LoneSurrogate {
        /// Where.
        at: usize,
    },
    /// A number that cannot be written in the form asked for.
    #[error("JSON has a number at byte {at} that {problem}")]
    Number {
        /// Where.
        at: usize,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// An object was asked for.
    #[error("JSON is not an object")]
    NotObject,
}

/// The canonical form of `text`, any JSON value.
///
/// # Errors
/// [`CanonicalError`] when there is none; also when what is wrong stands in a member that a later one replaces.
pub fn to_canonical(text: &[u8], numbers: Numbers) -> Result<CanonicalJson, CanonicalError> {
    Ok(CanonicalJson(Writer::new(text, numbers, &[])?.write()?.into()))
}

/// The canonical form of the object `text` without those of its own members whose keys are `omitted`.
///
/// # Errors
/// [`CanonicalError`] when there is none, or when `text` is not an object.
pub fn to_canonical_without(
    text: &[u8],
    numbers: Numbers,
    omitted: &[&str],
) -> Result<CanonicalJson, CanonicalError> {
    let written = Writer::new(text, numbers, omitted)?.write()?;
    if written.first() != Some(&b'{') {
        return Err(CanonicalError::NotObject);
    }
    Ok(CanonicalJson(written.into()))
}

impl CanonicalJson {
    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, shared.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl fmt::Debug for CanonicalJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CanonicalJson([{} bytes])", self.0.len())
    }
}

/// The most levels of nesting. Twice what the strictest peers read (128, serde_json's bound), far below what a
/// Python server reads (about 1,000), and little enough to be walked on any stack.
pub const DEPTH_MAX: u32 = 256;

#[cfg(test)]
mod tests;
