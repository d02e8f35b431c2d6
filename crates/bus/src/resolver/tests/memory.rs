//! What is remembered, for how long, and what stands in for what fails.

use std::time::Duration;

use southbridge_words::LookupFailure;

use super::world::{DAY, HOUR, MINUTE, SECOND, World, server_name, summary};
use crate::resolver::{Action, WellKnownFailure};

const DELEGATED: &str = r#"{"m.server":"delegated.example:443"}"#;
const AT_DELEGATED: &str =
    "192.0.2.8:443 as delegated.example:443 verified as delegated.example key delegated.example|443";
const AT_ITSELF: &str = "192.0.2.1:8448 as example.org verified as example.org key example.org|8448";

/// `example.org` delegates for ten minutes at a time; both it and the delegated host have addresses.
fn delegating() -> World {
    let mut world = World::new();
    world.well_known_answer("example.org", 200, "max-age=600", DELEGATED);
    world.host("delegated.example", &["192.0.2.8"]).host("example.org", &["192.0.2.1"]);
    assert_eq!(summary(&world.resolve("example.org")), AT_DELEGATED);
    world.take_asked();
    world
}

#[test]
fn a_known_name_is_answered_without_asking() {
    let mut world = delegating();
    let known = world.resolver.known(&server_name("example.org"), world.now);
    assert!(known.is_some_and(|known| !known.stale && known.fresh_until == world.now + MINUTE * 10));
    assert_eq!(summary(&world.resolve("example.org")), AT_DELEGATED);
    assert!(world.take_asked().is_empty());
    assert!(world.resolver.known(&server_name("other.example"), world.now).is_none());
}

/// A hundred requests for one name: one .well-known fetch, one lookup of each kind, a hundred answers.
#[test]
fn many_requests_for_one_name_make_one_fetch() {
    let mut world = World::new();
    world.host("example.org", &["192.0.2.1"]);
    let tickets: Vec<_> = (0..100).map(|_| world.request("example.org")).collect();
    let told: Vec<_> = world.settle().iter().filter_map(Action::ticket).collect();
    assert_eq!(told, tickets);
    assert_eq!(world.take_asked().len(), 4);
    assert_eq!(world.resolver.counters().composed.joined, 99);
}

/// Server names are case-sensitive, hosts are not: two names, one .well-known fetch.
#[test]
fn names_that_differ_in_case_share_the_fetch() {
    let mut world = World::new();
    world.host("example.org", &["192.0.2.1"]);
    world.request("example.org");
    world.request("Example.org");
    assert_eq!(world.settle().len(), 2);
    let fetches = world.take_asked().iter().filter(|asked| asked.starts_with("well-known")).count();
    assert_eq!(fetches, 1);
}

/// Asked for at 8.5 of 10 minutes, the name is resolved again while the old answer goes out at once.
#[test]
fn a_name_in_use_is_refreshed_before_it_ends() {
    let mut world = delegating();
    world.wait(Duration::from_secs(510));
    assert!(world.resolver.known(&server_name("example.org"), world.now).is_some());
    assert!(world.settle().is_empty());
    assert!(world.take_asked().contains(&"well-known example.org".into()));
    world.wait(Duration::from_secs(95)).resolve("example.org").expect("known");
    assert!(!world.take_asked().contains(&"well-known example.org".into()));
}

/// The web server is down, busy, replaced by a portal, or broken: the delegation stands for a week.
#[test]
fn a_delegation_stands_in_while_its_host_fails() {
    let failures: [fn(&mut World); 6] = [
        |world| {
            world.well_known_fails("example.org", WellKnownFailure::TimedOut);
        },
        |world| {
            world.well_known_fails("example.org", WellKnownFailure::TooLarge);
        },
        |world| {
            world.well_known_answer("example.org", 500, "", "");
        },
        |world| {
            world.well_known_answer("example.org", 429, "max-age=86400", "");
        },
        |world| {
            world.well_known_answer("example.org", 200, "max-age=86400", "<html>Sign in</html>");
        },
        |world| {
            world.well_known_answer("example.org", 200, "max-age=86400", "{}");
        },
    ];
    for fail in failures {
        let mut world = delegating();
        fail(&mut world);
        let resolved = world.wait(HOUR).resolve("example.org");
        assert_eq!(summary(&resolved), AT_DELEGATED);
        assert!(resolved.is_ok_and(|resolved| resolved.stale));
        assert_eq!(summary(&world.wait(DAY * 6).resolve("example.org")), AT_DELEGATED);
        world.wait(DAY * 2).resolve("example.org").expect("the composition stands in, or step 6");
        assert_eq!(summary(&world.wait(DAY * 2).resolve("example.org")), AT_ITSELF);
    }
}

