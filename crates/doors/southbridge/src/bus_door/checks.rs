//! `POST /bus/v1/verify`: from the body of the request to what is to be checked.
//!
//! Every check is read by itself, so that one with a mistake does not keep the others; and what is checked are the bytes
//! that came, because a signature lies over them.
//!
//! # Units
//! `timeout_ms` in milliseconds; 0 waits for as long as it takes. `signed_at_ms` is milliseconds since 1970.
//!
//! # Source
//! F18; issue 3, items 6 and 7.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use southbridge_bus::keyring::Purpose;
use southbridge_bus::signing::RoomVersion;
use southbridge_words::{ServerName, WallTime};

use super::bounded::{Bounded, Name, check_depth, read};
use super::failure::{Code, Failure};

/// One thing to be checked.
#[derive(Debug)]
pub enum Check<'a> {
    /// An event, by the rules of its room's version.
    Event {
        /// Its JSON.
        text: &'a str,
        /// Of its room.
        version: RoomVersion,
    },
    /// An object that somebody signed.
    Object {
        /// Its JSON.
        text: &'a str,
        /// Who should have signed it.
        signer: ServerName,
        /// When, if not just now.
        purpose: Purpose,
    },
    /// A request that came in.
    Request {
        /// The value of its `Authorization`.
        authorization: Cow<'a, str>,
        /// Its method.
        method: Cow<'a, str>,
        /// Its path and query.
        uri: Cow<'a, str>,
        /// The JSON of its body, where there is one.
        content: Option<&'a str>,
    },
}

/// What was read of a request: its checks, each by itself, and how long they may take.
#[derive(Debug)]
pub struct Checks<'a> {
    /// In order.
    pub checks: Vec<Result<Check<'a>, Failure>>,
    /// For all of them; zero is for ever.
    pub timeout: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBody<'a> {
    #[serde(borrow)]
    checks: Bounded<&'a RawValue, CHECKS_MAX>,
    timeout_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    room_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    signer: Option<Name>,
    signed_at_ms: Option<u64>,
    #[serde(borrow)]
    request: Option<WrittenRequest<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequest<'a> {
    #[serde(borrow)]
    authorization: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    uri: Cow<'a, str>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// Reads the body of a request to verify.
///
/// # Errors
/// [`Failure`] when it is of another form as a whole.
pub fn read_checks(body: &[u8]) -> Result<Checks<'_>, Failure> {
    let written: WrittenBody<'_> = read(body)?;
    let timeout = read_timeout(written.timeout_ms)?;
    Ok(Checks { checks: written.checks.0.into_iter().map(read_check).collect(), timeout })
}

/// How long what is asked may take, in milliseconds.
///
/// # Errors
/// [`Failure`] with the bound.
pub(super) fn read_timeout(timeout_ms: Option<u64>) -> Result<Duration, Failure> {
    let timeout = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS));
    if timeout > TIMEOUT_MAX {
        let text = format!("timeout_ms is above {}; 0 waits for ever", TIMEOUT_MAX.as_millis());
        return Err(Failure::new(Code::InvalidParam, text));
    }
    Ok(timeout)
}

fn read_check(raw: &RawValue) -> Result<Check<'_>, Failure> {
    let written: Written<'_> = read(raw.get().as_bytes())?;
    match written {
        Written {
            event: Some(event),
            room_version,
            object: None,
            signer: None,
            signed_at_ms: None,
            request: None,
        } => {
            check_depth("event", event)?;
            let version = room_version.ok_or_else(|| bad("an event needs the room_version of its room"))?;
            let known = RoomVersion::parse(&version).map_err(|error| {
                let shown: String = version.chars().take(SHOWN_CHARS_MAX).collect();
                Failure::new(Code::InvalidParam, format!("room_version {shown:?}: {error}"))
            })?;
            Ok(Check::Event { text: event.get(), version: known })
        }
        Written {
            object: Some(object),
            signer,
            signed_at_ms,
            event: None,
            room_version: None,
            request: None,
        } => {
            check_depth("object", object)?;
            let Some(Name(signer)) = signer else {
                return Err(bad("an object needs the signer who should have signed it"));
            };
            let purpose = match signed_at_ms {
                Some(millis) => Purpose::Event { signed_at: WallTime::from_unix_millis(millis) },
                None => Purpose::Request,
            };
            Ok(Check::Object { text: object.get(), signer, purpose })
        }
        Written {
            request: Some(request),
            event: None,
            room_version: None,
            object: None,
            signer: None,
            signed_at_ms: None,
        } => {
            let WrittenRequest { authorization, method, uri, content } = request;
            if let Some(content) = content {
                check_depth("content", content)?;
            }
            Ok(Check::Request { authorization, method, uri, content: content.map(RawValue::get) })
        }
        _ => Err(bad("a check has either event and room_version, or object and signer, or request")),
    }
}

