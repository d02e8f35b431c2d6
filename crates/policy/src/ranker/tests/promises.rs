//! What holds whatever the outcomes and their timing.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Something that happens to one of four hosts.
#[derive(Clone, Copy, Debug)]
enum Fact {
    Ask(u8, Demand),
    Sent(u8),
    Ended(u8, Outcome),
    Woken(u8),
    Waited(u32),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let latency = || (0_u64..10_000).prop_map(millis);
    let retry_after = prop::option::of((0_u64..100_000).prop_map(seconds));
    prop_oneof![
        3 => latency().prop_map(|latency| Outcome::Answered { latency }),
        2 => (latency(), retry_after)
            .prop_map(|(latency, retry_after)| Outcome::Unwilling { latency, retry_after }),
        6 => prop_oneof![Just(Step::Discovery), Just(Step::Connect), Just(Step::Body), Just(Step::Admission)]
            .prop_map(|step| Outcome::Failed { step }),
        1 => Just(Outcome::Abandoned),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let demand = prop_oneof![Just(Demand::Prompt), Just(Demand::Patient)];
    prop_oneof![
        6 => (0_u8..4, demand).prop_map(|(host, demand)| Fact::Ask(host, demand)),
        1 => (0_u8..4).prop_map(Fact::Sent),
        6 => (0_u8..4, outcome()).prop_map(|(host, outcome)| Fact::Ended(host, outcome)),
        1 => (0_u8..4).prop_map(Fact::Woken),
        3 => (0_u32..20_000).prop_map(Fact::Waited),
    ]
}

fn facts() -> impl Strategy<Value = Vec<Fact>> {
    prop::collection::vec(fact(), 0..400)
}

/// A ranker and what must be true of it.
struct Play {
    ranker: Ranker,
    in_flight: BTreeMap<u8, u32>,
    now: Instant,
    advice: Vec<Advice>,
}

impl Play {
    fn new(limits: RankerLimits, seed: u64) -> Self {
        Self { ranker: Ranker::new(limits, seed), in_flight: BTreeMap::new(), now: T0, advice: Vec::new() }
    }

    fn act(&mut self, fact: Fact) {
        match fact {
            Fact::Ask(host, demand) => {
                let advice = self.ranker.ask(&name(host), demand, self.now);
                self.advice.push(advice);
                if advice.lane().is_some() {
                    *self.in_flight.entry(host).or_default() += 1;
                }
            }
            Fact::Sent(host) => self.ranker.handle_sent(&name(host), self.now),
            Fact::Ended(host, outcome) => {
                let in_flight = self.in_flight.entry(host).or_default();
                if *in_flight > 0 {
                    *in_flight -= 1;
                    self.ranker.handle_outcome(&name(host), outcome, self.now);
                }
            }
            Fact::Woken(host) => self.ranker.handle_wake(&name(host), self.now),
            Fact::Waited(count) => self.now += millis(u64::from(count)),
        }
    }

    fn all(limits: RankerLimits, seed: u64, facts: &[Fact]) -> Self {
        let mut play = Self::new(limits, seed);
        facts.iter().for_each(|fact| play.act(*fact));
        play
    }
}

fn name(host: u8) -> ServiceName {
    ServiceName::new(&format!("h{host}.example"))
}

proptest! {
    #[test]
    fn in_flight_is_what_was_asked_for_and_has_not_ended(facts in facts()) {
        let play = Play::all(RankerLimits::default(), 1, &facts);
        for (host, in_flight) in &play.in_flight {
            let view = play.ranker.view(&name(*host), play.now);
            prop_assert_eq!(view.map_or(0, |view| view.in_flight), *in_flight);
        }
    }

    #[test]
    fn the_same_facts_and_seed_give_the_same_advice(facts in facts(), seed: u64) {
        let tell = || Play::all(RankerLimits::default(), seed, &facts);
        let (mut one, mut other) = (tell(), tell());
        prop_assert_eq!(one.advice, other.advice);
        let now = one.now;
        let records = one.ranker.take_changed(usize::MAX, now, NOON);
        prop_assert_eq!(records, other.ranker.take_changed(usize::MAX, now, NOON));
    }

    #[test]
    fn whoever_asks_persistently_gets_through(facts in facts(), host in 0_u8..4) {
        let limits = RankerLimits::default();
        let mut play = Play::all(limits.clone(), 1, &facts);
        let longest = limits.probe_overdue.max(limits.retry_after_max) + limits.probe_every_max;
        let by = play.now + longest;
        while let Advice::Refuse(down) = play.ranker.ask(&name(host), Demand::Prompt, play.now) {
            prop_assert!(play.now < by, "still refused after {longest:?}: {down:?}");
            prop_assert!(!down.retry_in.is_zero());
            play.now += down.retry_in.min(millis(700));
        }
    }

    /// With nothing under way and no `Retry-After`, demand is a probe within `probe_every_max`.
    #[test]
    fn a_down_host_is_probed_within_the_pace_of_probes(failures in 8_u32..200, every in 0_u64..20_000) {
        let mut ranker = ranker();
        let now = ranker.live_through(REFUSED, failures, millis(every), T0);
        let wait = ranker.refused_for(Demand::Prompt, now);
        prop_assert!(wait <= seconds(5), "refused for {:?}", wait);
    }

    #[test]
    fn a_host_that_answers_is_not_refused_until_it_fails_again(facts in facts(), waits in prop::collection::vec(0_u64..100_000, 1..20)) {
        let mut play = Play::all(RankerLimits::default(), 1, &facts);
        play.ranker.handle_outcome(&name(0), QUICK, play.now);
        for wait in waits {
            play.now += millis(wait);
            let advice = play.ranker.ask(&name(0), Demand::Prompt, play.now);
            prop_assert!(matches!(advice, Advice::Go { .. }), "{:?}", advice);
        }
    }

    #[test]
    fn the_counts_are_those_of_the_hosts(facts in facts()) {
        let limits = RankerLimits { hosts_max: 2, ..RankerLimits::default() };
        let play = Play::all(limits, 1, &facts);
        prop_assert!(play.ranker.hosts().count() <= 2);
        for (state, count) in play.ranker.counts() {
            let states = play.ranker.hosts().map(|host| play.ranker.view(host, play.now).unwrap().state);
            prop_assert_eq!(states.filter(|is| *is == state).count() as u32, count);
        }
    }

    /// Whatever a store says, and whatever happened to the wall clock since.
    #[test]
    fn no_record_can_silence_a_host(
        failures: u32,
        times in prop::array::uniform4(0_u64..4_000_000_000_000),
        state in prop::sample::select(HostState::ALL.to_vec()),
        latency: u64,
    ) {
        let [failing_since, retry_at, seen_at, wall] = times.map(WallTime::from_unix_millis);
        let record = HostRecord {
            host: host(), state, latency: millis(latency), failures,
            failing_since: Some(failing_since), retry_at: Some(retry_at), seen_at,
        };
        let mut ranker = ranker();
        ranker.restore(vec![record], T0, wall);
        prop_assert!(ranker.refused_for(Demand::Prompt, T0) <= seconds(5));
        ranker.handle_outcome(&host(), REFUSED, T0 + seconds(6));
        let retry_in = ranker.view(&host(), T0 + seconds(6)).unwrap().retry_in;
        prop_assert!(retry_in.unwrap_or_default() <= seconds(3600));
    }
}
