//! One story each.

use std::time::Duration;

use serde_json::{Value, json};
use southbridge_words::WallTime;

use super::receiver::{NOW, Receiver, WALL, edu, read, reader};
use crate::edus::{Along, EduLimits, EduReader, NotVolatile, Shed, WaitingEdus};
use crate::outgoing::{EduKind, OutgoingEdu};

struct World {
    limits: EduLimits,
    reader: EduReader,
    waiting: WaitingEdus,
}

impl World {
    fn new(limits: EduLimits) -> Self {
        Self { reader: reader(&limits), limits, waiting: WaitingEdus::default() }
    }

    fn push(&mut self, edu_type: &str, content: &Value) -> (u64, Shed) {
        self.push_edu(&edu(edu_type, content))
    }

    fn push_edu(&mut self, edu: &OutgoingEdu) -> (u64, Shed) {
        let edu = read(&mut self.reader, edu);
        let pushed = self.waiting.push(&edu, &self.limits, WALL);
        (pushed.collapsed, pushed.shed)
    }

    fn take(&mut self) -> String {
        let batch = self.waiting.take(100, 100_000, &self.limits, WALL);
        String::from_utf8(batch.json().to_vec()).unwrap()
    }
}

fn world() -> World {
    World::new(EduLimits::default())
}

fn typing(user: &str, typing: bool) -> Value {
    json!({ "room_id": "!r", "user_id": user, "typing": typing })
}

fn receipt(event: &str, thread: Option<&str>) -> Value {
    let mut receipt = json!({ "event_ids": [event], "data": { "ts": 1 } });
    if let Some(thread) = thread {
        receipt["data"]["thread_id"] = json!(thread);
    }
    receipt
}

/// Two type, two are present, one has read in two threads: what goes along is counted as it stands in the transaction.
#[test]
fn what_goes_along_is_counted_as_it_stands_there() {
    let mut world = world();
    for user in ["@a", "@b"] {
        let _ = world.push("m.typing", &typing(user, true));
        let _ = world.push("m.presence", &json!({ "push": [{ "user_id": user, "presence": "online" }] }));
    }
    for thread in [None, Some("$t")] {
        let content = json!({ "!r": { "m.read": { "@a": receipt("$e", thread) } } });
        let _ = world.push("m.receipt", &content);
    }
    assert_eq!(world.waiting.len(), 6);
    let batch = world.waiting.take(100, 100_000, &world.limits, WALL);
    assert_eq!(batch.along(), Along { typing: 2, presence: 1, receipts: 2 });
    assert_eq!(batch.len(), batch.along().total() as usize);
}

/// Alice begins to type and stops before the connection was there: nobody need know.
#[test]
fn a_stop_takes_back_the_start_that_nobody_saw() {
    let mut world = world();
    assert_eq!(world.push("m.typing", &typing("@a", true)).0, 0);
    assert_eq!(world.push("m.typing", &typing("@a", false)).0, 2);
    assert!(world.waiting.is_empty());
}

/// Alice typed a minute ago, and the peer may still show it: her stop must be sent.
#[test]
fn a_stop_is_sent_when_a_start_was_seen() {
    let mut world = world();
    world.push("m.typing", &typing("@a", true));
    world.take();
    world.push("m.typing", &typing("@a", true));
    assert_eq!(world.push("m.typing", &typing("@a", false)).0, 1);
    assert_eq!(
        world.take(),
        r#"{"content":{"room_id":"!r","typing":false,"user_id":"@a"},"edu_type":"m.typing"}"#
    );
}

/// The start was refused with its transaction; the stop came meanwhile. Neither is news.
#[test]
fn a_stop_takes_back_a_start_that_was_refused() {
    let mut world = world();
    world.push("m.typing", &typing("@a", true));
    let batch = world.waiting.take(100, 100_000, &world.limits, WALL);
    world.push("m.typing", &typing("@a", false));
    let pushed = world.waiting.restore(batch, &world.limits, WALL);
    assert_eq!(pushed.collapsed, 2);
    assert!(world.waiting.is_empty());
}

