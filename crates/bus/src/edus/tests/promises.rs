//! What holds whatever is pushed and however transactions end.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::receiver::{Receiver, WALL, edu, read, reader};
use crate::edus::{Batch, EduLimits, EduReader, WaitingEdus};
use crate::outgoing::EduKind;

/// What a homeserver says. Names are numbers.
#[derive(Clone, Debug)]
pub(super) enum Saying {
    Typing(u8, u8, bool),
    Presence(Vec<u8>),
    Receipts(Vec<(u8, u8, Option<u8>)>),
}

#[derive(Clone, Debug)]
enum Step {
    Say(Saying),
    /// A transaction is composed, of so many EDUs and bytes.
    Take(usize, usize),
    /// The transaction was processed.
    Delivered,
    /// The transaction was surely not processed.
    Refused,
}

pub(super) fn saying() -> impl Strategy<Value = Saying> {
    prop_oneof![
        (0..2_u8, 0..3_u8, any::<bool>()).prop_map(|(room, user, is)| Saying::Typing(room, user, is)),
        prop::collection::vec(0..5_u8, 1..4).prop_map(Saying::Presence),
        prop::collection::vec((0..2_u8, 0..3_u8, prop::option::of(0..3_u8)), 1..4).prop_map(Saying::Receipts),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => saying().prop_map(Step::Say),
        2 => (0..5_usize, 0..1200_usize).prop_map(|(edus, bytes)| Step::Take(edus, bytes)),
        1 => Just(Step::Delivered),
        1 => Just(Step::Refused),
    ]
}

pub(super) fn content(saying: &Saying, version: usize) -> (&'static str, Value) {
    match saying {
        Saying::Typing(room, user, is) => {
            let content = json!({ "room_id": format!("!{room}"), "user_id": format!("@{user}"), "typing": is, "v": version });
            ("m.typing", content)
        }
        Saying::Presence(users) => {
            let push = |user| json!({ "user_id": format!("@\"{user}"), "presence": "online", "v": version });
            ("m.presence", json!({ "push": users.iter().map(push).collect::<Vec<Value>>() }))
        }
        Saying::Receipts(receipts) => {
            let mut content = json!({});
            for (room, user, thread) in receipts {
                let mut data = json!({ "ts": 1 });
                if let Some(thread) = thread {
                    data["thread_id"] = json!(format!("${thread}"));
                }
                content[format!("!{room}")]["m.read"][format!("@{user}")] =
                    json!({ "event_ids": ["$x"], "data": data, "v": version });
            }
            ("m.receipt", content)
        }
    }
}

/// One destination, and what would be shown if everything were sent at once.
struct World {
    limits: EduLimits,
    reader: EduReader,
    waiting: WaitingEdus,
    in_flight: Option<Batch>,
    receiver: Receiver,
    ideal: Receiver,
    said: usize,
}

impl World {
    fn new(limits: EduLimits) -> Self {
        let reader = reader(&limits);
        Self {
            limits,
            reader,
            waiting: WaitingEdus::default(),
            in_flight: None,
            receiver: Receiver::default(),
            ideal: Receiver::default(),
            said: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Say(saying) => self.say(saying),
            Step::Take(edus_max, bytes_max) => self.take(*edus_max, *bytes_max),
            Step::Delivered => self.deliver(),
            Step::Refused => {
                if let Some(batch) = self.in_flight.take() {
                    let _ = self.waiting.restore(batch, &self.limits, WALL);
                }
            }
        }
        self.check();
    }

    fn say(&mut self, saying: &Saying) {
        self.said += 1;
        let (edu_type, content) = content(saying, self.said);
        self.ideal.receive_one(edu_type, &content);
        let edu = read(&mut self.reader, &edu(edu_type, &content));
        let _ = self.waiting.push(&edu, &self.limits, WALL);
    }