fn bad(text: &str) -> Failure {
    Failure::new(Code::BadJson, text)
}

#[cfg(test)]
pub(super) fn fields_of_body() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<WrittenBody<'_>>()
}

#[cfg(test)]
pub(super) fn fields_of_check() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<Written<'_>>()
}

#[cfg(test)]
pub(super) fn fields_of_request() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<WrittenRequest<'_>>()
}

/// As many as may be handed in at once.
const CHECKS_MAX: usize = 1_000;
/// A dead origin, and a notary or two after it.
const TIMEOUT_MS: u64 = 60_000;
/// A day; whoever wants more wants it for ever.
const TIMEOUT_MAX: Duration = Duration::from_secs(86_400);
const SHOWN_CHARS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<(), Failure> {
        let body = format!(r#"{{"checks":[{text}]}}"#);
        let mut read = read_checks(body.as_bytes()).unwrap();
        read.checks.remove(0).map(drop)
    }

    /// The bytes of what is checked are those that came.
    #[test]
    fn what_is_checked_keeps_its_bytes() {
        let body = br#"{"timeout_ms":0,"checks":[{"room_version":"10","event":{ "b":1, "a":2 }},
            {"object":{"x": 1},"signer":"a.example","signed_at_ms":5},
            {"request":{"authorization":"X-Matrix a","method":"PUT","uri":"/x\u0061","content":{ }}}]}"#;
        let read = read_checks(body).unwrap();
        assert_eq!(read.timeout, Duration::ZERO);
        let [
            Ok(Check::Event { text, .. }),
            Ok(Check::Object { signer, purpose, .. }),
            Ok(Check::Request { uri, content, .. }),
        ] = &read.checks[..]
        else {
            panic!("{read:?}")
        };
        assert_eq!(
            (*text, signer.as_str(), &**uri, *content),
            (r#"{ "b":1, "a":2 }"#, "a.example", "/xa", Some("{ }"))
        );
        assert_eq!(*purpose, Purpose::Event { signed_at: WallTime::from_unix_millis(5) });
    }

    #[test]
    fn every_mistake_is_named_and_keeps_no_other() {
        let deep = format!(r#"{{"room_version":"10","event":{}{}}}"#, "[".repeat(200), "]".repeat(200));
        for (text, code, words) in [
            ("{}", Code::BadJson, "either event"),
            (r#"{"event":{}}"#, Code::BadJson, "room_version"),
            (r#"{"event":{},"room_version":"999"}"#, Code::InvalidParam, "\"999\""),
            (r#"{"event":{},"room_version":"1","signer":"a"}"#, Code::BadJson, "either event"),
            (r#"{"object":{}}"#, Code::BadJson, "signer"),
            (r#"{"object":{},"signer":"a b"}"#, Code::BadJson, "a b"),
            (r#"{"request":{"method":"GET","uri":"/"}}"#, Code::BadJson, "authorization"),
            (r#"{"evnt":{}}"#, Code::BadJson, "evnt"),
            (&deep, Code::BadJson, "levels deep"),
        ] {
            let error = one(text).expect_err(text);
            assert!(error.code == code && error.text.contains(words), "{text}: {error}");
        }
        let read = read_checks(br#"{"checks":[7,{"object":{},"signer":"a"}]}"#).unwrap();
        assert!(read.checks[0].is_err() && read.checks[1].is_ok());
        let many = format!(r#"{{"checks":[{}1]}}"#, "1,".repeat(CHECKS_MAX));
        assert!(read_checks(many.as_bytes()).unwrap_err().text.contains("more than 1000"));
        assert!(read_checks(br#"{"checks":[],"timeout_ms":86400001}"#).is_err());
    }

    proptest::proptest! {
        /// Whatever comes, it is read or refused.
        #[test]
        fn nothing_that_comes_makes_it_panic(body: Vec<u8>) {
            let _ = read_checks(&body);
        }
    }
}
