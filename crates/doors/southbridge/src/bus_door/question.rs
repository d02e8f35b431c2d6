//! `POST /bus/v1/query`: from the body of the request to a question for one homeserver.
//!
//! # Units
//! `timeout_ms` in milliseconds; 0 waits for as long as it takes.
//!
//! # Source
//! F2 (`OutgoingQuery`: a path as a template, its arguments, the arguments behind the question mark, a body); issue 3,
//! items 1 and 7.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;
use southbridge_bus::outgoing::{OutgoingQuery, QueryMethod};
use southbridge_words::ServerName;

use super::bounded::{Bounded, Name, Table, check_depth, read};
use super::failure::{Code, Failure};
use crate::synapse_door::verdict::with_causes;

/// A question for one homeserver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom.
    pub destination: ServerName,
    /// What. It can be resolved.
    pub query: OutgoingQuery,
    /// How long it may take in all; zero is for ever.
    pub timeout: Duration,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    destination: Name,
    #[serde(borrow, default = "get")]
    method: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(default)]
    path_args: Table<String, ARGUMENTS_MAX>,
    #[serde(default)]
    query_args: Table<Texts, ARGUMENTS_MAX>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    timeout_ms: Option<u64>,
}

/// Some arguments may stand there several times (`ver` of `/make_join`).
struct Texts(Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextsVisitor)
    }
}

struct TextsVisitor;

impl<'de> Visitor<'de> for TextsVisitor {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts(vec![text.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Texts, A::Error> {
        let list = Bounded::<String, ARGUMENTS_MAX>::deserialize(SeqAccessDeserializer::new(items))?;
        Ok(Texts(list.0))
    }
}

fn get() -> Cow<'static, str> {
    Cow::Borrowed("GET")
}

/// Reads the body of a query.
///
/// # Errors
/// [`Failure`] says what is wrong with it.
pub fn read_question(body: &[u8]) -> Result<Question, Failure> {
    let written: Written<'_> = read(body)?;
    let method = QueryMethod::from_name(&written.method).ok_or_else(|| {
        let shown: String = written.method.chars().take(SHOWN_CHARS_MAX).collect();
        let text = format!("method is {shown:?}; homeservers are asked with GET, POST or PUT");
        Failure::new(Code::InvalidParam, text)
    })?;
    let mut query = OutgoingQuery::new(method, written.path.into_owned());
    for (name, value) in written.path_args.0 {
        query = query.path(name, value);
    }
    for (name, texts) in written.query_args.0 {
        for text in texts.0 {
            query = query.query(name.clone(), text);
        }
    }
    if let Some(body) = written.body {
        check_depth("body", body)?;
        query = query.body(Bytes::copy_from_slice(body.get().as_bytes()));
    }
    query.resolve().map_err(|error| Failure::new(Code::InvalidParam, with_causes(&error)))?;
    let timeout = Duration::from_millis(written.timeout_ms.unwrap_or(TIMEOUT_MS));
    if timeout > TIMEOUT_MAX {
        let text = format!("timeout_ms is above {}; 0 waits for ever", TIMEOUT_MAX.as_millis());
        return Err(Failure::new(Code::InvalidParam, text));
    }
    Ok(Question { destination: written.destination.0, query, timeout })
}

#[cfg(test)]
pub(super) fn fields() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<Written<'_>>()
}

/// More than any request of the federation has; `v` of `/make_join` has one for each room version.
const ARGUMENTS_MAX: usize = 64;
/// What Synapse gives most of its questions.
const TIMEOUT_MS: u64 = 60_000;
/// A day; whoever wants more wants it for ever.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
const SHOWN_CHARS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Result<Question, Failure> {
        read_question(text.as_bytes())
    }

    #[test]
    fn a_question_is_read_in_the_order_it_was_written() {
        let question =
            ask(r#"{"destination":"a.example","path":"/_matrix/federation/v1/make_join/{roomId}/{userId}",
                "path_args":{"roomId":"!a/b:c","userId":"@u:c"},"query_args":{"ver":["1","2"],"x":"é"},
                "timeout_ms":0}"#)
            .unwrap();
        let resolved = question.query.resolve().unwrap();
        let path = "/_matrix/federation/v1/make_join/%21a%2Fb%3Ac/%40u%3Ac?ver=1&ver=2&x=%C3%A9";
        assert_eq!((resolved.method, resolved.path_and_query.as_str()), (QueryMethod::Get, path));
        assert_eq!((question.destination.as_str(), question.timeout), ("a.example", Duration::ZERO));
    }

    #[test]
    fn every_mistake_is_named() {
        for (text, code, words) in [
            (r#"{"path":"/_matrix/x"}"#, Code::BadJson, "destination"),
            (r#"{"destination":"a.example","path":"/x"}"#, Code::InvalidParam, "below /_matrix/"),
            (
                r#"{"destination":"a.example","path":"/_matrix/x","method":"PATCH"}"#,
                Code::InvalidParam,
                "PATCH",
            ),
            (
                r#"{"destination":"a.example","path":"/_matrix/x","body":{}}"#,
                Code::InvalidParam,
                "GET has no body",
            ),
            (
                r#"{"destination":"a.example","path":"/_matrix/x","timeout_ms":99999999999}"#,
                Code::InvalidParam,
                "86400000",
            ),
            (r#"{"destination":"a.example","path":"/_matrix/x","timeout":1}"#, Code::BadJson, "`timeout`"),
            (
                r#"{"destination":"a.example","path":"/_matrix/x","query_args":{"a":1}}"#,
                Code::BadJson,
                "texts",
            ),
        ] {
            let error = ask(text).expect_err(text);
            assert!(error.code == code && error.text.contains(words), "{text}: {error}");
        }
    }
}
