//! What holds whatever happens, in whatever order: items arrive, in order, once begun always as the same bytes, one
//! transaction at a time, within the bounds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use southbridge_policy::seeded::Seeded;
use southbridge_words::{OutboxError, Seq, Step};

use super::world::{OK, World, name, pdu, said};
use crate::externaliser::{
    Acknowledgement, Action, Answer, Event, ExternaliserLimits, Failure, QueueLimits, QueueState,
};
use crate::transaction::Transaction;

const PEERS: [&str; 4] = ["b.example", "c.example", "d.example", "e.example"];

/// Small enough that every bound is met all the time.
fn limits() -> ExternaliserLimits {
    ExternaliserLimits {
        queue: QueueLimits {
            items_max: 5,
            page_items: 3,
            page_bytes: 200,
            transaction_bytes_max: 4000,
            transaction_bytes_min: 1024,
            ..QueueLimits::default()
        },
        sends_max: 3,
        doubtful_sends_max: 2,
        catch_up_sends_max: 1,
        memory_bytes_max: 3000,
        volatile_bytes_max: 2000,
        write_items_max: 3,
        remembered_max: 2,
        ..ExternaliserLimits::default()
    }
}

/// What one peer has seen.
#[derive(Default)]
struct Peer {
    bodies: BTreeMap<Arc<str>, Transaction>,
    /// What it has taken, in order, each transaction once.
    arrived: Vec<u64>,
    taken: BTreeSet<Arc<str>>,
    /// What is on the wire.
    flying: Option<Transaction>,
    is_asked: bool,
}