/// One bad answer costs minutes, not a day: as soon as the host is well again, so is the name.
#[test]
fn one_bad_answer_poisons_nothing() {
    let mut world = World::new();
    world.well_known_answer("example.org", 200, "max-age=86400", "<html>Sign in</html>");
    world.host("delegated.example", &["192.0.2.8"]).host("example.org", &["192.0.2.1"]);
    assert_eq!(summary(&world.resolve("example.org")), AT_ITSELF);
    world.well_known("example.org", DELEGATED);
    assert_eq!(summary(&world.wait(MINUTE).resolve("example.org")), AT_ITSELF);
    assert_eq!(summary(&world.wait(MINUTE + SECOND).resolve("example.org")), AT_DELEGATED);
}

/// A clean 404 or 410 is an answer: it is believed for the better part of an hour, whatever its headers say, and
/// looked at again ahead of time. Whoever wants the name waits once, at the beginning.
#[test]
fn a_host_that_says_it_has_no_well_known_is_asked_once_an_hour_in_the_background() {
    for (status, control) in [(404, ""), (410, "max-age=1"), (404, "no-store")] {
        let mut world = World::new();
        world.well_known_answer("example.org", status, control, "").host("example.org", &["192.0.2.1"]);
        world.ttl(DAY).resolve("example.org").expect("step 6");
        let mut fetched_at = vec![0];
        world.take_asked();
        for minute in 1..600_u64 {
            world.wait(MINUTE).request("example.org");
            let first = world.resolver.poll();
            assert!(matches!(first, Some(Action::Resolved { .. })), "somebody waits at {minute}: {first:?}");
            assert_eq!(world.settle(), []);
            if world.take_asked().contains(&"well-known example.org".into()) {
                fetched_at.push(minute);
            }
        }
        let gaps: Vec<u64> = fetched_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (38..=60).contains(gap)), "{gaps:?}");
    }
}

/// A thousand hosts without .well-known are met together; they are not all asked again in the same minutes.
#[test]
fn hosts_without_well_known_are_not_asked_again_together() {
    let mut world = World::new();
    for host in 0..1000 {
        let name = format!("h{host}.example");
        world.well_known_answer(&name, 404, "", "").host(&name, &["192.0.2.1"]);
        world.resolve(&name).expect("step 6");
    }
    let mut most = 0;
    for _ in 0..70 {
        world.wait(MINUTE).take_asked();
        for host in 0..1000 {
            world.resolve(&format!("h{host}.example")).expect("step 6");
        }
        let fetches = world.take_asked().iter().filter(|asked| asked.starts_with("well-known")).count();
        most = most.max(fetches);
    }
    assert!(most < 200, "{most} in one minute");
}

/// Today there is none, and tomorrow there is: it is found at the next look. A failure in between changes nothing.
#[test]
fn a_delegation_that_is_new_is_found_within_the_hour() {
    let mut world = World::new();
    world.well_known_answer("example.org", 404, "", "");
    world.host("delegated.example", &["192.0.2.8"]).host("example.org", &["192.0.2.1"]);
    assert_eq!(summary(&world.resolve("example.org")), AT_ITSELF);
    world.well_known_fails("example.org", WellKnownFailure::TimedOut);
    assert_eq!(summary(&world.wait(HOUR).resolve("example.org")), AT_ITSELF);
    world.well_known("example.org", DELEGATED);
    assert_eq!(summary(&world.wait(MINUTE * 3).resolve("example.org")), AT_DELEGATED);
}

/// A host whose .well-known fails is asked less and less often: after 2, 4, 8… minutes, at most an hour.
#[test]
fn a_host_whose_well_known_fails_is_asked_less_and_less_often() {
    let mut world = World::new();
    world.well_known_answer("example.org", 500, "", "").host("example.org", &["192.0.2.1"]);
    world.ttl(DAY);
    let mut fetched_at = Vec::new();
    for minute in 0..600_u64 {
        world.resolve("example.org").expect("step 6");
        if world.take_asked().contains(&"well-known example.org".into()) {
            fetched_at.push(minute);
        }
        world.wait(MINUTE);
    }
    let gaps: Vec<u64> = fetched_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted() || gaps.windows(2).all(|pair| pair[1] + 13 >= pair[0]), "{gaps:?}");
    assert!(
        gaps[0] <= 2 && gaps.iter().all(|gap| *gap <= 60) && gaps.iter().any(|gap| *gap >= 38),
        "{gaps:?}"
    );
}

/// A clean 404 may be a mistake of the operator's; repeated for two days it is meant.
#[test]
fn a_delegation_is_given_up_after_days_of_clean_404() {
    let mut world = delegating();
    world.well_known_answer("example.org", 404, "", "");
    let mut given_up_at = None;
    for hour in 0..80_u64 {
        world.wait(HOUR);
        match summary(&world.resolve("example.org")).as_str() {
            AT_ITSELF => given_up_at = given_up_at.or(Some(hour)),
            AT_DELEGATED => assert_eq!(given_up_at, None),
            other => panic!("{other}"),
        }
    }
    assert!(given_up_at.is_some_and(|hour| (47..=51).contains(&hour)), "{given_up_at:?}");
}

