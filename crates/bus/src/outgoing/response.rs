//! What comes back.
//!
//! Whatever a peer sends becomes one of these: bounded, and never a panic.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The status line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FederationResponse {
    /// The status code.
    pub status: u16,
    /// What that code means in words.
    pub text: String,
}

/// Why a query has no result: what the peer said, or what we say in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct FederationErrorResponse {
    /// The status line of the peer's answer; none when there was no answer.
    pub response: Option<FederationResponse>,
    /// The error code.
    pub errcode: String,
    /// What happened, in words.
    pub error: String,
    /// All other keys of the peer's answer.
    pub other: Map<String, Value>,
}

impl FederationErrorResponse {
    /// An error of our own making: no answer of the peer stands behind it.
    pub fn ours(errcode: &str, error: impl Into<String>) -> Self {
        Self { response: None, errcode: errcode.to_owned(), error: error.into(), other: Map::new() }
    }

    /// What an answer with the error `status` and `body` says. A body that is no Matrix error, or more than
    /// 64 KiB, is not repeated; then the code is `M_UNKNOWN`.
    pub fn of_answer(response: FederationResponse, body: &[u8]) -> Self {
        let parsed = if body.len() > ERROR_BYTES_MAX { None } else { serde_json::from_slice(body).ok() };
        let Some(Value::Object(mut other)) = parsed else {
            let error =
                format!("the peer answered {} {} without a Matrix error", response.status, response.text);
            return Self { response: Some(response), errcode: UNKNOWN.to_owned(), error, other: Map::new() };
        };
        let errcode = take_string(&mut other, "errcode").unwrap_or_else(|| UNKNOWN.to_owned());
        let error = take_string(&mut other, "error").unwrap_or_default();
        Self { response: Some(response), errcode, error, other }
    }

    /// The Matrix error as a JSON object.
    pub fn to_json(&self) -> Value {
        let mut object = self.other.clone();
        object.insert("errcode".to_owned(), Value::String(self.errcode.clone()));
        object.insert("error".to_owned(), Value::String(self.error.clone()));
        Value::Object(object)
    }
}

impl fmt::Display for FederationErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.errcode, self.error)
    }
}

impl std::error::Error for FederationErrorResponse {}

/// The JSON that a query brought, as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct FederationQueryResponse(Bytes);

impl FederationQueryResponse {
    /// Takes the body of an answer.
    ///
    /// # Errors
    /// [`UnknownOutcome`] when it is not JSON.
    pub fn parse(body: Bytes) -> Result<Self, UnknownOutcome> {
        serde_json::from_slice::<&RawValue>(&body)?;
        Ok(Self(body))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for FederationQueryResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FederationQueryResponse([redacted], {} bytes)", self.0.len())
    }
}

/// What a peer made of a transaction. The peer has taken all of it: PDUs with an error are not sent again
/// (Matrix specification, "Transactions").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FederationTransactionResponse {
    /// The PDUs that the peer refused, by event id, and why. At most as many as a transaction has PDUs.
    pub errors: BTreeMap<String, String>,
}