struct Story {
    world: World,
    seeded: Seeded,
    peers: Vec<Peer>,
    /// Which ticket carries which number, for whom.
    handed_in: BTreeMap<u64, (u64, Vec<usize>)>,
    accepted: BTreeMap<Seq, (u64, Vec<usize>)>,
    count: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let peers = PEERS.map(|_| Peer::default()).into();
        let (world, seeded) = (World::new(limits()), Seeded::new(seed));
        Self { world, seeded, peers, handed_in: BTreeMap::new(), accepted: BTreeMap::new(), count: 0 }
    }

    fn step(&mut self) {
        match self.seeded.below(20) {
            0..=4 => self.hand_in(),
            5 => self.typing(),
            6..=15 => self.act(),
            16 => {
                let time = Duration::from_millis(self.seeded.below(40_000));
                self.world.pass(time);
            }
            17 => {
                let peer = PEERS[self.seeded.below(4) as usize];
                self.world.bus.wake(&name(peer), self.world.at);
                self.world.drain();
            }
            18 => self.disturb(),
            _ if self.seeded.below(4) == 0 => self.crash(),
            _ => self.world.write(),
        }
        self.look();
    }

    fn hand_in(&mut self) {
        let chosen = 1 + self.seeded.below(15);
        let to: Vec<usize> = (0..4).filter(|peer| chosen >> peer & 1 == 1).collect();
        self.count += 1;
        let ticket = self.world.ticket();
        let destinations = to.iter().map(|peer| name(PEERS[*peer])).collect();
        let text = self.count.to_string();
        let (bus, at) = (&mut self.world.bus, self.world.at);
        if bus.send_pdu(ticket, pdu(&text), destinations, None, at).is_ok() {
            self.handed_in.insert(ticket.0, (self.count, to));
        }
        self.world.drain();
    }

    fn typing(&mut self) {
        let user = self.seeded.below(5);
        let content = format!(r#"{{"room_id":"!r","user_id":"@{user}","typing":true}}"#);
        self.world.edu("m.typing", &content, &PEERS);
    }

    /// A peer, or the pool, does something.
    fn act(&mut self) {
        let peer = self.seeded.below(4) as usize;
        if let Some(transaction) = self.peers[peer].flying.take() {
            return self.answer(peer, &transaction);
        }
        if !self.peers[peer].is_asked {
            return;
        }
        match self.seeded.below(6) {
            0 => self.end(peer, Failure::Down { retry_in: Duration::from_secs(20) }),
            1 => self.end(peer, Failure::NotSent { step: Step::Connect, reason: String::new() }),
            2 => self.end(peer, Failure::Overloaded { reason: String::new() }),
            _ => {
                self.world.bus.handle_granted(&name(PEERS[peer]), self.world.at);
                self.world.drain();
            }
        }
    }

    fn end(&mut self, peer: usize, failure: Failure) {
        self.peers[peer].is_asked = false;
        self.world.fail(PEERS[peer], failure);
    }

    fn answer(&mut self, peer: usize, transaction: &Transaction) {
        let can_be_cut = said(transaction).len() > 1;
        let what = self.seeded.below(12);
        if what < 8 && what != 5 {
            self.peers[peer].take(transaction);
        }
        self.peers[peer].is_asked = false;
        let status = match what {
            0..=4 => return self.world.ok(PEERS[peer]),
            5 | 6 => {
                let reason = String::new();
                let failure = Failure::PerhapsSent { step: Step::Response, reason };
                return self.world.fail(PEERS[peer], failure);
            }
            7 => 502,
            8 => 520,
            9 if can_be_cut => 413,
            10 if can_be_cut => 400,
            _ => 429,
        };
        self.world.answer(PEERS[peer], Answer::new(status, ""));
    }

    fn disturb(&mut self) {
        let world = &mut self.world;
        world.holds_writes = self.seeded.below(2) == 0;
        world.store.trouble = match self.seeded.below(6) {
            0 => Some(OutboxError::Unavailable { reason: String::new() }),
            1 => Some(OutboxError::Full { reason: String::new() }),
            _ => None,
        };
        world.store.trouble_for_items = self.seeded.below(2) == 0;
        world.write();
    }

    /// kill -9; what was being written may have been written or not.
    fn crash(&mut self) {
        if self.seeded.below(2) == 0 {
            self.world.write();
            self.note_events();
        }
        let store = std::mem::take(&mut self.world.store);
        let seed = self.seeded.next_u64();
        let at = self.world.at;
        self.world = World::reopened_at(limits(), store, seed, at);
        for peer in &mut self.peers {
            (peer.flying, peer.is_asked) = (None, false);
        }
        self.handed_in.clear();
    }

    /// Everything that must hold at every moment.
    fn look(&mut self) {
        self.note_events();
        for action in std::mem::take(&mut self.world.done) {
            match action {
                Action::Send { destination, .. } => {
                    let peer = peer_of(&destination);
                    assert!(!std::mem::replace(&mut self.peers[peer].is_asked, true), "asked twice");
                }
                Action::GiveBack { destination } => {
                    assert!(std::mem::take(&mut self.peers[peer_of(&destination)].is_asked));
                }
                Action::Transmit { destination, transaction } => {
                    let peer = &mut self.peers[peer_of(&destination)];
                    assert!(peer.is_asked && peer.flying.is_none(), "two transactions in flight");
                    peer.see(&transaction);
                    peer.flying = Some(transaction);
                }
                other => panic!("{other:?}"),
            }
        }
        let counts = self.world.bus.counts();
        assert!(counts.sends <= 3 && counts.volatile_bytes <= 2000, "{counts:?}");
        // One write and one page may come on top of the bound.
        assert!(counts.item_bytes <= 3000 + 12 * 200, "{counts:?}");
        assert!(counts.destinations <= 4);
    }

    fn note_events(&mut self) {
        for event in self.world.take_events() {
            match event {
                Event::Accepted { ticket, acknowledgement: Acknowledgement::Durable(seq) } => {
                    let handed_in = self.handed_in.remove(&ticket.0).expect("it was handed in");
                    self.accepted.insert(seq, handed_in);
                }
                Event::GivenUp { .. } | Event::Diverged { .. } => panic!("{event:?}"),
                _ => {}
            }
        }
    }

    /// All is well from now on: everything that was accepted arrives.
    fn finish(mut self) {
        self.world.store.trouble = None;
        self.world.holds_writes = false;
        self.world.write();
        for _ in 0..2000 {
            self.look();
            if self.world.bus.queues().next().is_none() {
                break;
            }
            for (peer, text) in PEERS.iter().enumerate() {
                if let Some(transaction) = self.peers[peer].flying.take() {
                    self.peers[peer].take(&transaction);
                    self.peers[peer].is_asked = false;
                    self.world.answer(text, Answer::new(200, OK));
                } else if self.peers[peer].is_asked {
                    self.world.bus.handle_granted(&name(text), self.world.at);
                    self.world.drain();
                }
                self.look();
            }
            self.world.pass(Duration::from_secs(10));
        }
        let left: Vec<_> = self.world.bus.queues().collect();
        assert!(left.is_empty(), "{left:?}");
        for (peer, seen) in self.peers.iter().enumerate() {
            let expected: Vec<u64> = self
                .accepted
                .values()
                .filter(|(_, to)| to.contains(&peer))
                .map(|(number, _)| *number)
                .collect();
            let mut known = BTreeSet::new();
            let first: Vec<u64> =
                seen.arrived.iter().copied().filter(|number| known.insert(*number)).collect();
            // What was written as the process died was accepted without our hearing of it.
            let heard: Vec<u64> = first.iter().copied().filter(|number| expected.contains(number)).collect();
            assert_eq!(heard, expected, "peer {peer}");
            assert!(first.is_sorted(), "out of order for peer {peer}: {first:?}");
        }
        let counts = self.world.bus.counts();
        assert_eq!((counts.item_bytes, counts.volatile_bytes, counts.sends), (0, 0, 0));
        assert_eq!(counts.queues[QueueState::Ready as usize], 0);
    }
}

impl Peer {
    fn see(&mut self, transaction: &Transaction) {
        let before = self.bodies.entry(Arc::clone(&transaction.id)).or_insert_with(|| transaction.clone());
        assert_eq!(before.body, transaction.body, "an id with two bodies");
    }

    fn take(&mut self, transaction: &Transaction) {
        if self.taken.insert(Arc::clone(&transaction.id)) {
            self.arrived.extend(said(transaction).iter().map(|text| text.parse::<u64>().unwrap()));
        }
    }
}

fn peer_of(destination: &southbridge_words::ServerName) -> usize {
    PEERS.iter().position(|peer| *peer == destination.as_str()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever peers, pool, outbox and clock do, and however often the process dies.
    #[test]
    fn what_is_accepted_arrives_in_order(seed in any::<u64>(), steps in 1..600_usize) {
        let mut story = Story::new(seed);
        (0..steps).for_each(|_| story.step());
        story.finish();
    }

    /// A story told twice is the same story.
    #[test]
    fn a_seed_tells_one_story(seed in any::<u64>()) {
        let tell = || {
            let mut story = Story::new(seed);
            let mut log = Vec::new();
            for _ in 0..100 {
                story.step();
                let views: Vec<_> = story.world.bus.queues().collect();
                log.push(format!("{views:?} {:?}", story.world.bus.poll_timeout()));
            }
            log
        };
        prop_assert_eq!(tell(), tell());
    }
}