/// A transaction was refused while its states went on: what is put back does not turn them back.
#[test]
fn what_is_put_back_overrides_nothing_newer() {
    let mut world = world();
    let presence = |state: &str| json!({ "push": [{ "user_id": "@a", "presence": state }] });
    world.push("m.presence", &presence("online"));
    world.push("m.typing", &typing("@b", true));
    let batch = world.waiting.take(100, 100_000, &world.limits, WALL);
    assert!(world.waiting.is_empty());
    world.push("m.presence", &presence("offline"));
    assert_eq!(world.waiting.restore(batch, &world.limits, WALL).collapsed, 1);
    let sent = world.take();
    assert!(sent.contains("offline") && !sent.contains("online\"") && sent.contains("@b"), "{sent}");
}

/// Presence of three users, said in two EDUs, is one EDU of the latest states.
#[test]
fn presence_of_several_users_is_one_edu() {
    let mut world = world();
    world.push("m.presence", &json!({ "push": [{ "user_id": "@a", "v": 1 }, { "user_id": "@b", "v": 1 }] }));
    let (collapsed, _) = world
        .push("m.presence", &json!({ "push": [{ "user_id": "@b", "v": 2 }, { "user_id": "@c", "v": 2 }] }));
    assert_eq!(collapsed, 1);
    let expected = r#"{"content":{"push":[{"user_id":"@a","v":1},{"user_id":"@b","v":2},{"user_id":"@c","v":2}]},"edu_type":"m.presence"}"#;
    assert_eq!(world.take(), expected);
}

/// Bob reads in two threads and in the room: three receipts, which one EDU has no place for. Carol's goes along.
#[test]
fn threads_do_not_overwrite_each_other() {
    let mut world = world();
    for (event, thread) in [("$1", Some("$t")), ("$2", None), ("$3", Some("main")), ("$4", Some("$t"))] {
        world.push("m.receipt", &json!({ "!r": { "m.read": { "@b": receipt(event, thread) } } }));
    }
    world.push("m.receipt", &json!({ "!r": { "m.read": { "@c": receipt("$5", None) } } }));
    world.push("m.receipt", &json!({ "!a": { "m.read": { "@c": receipt("$6", None) } } }));
    assert_eq!(world.waiting.len(), 5);
    let batch = world.waiting.take(100, 100_000, &world.limits, WALL);
    let expected = concat!(
        r#"{"content":{"!a":{"m.read":{"@c":{"data":{"ts":1},"event_ids":["$6"]}}},"#,
        r#""!r":{"m.read":{"@b":{"data":{"thread_id":"$t","ts":1},"event_ids":["$4"]},"#,
        r#""@c":{"data":{"ts":1},"event_ids":["$5"]}}}},"edu_type":"m.receipt"},"#,
    );
    let sent = std::str::from_utf8(batch.json()).unwrap();
    assert!(sent.starts_with(expected), "{sent}");
    assert_eq!(batch.len(), 3);
    assert!(sent.contains("$2") && sent.contains("$3") && !sent.contains("$1"));
}

/// Ten thousand destinations get the same typing: they share its bytes.
#[test]
fn destinations_share_the_bytes_of_an_edu() {
    let limits = EduLimits::default();
    let edu = read(&mut reader(&limits), &edu("m.typing", &typing("@a", true)));
    let sent: Vec<*const u8> = (0..3)
        .map(|_| {
            let mut waiting = WaitingEdus::default();
            let _ = waiting.push(&edu, &limits, WALL);
            waiting.take(100, 10_000, &limits, WALL).json().as_ptr()
        })
        .collect();
    assert_eq!(sent[0], sent[1]);
    assert_eq!(sent[1], sent[2]);
}

/// A destination for which nothing waits costs a pointer.
#[test]
fn nothing_costs_nothing() {
    assert_eq!(size_of::<WaitingEdus>(), size_of::<usize>());
    let mut world = world();
    world.push("m.typing", &typing("@a", true));
    assert!(!world.waiting.is_empty());
    world.take();
    assert!(world.waiting.is_empty(), "and is_empty() looks at the pointer");
}

