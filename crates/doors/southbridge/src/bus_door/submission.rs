//! `POST /bus/v1/send`: from the body of the request to what the bus is handed.
//!
//! Every submission is read by itself, so that one with a mistake does not keep the others; and the bytes of a PDU are
//! those that came, because a signature lies over them.
//!
//! # Units
//! A PDU has at most 65,536 bytes (Matrix specification, server-server API, "Size limits").
//!
//! # Source
//! F2; issue 3, items 1 and 7.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use southbridge_bus::outgoing::{InvalidEdu, InvalidPdu, OutgoingEdu, OutgoingPdu};
use southbridge_words::{ServerName, WallTime};

use super::bounded::{Bounded, Name, check_depth, read};
use super::failure::{Code, Failure};
use super::sets::{DestinationSets, each_once};
use crate::synapse_door::verdict::with_causes;

/// One thing to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// What.
    pub what: What,
    /// To whom; each once, at least one.
    pub destinations: Arc<[ServerName]>,
    /// The caller's name for it, when it may hand it in again (faults row 24).
    pub key: Option<Arc<str>>,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A PDU.
    Pdu(OutgoingPdu),
    /// An EDU.
    Edu(OutgoingEdu),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendBody<'a> {
    #[serde(borrow)]
    submissions: Bounded<&'a RawValue, SUBMISSIONS_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    pdu: Option<&'a RawValue>,
    #[serde(borrow)]
    edu: Option<WrittenEdu<'a>>,
    destinations: Option<Bounded<Name, DESTINATIONS_MAX>>,
    #[serde(borrow)]
    destination_set: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEdu<'a> {
    #[serde(borrow)]
    edu_type: Cow<'a, str>,
    #[serde(borrow)]
    content: &'a RawValue,
}

/// Reads the body of a request to send, which came at `wall`: a submission, or what is wrong with it, for each.
///
/// # Errors
/// [`Failure`] when the body as a whole is not of this form.
pub fn read_submissions(
    body: &[u8],
    sets: &mut DestinationSets,
    wall: WallTime,
) -> Result<Vec<Result<Submission, Failure>>, Failure> {
    let body: SendBody<'_> = read(body)?;
    Ok(body.submissions.0.into_iter().map(|raw| read_submission(raw, sets, wall)).collect())
}

fn read_submission(
    raw: &RawValue,
    sets: &mut DestinationSets,
    wall: WallTime,
) -> Result<Submission, Failure> {
    let written: Written<'_> = read(raw.get().as_bytes())?;
    let event_id = short("event_id", written.event_id.as_deref())?;
    let what = match (written.pdu, written.edu) {
        (Some(pdu), None) => read_pdu(pdu, event_id)?,
        (None, Some(_)) if event_id.is_some() => {
            return Err(Failure::new(Code::BadJson, "event_id belongs to a pdu; leave it out of an edu"));
        }
        (None, Some(edu)) => read_edu(&edu, wall)?,
        _ => return Err(Failure::new(Code::BadJson, "a submission has either a pdu or an edu")),
    };
    let destinations = match (written.destinations, written.destination_set) {
        (Some(names), None) => each_once(names.0.into_iter().map(|name| name.0).collect()),
        (None, Some(set)) => sets.find(&set)?,
        _ => {
            let text = "a submission has either destinations or a destination_set";
            return Err(Failure::new(Code::BadJson, text));
        }
    };
    if destinations.is_empty() {
        return Err(Failure::new(Code::BadJson, "there are no destinations; name at least one"));
    }
    Ok(Submission { what, destinations, key: short("key", written.key.as_deref())? })
}

fn read_pdu(raw: &RawValue, event_id: Option<Arc<str>>) -> Result<What, Failure> {
    let pdu = OutgoingPdu::new(bytes_of("pdu", raw)?).map_err(|error| {
        let code = match error {
            InvalidPdu::TooLarge { .. } => Code::TooLarge,
            _ => Code::BadJson,
        };
        Failure::new(code, with_causes(&error))
    })?;
    Ok(What::Pdu(match event_id {
        Some(event_id) => pdu.with_event_id(event_id),
        None => pdu,
    }))
}

fn read_edu(edu: &WrittenEdu<'_>, wall: WallTime) -> Result<What, Failure> {
    let content = bytes_of("content", edu.content)?;
    let edu = OutgoingEdu::new(edu.edu_type.as_ref(), content, wall).map_err(|error| {
        let code = match error {
            InvalidEdu::TooLarge { .. } => Code::TooLarge,
            InvalidEdu::Type { .. } => Code::InvalidParam,
            _ => Code::BadJson,
        };
        Failure::new(code, with_causes(&error))
    })?;
    Ok(What::Edu(edu))
}

/// The bytes of a value, in memory of their own: the body they came in may be a thousand times larger, and must not
/// be kept for their sake.
fn bytes_of(what: &str, raw: &RawValue) -> Result<Bytes, Failure> {
    check_depth(what, raw)?;
    Ok(Bytes::copy_from_slice(raw.get().as_bytes()))
}

fn short(what: &str, text: Option<&str>) -> Result<Option<Arc<str>>, Failure> {
    match text {
        Some(text) if text.is_empty() || text.len() > TEXT_BYTES_MAX => Err(Failure::new(
            Code::InvalidParam,
            format!("{what} has {} bytes; it has 1 to {TEXT_BYTES_MAX}", text.len()),
        )),
        text => Ok(text.map(Arc::from)),
    }
}

#[cfg(test)]
pub(super) fn fields_of_body() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<SendBody<'_>>()
}

