//! One rule each.

use super::*;

const OPEN: Advice = Advice::Go { lane: Lane::Open };
const LIMITED: Advice = Advice::Go { lane: Lane::Limited };

/// Nobody knows the host yet: it has to earn the open lane.
#[test]
fn an_unknown_host_travels_in_the_limited_lane_until_it_answers() {
    let mut ranker = ranker();
    assert_eq!(ranker.ask(&host(), Demand::Prompt, T0), LIMITED);
    ranker.handle_outcome(&host(), QUICK, T0);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, T0), OPEN);
}

/// The host restarts; one request hits the gap.
#[test]
fn one_failure_is_not_an_outage() {
    let mut ranker = ranker();
    let now = ranker.live_through(QUICK, 1, seconds(1), T0);
    let now = ranker.live_through(REFUSED, 1, seconds(1), now);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), OPEN);
    ranker.handle_outcome(&host(), REFUSED, now);
    assert_eq!(ranker.state(now), HostState::Failing);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), LIMITED);
}

/// The host restarts with twenty streams open: all are cut in the same millisecond.
#[test]
fn requests_cut_off_together_are_one_failure() {
    let mut ranker = ranker();
    ranker.live_through(QUICK, 1, seconds(1), T0);
    (0..20).for_each(|_| assert_eq!(ranker.ask(&host(), Demand::Prompt, T0), OPEN));
    (0..20).for_each(|_| ranker.handle_outcome(&host(), REFUSED, T0 + millis(1)));
    let view = ranker.view(&host(), T0).unwrap();
    assert_eq!((view.state, view.failures, view.in_flight), (HostState::Healthy, 1, 0));
}

/// A black hole under load: forty requests hang, and time out one after the other.
#[test]
fn a_black_hole_under_load_is_down_within_seconds_of_the_first_time_out() {
    let mut ranker = ranker();
    (0..100).for_each(|_| {
        ranker.ask(&host(), Demand::Prompt, T0);
    });
    let mut now = T0 + seconds(10);
    while ranker.state(now) != HostState::Down {
        ranker.handle_outcome(&host(), REFUSED, now);
        now += millis(100);
    }
    assert!(now <= T0 + seconds(16), "down only at {now:?}");
}

/// From the issue: who has just refused eight times in a row is answered for at once.
#[test]
fn after_eight_refusals_in_a_row_nobody_waits_for_a_ninth() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 8, millis(1), T0);
    let Advice::Refuse(down) = ranker.ask(&host(), Demand::Prompt, now) else { panic!("not refused") };
    assert_eq!((down.failures, down.last), (8, Some(Step::Connect)));
    assert!(down.retry_in > seconds(2) && down.retry_in <= seconds(5));
}

#[test]
fn five_failures_within_a_second_are_failing_and_over_a_second_down() {
    let mut quickly = ranker();
    let now = quickly.live_through(REFUSED, 5, millis(10), T0);
    assert_eq!(quickly.state(now), HostState::Failing);
    let mut slowly = ranker();
    let now = slowly.live_through(REFUSED, 5, millis(300), T0);
    assert_eq!(slowly.state(now), HostState::Down);
}

/// Down, asked a hundred times a second: one request every few seconds gets through.
#[test]
fn a_down_host_is_probed_by_one_request_at_a_time() {
    let mut ranker = ranker();
    let mut now = ranker.live_through(REFUSED, 8, millis(1), T0);
    let mut probes = Vec::new();
    let mut pending = None;
    for _ in 0..6000 {
        if pending.is_some_and(|since| now.saturating_since(since) >= seconds(2)) {
            ranker.handle_outcome(&host(), REFUSED, now);
            pending = None;
        }
        if ranker.ask(&host(), Demand::Prompt, now) == Advice::Probe {
            assert_eq!(pending, None, "two probes at a time");
            pending = Some(now);
            probes.push(now);
        }
        now += millis(10);
    }
    let gaps: Vec<_> = probes.windows(2).map(|pair| pair[1].saturating_since(pair[0])).collect();
    assert!(gaps.iter().all(|gap| (seconds(4)..=seconds(8)).contains(gap)), "{gaps:?}");
    assert!(gaps.len() >= 7);
}

