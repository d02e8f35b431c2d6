//! What the homeservers of a world were sent, counted by them and not by whoever sent it.
//!
//! Whoever sends gives each message a *part* and a *number* in its `content`, and marks the moment at which it is
//! handed in. A status message of presence is a number, too: the higher, the newer. From what comes in, the hosts
//! tell how much of it came, how soon, in which order, and whether anything came twice.
//!
//! # Source
//! Issue 3, item 8. Matrix Server-Server API, "Transactions": a homeserver processes a transaction once for each id.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// All that was counted.
#[derive(Debug, Default)]
pub(super) struct Tally {
    parts: HashMap<String, Part>,
    /// Of each transaction that a host has processed, its id and its bytes, hashed.
    processed: HashMap<(u32, u64), u64>,
    /// Transactions that came again, as they had been and otherwise.
    repeated: u64,
    altered: u64,
    presence: HashMap<(u32, String), Presence>,
    presence_transactions: u64,
}

/// One part of what is sent.
#[derive(Debug, Default)]
struct Part {
    /// When each message was handed in.
    marked: BTreeMap<u32, Instant>,
    hosts: HashMap<u32, Got>,
}

/// What one host has of a part.
#[derive(Debug, Default)]
struct Got {
    arrived: BTreeMap<u32, Instant>,
    transactions: u32,
    twice: u32,
    disordered: u32,
}

#[derive(Debug, Default)]
struct Presence {
    copies: u64,
    newest: u32,
}

#[derive(Deserialize)]
struct Transaction<'a> {
    #[serde(borrow, default)]
    pdus: Vec<&'a RawValue>,
    #[serde(default)]
    edus: Vec<Edu>,
}

#[derive(Deserialize)]
struct Pdu {
    content: Label,
}

#[derive(Deserialize)]
struct Label {
    part: String,
    number: u32,
}

#[derive(Deserialize)]
struct Edu {
    content: EduContent,
}

#[derive(Deserialize)]
struct EduContent {
    #[serde(default)]
    push: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    user_id: String,
    #[serde(default)]
    status_msg: String,
}

impl Tally {
    /// Message `number` of `part` is handed in now.
    pub(super) fn mark(&mut self, part: &str, number: u32, now: Instant) {
        self.parts.entry(part.to_owned()).or_default().marked.insert(number, now);
    }

    /// A transaction with this id and body has come to `host`.
    pub(super) fn take(&mut self, host: u32, id: &str, body: &[u8], now: Instant) {
        let bytes = hash(body);
        if let Some(before) = self.processed.insert((host, hash(id)), bytes) {
            self.repeated += 1;
            self.altered += u64::from(before != bytes);
            return;
        }
        let Ok(transaction) = serde_json::from_slice::<Transaction<'_>>(body) else { return };
        self.take_pdus(host, &transaction.pdus, now);
        self.take_presence(host, transaction.edus);
    }

    fn take_pdus(&mut self, host: u32, pdus: &[&RawValue], now: Instant) {
        let mut last = String::new();
        for pdu in pdus {
            let Ok(Pdu { content: label }) = serde_json::from_str(pdu.get()) else { continue };
            let Some(part) = self.parts.get_mut(&label.part) else { continue };
            let got = part.hosts.entry(host).or_default();
            got.transactions += u32::from(label.part != last);
            got.disordered +=
                u32::from(got.arrived.last_key_value().is_some_and(|(at, _)| *at > label.number));
            got.twice += u32::from(got.arrived.insert(label.number, now).is_some());
            last = label.part;
        }
    }

    fn take_presence(&mut self, host: u32, edus: Vec<Edu>) {
        let mut any = false;
        for status in edus.into_iter().flat_map(|edu| edu.content.push) {
            let Ok(number) = status.status_msg.parse() else { continue };
            let known = self.presence.entry((host, status.user_id)).or_default();
            known.copies += 1;
            known.newest = number;
            any = true;
        }
        self.presence_transactions += u64::from(any);
    }

    /// How much of `part` has come to the hosts that `counts`: `arrived`.
    pub(super) fn arrived(&self, part: &str, counts: impl Fn(u32) -> bool) -> Value {
        let hosts = self.parts.get(part).into_iter().flat_map(|part| &part.hosts);
        let arrived: usize = hosts.filter(|(host, _)| counts(**host)).map(|(_, got)| got.arrived.len()).sum();
        json!({ "arrived": arrived })
    }