/// A 200 whose body is none: the peer may or may not have done the work (faults row 17).
#[derive(Debug, thiserror::Error)]
#[error("the body of the answer is not what it should be")]
pub struct UnknownOutcome(#[from] serde_json::Error);

#[derive(Deserialize)]
struct TransactionBody {
    pdus: BTreeMap<String, PduResult>,
}

#[derive(Deserialize)]
struct PduResult {
    #[serde(default)]
    error: Option<Value>,
}

impl FederationTransactionResponse {
    /// Reads the body of a 200.
    ///
    /// # Errors
    /// [`UnknownOutcome`] when it is not JSON, or has no `pdus`.
    pub fn parse(body: &[u8]) -> Result<Self, UnknownOutcome> {
        let body: TransactionBody = serde_json::from_slice(body)?;
        let errors = body
            .pdus
            .into_iter()
            .filter_map(|(id, result)| Some((shortened(id), reason(result.error?))))
            .take(ERRORS_MAX)
            .collect();
        Ok(Self { errors })
    }
}

fn reason(error: Value) -> String {
    match error {
        Value::String(text) => shortened(text),
        other => shortened(other.to_string()),
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let whole = |end: &usize| text.is_char_boundary(*end);
        text.truncate((0..=TEXT_BYTES_MAX).rev().find(whole).unwrap_or(0));
        text.shrink_to_fit();
    }
    text
}

fn take_string(object: &mut Map<String, Value>, key: &str) -> Option<String> {
    match object.remove(key)? {
        Value::String(text) => Some(shortened(text)),
        _ => None,
    }
}

/// For what is wrong without a code of its own.
const UNKNOWN: &str = "M_UNKNOWN";
/// Error bodies are some hundred bytes; captive portals send whole pages.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// An error of a PDU is a sentence.
const TEXT_BYTES_MAX: usize = 1024;
/// A transaction has no more PDUs.
const ERRORS_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16) -> FederationResponse {
        FederationResponse { status, text: "Forbidden".to_owned() }
    }

    /// Keys that the specification does not name are kept: a peer says `soft_logout` or `retry_after_ms` there.
    #[test]
    fn an_error_keeps_all_its_keys() {
        let body = br#"{"errcode":"M_FORBIDDEN","error":"no","room_version":"9","retry_after_ms":3}"#;
        let error = FederationErrorResponse::of_answer(status(403), body);
        assert_eq!((error.errcode.as_str(), error.error.as_str()), ("M_FORBIDDEN", "no"));
        assert_eq!(error.other["room_version"], "9");
        assert_eq!(error.to_json()["retry_after_ms"], 3);
        assert_eq!(error.to_string(), "M_FORBIDDEN: no");
    }

    /// The page of a portal, a list, a wrong type, nothing at all: an error all the same.
    #[test]
    fn an_error_that_is_none_is_still_told() {
        let flood = format!("{{\"errcode\":\"{}\"}}", "x".repeat(ERROR_BYTES_MAX));
        for body in ["<html>", "[]", "", "{\"errcode\":7}", &flood] {
            let error = FederationErrorResponse::of_answer(status(403), body.as_bytes());
            assert_eq!(error.errcode, "M_UNKNOWN", "{body:.40}");
            assert_eq!(error.response, Some(status(403)));
        }
    }

    /// A 200 is a success even when every PDU in it was refused; the refusals are told.
    #[test]
    fn row_17_refused_pdus_are_told_and_final() {
        let body = br#"{"pdus":{"$a":{},"$b":{"error":"bad signature"},"$c":{"error":{"x":1}}},"more":[]}"#;
        let response = FederationTransactionResponse::parse(body).unwrap();
        let told: Vec<_> = response.errors.iter().map(|(id, why)| (id.as_str(), why.as_str())).collect();
        assert_eq!(told, [("$b", "bad signature"), ("$c", "{\"x\":1}")]);
    }

    /// A 200 without a usable body says nothing about what was done.
    #[test]
    fn row_17_an_answer_that_is_none_is_an_unknown_outcome() {
        for body in ["", "{}", "[]", "<html>", "{\"pdus\":[]}", "{\"pdus\":{}} x", "{\"pdus\":{\"$a\":3}}"] {
            assert!(FederationTransactionResponse::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(FederationQueryResponse::parse(Bytes::from_static(b"<html>")).is_err());
    }

    /// A peer that refuses a thousand PDUs at length is heard out as far as a transaction goes.
    #[test]
    fn what_a_peer_says_of_pdus_is_bounded() {
        let long = "é".repeat(2000);
        let pdus: Vec<String> = (0..1000).map(|n| format!("\"$e{n}\":{{\"error\":\"{long}\"}}")).collect();
        let body = format!("{{\"pdus\":{{{}}}}}", pdus.join(","));
        let response = FederationTransactionResponse::parse(body.as_bytes()).unwrap();
        assert_eq!(response.errors.len(), ERRORS_MAX);
        assert!(response.errors.values().all(|why| why.len() <= TEXT_BYTES_MAX));
    }
}
