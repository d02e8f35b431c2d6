//! What waits to be spread: nobody can tell that it has waited, but by what it has saved.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use southbridge_words::ServerName;

use super::promises::{Saying, content, saying};
use super::receiver::{Receiver, WALL, edu, read, reader};
use crate::edus::{Broadcast, EduLimits, EduReader, Shed, WaitingEdus};

const NAMES: [&str; 3] = ["b.example", "c.example", "d.example"];

/// Those of the three whose bit is set; a list of its own each time.
fn those(bits: u8) -> Arc<[ServerName]> {
    let names = NAMES.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
    names.map(|(_, name)| ServerName::parse(name).unwrap()).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Say(Saying, u8),
    /// There is time for so many pushes.
    Spread(usize),
    /// A transaction for one of them.
    Send(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (saying(), 1..8_u8).prop_map(|(saying, to)| Step::Say(saying, to)),
        3 => (1..5_usize).prop_map(Step::Spread),
        1 => (0..3_usize).prop_map(Step::Send),
    ]
}

/// Three destinations, and what each would show if everything were sent to it at once.
struct Crowd {
    limits: EduLimits,
    reader: EduReader,
    broadcast: Broadcast,
    waiting: [WaitingEdus; 3],
    receivers: [Receiver; 3],
    ideals: [Receiver; 3],
    said: usize,
    came: u64,
    saved: u64,
    spread: u64,
    shed: Shed,
}

impl Crowd {
    fn new(limits: EduLimits) -> Self {
        Self {
            reader: reader(&limits),
            limits,
            broadcast: Broadcast::new(1),
            waiting: Default::default(),
            receivers: Default::default(),
            ideals: Default::default(),
            said: 0,
            came: 0,
            saved: 0,
            spread: 0,
            shed: Shed::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Say(saying, to) => self.say(saying, *to),
            Step::Spread(count) => {
                self.spread(*count);
            }
            Step::Send(to) => self.send(*to),
        }
        assert!(self.broadcast.parts() <= self.limits.broadcast_parts_max);
        assert!(self.broadcast.bytes() <= self.limits.broadcast_bytes_max);
        assert_eq!(self.broadcast.is_empty(), self.broadcast.bytes() == 0);
    }

    fn say(&mut self, saying: &Saying, to: u8) {
        self.said += 1;
        let (edu_type, content) = content(saying, self.said);
        let destinations = those(to);
        for (at, ideal) in self.ideals.iter_mut().enumerate() {
            if to >> at & 1 == 1 {
                ideal.receive_one(edu_type, &content);
            }
        }
        let edu = read(&mut self.reader, &edu(edu_type, &content));
        self.came += edu.parts() as u64;
        let pushed = self.broadcast.push(&edu, &destinations, &self.limits);
        self.saved += pushed.collapsed;
        self.shed += pushed.shed;
    }

    /// Says whether there was anything to be spread.
    fn spread(&mut self, count: usize) -> bool {
        let Some(spread) = self.broadcast.next(count) else { return false };
        assert!((1..=count).contains(&spread.destinations().len()));
        self.spread += spread.destinations().len() as u64;
        for destination in spread.destinations() {
            let at = NAMES.iter().position(|name| *name == destination.as_str()).unwrap();
            let _ = self.waiting[at].push(&spread.edu, &self.limits, WALL);
        }
        true
    }

    fn send(&mut self, to: usize) {
        let batch = self.waiting[to].take(100, 100_000, &self.limits, WALL);
        self.receivers[to].receive(batch.json());
    }

    fn drain(&mut self) {
        while self.spread(2) {}
        assert!(self.broadcast.is_empty() && self.broadcast.bytes() == 0);
        (0..3).for_each(|to| self.send(to));
    }
}

proptest! {
    /// Collapsing, spreading and then sending shows the same as sending all, to everybody, whenever there is time for
    /// some of it; and nobody is shown a state after a later one.
    #[test]
    fn what_has_waited_shows_the_same(steps in prop::collection::vec(step(), 0..80)) {
        let mut crowd = Crowd::new(EduLimits::default());
        for step in &steps {
            crowd.step(step);
        }
        crowd.drain();
        for (receiver, ideal) in crowd.receivers.iter().zip(&crowd.ideals) {
            prop_assert_eq!(&receiver.shown, &ideal.shown);
        }
        prop_assert_eq!(crowd.shed, Shed::default());
    }

    /// For one set of destinations no part gets lost: each is spread to all, was saved, or was counted as shed for all.
    #[test]
    fn every_part_that_waits_is_accounted_for(
        sayings in prop::collection::vec((saying(), prop::option::of(1..4_usize)), 0..80),
        broadcast_parts_max in 4_usize..12,
    ) {
        let mut crowd = Crowd::new(EduLimits { broadcast_parts_max, ..EduLimits::default() });
        for (saying, spread) in &sayings {
            crowd.step(&Step::Say(saying.clone(), 7));
            if let Some(count) = spread {
                crowd.step(&Step::Spread(*count));
            }
        }
        crowd.drain();
        prop_assert_eq!(crowd.came * 3, crowd.saved * 3 + crowd.spread + crowd.shed.total());
    }
}

fn presence(user: usize) -> Value {
    json!({ "push": [{ "user_id": format!("@{user}"), "presence": "online" }] })
}

/// Five hundred users come on line again and again while there is no time: each waits once, and each list of
/// destinations lies there once, however often it is handed in.
#[test]
fn who_says_the_same_again_waits_once() {
    let mut crowd = Crowd::new(EduLimits::default());
    let mut bytes = Vec::new();
    for round in 0..20 {
        for user in 0..500 {
            let edu = read(&mut crowd.reader, &edu("m.presence", &presence(user)));
            let pushed = crowd.broadcast.push(&edu, &those(7), &crowd.limits);
            assert_eq!(pushed.collapsed, u64::from(round > 0));
        }
        assert_eq!(crowd.broadcast.parts(), 500);
        bytes.push(crowd.broadcast.bytes());
    }
    assert!(bytes.iter().all(|held| *held == bytes[0]), "{bytes:?}");
    let alone: usize = (0..500)
        .map(|user| read(&mut crowd.reader, &edu("m.presence", &presence(user))).slots[0].part.alone_bytes())
        .sum();
    assert_eq!(bytes[0] - alone, 3 * 64, "one list");
}

/// Too much of everything: presence goes first, whoever came first, and is counted for all who do not get it.
#[test]
fn presence_goes_first_where_there_is_no_room() {
    let limits = EduLimits { broadcast_parts_max: 16, ..EduLimits::default() };
    let mut crowd = Crowd::new(limits);
    for user in 0..8 {
        crowd.step(&Step::Say(Saying::Typing(0, user, true), 7));
        let edu = read(&mut crowd.reader, &edu("m.presence", &presence(user.into())));
        crowd.shed += crowd.broadcast.push(&edu, &those(3), &crowd.limits).shed;
    }
    assert_eq!(crowd.shed, Shed::default());
    crowd.step(&Step::Say(Saying::Typing(0, 8, true), 7));
    assert_eq!(crowd.shed, Shed { presence: 3 * 2, ..Shed::default() });
    (9..20).for_each(|user| crowd.step(&Step::Say(Saying::Typing(0, user, true), 7)));
    assert_eq!(crowd.shed.presence, 8 * 2);
    assert!(crowd.shed.typing > 0 && crowd.shed.typing.is_multiple_of(3));
}
