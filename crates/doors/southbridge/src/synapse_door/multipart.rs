//! The beginning of federation media: a part of JSON, then the head of the part that is the file.
//!
//! Synapse's reader goes wrong when a read ends within either part's head, so that nothing of it
//! is passed on before both are here; and it fetches the `Location` that the second may have on its
//! own, around every address policy, so that such a location is never passed on at all.
//!
//! # Source
//! Matrix server-server API v1.19, "Content Repository" (`multipart/mixed` of exactly two parts);
//! RFC 2046 §5.1.1.

use bytes::{Bytes, BytesMut};
use http::HeaderValue;

/// The boundary between the parts of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary(Vec<u8>);

/// How much of the part heads is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartHeads {
    /// More bytes are needed.
    Incomplete,
    /// Both are there.
    Complete {
        /// Where the second part's content begins.
        content_at: usize,
        /// Where the second part says that its content is.
        location: Option<Bytes>,
    },
}

/// Why a response is not one that Synapse could read, or that it might read in another way than we.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// The parameter that the parts are told apart by.
    #[error("its Content-Type does not name one boundary of 1 to 70 characters")]
    Boundary,
    /// Not two parts.
    #[error("it does not have two parts")]
    Parts,
    /// A `Location` where none belongs.
    #[error("its first part has a Location")]
    MisplacedLocation,
    /// More than is gathered.
    #[error("its part heads are not complete within {PART_HEADS_MAX} bytes")]
    TooLarge,
}

impl Boundary {
    /// The boundary that `content_type` names; `None` when its body has no parts.
    ///
    /// # Errors
    /// [`MultipartError::Boundary`] when readers may differ about it.
    pub fn of(content_type: &HeaderValue) -> Result<Option<Self>, MultipartError> {
        let bytes = content_type.as_bytes().to_ascii_lowercase();
        if !bytes.starts_with(b"multipart/") && find(&bytes, b"boundary").is_none() {
            return Ok(None);
        }
        let text = content_type.to_str().map_err(|_| MultipartError::Boundary)?;
        let (_, mut rest) = text.split_once(';').ok_or(MultipartError::Boundary)?;
        let mut boundary = None;
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = parameter(after).ok_or(MultipartError::Boundary)?;
            if name.to_ascii_lowercase().contains("boundary") {
                let fits = (1..=BOUNDARY_MAX).contains(&value.len()) && name.trim().len() == "boundary".len();
                if !fits || boundary.is_some() {
                    return Err(MultipartError::Boundary);
                }
                boundary = Some(Self(value.into_bytes()));
            }
            rest = match after.trim_start() {
                "" => "",
                after => after.strip_prefix(';').ok_or(MultipartError::Boundary)?,
            };
        }
        boundary.map(Some).ok_or(MultipartError::Boundary)
    }

    /// A boundary that is not in any file.
    pub fn random() -> Self {
        Self(format!("southbridge-{:032x}", rand::random::<u128>()).into_bytes())
    }

    /// The value of `Content-Type` for it.
    pub fn content_type(&self) -> HeaderValue {
        let text = [b"multipart/mixed; boundary=", &self.0[..]].concat();
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("multipart/mixed"))
    }

    /// Everything before the file: an empty JSON part, and the file's head.
    pub fn preface(&self, content_type: &HeaderValue, disposition: Option<&HeaderValue>) -> BytesMut {
        let mut preface = BytesMut::with_capacity(PREFACE_CAPACITY);
        for part in [
            b"--",
            &self.0[..],
            b"\r\nContent-Type: application/json\r\n\r\n{}\r\n--",
            &self.0,
            b"\r\nContent-Type: ",
            content_type.as_bytes(),
        ] {
            preface.extend_from_slice(part);
        }
        if let Some(disposition) = disposition {
            preface.extend_from_slice(b"\r\nContent-Disposition: ");
            preface.extend_from_slice(disposition.as_bytes());
        }
        preface.extend_from_slice(b"\r\n\r\n");
        preface
    }

    /// What stands before every part but perhaps the first.
    pub(crate) fn delimiter(&self) -> Vec<u8> {
        [b"\r\n--", &self.0[..]].concat()
    }

    /// Everything after it.
    pub fn epilogue(&self) -> Bytes {
        [b"\r\n--", &self.0[..], b"--\r\n"].concat().into()
    }

    /// Looks for both part heads at the beginning of a body.
    ///
    /// # Errors
    /// [`MultipartError`] when it is sure that they will not come.
    pub fn find_heads(&self, body: &[u8]) -> Result<PartHeads, MultipartError> {
        let delimiter = self.delimiter();
        // The first delimiter may begin the body, without a line end before it.
        let first = match body.strip_prefix(&delimiter[2..]) {
            Some(rest) => after_delimiter(body, body.len() - rest.len()),
            None => next_delimiter(body, 0, &delimiter),
        };
        let Some(Part { content_at, location }) = open(body, first)? else { return incomplete(body) };
        if location.is_some() {
            return Err(MultipartError::MisplacedLocation);
        }
        // An empty part may be followed by its delimiter without a line in between.
        let second = next_delimiter(body, content_at - 2, &delimiter);
        match open(body, second)? {
            Some(Part { content_at, location }) => Ok(PartHeads::Complete { content_at, location }),
            None => incomplete(body),
        }
    }
}