/// A good answer in between begins the days anew, an outage does not count as a 404.
#[test]
fn only_uninterrupted_404_gives_a_delegation_up() {
    let mut world = delegating();
    for day in 0..6 {
        for _ in 0..40 {
            world.well_known_answer("example.org", 404, "", "");
            assert_eq!(summary(&world.wait(HOUR).resolve("example.org")), AT_DELEGATED, "day {day}");
        }
        world.well_known_answer("example.org", 200, "max-age=600", DELEGATED);
        for _ in 0..3 {
            assert_eq!(summary(&world.wait(HOUR).resolve("example.org")), AT_DELEGATED, "day {day}");
        }
    }
}

/// The name servers fail after the answer has ended: what was composed stands in for a day, and no longer.
#[test]
fn a_composed_address_stands_in_while_name_servers_fail() {
    let mut world = World::new();
    let srv = "_matrix-fed._tcp.example.org";
    world.ttl(MINUTE).srv(srv, &[(0, 0, 9, "a.example")]).host("a.example", &["192.0.2.1"]);
    let good = summary(&world.resolve("example.org"));
    world.srv_fails(srv, LookupFailure::ServFail);
    let resolved = world.wait(HOUR).resolve("example.org");
    assert_eq!(summary(&resolved), good);
    assert!(resolved.is_ok_and(|resolved| resolved.stale && resolved.fresh_until >= world.now));
    assert!(world.resolver.known(&server_name("example.org"), world.now).is_some_and(|known| known.stale));
    assert!(world.wait(DAY).resolve("example.org").is_err());
    world.srv(srv, &[(0, 0, 9, "a.example")]);
    assert_eq!(summary(&world.wait(2 * MINUTE).resolve("example.org")), good);
}

/// While nothing is known a failure is told at once, and asked for again after a second, two, four…
#[test]
fn a_failure_to_resolve_is_remembered_for_a_moment() {
    let mut world = World::new();
    world.srv_fails("_matrix-fed._tcp.example.org", LookupFailure::ServFail);
    assert!(world.resolve("example.org").is_err());
    world.take_asked();
    assert!(world.wait(SECOND / 2).resolve("example.org").is_err());
    assert!(world.take_asked().is_empty());
    assert!(world.wait(SECOND).resolve("example.org").is_err());
    assert_eq!(world.take_asked(), ["srv _matrix-fed._tcp.example.org"]);
}

/// Our own overload is told, and held against nobody.
#[test]
fn an_overload_of_ours_is_not_remembered() {
    let mut world = World::new();
    world
        .well_known_fails("example.org", WellKnownFailure::Overloaded)
        .host("delegated.example", &["192.0.2.8"]);
    assert_eq!(summary(&world.resolve("example.org")), "too many names are being resolved already");
    world.well_known("example.org", DELEGATED);
    assert_eq!(summary(&world.resolve("example.org")), AT_DELEGATED);
}

/// Nobody answers at the address: asked for anew, the new delegation is found long before the old one ends.
#[test]
fn a_distrusted_name_is_resolved_anew() {
    let mut world = delegating();
    world.well_known("example.org", r#"{"m.server":"192.0.2.77"}"#);
    world.resolver.handle_distrusted(&server_name("example.org"), world.now);
    let moved = "192.0.2.77:8448 as 192.0.2.77 verified as 192.0.2.77 key 192.0.2.77|8448";
    assert_eq!(summary(&world.resolve("example.org")), moved);
}

/// The driver never answers: the ticket is told all the same, and a late answer is no surprise.
#[test]
fn lookups_that_nobody_answers_end_at_their_deadline() {
    let mut world = World::new();
    world.host("example.org", &["192.0.2.1"]);
    let ticket = world.request("example.org");
    let Some(Action::FetchWellKnown { id, .. }) = world.resolver.poll() else { panic!("a fetch first") };
    let deadline = world.resolver.poll_timeout().expect("something is under way");
    world.resolver.handle_timeout(deadline);
    let Some(Action::LookupSrv { .. }) = world.resolver.poll() else { panic!("step 4 follows") };
    let deadline = world.resolver.poll_timeout().expect("something is under way");
    world.resolver.handle_timeout(deadline);
    assert!(matches!(world.resolver.poll(), Some(Action::Failed { ticket: of, .. }) if of == ticket));
    let late = crate::resolver::WellKnownResult::Failed(WellKnownFailure::Connect);
    world.resolver.handle_well_known(id, late, deadline);
    assert_eq!((world.resolver.poll(), world.resolver.poll_timeout()), (None, None));
}
