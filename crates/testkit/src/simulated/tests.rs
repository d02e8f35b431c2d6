//! The promises of pool, ranker and resolver together.

use std::time::Duration;

use southbridge_words::Class;

use super::*;

/// Every kind of trouble at once.
fn trouble(hosts: usize) -> SimulationSpec {
    SimulationSpec {
        hosts,
        black_hole_share: 0.2,
        slow_share: 0.1,
        refusing_share: 0.05,
        flapping_share: 0.05,
        dns_failing_share: 0.05,
        ..SimulationSpec::default()
    }
}

/// One seed tells one story, to the last nanosecond; another seed tells another.
#[test]
fn one_seed_tells_one_story() {
    let spec = trouble(120);
    let report = simulate(&spec);
    assert_eq!(report, simulate(&spec));
    assert_ne!(report.trace, simulate(&SimulationSpec { seed: 2, ..spec }).trace);
}

/// Whatever the seed, the invariants hold (they are checked inside), and healthy hosts are served.
#[test]
fn no_seed_breaks_an_invariant() {
    for seed in 0..12 {
        let report = simulate(&SimulationSpec { seed, ..trouble(60) });
        let healthy = report.tally(Kind::Healthy, Class::Live);
        assert_eq!(healthy.delivered(), healthy.submitted(), "seed {seed}: {healthy}");
    }
}

/// Five thousand hosts, met for the first time in the same second, while one in five of them swallows every SYN
/// and one in ten is slow. Within every limit (checked inside), whoever is well gets everything in time.
#[test]
fn five_thousand_strangers_are_served_although_many_are_silent() {
    let cold = SimulationSpec { calm_for: Duration::ZERO, lasts: Duration::from_secs(40), ..storm(5000) };
    let report = simulate(&cold);
    for class in [Class::Interactive, Class::Live] {
        let healthy = report.tally(Kind::Healthy, class);
        assert_eq!(healthy.delivered(), healthy.submitted(), "{report}");
        assert!(healthy.quantile(1.0) < Duration::from_secs(15), "{report}");
    }
    assert!(report.given_up > 1000 && report.most.connections > 1000, "{report}");
}

/// Two thousand strangers in every kind of trouble. Nobody who is well is taken for somebody who is not.
#[test]
fn strangers_who_are_well_are_not_taken_for_others() {
    let report = simulate(&SimulationSpec { lasts: Duration::from_secs(40), ..trouble(2000) });
    let healthy = report.tally(Kind::Healthy, Class::Live);
    assert_eq!((healthy.refused, healthy.failed), (0, 0), "{report}");
}

/// The machines do for each of five thousand hosts what they do for each of fifty, given the room.
#[test]
fn work_grows_no_faster_than_the_number_of_hosts() {
    let steps = |hosts| {
        let pool = PoolLimits {
            connections_max: 12_000,
            limited_connections_max: 6_000,
            dials_max: 6_000,
            limited_dials_max: 5_000,
            ..PoolLimits::default()
        };
        let report = simulate(&SimulationSpec { lasts: Duration::from_secs(40), pool, ..trouble(hosts) });
        report.steps.total() as f64 / hosts as f64
    };
    let (few, many) = (steps(50), steps(5000));
    assert!(many <= few * 1.15, "{few:.1} steps a host at 50, {many:.1} at 5000");
}

/// A calm federation, and the same with one host in five gone silent and one in ten slow: whoever is well
/// gets everything, and does not notice.
fn healthy_hosts_do_not_notice(storm: &SimulationSpec) {
    let calm = SimulationSpec { black_hole_share: 0.0, slow_share: 0.0, ..storm.clone() };
    let (calm, storm) = std::thread::scope(|scope| {
        let calm = scope.spawn(|| simulate(&calm));
        let storm = simulate(storm);
        (calm.join().unwrap(), storm)
    });
    let interactive = |report: &Report| report.tally(Kind::Healthy, Class::Interactive).quantile(0.99);
    assert!(interactive(&storm) <= interactive(&calm) * 2, "calm:\n{calm}\nstorm:\n{storm}");
    for class in [Class::Interactive, Class::Live] {
        let healthy = storm.tally(Kind::Healthy, class);
        assert_eq!(healthy.delivered(), healthy.submitted(), "{storm}");
    }
}

fn storm(hosts: usize) -> SimulationSpec {
    SimulationSpec {
        hosts,
        black_hole_share: 0.2,
        slow_share: 0.1,
        calm_for: Duration::from_secs(60),
        lasts: Duration::from_secs(200),
        ..SimulationSpec::default()
    }
}

#[test]
fn healthy_hosts_do_not_notice_sixty_black_holes() {
    healthy_hosts_do_not_notice(&storm(300));
}

#[test]
fn healthy_hosts_do_not_notice_two_hundred_black_holes() {
    healthy_hosts_do_not_notice(&storm(1000));
}

/// A thousand dials that nobody answers, for ten seconds each, are about as many as may be made at once. Those
/// that are in the way are given up after three.
#[test]
fn healthy_hosts_do_not_notice_a_thousand_black_holes() {
    healthy_hosts_do_not_notice(&SimulationSpec { lasts: Duration::from_secs(100), ..storm(5000) });
}