    fn take(&mut self, edus_max: usize, bytes_max: usize) {
        if self.in_flight.is_none() {
            let batch = self.waiting.take(edus_max, bytes_max, &self.limits, WALL);
            assert!(batch.len() <= edus_max && batch.json().len() <= bytes_max, "{batch:?}");
            assert_eq!(batch.is_empty(), batch.json().is_empty());
            self.in_flight = Some(batch);
        }
    }

    fn deliver(&mut self) {
        if let Some(batch) = self.in_flight.take() {
            assert_eq!(self.receiver.receive(batch.json()), batch.len());
        }
    }

    fn drain(&mut self) {
        self.deliver();
        while !self.waiting.is_empty() {
            self.take(100, 100_000);
            assert!(self.in_flight.as_ref().is_some_and(|batch| !batch.is_empty()), "no progress");
            self.deliver();
        }
    }

    fn check(&self) {
        let waiting = &self.waiting;
        assert!(waiting.len() <= self.limits.parts_max && waiting.bytes() <= self.limits.bytes_max);
        assert_eq!(waiting.is_empty(), matches!(waiting.len(), 0));
        assert_eq!(waiting.is_empty(), waiting.bytes() == 0);
    }
}

proptest! {
    /// Collapsing and then sending shows the same as sending all, whatever fits into a transaction and
    /// however transactions end; and no state is ever followed by an earlier one.
    #[test]
    fn what_is_collapsed_shows_the_same(steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(EduLimits::default());
        for step in &steps {
            world.step(step);
        }
        world.drain();
        prop_assert_eq!(&world.receiver.shown, &world.ideal.shown);
    }

    /// Under pressure something is lost, and counted; the bounds hold and what goes out is in order.
    #[test]
    fn bounds_hold_under_pressure(
        steps in prop::collection::vec(step(), 0..120),
        parts_max in 1_usize..6,
        bytes_max in 300_usize..1500,
    ) {
        let limits = EduLimits { parts_max, bytes_max, presence_users_max: 2, receipts_max: 2, ..EduLimits::default() };
        let mut world = World::new(limits);
        for step in &steps {
            world.step(step);
        }
        world.drain();
    }

    /// No part gets lost on its way: each is sent, waits, was collapsed, or was counted as shed.
    #[test]
    fn every_part_is_accounted_for(sayings in prop::collection::vec(saying(), 0..60), parts_max in 1_usize..20) {
        let limits = EduLimits { parts_max, ..EduLimits::default() };
        let (mut reader, mut waiting) = (reader(&limits), WaitingEdus::default());
        let (mut came, mut collapsed, mut shed) = (0, 0, 0);
        for (version, saying) in sayings.iter().enumerate() {
            let (edu_type, content) = content(saying, version);
            let edu = read(&mut reader, &edu(edu_type, &content));
            came += edu.parts() as u64 + edu.left_out.total();
            let pushed = waiting.push(&edu, &limits, WALL);
            collapsed += pushed.collapsed;
            shed += pushed.shed.total();
        }
        let batch = waiting.take(usize::MAX, usize::MAX, &limits, WALL);
        prop_assert_eq!(came, collapsed + shed + batch.contents().total());
        prop_assert!(waiting.is_empty());
    }

    /// Whatever stands in an EDU of these types, it is read without a panic and goes out as JSON.
    #[test]
    fn any_content_is_sent_as_it_came(kind in 0..3_usize, text in r#"\{("(push|room_id|m[.]read|a)":(\[\]|\{\}|1|"x"|\[\{"user_id":"@a"\}\]|\[\[\]\])){0,1}\}"#) {
        let limits = EduLimits::default();
        let kind = [EduKind::Typing, EduKind::Presence, EduKind::Receipt][kind];
        let edu = crate::outgoing::OutgoingEdu::new(format!("m.{}", kind.name()), text, WALL).unwrap();
        let mut waiting = WaitingEdus::default();
        let _ = waiting.push(&read(&mut reader(&limits), &edu), &limits, WALL);
        let batch = waiting.take(100, 10_000, &limits, WALL);
        prop_assert_eq!(Receiver::default().receive(batch.json()), batch.len());
        prop_assert!(batch.is_empty() || *batch.json() == edu.to_json());
    }
}
