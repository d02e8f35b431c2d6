//! What is said at the module door. Heads are JSON; `…_after` and `…_patience` are seconds, `at_ms` milliseconds since 1970.
//!
//! ```text
//! module   {"protocol": 1, "version": "0.1.0", "server_name": "home.test", "signing_keys": "ed25519 a_1 …", …}   ([`Hello`])
//! daemon   {"protocol": 1, "version": "0.1.0"}                                                                ([`Welcome`])
//! module   [7, {"send_pdu": {"event_id": "$a", "position": 12, "to": ["a.test", "b.test"]}}]   body: the PDU      ([`Asked`])
//! daemon   [7, "done"]                                                                                       ([`Reply`])
//! ```
//!
//! The first thing that either says has `protocol` and `version`, whatever else changes: who does not speak that protocol
//! says so with both versions. Every question is answered once, by its number. The number 0 is the daemon's: its one word
//! without a question is `"closing"`, which asks the module to close its bus and leave, because the daemon ends.
//!
//! # Source
//! Decision 0021.

use std::fmt;

use ipnet::IpNet;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use southbridge_words::{Secret, ServerName, WallTime};

use crate::bus_port::{BusProgress, EduParts, PduParts, RefusedPdu};
use crate::client::{Answer, ClientError};

/// The version of what is described here. It changes whenever who speaks the one does not understand the other.
pub const PROTOCOL: u32 = 1;

/// What everybody says first, in every version.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Greeting {
    /// What is spoken from here on.
    pub protocol: u32,
    /// Of the package, for people.
    pub version: String,
}

impl Greeting {
    /// That of this program.
    pub fn ours() -> Self {
        Self { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Reads the greeting of a module.
    ///
    /// # Errors
    /// For people, with both versions, when it speaks another protocol.
    pub fn read(head: &[u8]) -> Result<Self, String> {
        let it: Self =
            serde_json::from_slice(head).map_err(|error| format!("this is no greeting: {error}"))?;
        if it.protocol == PROTOCOL {
            return Ok(it);
        }
        let Self { protocol, version } = Self::ours();
        Err(format!(
            "the module is of southbridge {} and speaks protocol {}, the daemon is of southbridge {version} and speaks \
             protocol {protocol}: install the same release in both places",
            it.version, it.protocol
        ))
    }
}

/// What a daemon answers a greeting with.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Welcome {
    /// What it speaks.
    #[serde(flatten)]
    pub greeting: Greeting,
    /// Why there will be no bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Who a module is, beyond its greeting.
#[derive(Deserialize)]
pub struct Hello {
    /// In whose name its bus speaks.
    pub server_name: Name,
    /// What that signs with, in the format of Synapse's `signing.key`.
    #[serde(deserialize_with = "secret")]
    pub signing_keys: Secret,
    /// For how long a destination may take nothing.
    pub give_back_after: f64,
    /// Items that may wait for a destination.
    pub items_max: usize,
    /// Bytes that may wait.
    pub bytes_max: usize,
    /// Networks that must not be dialled. The rules are the daemon's; one that would dial them refuses.
    #[serde(default)]
    pub never_dialled: Vec<IpNet>,
}

/// A question, and its number.
#[derive(Debug, Deserialize)]
pub struct Asked(pub u64, pub Request);

/// What is done with the bus; see the functions of [`crate::bus_port`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The body is the PDU.
    SendPdu {
        /// By which destinations speak of it.
        event_id: String,
        /// Where it stands in the homeserver's order.
        position: u64,
        /// For whom, each once.
        to: Vec<Name>,
    },
    /// The body is the content of the EDU.
    SendEdu {
        /// Its type.
        edu_type: String,
        /// When it was made.
        at_ms: u64,
        /// For whom, each once.
        to: Vec<Name>,
    },
    /// The body is all PDUs, and then the contents of all EDUs, one after another.
    Carry {
        /// For whom.
        to: Name,
        /// How many bytes each PDU has, and its event id.
        pdus: Vec<(usize, String)>,
        /// How many bytes the content of each EDU has, and its type.
        edus: Vec<(usize, String)>,
        /// When the EDUs were made.
        at_ms: u64,
        /// For how many seconds it is tried; if it is not said, `give_back_after`.
        #[serde(default)]
        patience: Option<f64>,
    },
    /// How far is it?
    Progress {
        /// Everything up to here was handed in.
        floor: u64,
    },
    /// Somebody has said something.
    Heard {
        /// Who.
        to: Name,
    },
    /// Somebody is back.
    Wake {
        /// Who.
        to: Name,
    },
    /// Somebody is given back.
    GiveBack {
        /// Who.
        to: Name,
    },
    /// The bus is closed.
    Close {
        /// Everything up to here was handed in.
        floor: u64,
    },
}

/// A server name.
#[derive(Clone, Debug)]
pub struct Name(pub ServerName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;
        impl Visitor<'_> for Reading {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server name")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
                ServerName::parse(text).map(Name).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Reading)
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(|text| Secret::new(text.into_bytes()))
}