    /// What has become of `part` with the hosts that `counts`: `messages`, `hosts` with any of it, `arrived`, of these
    /// `twice` and `disordered`; the `transactions` it came in; and `took_us`, for each arrival how long after its mark,
    /// the soonest first. Of all transactions so far: those that were `repeated`, and of these `altered`.
    pub(super) fn part(&self, part: &str, counts: impl Fn(u32) -> bool) -> Value {
        let unknown = Part::default();
        let part = self.parts.get(part).unwrap_or(&unknown);
        let hosts: Vec<&Got> =
            part.hosts.iter().filter(|(host, _)| counts(**host)).map(|(_, got)| got).collect();
        let sum = |of: fn(&Got) -> u32| hosts.iter().map(|got| u64::from(of(got))).sum::<u64>();
        let mut took: Vec<u128> = hosts
            .iter()
            .flat_map(|got| &got.arrived)
            .filter_map(|(number, at)| Some(took(*at, *part.marked.get(number)?).as_micros()))
            .collect();
        took.sort_unstable();
        json!({
            "messages": part.marked.len(),
            "hosts": hosts.len(),
            "arrived": took.len(),
            "twice": sum(|got| got.twice),
            "disordered": sum(|got| got.disordered),
            "transactions": sum(|got| got.transactions),
            "took_us": took.into_iter().map(|took| u64::try_from(took).unwrap_or(u64::MAX)).collect::<Vec<_>>(),
            "repeated": self.repeated,
            "altered": self.altered,
        })
    }

    /// What has come of presence: `copies` of it, in how many `transactions`, and how many people are at their
    /// `newest` state with how many hosts, both multiplied.
    pub(super) fn presence(&self, newest: u32) -> Value {
        json!({
            "copies": self.presence.values().map(|known| known.copies).sum::<u64>(),
            "transactions": self.presence_transactions,
            "newest": self.presence.values().filter(|known| known.newest == newest).count(),
        })
    }
}

fn took(arrived: Instant, marked: Instant) -> Duration {
    arrived.saturating_duration_since(marked)
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(numbers: &[u32]) -> Vec<u8> {
        let pdu = |number: &u32| json!({ "content": { "part": "p", "number": number } });
        json!({ "pdus": numbers.iter().map(pdu).collect::<Vec<_>>(), "edus": [] }).to_string().into_bytes()
    }

    /// Three messages in two transactions, one of which comes again; then one in the wrong order, and one twice.
    #[test]
    fn what_comes_is_counted_once_for_each_id() {
        let (mut tally, begin) = (Tally::default(), Instant::now());
        for number in 1..=3 {
            tally.mark("p", number, begin);
        }
        let later = begin + Duration::from_millis(5);
        tally.take(7, "a", &body(&[1, 3]), later);
        tally.take(7, "a", &body(&[1, 3]), later);
        let part = tally.part("p", |_| true);
        assert_eq!(
            (&part["arrived"], &part["transactions"], &part["repeated"]),
            (&json!(2), &json!(1), &json!(1))
        );
        assert_eq!(
            (&part["twice"], &part["disordered"], &part["altered"]),
            (&json!(0), &json!(0), &json!(0))
        );
        assert_eq!(part["took_us"], json!([5_000, 5_000]));
        tally.take(7, "b", &body(&[2, 3]), later);
        tally.take(7, "a", &body(&[1]), later);
        let part = tally.part("p", |host| host == 7);
        assert_eq!(
            (&part["twice"], &part["disordered"], &part["altered"]),
            (&json!(1), &json!(1), &json!(1))
        );
        assert_eq!(tally.arrived("p", |host| host == 8), json!({ "arrived": 0 }));
    }

    #[test]
    fn of_presence_the_newest_counts() {
        let mut tally = Tally::default();
        for (id, status) in [("a", "1"), ("b", "20")] {
            let status = json!({ "user_id": "@u:x", "presence": "online", "status_msg": status });
            let edu = json!({ "edu_type": "m.presence", "content": { "push": [status] } });
            tally.take(1, id, json!({ "pdus": [], "edus": [edu] }).to_string().as_bytes(), Instant::now());
        }
        assert_eq!(tally.presence(20), json!({ "copies": 2, "transactions": 2, "newest": 1 }));
        assert_eq!(tally.presence(21)["newest"], 0);
    }
}