/// A probe hangs on a dead connection while the host is back already.
#[test]
fn a_probe_that_never_ends_blocks_nobody_for_long() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 8, millis(1), T0);
    let wait = ranker.refused_for(Demand::Prompt, now);
    let again = ranker.refused_for(Demand::Prompt, now + wait + millis(100));
    assert!(again <= seconds(10), "refused for {again:?}");
}

/// The host is back: the first good answer ends it all.
#[test]
fn one_good_answer_makes_a_down_host_healthy() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 30, seconds(1), T0);
    let wait = ranker.refused_for(Demand::Prompt, now);
    ranker.handle_outcome(&host(), QUICK, now + wait);
    let view = ranker.view(&host(), now + wait).unwrap();
    assert_eq!((view.state, view.failures, view.failing_for), (HostState::Healthy, 0, None));
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + wait), OPEN);
}

/// A transaction is worth waiting for, until the host has been gone for minutes.
#[test]
fn a_patient_demand_is_refused_only_after_minutes() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 8, millis(1), T0);
    assert_eq!(ranker.ask(&host(), Demand::Patient, now), LIMITED);
    ranker.handle_outcome(&host(), REFUSED, now);
    let later = ranker.live_through(REFUSED, 130, seconds(1), now);
    ranker.live_through(REFUSED, 1, millis(1), later);
    let wait = ranker.refused_for(Demand::Patient, later + millis(10));
    assert!(wait > Duration::ZERO && wait <= seconds(5), "refused for {wait:?}");
}

/// Hung requests of yesterday fail one by one; they must not put off the probe that finds the host back.
#[test]
fn stragglers_do_not_put_off_the_next_probe() {
    let mut ranker = ranker();
    (0..50).for_each(|_| {
        ranker.ask(&host(), Demand::Prompt, T0);
    });
    let mut now = T0;
    while ranker.state(now) != HostState::Down {
        ranker.handle_outcome(&host(), REFUSED, now);
        now += millis(500);
    }
    let down_at = now;
    while ranker.ask(&host(), Demand::Prompt, now) != Advice::Probe {
        ranker.handle_outcome(&host(), REFUSED, now);
        now += millis(500);
    }
    assert!(now.saturating_since(down_at) <= seconds(5));
}

#[test]
fn a_host_that_only_says_429_is_failing_and_takes_longer_to_be_down() {
    let mut ranker = ranker();
    let now = ranker.live_through(BUSY, 14, seconds(1), T0);
    assert_eq!(ranker.state(now), HostState::Failing);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), LIMITED);
    ranker.handle_outcome(&host(), BUSY, now);
    assert_eq!(ranker.state(now), HostState::Down);
}

/// Its reverse proxy is back, what stands behind it is not: the way is open, so let it say so itself.
#[test]
fn a_down_host_that_answers_503_is_merely_failing() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 8, millis(1), T0);
    let wait = ranker.refused_for(Demand::Prompt, now);
    ranker.handle_outcome(&host(), BUSY, now + wait);
    assert_eq!(ranker.state(now + wait), HostState::Failing);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + wait), LIMITED);
}

/// `Retry-After: 86400` must not silence a host for a day, nor refuse what the host would answer.
#[test]
fn a_retry_after_limits_the_lane_and_lasts_no_longer_than_its_cap() {
    let mut ranker = ranker();
    let now = ranker.live_through(QUICK, 3, seconds(1), T0);
    let absurd = Outcome::Unwilling { latency: millis(50), retry_after: Some(seconds(86_400)) };
    ranker.live_through(absurd, 1, seconds(1), now);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + seconds(59)), LIMITED);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + seconds(60)), OPEN);
}

#[test]
fn a_down_host_that_said_retry_after_is_left_alone_meanwhile() {
    let mut ranker = ranker();
    let resting = Outcome::Unwilling { latency: millis(50), retry_after: Some(seconds(30)) };
    let now = ranker.live_through(resting, 15, millis(100), T0);
    assert_eq!(ranker.state(now), HostState::Down);
    let wait = ranker.refused_for(Demand::Prompt, now);
    assert!((seconds(29)..=seconds(31)).contains(&wait), "refused for {wait:?}");
}