#[cfg(test)]
pub(super) fn fields_of_submission() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<Written<'_>>()
}

#[cfg(test)]
pub(super) fn fields_of_edu() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<WrittenEdu<'_>>()
}

/// Submissions in one request: as many as go into one commit of the outbox.
pub const SUBMISSIONS_MAX: usize = 1_000;
/// Destinations of one submission. The largest room has a fifth of these.
pub const DESTINATIONS_MAX: usize = 100_000;
/// As long as a Matrix identifier may be.
const TEXT_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus_door::sets::SetLimits;

    const WALL: WallTime = WallTime::from_unix_millis(1_700_000_000_000);

    fn sets() -> DestinationSets {
        let mut sets = DestinationSets::new(SetLimits::default());
        sets.put("!room", [ServerName::parse("c.example").unwrap()].into()).unwrap();
        sets
    }

    fn one(text: &str) -> Result<Submission, Failure> {
        let body = format!(r#"{{"submissions":[{text}]}}"#);
        read_submissions(body.as_bytes(), &mut sets(), WALL).unwrap().remove(0)
    }

    /// Spaces, numbers beyond 2^53, the order of keys: the signature lies over all of it.
    #[test]
    fn a_pdu_keeps_its_bytes() {
        let pdu = r#"{ "z":1e400 ,"depth": 9007199254740993, "a":"\u00e9" }"#;
        let read = one(&format!(r#"{{"pdu":{pdu},"destinations":["a.example"],"event_id":"$x"}}"#)).unwrap();
        assert_eq!(read.what, What::Pdu(OutgoingPdu::new(pdu).unwrap().with_event_id("$x")));
    }

    #[test]
    fn a_set_stands_for_its_destinations() {
        let read =
            one(r#"{"edu":{"edu_type":"m.typing","content":{}},"destination_set":"!room","key":"k1"}"#)
                .unwrap();
        assert_eq!(read.destinations[0].as_str(), "c.example");
        assert_eq!(read.key.as_deref(), Some("k1"));
        assert_eq!(read.what, What::Edu(OutgoingEdu::new("m.typing", "{}", WALL).unwrap()));
    }

    #[test]
    fn one_mistake_does_not_keep_the_others() {
        let body = br#"{"submissions":[
            {"pdu":{},"destinations":["a.example"]}, 7,
            {"pdu":{},"destinations":["b.example"]}]}"#;
        let read = read_submissions(body, &mut sets(), WALL).unwrap();
        assert!(read[0].is_ok() && read[1].is_err() && read[2].is_ok());
    }

    #[test]
    fn every_mistake_is_named() {
        let to = r#""destinations":["a.example"]"#;
        let long = format!(r#"{{"pdu":{{"a":"{}"}},{to}}}"#, "x".repeat(65_536));
        let deep = format!(r#"{{"pdu":{{"a":{}{}}},{to}}}"#, "[".repeat(60_000 / 2), "]".repeat(60_000 / 2));
        for (text, code, words) in [
            (r#"{"destinations":["a.example"]}"#, Code::BadJson, "either a pdu or an edu"),
            (
                &format!(r#"{{"pdu":{{}},"edu":{{"edu_type":"a","content":{{}}}},{to}}}"#),
                Code::BadJson,
                "either",
            ),
            (r#"{"pdu":{}}"#, Code::BadJson, "either destinations"),
            (r#"{"pdu":{},"destinations":[]}"#, Code::BadJson, "at least one"),
            (r#"{"pdu":{},"destinations":["a b"]}"#, Code::BadJson, "a b"),
            (r#"{"pdu":{},"destination_set":"none"}"#, Code::UnknownSet, "none"),
            (&format!(r#"{{"pdu":[],{to}}}"#), Code::BadJson, "not one JSON object"),
            (&format!(r#"{{"pdu":{{}},"pdu":{{}},{to}}}"#), Code::BadJson, "duplicate field `pdu`"),
            (&format!(r#"{{"pdu":{{}},"extra":1,{to}}}"#), Code::BadJson, "unknown field `extra`"),
            (&format!(r#"{{"pdu":{{}},"key":"",{to}}}"#), Code::InvalidParam, "key has 0 bytes"),
            (
                &format!(r#"{{"edu":{{"edu_type":"","content":{{}}}},{to}}}"#),
                Code::InvalidParam,
                "1 to 255 bytes",
            ),
            (
                &format!(r#"{{"edu":{{"edu_type":"a","content":1}},{to}}}"#),
                Code::BadJson,
                "not one JSON object",
            ),
            (&long, Code::TooLarge, "the most is 65536"),
            (&deep, Code::BadJson, "levels deep"),
        ] {
            let error = one(text).expect_err(text);
            assert!(error.code == code && error.text.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_body_of_another_form_is_refused_as_a_whole() {
        let many = format!(r#"{{"submissions":[{}1]}}"#, "1,".repeat(SUBMISSIONS_MAX));
        for (body, code) in [
            ("", Code::NotJson),
            ("{", Code::NotJson),
            (r#"{"submissions":{}}"#, Code::BadJson),
            (r#"{"submissions":[],"submissions":[]}"#, Code::BadJson),
            (&many, Code::BadJson),
        ] {
            assert_eq!(
                read_submissions(body.as_bytes(), &mut sets(), WALL).unwrap_err().code,
                code,
                "{body}"
            );
        }
    }

    proptest::proptest! {
        /// Whatever comes, in whatever nesting, it is read or refused.
        #[test]
        fn nothing_that_comes_makes_it_panic(body: Vec<u8>) {
            let _ = read_submissions(&body, &mut sets(), WALL);
        }
    }
}
