//! What an X-Matrix signature is made over, and who makes it.
//!
//! # Source
//! Matrix specification v1.19, Server-Server API, "Request Authentication": the signature of the JSON object
//! `{content, destination, method, origin, uri}`, where `uri` is path and query from `/_matrix` on as they stand in
//! the request line, the names are those before delegation, and `content` is absent when there is no body.

use std::sync::Arc;

use southbridge_words::ServerName;

use super::{BadSignature, CanonicalJson, Signature, SigningKeys, VerifyKey, XMatrix};

/// Signs the requests of one homeserver. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signer {
    origin: ServerName,
    keys: Arc<SigningKeys>,
}

/// A request, as far as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'r> {
    /// The method, as in the request line.
    pub method: &'r str,
    /// Path and query, as in the request line.
    pub uri: &'r str,
    /// Who asks.
    pub origin: &'r ServerName,
    /// Who is asked.
    pub destination: &'r ServerName,
    /// The body, where there is one.
    pub content: Option<&'r CanonicalJson>,
}

/// Why a request is not signed: what would go out is not what was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnfitRequest {
    /// The method has a character that no method has.
    #[error("method of the request has a forbidden character at byte {at}")]
    Method {
        /// Where; the length, when it is empty.
        at: usize,
    },
    /// The path and query do not begin with `/`, or have a space, a control character, `#`, or one beyond ASCII.
    #[error("path and query of the request have a forbidden character at byte {at}")]
    Uri {
        /// Where; 0, when there is no leading `/`.
        at: usize,
    },
}

/// Why a request that came in is not believed. Each is a 401.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It was signed for another server.
    #[error("request is signed for {named} instead of this server")]
    WrongDestination {
        /// For whom.
        named: ServerName,
    },
    /// Its request line cannot have been signed.
    #[error(transparent)]
    Unfit(#[from] UnfitRequest),
    /// The signature does not fit.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl Signer {
    /// Signs for `origin` with `keys`.
    pub fn new(origin: ServerName, keys: SigningKeys) -> Self {
        Self { origin, keys: Arc::new(keys) }
    }

    /// For whom it signs.
    pub fn origin(&self) -> &ServerName {
        &self.origin
    }

    /// With what it signs.
    pub fn keys(&self) -> &SigningKeys {
        &self.keys
    }

    /// The values of the `Authorization` fields of a request: one for each key that signs, in the order of the
    /// key file, never none.
    ///
    /// `uri` is path and query as they will stand in the request line. `content` is the canonical form of the
    /// body that will be sent; made once, it serves any number of destinations. Units: none. About 30 µs of CPU for
    /// a body of 2 KB and one key.
    ///
    /// # Errors
    /// [`UnfitRequest`] when the method or the path would break the request line (faults row 10). Server names and
    /// key ids cannot: their types do not hold such.
    pub fn authorization(
        &self,
        method: &str,
        uri: &str,
        destination: &ServerName,
        content: Option<&CanonicalJson>,
    ) -> Result<Vec<String>, UnfitRequest> {
        let request = SignedRequest { method, uri, origin: &self.origin, destination, content };
        let message = request.message()?;
        let values = self.keys.active().iter().map(|key| {
            let signature = key.secret().sign(&message);
            Header { origin: &self.origin, destination, key: key.id().as_str(), signature: &signature }
                .into_text()
        });
        Ok(values.collect())
    }
}

impl SignedRequest<'_> {
    /// The canonical JSON that is signed. Its keys are in order as they stand here.
    fn message(&self) -> Result<Vec<u8>, UnfitRequest> {
        check_method(self.method)?;
        check_uri(self.uri)?;
        let content = self.content.map_or(&b""[..], CanonicalJson::as_bytes);
        let mut message = Vec::with_capacity(content.len() + self.uri.len() + ROOM_FOR_NAMES);
        message.push(b'{');
        if self.content.is_some() {
            message.extend_from_slice(b"\"content\":");
            message.extend_from_slice(content);
            message.push(b',');
        }
        for (key, value) in [
            (&b"\"destination\":\""[..], self.destination.as_str()),
            (b"\",\"method\":\"", self.method),
            (b"\",\"origin\":\"", self.origin.as_str()),
        ] {
            message.extend_from_slice(key);
            message.extend_from_slice(value.as_bytes());
        }
        message.extend_from_slice(b"\",\"uri\":\"");
        for byte in self.uri.bytes() {
            if matches!(byte, b'"' | b'\\') {
                message.push(b'\\');
            }
            message.push(byte);
        }
        message.extend_from_slice(b"\"}");
        Ok(message)
    }
}

impl XMatrix {
    /// Checks that `key`, which is that of [`origin`](Self::origin) under the name [`key`](Self::key), signed a request
    /// to `us`.
    ///
    /// # Errors
    /// [`RequestError`]: answer with 401.
    pub fn verify(
        &self,
        method: &str,
        uri: &str,
        us: &ServerName,
        content: Option<&CanonicalJson>,
        key: &VerifyKey,
    ) -> Result<(), RequestError> {
        if let Some(named) = &self.destination
            && named != us
        {
            return Err(RequestError::WrongDestination { named: named.clone() });
        }
        let request = SignedRequest { method, uri, origin: &self.origin, destination: us, content };
        Ok(key.verify(&request.message()?, &self.signature)?)
    }
}

/// An `Authorization` value as it is sent: all values quoted, as all implementations have always sent them, so that
/// parsers that know nothing else read them, too. Nothing in them ever needs a backslash.
pub(super) struct Header<'h> {
    pub(super) origin: &'h ServerName,
    pub(super) destination: &'h ServerName,
    pub(super) key: &'h str,
    pub(super) signature: &'h Signature,
}

impl Header<'_> {
    pub(super) fn into_text(self) -> String {
        let (origin, destination) = (self.origin.as_str(), self.destination.as_str());
        let mut text = String::with_capacity(
            origin.len() + destination.len() + self.key.len() + Signature::BASE64_BYTES + ROOM_FOR_WORDS,
        );
        for (word, value) in
            [("X-Matrix origin=\"", origin), ("\",destination=\"", destination), ("\",key=\"", self.key)]
        {
            text.push_str(word);
            text.push_str(value);
        }
        text.push_str("\",sig=\"");
        self.signature.write_base64(&mut text);
        text.push('"');
        text
    }
}

fn check_method(method: &str) -> Result<(), UnfitRequest> {
    let of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    match method.bytes().position(|byte| !of_token(byte)) {
        None if !method.is_empty() => Ok(()),
        at => Err(UnfitRequest::Method { at: at.unwrap_or(0) }),
    }
}

fn check_uri(uri: &str) -> Result<(), UnfitRequest> {
    if !uri.starts_with('/') {
        return Err(UnfitRequest::Uri { at: 0 });
    }
    // A `#` would end the path on the way out, and what was signed would not be what arrives.
    match uri.bytes().position(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        None => Ok(()),
        Some(at) => Err(UnfitRequest::Uri { at }),
    }
}

/// The rest of the signed object: keys, quotes, method and two server names of ordinary length.
const ROOM_FOR_NAMES: usize = 192;
/// The words and quotes of an `Authorization` value.
const ROOM_FOR_WORDS: usize = 64;