/// Nobody wants to know who typed a minute ago.
#[test]
fn what_is_stale_is_dropped_and_counted() {
    let mut world = world();
    world.push("m.typing", &typing("@a", true));
    world.push("m.presence", &json!({ "push": [{ "user_id": "@a", "presence": "online" }] }));
    let later = WALL + Duration::from_secs(61);
    let batch = world.waiting.take(100, 100_000, &world.limits, later);
    assert_eq!(batch.expired(), Shed { typing: 1, ..Shed::default() });
    assert_eq!(batch.contents(), Shed { presence: 1, ..Shed::default() });
}

/// The sender's clock runs an hour ahead of ours: its typing is stale in a minute all the same.
#[test]
fn a_clock_ahead_keeps_nothing_alive() {
    let mut world = world();
    let ahead = WALL + Duration::from_secs(3600);
    let edu = OutgoingEdu::new("m.typing", typing("@a", true).to_string(), ahead).unwrap();
    world.push_edu(&edu);
    let shed = world.waiting.expire(&world.limits, WALL + Duration::from_secs(61));
    assert_eq!(shed.total(), 1);
    assert!(world.waiting.is_empty());
}

/// More is said than may wait: the oldest goes, by its age and not by its place.
#[test]
fn the_oldest_is_dropped_under_pressure() {
    let mut world = World::new(EduLimits { parts_max: 2, ..EduLimits::default() });
    let at = |user: &str, secs: u64| {
        let wall = WallTime::from_unix_millis(WALL.unix_millis() - secs * 1000);
        OutgoingEdu::new("m.presence", json!({ "push": [{ "user_id": user }] }).to_string(), wall).unwrap()
    };
    world.push_edu(&at("@a", 30));
    world.push_edu(&at("@b", 20));
    world.push_edu(&at("@a", 10));
    let (_, shed) = world.push_edu(&at("@c", 0));
    assert_eq!(shed, Shed { presence: 1, ..Shed::default() });
    let sent = world.take();
    assert!(sent.contains("@a") && sent.contains("@c") && !sent.contains("@b"), "{sent}");
}

