//! What holds whatever happens, in whatever order.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use southbridge_words::Ticket;

use super::world::{World, key, published, signed, unsigned};
use crate::keyring::{Action, FetchFailure, KeyringLimits, Purpose, Sources};

#[derive(Clone, Debug)]
enum Event {
    Want {
        server: usize,
        key: usize,
        purpose: u8,
    },
    Cancel {
        ticket: u64,
    },
    /// Answers the fetch that has waited for the longest or the shortest time.
    Fetched {
        first: bool,
        answer: u8,
    },
    Wait {
        millis: u32,
    },
    /// The wall clock is set, by hours.
    Leap {
        hours: i16,
    },
    Timeout,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..6_usize, 0..3_usize, 0..3_u8).prop_map(|(server, key, purpose)| Event::Want { server, key, purpose }),
        1 => (0..40_u64).prop_map(|ticket| Event::Cancel { ticket }),
        4 => (any::<bool>(), 0..6_u8).prop_map(|(first, answer)| Event::Fetched { first, answer }),
        2 => prop_oneof![0..1_000_u32, 0..100_000_000_u32].prop_map(|millis| Event::Wait { millis }),
        1 => (-9_000..9_000_i16).prop_map(|hours| Event::Leap { hours }),
        1 => Just(Event::Timeout),
    ]
}

/// The notaries are servers among others: their keys are wanted, too.
const SERVERS: [&str; 6] = ["s0", "s1", "s2", "s3", "n1.example", "n2.example"];

struct Story {
    world: World,
    open: BTreeSet<Ticket>,
    fetches: Vec<Action>,
}

impl Story {
    fn new(pinned: bool) -> Self {
        let notaries = ["n1.example", "n2.example"];
        let mut world = World::with_notaries(&notaries, &Sources::default());
        if !pinned {
            let notary =
                |server| crate::keyring::Notary { server: super::world::name(server), keys: Vec::new() };
            let sources = Sources { notaries: notaries.map(notary).into(), ..Sources::default() };
            let limits = KeyringLimits { origin_fetches_max: 2, servers_max: 4, ..KeyringLimits::default() };
            world = World::with(limits, sources);
            world.notary_signs_with("n1.example", key("k0", 4));
        }
        Self { world, open: BTreeSet::new(), fetches: Vec::new() }
    }

    fn play(&mut self, event: &Event) {
        match *event {
            Event::Want { server, key, purpose } => {
                let purpose = match purpose {
                    0 => Purpose::Request,
                    1 => Purpose::EventOfOldRoom,
                    _ => Purpose::Event { signed_at: self.world.wall },
                };
                let ticket = self.world.want(SERVERS[server], &format!("k{key}"), purpose);
                self.open.insert(ticket);
            }
            Event::Cancel { ticket } => {
                self.world.keyring.handle_cancelled(Ticket(ticket));
                self.open.remove(&Ticket(ticket));
            }
            Event::Fetched { first, answer } if !self.fetches.is_empty() => {
                let at = if first { 0 } else { self.fetches.len() - 1 };
                let fetch = self.fetches.remove(at);
                self.answer(fetch, answer);
            }
            Event::Fetched { .. } => {}
            Event::Wait { millis } => self.world.wait(Duration::from_millis(millis.into())),
            Event::Leap { hours } => {
                let wall = self.world.wall.unix_millis().saturating_add_signed(i64::from(hours) * 3_600_000);
                self.world.wall = southbridge_words::WallTime::from_unix_millis(wall);
            }
            Event::Timeout => self.world.keyring.handle_timeout(self.world.moment()),
        }
        self.drain();
    }

    /// Each server has the keys of its own; some answers are bad.
    fn answer(&mut self, fetch: Action, answer: u8) {
        let until = self.world.wall + Duration::from_secs(3_600);
        let good = |server: &str| {
            let seed = SERVERS.iter().position(|known| *known == server).unwrap_or(9) as u8;
            published(server, &[&key("k0", seed)], until)
        };
        let (id, body) = match fetch {
            Action::FetchOrigin { id, server, .. } => (id, good(server.as_str()).to_string()),
            Action::FetchNotary { id, notary, body, .. } => {
                let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
                let seed = if answer == 4 { 77 } else { 100 };
                let signer = key(if answer == 5 { "k0" } else { "n" }, seed);
                let asked = asked["server_keys"].as_object().unwrap().keys();
                let entries: Vec<_> =
                    asked.map(|server| signed(&good(server), notary.as_str(), &signer)).collect();
                (id, serde_json::json!({"server_keys": entries}).to_string())
            }
            Action::Answer { .. } | Action::Searched { .. } => return,
        };
        let forged = unsigned("s0", &[&key("k0", 66)], until).to_string();
        match answer {
            0 => self.world.fetched(id, Err(FetchFailure::Unreachable)),
            1 => self.world.fetched(id, Err(FetchFailure::Overloaded)),
            2 => self.world.fetched(id, Ok(forged.as_bytes())),
            _ => self.world.fetched(id, Ok(body.as_bytes())),
        }
    }

    fn drain(&mut self) {
        while let Some(action) = self.world.keyring.poll() {
            match action {
                Action::Answer { ticket, result } => {
                    assert!(self.open.remove(&ticket), "{ticket} is answered once");
                    if let Ok(found) = result {
                        let own = (0..SERVERS.len() as u8).map(|seed| key("k0", seed).verify_key());
                        assert!(own.into_iter().any(|own| own == found), "a key that nobody has");
                    }
                }
                fetch => self.fetches.push(fetch),
            }
        }
    }
}

proptest! {
    /// Whatever is wanted, cancelled, answered, and however the clocks go: every ticket is answered once, at the latest
    /// when all fetches have run out of time; and then nothing is left over.
    #[test]
    fn every_ticket_is_answered_once(events in prop::collection::vec(event(), 0..60), pinned in any::<bool>()) {
        let mut story = Story::new(pinned);
        for event in &events {
            story.play(event);
            let counters = story.world.keyring.counters();
            prop_assert_eq!(counters.waiting, story.open.len());
        }
        // Nobody answers any more: every deadline passes, for each source that is left.
        for _ in 0..20 {
            let Some(deadline) = story.world.keyring.poll_timeout() else { break };
            story.world.now = story.world.now.max(deadline);
            story.play(&Event::Timeout);
        }
        prop_assert!(story.open.is_empty(), "{:?} are never answered", story.open);
        prop_assert_eq!(story.world.keyring.poll_timeout(), None);
    }

    /// Bodies of any kind, from origins and notaries, change nothing and break nothing.
    #[test]
    fn any_bytes_are_taken_without_harm(body in prop::collection::vec(any::<u8>(), 0..100), cut in 0_usize..600) {
        let mut story = Story::new(true);
        let whole = published("s0", &[&key("k0", 0)], story.world.wall + Duration::from_secs(60)).to_string();
        for body in [body.as_slice(), &whole.as_bytes()[..cut.min(whole.len() - 1)]] {
            story.play(&Event::Want { server: 0, key: 0, purpose: 0 });
            while let Some(Action::FetchOrigin { id, .. } | Action::FetchNotary { id, .. }) = story.fetches.pop() {
                story.world.fetched(id, Ok(body));
                story.drain();
            }
            prop_assert!(story.open.is_empty());
            story.play(&Event::Wait { millis: 100_000_000 });
        }
        prop_assert_eq!(story.world.keyring.counters().known, 0);
    }
}