/// Slow from two seconds on, healthy again only below one: an edge is no place to dance on.
#[test]
fn a_slow_host_must_become_quick_to_be_healthy() {
    let mut ranker = ranker();
    let now = ranker.live_through(LAZY, 1, seconds(1), T0);
    assert_eq!(ranker.state(now), HostState::Slow);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), LIMITED);
    ranker.handle_outcome(&host(), QUICK, now);
    assert_eq!(ranker.state(now), HostState::Slow);
    let now = ranker.live_through(QUICK, 25, seconds(1), now);
    assert_eq!(ranker.state(now), HostState::Healthy);
}

/// Good until a minute ago; now it takes requests and says nothing.
#[test]
fn a_healthy_host_that_falls_silent_loses_the_open_lane_before_a_request_times_out() {
    let mut ranker = ranker();
    let now = ranker.live_through(QUICK, 3, seconds(1), T0);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), OPEN);
    ranker.handle_sent(&host(), now);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + seconds(4)), OPEN);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + seconds(5)), LIMITED);
    assert_eq!(ranker.state(now + seconds(5)), HostState::Slow);
}

/// Waiting in our own queue is not the host's silence.
#[test]
fn a_host_nothing_was_sent_to_is_not_silent() {
    let mut ranker = ranker();
    let now = ranker.live_through(QUICK, 3, seconds(1), T0);
    ranker.ask(&host(), Demand::Prompt, now);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now + seconds(60)), OPEN);
}

/// Every other request fails: never two in a row, but nothing to lean on either.
#[test]
fn a_host_that_fails_often_has_used_up_its_grace() {
    let mut ranker = ranker();
    let mut now = T0;
    for _ in 0..6 {
        now = ranker.live_through(REFUSED, 1, seconds(1), now);
        now = ranker.live_through(QUICK, 1, seconds(1), now);
    }
    ranker.live_through(REFUSED, 1, seconds(1), now);
    assert_eq!(ranker.state(now), HostState::Failing);
}

#[test]
fn an_abandoned_request_proves_nothing() {
    let mut ranker = ranker();
    let now = ranker.live_through(QUICK, 1, seconds(1), T0);
    let before = ranker.view(&host(), now).unwrap();
    let now = ranker.live_through(Outcome::Abandoned, 50, Duration::ZERO, now);
    let now = ranker.live_through(Outcome::Failed { step: Step::Admission }, 50, Duration::ZERO, now);
    let after = ranker.view(&host(), now).unwrap();
    assert_eq!(HostView { idle_for: before.idle_for, ..after }, before);
}

/// The caller of the probe hangs up: somebody else becomes the probe, at the usual pace.
#[test]
fn an_abandoned_probe_makes_room_for_the_next() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 8, millis(1), T0);
    let now = now + ranker.refused_for(Demand::Prompt, now);
    ranker.handle_outcome(&host(), Outcome::Abandoned, now);
    let wait = ranker.refused_for(Demand::Prompt, now);
    assert!(wait >= seconds(2) && wait <= seconds(5), "refused for {wait:?}");
}

/// The host says hello, or an operator says it is back.
#[test]
fn a_wake_ends_the_back_off_and_one_more_failure_resumes_it() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 40, seconds(1), T0);
    assert_eq!(ranker.state(now), HostState::Down);
    ranker.handle_wake(&host(), now);
    assert_eq!(ranker.state(now), HostState::Failing);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), LIMITED);
    ranker.handle_outcome(&host(), REFUSED, now);
    assert_eq!(ranker.state(now), HostState::Down);
    assert!(ranker.view(&host(), now).unwrap().retry_in.unwrap() <= seconds(5), "it begins small again");
}

#[test]
fn a_wake_for_a_host_nobody_knows_is_not_remembered() {
    let mut ranker = ranker();
    ranker.handle_wake(&host(), T0);
    assert_eq!(ranker.hosts().count(), 0);
}

#[test]
fn what_was_known_a_day_ago_is_unknown_today() {
    let mut ranker = ranker();
    let now = ranker.live_through(QUICK, 1, seconds(24 * 3600), T0);
    assert_eq!(ranker.ask(&host(), Demand::Prompt, now), LIMITED);
    assert_eq!(ranker.state(now), HostState::Unknown);
}

#[test]
fn the_back_off_of_a_host_that_stays_down_grows_to_an_hour() {
    let mut ranker = ranker();
    let now = ranker.live_through(REFUSED, 300, seconds(1), T0);
    let view = ranker.view(&host(), now).unwrap();
    assert!((seconds(600)..=seconds(3600)).contains(&view.retry_in.unwrap()), "{view:?}");
}