/// A host insists on transactions of a hundred bytes. One part goes alone, and the next one after it.
#[test]
fn what_fits_nowhere_goes_alone() {
    let mut world = world();
    world.push(
        "m.presence",
        &json!({ "push": [{ "user_id": "@a", "status_msg": "x".repeat(1000) }, { "user_id": "@b" }] }),
    );
    assert!(world.waiting.take(100, 10, &world.limits, WALL).is_empty());
    let first = world.waiting.take_alone(&world.limits, WALL);
    let second = world.waiting.take_alone(&world.limits, WALL);
    assert_eq!((first.len(), first.contents().presence), (1, 1));
    assert_eq!(&second.json()[..], br#"{"content":{"push":[{"user_id":"@b"}]},"edu_type":"m.presence"}"#);
    assert!(world.waiting.is_empty() && world.waiting.take_alone(&world.limits, WALL).is_empty());
    let _ = world.waiting.restore(first, &world.limits, WALL);
    let later = WALL + Duration::from_secs(3600);
    assert_eq!(world.waiting.take_alone(&world.limits, later).expired().presence, 1);
    assert!(world.waiting.is_empty());
}

/// A host takes nothing while thousands of users come and go: what waits is the latest, in order, and the rest is
/// counted.
#[test]
fn a_flood_leaves_the_latest() {
    let mut world = World::new(EduLimits { parts_max: 60, ..EduLimits::default() });
    let mut dropped = 0;
    for round in 0..100_u64 {
        let users = |user| json!({ "user_id": format!("@{round}.{user}"), "v": round });
        let push: Vec<Value> = (0..50).map(users).collect();
        let wall = WallTime::from_unix_millis(WALL.unix_millis() - 1000 + round);
        let content = json!({ "push": push }).to_string();
        dropped += world.push_edu(&OutgoingEdu::new("m.presence", content, wall).unwrap()).1.presence;
    }
    // An eighth less than may wait.
    assert_eq!(dropped, 100 * 50 - 53);
    let sent = world.take();
    assert!(
        !sent.contains("\"@98.46\"") && sent.contains("\"@98.47\"") && sent.contains("\"@99.0\""),
        "{sent}"
    );
    assert!(sent.find("@98.49") < sent.find("@99.0"));
}

/// Everything is full: typing is let go of everywhere, then as much as is needed.
#[test]
fn the_whole_bus_can_shed() {
    let mut world = world();
    world.push("m.typing", &typing("@a", true));
    world.push("m.presence", &json!({ "push": [{ "user_id": "@a" }] }));
    world.push("m.receipt", &json!({ "!r": { "m.read": { "@b": receipt("$1", None) } } }));
    assert_eq!(world.waiting.shed_kind(EduKind::Typing), Shed { typing: 1, ..Shed::default() });
    assert_eq!(world.waiting.oldest(), Some(WALL));
    assert_eq!(world.waiting.shed_to(world.waiting.bytes() - 1), Shed { presence: 1, ..Shed::default() });
    assert_eq!(world.waiting.clear(), Shed { receipts: 1, ..Shed::default() });
    assert!(world.waiting.is_empty());
}

/// Never dropped means never here.
#[test]
fn what_must_not_be_lost_is_refused() {
    for kind in EduKind::ALL {
        let edu_type = match kind {
            EduKind::DeviceList => "m.device_list_update",
            EduKind::ToDevice => "m.direct_to_device",
            EduKind::SigningKey => "m.signing_key_update",
            EduKind::Unknown => "com.example.novel",
            EduKind::Typing | EduKind::Presence | EduKind::Receipt => continue,
        };
        let refused = world().reader.read(&edu(edu_type, &json!({})), NOW, WALL);
        assert_eq!(refused.unwrap_err(), NotVolatile { kind });
    }
}

/// Shapes that the specification does not know are passed on: in order, neither merged nor read.
#[test]
fn what_has_another_shape_is_passed_on_in_order() {
    let mut world = world();
    let odd = [
        ("m.typing", json!({ "room_id": "!r", "user_id": 7, "typing": true })),
        ("m.typing", json!({ "room_id": "!r", "user_ids": ["@a"] })),
        ("m.presence", json!({ "push": [{ "user_id": "@a" }], "also": 1 })),
        ("m.presence", json!({ "push": [["@a"]] })),
        ("m.receipt", json!({ "!r": { "m.read": { "@a": ["$1"] } } })),
        ("m.receipt", json!({ "!r": { "m.read": { "@a": { "data": { "thread_id": 4 } } } } })),
    ];
    for (edu_type, content) in &odd {
        world.push(edu_type, content);
    }
    let expected: Vec<String> = odd
        .iter()
        .map(|(edu_type, content)| String::from_utf8(edu(edu_type, content).to_json().to_vec()).unwrap())
        .collect();
    assert_eq!(world.take(), expected.join(","));
}

/// Of one EDU that says two things of one user, the last counts, as it would for a reader.
#[test]
fn the_last_word_of_one_edu_counts() {
    let mut world = world();
    world.push("m.presence", &json!({ "push": [{ "user_id": "@a", "v": 1 }, { "user_id": "@a", "v": 2 }] }));
    assert_eq!(world.take(), r#"{"content":{"push":[{"user_id":"@a","v":2}]},"edu_type":"m.presence"}"#);
}

/// A presence of a megabyte, a list of ten thousand users: what could never be sent does not wait.
#[test]
fn what_is_too_much_is_left_out_and_counted() {
    let mut world = world();
    let (_, shed) =
        world.push("m.presence", &json!({ "push": [{ "user_id": "@a", "status_msg": "x".repeat(40_000) }] }));
    assert_eq!(shed.presence, 1);
    assert!(world.waiting.is_empty());
    let users: Vec<Value> = (0..10_000).map(|user| json!({ "user_id": format!("@{user}") })).collect();
    let (_, shed) = world.push("m.presence", &json!({ "push": users }));
    assert_eq!((shed.presence, world.waiting.len()), (9_500, 500));
    assert!(world.take().contains("@9999"));
}

/// Someone who types all the time keeps his place in the line.
#[test]
fn a_state_that_changes_all_the_time_is_still_sent() {
    let mut world = world();
    world.push("m.typing", &typing("@a", true));
    world.push("m.typing", &typing("@b", true));
    world.push("m.typing", &typing("@a", true));
    let batch = world.waiting.take(1, 100_000, &world.limits, WALL);
    assert!(std::str::from_utf8(batch.json()).unwrap().contains("@a"));
    assert_eq!(Receiver::default().receive(batch.json()), 1);
}
