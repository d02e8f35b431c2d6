//! A question to another homeserver.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use southbridge_words::Class;

use super::endpoints::{Endpoint, QueryMethod};
use super::json::{NotAnObject, check_object};

/// A query: a path as a template, what is filled in, what stands behind the question mark, a body (F10).
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingQuery {
    method: QueryMethod,
    template: Cow<'static, str>,
    path_arguments: Vec<(Cow<'static, str>, String)>,
    query_arguments: Vec<(Cow<'static, str>, String)>,
    body: Option<Bytes>,
    class: Class,
    repeatable: bool,
    signed: bool,
}

/// A query as it goes out.
#[derive(Clone, PartialEq, Eq)]
pub struct ResolvedQuery {
    /// How it is asked.
    pub method: QueryMethod,
    /// Path and query, percent-encoded; what the signature is made over.
    pub path_and_query: String,
    /// The JSON body, if there is one.
    pub body: Option<Bytes>,
    /// Whether the request carries an X-Matrix signature.
    pub signed: bool,
}

/// Why a query cannot be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// The template is no path below `/_matrix/`.
    #[error("the path template {template:?} is not an absolute path below /_matrix/: {reason}")]
    Template {
        /// The template.
        template: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The template has a hole that nothing fills.
    #[error("the path template {template:?} needs the argument {name:?}")]
    Missing {
        /// The template.
        template: String,
        /// The argument.
        name: String,
    },
    /// There is an argument that the template has no place for.
    #[error("the path template {template:?} has no place for the argument {name:?}")]
    Surplus {
        /// The template.
        template: String,
        /// The argument.
        name: String,
    },
    /// An argument that cannot stand in a path or query.
    #[error("the argument {name:?} {reason}")]
    Argument {
        /// The argument.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The body is not one JSON object, or there is one where none may be.
    #[error("the body of the query is not one JSON object")]
    Body(#[from] NotAnObject),
    /// A GET has none.
    #[error("a GET has no body")]
    BodyOfGet,
    /// The whole is longer than servers take.
    #[error("path and query have {bytes} bytes, the most is {PATH_BYTES_MAX}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
}

impl OutgoingQuery {
    /// A query by `method` for `template`, such as `/_matrix/federation/v1/event/{eventId}`. Its class, and
    /// whether it may be repeated or is signed, are those of the [`Endpoint`], where it is known.
    pub fn new(method: QueryMethod, template: impl Into<Cow<'static, str>>) -> Self {
        let template = template.into();
        let known = Endpoint::known(method, &template);
        Self {
            method,
            path_arguments: Vec::new(),
            query_arguments: Vec::new(),
            body: None,
            class: known.map_or(Class::Interactive, |known| known.class),
            repeatable: known.map_or(method != QueryMethod::Post, |known| known.repeatable),
            signed: known.is_none_or(|known| known.signed),
            template,
        }
    }

    /// Fills the hole `{name}` of the path.
    #[must_use]
    pub fn path(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.path_arguments.push((name.into(), value.into()));
        self
    }

    /// Adds `name=value` behind the question mark. A name may come more than once.
    #[must_use]
    pub fn query(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.query_arguments.push((name.into(), value.into()));
        self
    }

    /// Gives it a raw JSON body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Gives it another class.
    #[must_use]
    pub fn class_of(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// How urgent it is.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Whether asking twice does no harm.
    pub fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    /// The path with its arguments filled in, percent-encoded (RFC 3986), and the body.
    ///
    /// # Errors
    /// [`InvalidQuery`] names the argument that is missing, has no place or cannot be written; nothing of it
    /// was sent (faults row 10).
    pub fn resolve(&self) -> Result<ResolvedQuery, InvalidQuery> {
        let mut out = self.resolve_path()?;
        for (at, (name, value)) in self.query_arguments.iter().enumerate() {
            check_argument(name, value)?;
            out.push(if at == 0 { '?' } else { '&' });
            encode(&mut out, name);
            out.push('=');
            encode(&mut out, value);
        }
        if out.len() > PATH_BYTES_MAX {
            return Err(InvalidQuery::TooLong { bytes: out.len() });
        }
        if let Some(body) = &self.body {
            if self.method == QueryMethod::Get {
                return Err(InvalidQuery::BodyOfGet);
            }
            check_object(body)?;
        }
        Ok(ResolvedQuery {
            method: self.method,
            path_and_query: out,
            body: self.body.clone(),
            signed: self.signed,
        })
    }

    fn resolve_path(&self) -> Result<String, InvalidQuery> {
        check_template(&self.template)?;
        let template = || self.template.to_string();
        for (at, (name, _)) in self.path_arguments.iter().enumerate() {
            let named = self.template.split('/').any(|segment| hole(segment) == Some(name.as_ref()));
            let twice = self.path_arguments[..at].iter().any(|(earlier, _)| earlier == name);
            if !named || twice {
                return Err(InvalidQuery::Surplus { template: template(), name: name.to_string() });
            }
        }
        let mut out = String::with_capacity(self.template.len() + 64);
        for segment in self.template.split('/').skip(1) {
            out.push('/');
            let Some(name) = hole(segment) else {
                out.push_str(segment);
                continue;
            };
            let filled = self.path_arguments.iter().find(|(argument, _)| argument == name);
            let Some((_, value)) = filled else {
                return Err(InvalidQuery::Missing { template: template(), name: name.to_owned() });
            };
            check_argument(name, value)?;
            check_segment(name, value)?;
            encode(&mut out, value);
        }
        Ok(out)
    }
}

impl fmt::Debug for OutgoingQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        write!(f, "OutgoingQuery({} {}, {body} bytes of body)", self.method.as_str(), self.template)
    }
}

impl fmt::Debug for ResolvedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = self.body.as_ref().map_or(0, Bytes::len);
        write!(f, "ResolvedQuery({} {}, {body} bytes of body)", self.method.as_str(), self.path_and_query)
    }
}

fn hole(segment: &str) -> Option<&str> {
    segment.strip_prefix('{')?.strip_suffix('}')
}

fn check_template(template: &str) -> Result<(), InvalidQuery> {
    let refused = |reason| Err(InvalidQuery::Template { template: template.to_owned(), reason });
    if !template.starts_with("/_matrix/") {
        return refused("it begins otherwise");
    }
    for segment in template.split('/').skip(1) {
        let inner = hole(segment).unwrap_or(segment);
        match inner {
            "" => return refused("a part of it is empty"),
            "." | ".." => return refused("a part of it leads elsewhere"),
            _ if !inner.bytes().all(is_unreserved) => {
                return refused("a part of it has a character of its own");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Control characters have no business in any identifier; one that has them was put together to break something.
fn check_argument(name: &str, value: &str) -> Result<(), InvalidQuery> {
    if value.chars().any(char::is_control) {
        return Err(InvalidQuery::Argument { name: name.to_owned(), reason: "has a control character" });
    }
    Ok(())
}

/// A server that tidies up paths takes `.`, `..` and nothing for what they mean in a file system, encoded or not.
fn check_segment(name: &str, value: &str) -> Result<(), InvalidQuery> {
    let refused = |reason| Err(InvalidQuery::Argument { name: name.to_owned(), reason });
    match value {
        "" => refused("is empty"),
        "." | ".." => refused("is a path that leads elsewhere"),
        _ => Ok(()),
    }
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    matches!(byte, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~')
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";
/// Servers take 8 KiB of request line and more (RFC 9112 §3 recommends 8,000).
const PATH_BYTES_MAX: usize = 8000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: &str) -> OutgoingQuery {
        OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/event/{eventId}").path("eventId", id)
    }

    /// Event ids of old rooms hold slashes and colons, those of new ones dollars; none may become structure.
    #[test]
    fn arguments_stay_within_their_place() {
        let cases = [
            ("$abc", "/_matrix/federation/v1/event/%24abc"),
            ("$a/b:c.example:8448", "/_matrix/federation/v1/event/%24a%2Fb%3Ac.example%3A8448"),
            ("a?b#c%2F", "/_matrix/federation/v1/event/a%3Fb%23c%252F"),
            ("日 +", "/_matrix/federation/v1/event/%E6%97%A5%20%2B"),
        ];
        for (id, path) in cases {
            assert_eq!(event(id).resolve().unwrap().path_and_query, path);
        }
    }

    /// What stands behind the question mark is written in the order it was given, repeated names too.
    #[test]
    fn query_arguments_keep_their_order() {
        let query = OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/backfill/{roomId}")
            .path("roomId", "!r:a.example")
            .query("v", "$1&x=y")
            .query("v", "$2")
            .query("limit", "10");
        let path = query.resolve().unwrap().path_and_query;
        assert_eq!(path, "/_matrix/federation/v1/backfill/%21r%3Aa.example?v=%241%26x%3Dy&v=%242&limit=10");
        assert_eq!(query.class(), Class::Backfill);
    }

    /// Nothing that would break a request line, leave its directory or go unsaid is ever sent (faults row 10).
    #[test]
    fn row_10_what_cannot_be_asked_is_refused_and_named() {
        for id in ["", ".", "..", "a\r\nb", "a\0", "\u{7f}", "\u{85}"] {
            assert!(matches!(event(id).resolve(), Err(InvalidQuery::Argument { .. })), "{id:?}");
        }
        let missing = OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/event/{eventId}");
        assert!(matches!(missing.resolve(), Err(InvalidQuery::Missing { name, .. }) if name == "eventId"));
        assert!(matches!(event("$a").path("eventId", "$b").resolve(), Err(InvalidQuery::Surplus { .. })));
        assert!(matches!(event("$a").path("roomId", "!b").resolve(), Err(InvalidQuery::Surplus { .. })));
        assert!(matches!(event("$a").body("{}").resolve(), Err(InvalidQuery::BodyOfGet)));
        assert!(matches!(event(&"x".repeat(8000)).resolve(), Err(InvalidQuery::TooLong { .. })));
        for template in
            ["/_matrix/../x", "/admin", "/_matrix//x", "/_matrix/a b", "/_matrix/x?y", "_matrix/x"]
        {
            let query = OutgoingQuery::new(QueryMethod::Get, template);
            assert!(matches!(query.resolve(), Err(InvalidQuery::Template { .. })), "{template}");
        }
    }

    proptest! {
        /// Whatever an id is made of, a server that decodes the path finds the id again, in one segment.
        #[test]
        fn an_argument_is_found_again_as_it_was(id in "\\PC{1,40}") {
            prop_assume!(id != "." && id != "..");
            let path = event(&id).resolve().unwrap().path_and_query;
            let last = path.strip_prefix("/_matrix/federation/v1/event/").unwrap();
            prop_assert!(last.bytes().all(|byte| is_unreserved(byte) || byte == b'%'));
            prop_assert_eq!(decode(last), id);
        }
    }

    fn decode(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    }
}
