use super::*;
use proptest::prelude::*;

type Cache = StepCache<&'static str, u32, &'static str, u32>;

const T0: Instant = Instant::from_nanos(1_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const LIMITS: FreshnessLimits = FreshnessLimits {
    entries_max: 3,
    waiting_max: 8,
    background_max: 2,
    fresh_min: Duration::from_secs(5),
    fresh_max: Duration::from_secs(1000),
    absent_max: Duration::from_secs(60),
    stale_max: Duration::from_secs(500),
    failure_first: Duration::from_secs(2),
    failure_max: Duration::from_secs(16),
};

fn cache() -> Cache {
    Cache::new(LIMITS, 7)
}

fn due(cache: &mut Cache) -> Vec<&'static str> {
    std::iter::from_fn(|| cache.poll()).collect()
}

/// Fetches `key` in the foreground and gives what the waiter is told.
fn fetch(
    cache: &mut Cache,
    fetched: Result<Fetched<u32>, &'static str>,
    now: Instant,
) -> Result<Known<u32>, &'static str> {
    assert_eq!(cache.ask(&"a", 1, now), Asked::Waiting);
    assert_eq!(due(cache), ["a"]);
    let settled = cache.handle_fetched(&"a", fetched, now).expect("it was being fetched");
    assert_eq!(settled.waiters, [1]);
    settled.answer.map_err(|failing| failing.error)
}

/// Alice, Bob and Carol ask for one key at once: it is fetched once, and all are told in their order.
#[test]
fn many_askers_make_one_fetch() {
    let mut cache = cache();
    for waiter in [1, 2, 3] {
        assert_eq!(cache.ask(&"a", waiter, T0), Asked::Waiting);
    }
    assert_eq!(due(&mut cache), ["a"]);
    let settled = cache.handle_fetched(&"a", Ok(Fetched::Present(9, 100 * SECOND)), T0).expect("in flight");
    assert_eq!(settled.waiters, [1, 2, 3]);
    assert_eq!(settled.answer, Ok(Known { value: 9, fresh_until: T0 + 100 * SECOND, stale: false }));
    assert_eq!(cache.handle_fetched(&"a", Ok(Fetched::Present(1, SECOND)), T0), None);
    assert_eq!((cache.counters().misses, cache.counters().joined), (1, 2));
}

/// Asked for at 79 s of 100, a value rests; at 81 s it is fetched anew while it goes on being served.
#[test]
fn what_is_asked_for_late_is_refreshed_ahead() {
    let mut cache = cache();
    fetch(&mut cache, Ok(Fetched::Present(9, 100 * SECOND)), T0).expect("good");
    assert!(cache.known(&"a", T0 + 79 * SECOND).is_some());
    assert!(due(&mut cache).is_empty());
    let late = T0 + 81 * SECOND;
    assert!(matches!(cache.ask(&"a", 2, late), Asked::Known(Known { value: 9, stale: false, .. })));
    assert!(cache.known(&"a", late).is_some());
    assert_eq!(due(&mut cache), ["a"]);
    let settled =
        cache.handle_fetched(&"a", Ok(Fetched::Present(10, 100 * SECOND)), late).expect("in flight");
    assert!(settled.waiters.is_empty());
    assert_eq!(cache.known(&"a", T0 + 120 * SECOND).map(|known| known.value), Some(10));
}

/// A refresh that fails leaves the good value as it was, and is not tried again at once.
#[test]
fn a_failed_refresh_never_overwrites_a_value() {
    let mut cache = cache();
    fetch(&mut cache, Ok(Fetched::Present(9, 100 * SECOND)), T0).expect("good");
    let late = T0 + 90 * SECOND;
    assert!(cache.known(&"a", late).is_some());
    assert_eq!(due(&mut cache), ["a"]);
    let settled = cache.handle_fetched(&"a", Err("servfail"), late).expect("in flight");
    assert_eq!(settled.answer, Ok(Known { value: 9, fresh_until: T0 + 100 * SECOND, stale: false }));
    assert!(cache.known(&"a", late + SECOND).is_some());
    assert!(due(&mut cache).is_empty());
}