/// What stands behind a delimiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delimiter {
    /// Nothing yet, or there is none yet.
    Awaited,
    /// A part, whose fields begin here.
    Open { fields_at: usize },
    /// The end.
    Closing,
    /// It only looked like one.
    Mistaken,
}

/// The next delimiter at or after `from`.
fn next_delimiter(body: &[u8], mut from: usize, delimiter: &[u8]) -> Delimiter {
    while let Some(at) = find(&body[from..], delimiter) {
        match after_delimiter(body, from + at + delimiter.len()) {
            Delimiter::Mistaken => from += at + 2,
            known => return known,
        }
    }
    Delimiter::Awaited
}

fn after_delimiter(body: &[u8], at: usize) -> Delimiter {
    let rest = &body[at..];
    let padding = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    match (rest, &rest[padding..]) {
        (_, []) | ([b'-'], _) | (_, [b'\r']) => Delimiter::Awaited,
        ([b'-', b'-', ..], _) => Delimiter::Closing,
        (_, [b'\r', b'\n', ..]) => Delimiter::Open { fields_at: at + padding + 2 },
        _ => Delimiter::Mistaken,
    }
}

struct Part {
    content_at: usize,
    location: Option<Bytes>,
}

/// The part behind `delimiter`, once its head is complete.
fn open(body: &[u8], delimiter: Delimiter) -> Result<Option<Part>, MultipartError> {
    let fields_at = match delimiter {
        Delimiter::Awaited => return Ok(None),
        Delimiter::Closing | Delimiter::Mistaken => return Err(MultipartError::Parts),
        Delimiter::Open { fields_at } => fields_at,
    };
    // From the line end before the first field, so that a head without fields is found as well.
    let Some(length) = find(&body[fields_at - 2..], b"\r\n\r\n") else { return Ok(None) };
    let content_at = fields_at - 2 + length + 4;
    let fields = &body[fields_at..content_at - 2];
    let location = fields.split(|byte| *byte == b'\n').find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        name.eq_ignore_ascii_case(b"location").then(|| Bytes::copy_from_slice(value))
    });
    Ok(Some(Part { content_at, location }))
}

fn incomplete(body: &[u8]) -> Result<PartHeads, MultipartError> {
    if body.len() >= PART_HEADS_MAX { Err(MultipartError::TooLarge) } else { Ok(PartHeads::Incomplete) }
}

/// A parameter's value, quoted or not, and what follows it.
fn parameter(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start();
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return Some((text[..end].trim_end().to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}

/// How much is gathered in search of both part heads. The JSON between them is empty today; with the
/// head of the response the whole still fits in one read of Synapse's (64 KiB).
pub const PART_HEADS_MAX: usize = 16 * 1024;
/// RFC 2046 §5.1.1.
const BOUNDARY_MAX: usize = 70;
const PREFACE_CAPACITY: usize = 512;

#[cfg(test)]
#[path = "multipart_tests.rs"]
mod tests;
