//! What is remembered, for how long, and across restarts.

use super::*;

fn named(number: u32) -> ServiceName {
    ServiceName::new(&format!("h{number}.example"))
}

fn small(hosts_max: u32) -> Ranker {
    Ranker::new(RankerLimits { hosts_max, ..RankerLimits::default() }, 7)
}

impl Ranker {
    fn try_once(&mut self, number: u32, outcome: Outcome, now: Instant) {
        self.ask(&named(number), Demand::Prompt, now);
        self.handle_outcome(&named(number), outcome, now);
    }

    fn knows(&self, number: u32) -> bool {
        self.view(&named(number), T0).is_some()
    }
}

/// Room for three: the longest idle makes way, never one that is waited for, and one that is in
/// trouble only when all others are gone.
#[test]
fn the_longest_idle_calm_host_is_forgotten_first() {
    let mut ranker = small(3);
    ranker.try_once(0, REFUSED, T0);
    ranker.try_once(0, REFUSED, T0);
    ranker.try_once(1, QUICK, T0);
    ranker.ask(&named(2), Demand::Prompt, T0);
    ranker.try_once(3, QUICK, T0);
    assert_eq!([0, 1, 2, 3].map(|number| ranker.knows(number)), [true, false, true, true]);
    ranker.ask(&named(4), Demand::Prompt, T0);
    assert_eq!([0, 2, 3, 4].map(|number| ranker.knows(number)), [true, true, false, true]);
    ranker.ask(&named(5), Demand::Prompt, T0);
    assert_eq!([0, 2, 4, 5].map(|number| ranker.knows(number)), [false, true, true, true]);
}

#[test]
fn with_every_place_in_use_a_stranger_is_served_and_not_remembered() {
    let mut ranker = small(1);
    ranker.ask(&named(0), Demand::Prompt, T0);
    assert_eq!(ranker.ask(&named(1), Demand::Prompt, T0), Advice::Go { lane: Lane::Limited });
    ranker.handle_outcome(&named(1), QUICK, T0);
    assert_eq!([0, 1].map(|number| ranker.knows(number)), [true, false]);
}

/// An attacker makes us try a million names.
#[test]
fn a_flood_of_names_is_bounded() {
    let mut ranker = small(100);
    (0..10_000).for_each(|number| ranker.try_once(number, REFUSED, T0));
    assert_eq!(ranker.hosts().count(), 100);
    assert_eq!(ranker.take_changed(usize::MAX, T0, NOON).len(), 100);
}

#[test]
fn a_change_is_handed_to_the_store_once() {
    let mut ranker = small(10);
    ranker.try_once(1, QUICK, T0);
    ranker.try_once(2, REFUSED, T0);
    assert_eq!(ranker.take_changed(1, T0, NOON).len(), 1);
    assert_eq!(ranker.take_changed(9, T0, NOON).len(), 1);
    assert_eq!(ranker.take_changed(9, T0, NOON), []);
    ranker.try_once(1, QUICK, T0 + seconds(1));
    assert_eq!(ranker.take_changed(9, T0, NOON), [], "more of the same is not worth a write");
    ranker.try_once(1, QUICK, T0 + seconds(600));
    assert_eq!(ranker.take_changed(9, T0, NOON).len(), 1, "unless the last was long ago");
}

/// Down for ten minutes; the daemon restarts within a second.
#[test]
fn a_restart_remembers_who_was_down_and_for_how_long() {
    let mut before = ranker();
    let now = before.live_through(REFUSED, 600, seconds(1), T0);
    let records = before.take_changed(9, now, NOON);
    assert_eq!(records.len(), 1);
    let mut after = ranker();
    after.restore(records, Instant::ZERO, NOON + seconds(1));
    let view = after.view(&host(), Instant::ZERO).unwrap();
    assert_eq!(view.state, HostState::Down);
    assert!(view.failing_for.unwrap() >= seconds(590), "{view:?}");
    assert!(view.retry_in.unwrap() <= seconds(3600));
    assert!(after.refused_for(Demand::Patient, Instant::ZERO) <= seconds(5));
}

#[test]
fn a_healthy_host_keeps_the_open_lane_over_a_restart() {
    let mut before = ranker();
    let now = before.live_through(QUICK, 5, seconds(1), T0);
    let mut after = ranker();
    after.restore(before.take_changed(9, now, NOON), T0, NOON + seconds(60));
    assert_eq!(after.ask(&host(), Demand::Prompt, T0), Advice::Go { lane: Lane::Open });
}

/// A thousand dead hosts, all wanted in the first second after a restart.
#[test]
fn first_contacts_after_a_restart_are_spread() {
    let mut before = small(1000);
    for number in 0..1000 {
        (0..8).for_each(|_| before.try_once(number, REFUSED, T0));
    }
    let mut after = small(1000);
    after.restore(before.take_changed(1000, T0, NOON), T0, NOON + seconds(10));
    let mut per_second = [0; 5];
    for second in 0..5 {
        let now = T0 + seconds(second + 1);
        for number in 0..1000 {
            per_second[second as usize] +=
                u32::from(after.ask(&named(number), Demand::Prompt, now) == Advice::Probe);
        }
    }
    assert!(per_second.iter().all(|probes| (150..=250).contains(probes)), "{per_second:?}");
}

#[test]
fn a_store_larger_than_the_memory_is_read_from_its_newest_end() {
    let mut before = small(10);
    (0..10).for_each(|number| before.try_once(number, QUICK, T0 + seconds(u64::from(number))));
    let mut after = small(3);
    after.restore(before.take_changed(10, T0 + seconds(10), NOON), T0, NOON);
    let known: Vec<_> = (0..10).filter(|number| after.knows(*number)).collect();
    assert_eq!(known, [7, 8, 9]);
}

#[test]
fn records_of_another_day_are_left_aside() {
    let mut before = ranker();
    let now = before.live_through(REFUSED, 10, seconds(1), T0);
    let mut after = ranker();
    after.restore(before.take_changed(9, now, NOON), T0, NOON + seconds(24 * 3600 + 10));
    assert_eq!(after.hosts().count(), 0);
}