/// The source is down past the value's time: the old value stands in at once, the source is asked again in
/// the background only, and after the bound the error is told.
#[test]
fn a_stale_value_stands_in_for_a_failing_source_until_its_bound() {
    let mut cache = cache();
    fetch(&mut cache, Ok(Fetched::Present(9, 100 * SECOND)), T0).expect("good");
    let after = T0 + 200 * SECOND;
    let known = fetch(&mut cache, Err("timeout"), after).expect("stale stands in");
    assert!(known.stale && known.value == 9);
    assert!(cache.known(&"a", after + SECOND).is_some_and(|known| known.stale));
    assert!(due(&mut cache).is_empty());
    assert!(cache.known(&"a", after + 3 * SECOND).is_some_and(|known| known.stale));
    assert_eq!(due(&mut cache), ["a"]);
    let _ = cache.handle_fetched(&"a", Err("timeout"), after + 3 * SECOND);
    let bound = T0 + 600 * SECOND;
    assert_eq!(cache.known(&"a", bound), None);
    assert_eq!(fetch(&mut cache, Err("timeout"), bound), Err("timeout"));
}

/// With nothing at hand a failure is answered at once for 2, 4, 8… 16 seconds (less up to a fifth).
#[test]
fn a_failure_is_remembered_for_a_doubling_time() {
    let mut cache = cache();
    let mut now = T0;
    for whole in [2, 4, 8, 16, 16, 16] {
        assert_eq!(fetch(&mut cache, Err("servfail"), now), Err("servfail"));
        let remembered = cache.entries[0].trouble().expect("it failed").0.saturating_since(now);
        assert!((SECOND * whole).mul_f64(0.8) <= remembered && remembered <= SECOND * whole);
        let failing = Failing { error: "servfail", retry_at: now + remembered };
        assert_eq!(cache.ask(&"a", 5, now + remembered / 2), Asked::Failed(failing));
        now += remembered;
    }
    fetch(&mut cache, Ok(Fetched::Present(1, SECOND)), now).expect("it is back");
    assert_eq!(cache.entries[0].trouble(), None);
}

/// "There is none" is an answer with a bound of its own, and never outlives it.
#[test]
fn an_absence_is_never_served_stale() {
    let mut cache = cache();
    let known = fetch(&mut cache, Ok(Fetched::Absent(0, 999 * SECOND)), T0).expect("absent");
    assert_eq!(known.fresh_until, T0 + LIMITS.absent_max);
    let after = T0 + LIMITS.absent_max;
    assert_eq!(cache.known(&"a", after), None);
    assert_eq!(fetch(&mut cache, Err("timeout"), after), Err("timeout"));
}

#[test]
fn a_time_to_live_of_zero_is_raised_and_an_absurd_one_capped() {
    for (asked, granted) in [(Duration::ZERO, LIMITS.fresh_min), (Duration::MAX, LIMITS.fresh_max)] {
        let known = fetch(&mut cache(), Ok(Fetched::Present(1, asked)), T0).expect("good");
        assert_eq!(known.fresh_until, T0 + granted);
    }
}

/// Three fit. The fourth pushes out the one used longest ago, but never one that somebody waits for.
#[test]
fn the_entry_used_longest_ago_makes_room() {
    let mut cache = cache();
    for key in ["a", "b", "c"] {
        assert_eq!(cache.ask(&key, 1, T0), Asked::Waiting);
    }
    assert_eq!(cache.ask(&"d", 4, T0), Asked::Full(4));
    for key in ["b", "c"] {
        let _ = cache.handle_fetched(&key, Ok(Fetched::Present(1, 50 * SECOND)), T0);
    }
    assert!(cache.known(&"b", T0).is_some());
    assert_eq!(cache.ask(&"d", 4, T0), Asked::Waiting);
    assert_eq!(cache.known(&"c", T0), None);
    assert!(cache.known(&"b", T0).is_some());
    assert_eq!((cache.len(), cache.counters().evicted, cache.counters().refused), (3, 1, 1));
}

/// Of names that nobody asks for any more nothing is kept once it is past use; no sweep is needed for that.
#[test]
fn what_is_past_use_makes_room_by_itself() {
    let mut cache = Cache::new(FreshnessLimits { entries_max: 100, ..LIMITS }, 7);
    for key in ["a", "b", "c"] {
        assert_eq!(cache.ask(&key, 1, T0), Asked::Waiting);
        let _ = cache.handle_fetched(&key, Ok(Fetched::Present(1, 100 * SECOND)), T0);
    }
    let unused = T0 + 300 * SECOND;
    assert_eq!(cache.ask(&"d", 1, unused), Asked::Waiting);
    assert_eq!(cache.len(), 4);
    let past_use = T0 + 601 * SECOND;
    assert_eq!(cache.ask(&"e", 1, past_use), Asked::Waiting);
    assert_eq!((cache.len(), cache.counters().evicted), (3, 0));
}

