//! A homeserver that receives EDUs and shows their state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::Value;
use southbridge_words::{Instant, WallTime};

use crate::edus::{EduLimits, EduReader, VolatileEdu};
use crate::outgoing::OutgoingEdu;

/// Late enough for a bus to know that no earlier process has said anything.
pub(super) const NOW: Instant = Instant::from_nanos(1_000_000_000_000);
pub(super) const WALL: WallTime = WallTime::from_unix_millis(1_700_000_000_000);

pub(super) fn edu(edu_type: &str, content: &Value) -> OutgoingEdu {
    OutgoingEdu::new(edu_type, content.to_string(), WALL).unwrap()
}

/// A reader that knows what was sent before it: nothing.
pub(super) fn reader(limits: &EduLimits) -> EduReader {
    let mut reader = EduReader::new(limits.clone());
    let start = serde_json::json!({ "room_id": "!none", "user_id": "@none", "typing": true });
    let _ = reader.read(&edu("m.typing", &start), Instant::ZERO, WALL);
    reader
}

pub(super) fn read(reader: &mut EduReader, edu: &OutgoingEdu) -> VolatileEdu {
    reader.read(edu, NOW, WALL).unwrap()
}

/// What a receiver shows. Values carry a `v`, which grows with every change that the sender makes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shown {
    typing: BTreeSet<(String, String)>,
    presence: BTreeMap<String, Value>,
    receipts: BTreeMap<[String; 4], Value>,
    others: Vec<Value>,
}

/// Receives, and complains about what no sender of ours should send.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    pub(super) shown: Shown,
    versions: BTreeMap<String, u64>,
}

impl Receiver {
    /// Receives EDUs separated by commas. How many they were.
    pub(super) fn receive(&mut self, json: &Bytes) -> usize {
        let text = format!("[{}]", std::str::from_utf8(json).unwrap());
        let edus: Vec<Value> = serde_json::from_str(&text).unwrap();
        for edu in &edus {
            self.receive_one(edu["edu_type"].as_str().unwrap(), &edu["content"]);
        }
        edus.len()
    }

    pub(super) fn receive_one(&mut self, edu_type: &str, content: &Value) {
        let known = match edu_type {
            "m.typing" => self.typing(content),
            "m.presence" => self.presence(content),
            "m.receipt" => self.receipts(content),
            _ => None,
        };
        if known.is_none() {
            self.shown.others.push(content.clone());
        }
    }

    fn typing(&mut self, content: &Value) -> Option<()> {
        let key = (text(&content["room_id"])?, text(&content["user_id"])?);
        self.see(format!("{key:?}"), content);
        if content["typing"].as_bool()? {
            self.shown.typing.insert(key);
        } else {
            self.shown.typing.remove(&key);
        }
        Some(())
    }

    fn presence(&mut self, content: &Value) -> Option<()> {
        for push in content["push"].as_array()? {
            let user = text(&push["user_id"])?;
            self.see(user.clone(), push);
            self.shown.presence.insert(user, push.clone());
        }
        Some(())
    }

    fn receipts(&mut self, content: &Value) -> Option<()> {
        for (room, types) in content.as_object()? {
            for (receipt_type, users) in types.as_object()? {
                for (user, receipt) in users.as_object()? {
                    let thread = receipt["data"]["thread_id"].as_str().unwrap_or("none");
                    let key = [room, receipt_type, user, thread].map(str::to_owned);
                    self.see(format!("{key:?}"), receipt);
                    self.shown.receipts.insert(key, receipt.clone());
                }
            }
        }
        Some(())
    }

    /// Nothing is ever followed by what was said of it before.
    fn see(&mut self, key: String, value: &Value) {
        let version = value["v"].as_u64().unwrap_or(0);
        let last = self.versions.insert(key, version).unwrap_or(0);
        assert!(last <= version, "{value} came after version {last}");
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