/// What of a frame is of interest to the bus.
pub(super) fn pdu(body: &[u8], event_id: String) -> PduParts {
    // A copy: it may lie in memory for long, and what else was read with it should not.
    PduParts { bytes: bytes::Bytes::copy_from_slice(body), event_id: event_id.into() }
}

pub(super) fn edu(content: &[u8], edu_type: String, at_ms: u64) -> EduParts {
    let content = bytes::Bytes::copy_from_slice(content);
    EduParts { edu_type: edu_type.into(), content, created_at: WallTime::from_unix_millis(at_ms) }
}

/// Takes so many bytes of `body` at a time.
///
/// # Errors
/// There are fewer.
pub fn parts(
    body: &mut &[u8],
    lengths: Vec<(usize, String)>,
) -> Result<Vec<(Vec<u8>, String)>, &'static str> {
    let mut take = |(length, name): (usize, String)| {
        let part = body.split_off(..length).ok_or("the parts of a body are longer than the body")?;
        Ok((part.to_vec(), name))
    };
    lengths.into_iter().map(&mut take).collect()
}

/// What a question is answered with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
    Done,
    /// All of it was delivered; what was said against single PDUs: of whom, which, and why.
    Carried(Vec<(String, String, String)>),
    /// How far the bus has come.
    Progress(Box<Progress>),
    /// The daemon ends: nobody has asked.
    Closing,
    /// It was not done.
    Failed(String),
}

/// How far a bus has come: [`BusProgress`].
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are those of `BusProgress`")]
pub struct Progress {
    /// Who, up to where, and whether he is given back.
    pub told: Vec<(String, u64, bool)>,
    pub refused: Vec<(String, String, String)>,
    pub transactions: u64,
    pub edus: [(&'static str, u32); 3],
    pub requests: u64,
    pub answers: Vec<(u16, u64)>,
    pub waiting: usize,
    pub edus_waiting: usize,
    pub destinations: usize,
}

impl From<Result<Answer, ClientError>> for Reply {
    fn from(result: Result<Answer, ClientError>) -> Self {
        match result {
            Ok(Answer::Carried(refused)) => Self::Carried(rows(refused)),
            Ok(Answer::Progress(progress)) => Self::Progress(Box::new((*progress).into())),
            Ok(_) => Self::Done,
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

impl From<BusProgress> for Progress {
    fn from(it: BusProgress) -> Self {
        let told = it.told.into_iter();
        Self {
            told: told
                .map(|one| (one.destination.as_str().to_owned(), one.position, one.is_given_back))
                .collect(),
            refused: rows(it.refused),
            transactions: it.transactions,
            edus: it.edus.by_type(),
            requests: it.traffic.requests,
            answers: it.traffic.answers.into_iter().collect(),
            waiting: it.waiting,
            edus_waiting: it.edus_waiting,
            destinations: it.destinations,
        }
    }
}

fn rows(refused: Vec<RefusedPdu>) -> Vec<(String, String, String)> {
    refused.into_iter().map(|one| (one.destination.as_str().to_owned(), one.event_id, one.error)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_protocol_is_told_with_both_versions() {
        let refused = Greeting::read(br#"{"protocol": 2, "version": "9.9.9", "new": []}"#).unwrap_err();
        assert!(refused.contains("southbridge 9.9.9 and speaks protocol 2"), "{refused}");
        assert!(
            refused.contains(&format!("southbridge {} and speaks", env!("CARGO_PKG_VERSION"))),
            "{refused}"
        );
        assert!(Greeting::read(b"GET / HTTP/1.1").unwrap_err().contains("no greeting"));
    }

    #[test]
    fn what_is_asked_is_read_strictly() {
        let asked = |text: &str| serde_json::from_str::<Asked>(text);
        assert!(matches!(
            asked(r#"[1, {"progress": {"floor": 3}}]"#),
            Ok(Asked(1, Request::Progress { floor: 3 }))
        ));
        for wrong in [
            r#"[1, {"progress": {"floor": -1}}]"#,
            r#"[1, {"progress": {"floor": 1, "roof": 2}}]"#,
            r#"[1, {"explode": {}}]"#,
            r#"[1, {"wake": {"to": "not a name"}}]"#,
            r#"[1]"#,
            "{}",
        ] {
            assert!(asked(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_is_cut_where_its_parts_end() {
        let lengths = |all: &[usize]| all.iter().map(|one| (*one, String::new())).collect::<Vec<_>>();
        let mut body = &b"aabbb"[..];
        let cut = parts(&mut body, lengths(&[2, 0, 3])).unwrap();
        assert_eq!(
            cut.iter().map(|(part, _)| part.as_slice()).collect::<Vec<_>>(),
            [&b"aa"[..], b"", b"bbb"]
        );
        assert!(body.is_empty());
        assert!(parts(&mut &b"aa"[..], lengths(&[1, 2])).is_err());
        assert!(parts(&mut &b"aa"[..], lengths(&[usize::MAX])).is_err());
    }
}