#[test]
fn refreshes_in_the_background_are_bounded() {
    let mut cache = cache();
    for key in ["a", "b", "c"] {
        assert_eq!(cache.ask(&key, 1, T0), Asked::Waiting);
        let _ = cache.handle_fetched(&key, Ok(Fetched::Present(1, 100 * SECOND)), T0);
    }
    due(&mut cache);
    let late = T0 + 90 * SECOND;
    assert!(["a", "b", "c"].iter().all(|key| cache.known(key, late).is_some()));
    assert_eq!(due(&mut cache), ["a", "b"]);
}

/// Our own overload says nothing about the source: the waiter is told, nothing is remembered.
#[test]
fn an_abandoned_fetch_is_not_held_against_the_source() {
    let mut cache = cache();
    assert_eq!(cache.ask(&"a", 1, T0), Asked::Waiting);
    let settled = cache.handle_abandoned(&"a", "overloaded", T0).expect("in flight");
    let failing = Failing { error: "overloaded", retry_at: T0 };
    assert_eq!((settled.waiters, settled.answer), (vec![1], Err(failing)));
    assert!(cache.is_empty());
    due(&mut cache);
    fetch(&mut cache, Ok(Fetched::Present(3, 10 * SECOND)), T0).expect("asked again at once");
}

#[test]
fn a_waiter_that_left_is_not_told() {
    let mut cache = cache();
    assert_eq!(cache.ask(&"a", 1, T0), Asked::Waiting);
    assert_eq!(cache.ask(&"a", 2, T0), Asked::Waiting);
    assert_eq!(cache.withdraw(&"a", |waiter| *waiter == 1), Some(1));
    let settled = cache.handle_fetched(&"a", Err("timeout"), T0).expect("in flight");
    assert_eq!(settled.waiters, [2]);
}

/// Told to expire, a good value is asked for anew, and stands in when that fails.
#[test]
fn an_expired_value_is_fetched_and_can_still_stand_in() {
    let mut cache = cache();
    fetch(&mut cache, Ok(Fetched::Present(9, 100 * SECOND)), T0).expect("good");
    cache.expire(&"a", T0 + SECOND);
    let known = fetch(&mut cache, Err("timeout"), T0 + 2 * SECOND).expect("stale");
    assert!(known.stale);
    cache.forget_value(&"a");
    assert!(matches!(cache.ask(&"a", 1, T0 + 2 * SECOND), Asked::Failed(Failing { error: "timeout", .. })));
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

proptest! {
    /// Whatever the order of asking, answering, failing and waiting: each waiter is told exactly once, one
    /// key has one fetch, and no bound is passed.
    #[test]
    fn every_waiter_is_told_exactly_once(steps in prop::collection::vec((0_u8..6, 0_usize..5, 0_u64..90), 1..200)) {
        let mut cache = cache();
        let (mut now, mut next) = (T0, 0_u32);
        let (mut waiting, mut fetching) = (std::collections::BTreeSet::new(), Vec::new());
        for (what, key, wait) in steps.into_iter().chain(KEYS.iter().enumerate().map(|(at, _)| (4, at, 0))) {
            let key = KEYS[key];
            now += SECOND * wait as u32 / 3;
            match what {
                0 | 1 => {
                    next += 1;
                    if cache.ask(&key, next, now) == Asked::Waiting {
                        waiting.insert(next);
                    }
                }
                2 => { cache.known(&key, now); }
                _ => {
                    let settled = match what {
                        3 => cache.handle_fetched(&key, Err("failed"), now),
                        4 => cache.handle_fetched(&key, Ok(Fetched::Present(1, SECOND * wait as u32)), now),
                        _ => cache.handle_abandoned(&key, "overloaded", now),
                    };
                    prop_assert_eq!(settled.is_some(), fetching.contains(&key));
                    fetching.retain(|other| *other != key);
                    for waiter in settled.map(|settled| settled.waiters).unwrap_or_default() {
                        prop_assert!(waiting.remove(&waiter));
                    }
                }
            }
            for key in due(&mut cache) {
                prop_assert!(!fetching.contains(&key));
                fetching.push(key);
            }
            prop_assert!(cache.len() <= 3 && waiting.len() <= 8);
            prop_assert_eq!(cache.fetching(), fetching.len());
        }
        prop_assert!(waiting.is_empty());
    }
}
