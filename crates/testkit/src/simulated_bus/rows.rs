//! Rows of the fault list, a story each.

use std::time::Duration;

use southbridge_policy::pool::PoolLimits;
use southbridge_words::Instant;

use super::tests::kept;
use super::*;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A small story with something of everything is lived through once for every write, sync, send and answer in it, with
/// a crash just there. Nothing accepted is lost, no id has two bodies, nothing is processed twice (checked inside).
#[test]
fn row_19_a_crash_at_any_point_loses_nothing() {
    let calm = BusSpec {
        seed: 19,
        hosts: 3,
        destinations_max: 3,
        items: 14,
        backlog: 3,
        queries: 3,
        answer_lost_permille: 100,
        lasts: seconds(20),
        ..BusSpec::default()
    };
    let points = kept(&calm).points;
    assert!(points > 60, "{points}");
    for point in 0..points {
        let report = kept(&BusSpec { crash_at: Some(point), ..calm.clone() });
        assert_eq!(report.crashes, 1, "at {point}");
    }
}

/// The wall clock is set by hours, forward and back, twenty times in ten minutes, while a third of the hosts fail.
/// Deadlines and waits are not concerned: hardly more goes out than without.
#[test]
fn row_21_a_clock_that_jumps_makes_no_storm() {
    let calm = BusSpec {
        seed: 21,
        hosts: 10,
        items: 150,
        ailing_share: 0.3,
        lasts: seconds(600),
        ..BusSpec::default()
    };
    let jumping = BusSpec { clock_jumps: 20, ..calm.clone() };
    let (calm, jumping) = (kept(&calm), kept(&jumping));
    let most = calm.transmissions.len() * 5 / 4;
    assert!(jumping.transmissions.len() <= most, "{} and {most}", jumping.transmissions.len());
    assert_eq!(jumping.arrivals.len(), calm.arrivals.len());
}

/// A restart with something to be sent to ten thousand hosts. The first is served within a second, contacts are
/// spread, and neither connections nor sends are more than they may be.
#[test]
fn row_25_a_restart_with_ten_thousand_backlogs_is_no_herd() {
    let hosts = 10_000;
    let spec = BusSpec {
        seed: 25,
        hosts,
        backlog: 4,
        items: 0,
        queries: 0,
        padding_max: 100,
        ailing_share: 0.2,
        lasts: seconds(300),
        // The hosts that were ill are none of this story's business.
        heralds: false,
        ..BusSpec::default()
    };
    let report = kept(&spec);
    let (_, first) = report.backlog_arrivals[0];
    assert!(first < Instant::ZERO + seconds(1), "{first:?}");
    assert!(report.most.sends <= spec.limits.sends_max);
    assert!(report.most.connections <= spec.pool.connections_max, "{:?}", report.most);
    let pace = spec.limits.first_contacts_per_second as usize;
    let begun = report.transmissions.iter().filter(|(at, ..)| *at < Instant::ZERO + seconds(10)).count();
    assert!(begun <= pace * 11, "{begun} within the first ten seconds");
    // One host in sixty thinks for a minute or two, and has a place for backlogs as long.
    let healthy_by = Instant::ZERO + seconds(300);
    let served = report.backlog_arrivals.iter().filter(|(_, at)| *at < healthy_by).count();
    assert!(served >= hosts * 4 * 8 / 10, "{served} items in time");
}

/// Ten times as much typing, presence and receipts as there is room for, with a third of the hosts ill. PDUs to hosts
/// that are well take no more than twice what they take in the calm, and none is dropped (checked inside).
#[test]
fn row_27_an_overload_of_what_is_expendable_delays_no_message() {
    let calm = BusSpec {
        seed: 27,
        hosts: 40,
        destinations_max: 30,
        items: 150,
        volatile_share: 0.0,
        queries: 0,
        lasts: seconds(60),
        pool: PoolLimits { connections_max: 60, limited_connections_max: 20, ..PoolLimits::default() },
        ..BusSpec::default()
    };
    let mut limits = calm.limits.clone();
    limits.volatile_bytes_max = 16 * 1024;
    let storm = BusSpec { items: 3_000, volatile_share: 0.95, ailing_share: 0.3, limits, ..calm.clone() };
    let well: Vec<bool> = (0..storm.hosts).map(|host| is_well(&storm, host)).collect();
    let (calm, storm) = (kept(&calm), kept(&storm));
    assert!(storm.most.volatile_bytes > 12 * 1024, "it was full: {:?}", storm.most);
    let (calmly, in_storm) = (calm.latency(0.99, |_| true), storm.latency(0.99, |host| well[host]));
    assert!(in_storm <= calmly * 2, "{in_storm:?} and {calmly:?}");
}

/// Six hosts in ten do not answer for ten minutes, and then all do. Whoever was well notices nothing; what was held
/// back goes out spread, and retries were few.
#[test]
fn row_28_a_region_comes_back_without_a_herd() {
    let spec = BusSpec {
        seed: 28,
        hosts: 200,
        destinations_max: 200,
        items: 60,
        volatile_share: 0.0,
        queries: 0,
        outage: Some((0.6, seconds(60), seconds(660))),
        lasts: seconds(1800),
        heralds: false,
        ..BusSpec::default()
    };
    let out: Vec<bool> = (0..spec.hosts).map(|host| is_out(&spec, host)).collect();
    let report = kept(&spec);
    let well = report.latency(0.99, |host| !out[host]);
    assert!(well < seconds(2), "{well:?}");
    // The region has a hundred and twenty hosts: no second brings most of them, but for a message to all of them.
    let back = Instant::ZERO + seconds(660);
    let first = report
        .transmissions
        .iter()
        .filter(|(at, host, _)| out[*host] && (back..back + seconds(1)).contains(at));
    assert!(first.count() <= 40);
    let repeated = report.transmissions.iter().filter(|(.., is_repetition)| *is_repetition).count();
    assert!(repeated * 5 <= report.transmissions.len(), "{repeated} of {}", report.transmissions.len());
    let last = report.arrivals.iter().map(|(.., at)| *at).max().unwrap();
    assert!(last < Instant::ZERO + spec.lasts + seconds(3600), "{last:?}");
}

fn hosts_of(spec: &BusSpec) -> Vec<super::hosts::Host> {
    super::hosts::draw(spec, &mut southbridge_policy::seeded::Seeded::new(spec.seed))
}

fn is_well(spec: &BusSpec, host: usize) -> bool {
    hosts_of(spec)[host].ailment == Ailment::None
}

fn is_out(spec: &BusSpec, host: usize) -> bool {
    hosts_of(spec)[host].is_in_outage
}
