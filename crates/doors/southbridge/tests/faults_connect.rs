//! Hosts that cannot be reached, or not by every address: rows 1, 2 and 3.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use southbridge_kernel::KernelConfig;
use southbridge_kernel::exchange::ExchangeError;
use southbridge_policy::pool::{PoolLimits, PoolUse};
use southbridge_testkit::black_hole::{BlackHole, ClosedPort};
use southbridge_testkit::raw::{RawPeer, faults};
use southbridge_words::{HostState, Step as At};
use support::{PATIENCE, Rig, SOON, Target, any_of, named, on_kernel, on_kernel_with, plain, switching};

/// Two hundred hosts swallow every SYN while twenty healthy ones are asked again and again: the healthy ones
/// notice nothing; the others go down in rank, and are answered for at once.
#[tokio::test]
async fn row_01_two_hundred_black_holes_do_not_hold_up_the_healthy() {
    on_kernel_with(impatient, async |rig| {
        let holes: Vec<BlackHole> = (0..4).map(|_| BlackHole::open().unwrap()).collect();
        let holes: Vec<Target> =
            (0..200).map(|n| named(&format!("hole{n}.test"), holes[n % 4].address())).collect();
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let healthy: Vec<Target> = (0..20).map(|n| named(&format!("well{n}.test"), peer.address())).collect();
        let calm = ask_all(&rig, &healthy).await;
        for _ in 0..3 {
            let storm = join_all(holes.iter().map(|hole| rig.ask(rig.get(hole, PATIENCE))));
            let served = async {
                let mut slowest = Duration::ZERO;
                for _ in 0..10 {
                    slowest = slowest.max(ask_all(&rig, &healthy).await);
                }
                slowest
            };
            let (swallowed, slowest) = tokio::join!(storm, served);
            assert!(swallowed.iter().all(|one| matches!(one, Err(error) if error.step() == At::Connect)));
            // No slot and no lock is shared with the dials that hang; the rest is the noise of a busy machine.
            assert!(slowest < calm * 2 + Duration::from_millis(250), "{slowest:?}, and {calm:?} when calm");
            assert!(rig.kernel.pool_usage().limited_dials == 0);
        }
        let down = holes.iter().filter(|hole| rig.state(hole) == Some(HostState::Down)).count();
        assert_eq!(down, 200);
        let dials = rig.kernel.stats().dials.get();
        let started = Instant::now();
        let refused = join_all(holes.iter().map(|hole| rig.ask(rig.get(hole, PATIENCE)))).await;
        let at_once = |one: &&Result<_, _>| matches!(one, Err(ExchangeError::HostDown { .. }));
        assert!(refused.iter().filter(at_once).count() >= 190, "all but a probe here and there");
        assert!(rig.kernel.stats().dials.get() - dials <= 10);
        assert!(started.elapsed() < Duration::from_millis(500));
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A thousand hosts swallow every SYN, more than may be dialled at once. The healthy ones notice nothing, the pool
/// keeps its bounds, and whoever waited is told within the deadline.
#[tokio::test]
async fn row_01_a_thousand_black_holes_keep_within_the_bounds_of_the_pool() {
    let descriptors = getrlimit(Resource::Nofile);
    let _as_many_as_may_be =
        setrlimit(Resource::Nofile, Rlimit { current: descriptors.maximum, ..descriptors });
    on_kernel_with(impatient, async |rig| {
        let limits = PoolLimits::default();
        let holes: Vec<BlackHole> = (0..8).map(|_| BlackHole::open().unwrap()).collect();
        let holes: Vec<Target> =
            (0..1000).map(|n| named(&format!("hole{n}.test"), holes[n % 8].address())).collect();
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let healthy: Vec<Target> = (0..20).map(|n| named(&format!("well{n}.test"), peer.address())).collect();
        let calm = ask_all(&rig, &healthy).await;
        let storm = join_all(holes.iter().map(|hole| rig.ask(rig.get(hole, PATIENCE))));
        let (mut most, mut slowest, mut rounds) = (PoolUse::default(), Duration::ZERO, 0);
        tokio::pin!(storm);
        let swallowed = loop {
            tokio::select! {
                biased;
                swallowed = &mut storm => break swallowed,
                took = ask_all(&rig, &healthy) => {
                    slowest = slowest.max(took);
                    rounds += 1;
                }
            }
            let now = rig.kernel.pool_usage();
            most.limited_dials = most.limited_dials.max(now.limited_dials);
            most.connections = most.connections.max(now.connections);
        };
        assert!(swallowed.iter().all(|one| matches!(one, Err(error) if error.step() == At::Connect)));
        assert!(most.limited_dials > limits.limited_dials_max / 2, "{most:?}");
        assert!(most.limited_dials <= limits.limited_dials_max, "{most:?}");
        assert!(most.connections <= limits.limited_dials_max + 20, "{most:?}");
        assert!(rounds > 0 && slowest < calm * 2 + Duration::from_millis(500), "{slowest:?}, calm {calm:?}");
        assert!(rig.is_at_rest());
    })
    .await;
}

/// A host that has refused eight times in a row is answered for within half a second, and nobody dials it.
#[tokio::test]
async fn row_02_eight_refusals_in_a_row_are_answered_at_once() {
    on_kernel(async |rig| {
        let closed = ClosedPort::reserve().unwrap();
        let to = plain(closed.address());
        for _ in 0..8 {
            let error = rig.ask(rig.get(&to, PATIENCE)).await.expect_err("nobody listens");
            assert!(matches!(error, ExchangeError::Connect { .. }), "{error:?}");
        }
        let view = rig.kernel.host(&to.service).expect("remembered");
        assert_eq!((view.state, view.failures, view.last), (HostState::Down, 8, Some(At::Connect)));
        let (started, dials) = (Instant::now(), rig.kernel.stats().dials.get());
        let error = rig.ask(rig.get(&to, PATIENCE)).await.expect_err("down");
        assert!(matches!(error, ExchangeError::HostDown { .. }), "{error:?}");
        assert!(started.elapsed() < Duration::from_millis(500));
        assert_eq!(rig.kernel.stats().dials.get(), dials);
    })
    .await;
}

/// The host comes back. One request is let through as a probe, and from then on all are.
#[tokio::test]
async fn row_01_a_host_that_comes_back_is_found_by_a_probe() {
    on_kernel_with(impatient, async |rig| {
        let closed = ClosedPort::reserve().unwrap();
        let (to, switch) = switching("back.test", closed.address());
        until_down(&rig, &to).await;
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        switch.lead_to(peer.address());
        let back_at = Instant::now();
        while !rig.is_served(&to).await {
            assert!(back_at.elapsed() < Duration::from_secs(3), "nobody found out");
            tokio::task::yield_now().await;
        }
        assert_eq!(rig.state(&to), Some(HostState::Healthy));
        assert!(rig.is_served(&to).await);
    })
    .await;
}

/// Something was heard from the host: its back-off ends without waiting for the time of a probe.
#[tokio::test]
async fn row_01_a_host_that_was_heard_from_is_asked_at_once() {
    on_kernel(async |rig| {
        let closed = ClosedPort::reserve().unwrap();
        let (to, switch) = switching("back.test", closed.address());
        until_down(&rig, &to).await;
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        switch.lead_to(peer.address());
        assert!(!rig.is_served(&to).await, "its back-off lasts");
        rig.kernel.wake(&to.service);
        assert!(rig.is_served(&to).await);
    })
    .await;
}

/// The first address swallows SYNs, or refuses: the second is reached within a step of the race, and the next
/// dial goes there first.
#[tokio::test]
async fn row_03_a_dead_address_costs_one_step_and_is_remembered() {
    on_kernel(async |rig| {
        let hole = BlackHole::open().unwrap();
        let closed = ClosedPort::reserve().unwrap();
        for dead in [hole.address(), closed.address()] {
            let peer = RawPeer::plain(vec![faults::close_when_idle()]).await.unwrap();
            let to = any_of(vec![dead, peer.address()]);
            is_found_dead_once(&rig, &to).await;
        }
    })
    .await;
}

/// IPv6 is broken, in either way, and then IPv4 is.
#[tokio::test]
async fn row_03_a_broken_family_costs_one_step_and_is_remembered() {
    on_kernel(async |rig| {
        let (v4, v6) =
            (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
        for dead in [v4, v6] {
            let hole = BlackHole::open_at(dead).unwrap();
            let alive = if dead.is_ipv4() { v6 } else { v4 };
            let peer = RawPeer::plain_at(alive, vec![faults::close_when_idle()]).await.unwrap();
            is_found_dead_once(&rig, &any_of(vec![hole.address(), peer.address()])).await;
        }
    })
    .await;
}

/// Of eight addresses one is alive.
#[tokio::test]
async fn row_03_one_living_address_of_many_is_reached() {
    on_kernel(async |rig| {
        let dead: Vec<ClosedPort> = (0..7).map(|_| ClosedPort::reserve().unwrap()).collect();
        let peer = RawPeer::plain(vec![faults::well()]).await.unwrap();
        let mut addresses: Vec<SocketAddr> = dead.iter().map(ClosedPort::address).collect();
        addresses.push(peer.address());
        let started = Instant::now();
        assert!(rig.is_served(&any_of(addresses)).await);
        assert!(started.elapsed() < STEP, "refusals are not waited for");
    })
    .await;
}

/// Nobody answers at any address: the call ends with its deadline, and says of each address what it did.
#[tokio::test]
async fn row_01_a_call_into_the_dark_ends_at_its_deadline() {
    on_kernel(async |rig| {
        let hole = BlackHole::open().unwrap();
        let started = Instant::now();
        let error = rig.ask(rig.get(&plain(hole.address()), SOON)).await.expect_err("nobody answers");
        assert!(matches!(error, ExchangeError::DeadlinePassed { step: At::Connect, .. }), "{error:?}");
        assert!(started.elapsed() < SOON * 2);
        assert!(rig.is_at_rest());
    })
    .await;
}

/// Asks `to`, where nobody listens, until it is known to be down.
async fn until_down(rig: &Rig, to: &Target) {
    while rig.state(to) != Some(HostState::Down) {
        rig.ask(rig.get(to, PATIENCE)).await.expect_err("nobody listens");
    }
}

/// The first dial of `to`, whose first address is dead, costs a step of the race; the next ones cost none.
async fn is_found_dead_once(rig: &Rig, to: &Target) {
    let times = dial_times(rig, to).await;
    assert!(times[0] < STEP * 2, "{times:?}");
    assert!(times[1..].iter().all(|time| *time < STEP / 2), "{times:?}");
}

/// How long three requests take that each need a connection of their own.
async fn dial_times(rig: &Rig, to: &Target) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let started = Instant::now();
        assert!(rig.is_served(to).await);
        times.push(started.elapsed());
    }
    times
}

/// Asks every target at once; how long the slowest took.
async fn ask_all(rig: &Rig, targets: &[Target]) -> Duration {
    let asked = targets.iter().map(async |to| {
        let started = Instant::now();
        assert!(rig.is_served(to).await);
        started.elapsed()
    });
    join_all(asked).await.into_iter().max().unwrap_or_default()
}

/// Deadlines and back-offs that a test can wait for.
fn impatient(config: &mut KernelConfig) {
    config.opening.dial.attempt_max = Duration::from_millis(200);
    config.ranker.grace = Duration::from_millis(1);
    config.ranker.failures_down = 3;
    config.ranker.failures_sure = 3;
    config.ranker.unwilling_down = 3;
    config.ranker.backoff_first = Duration::from_millis(400);
    config.ranker.probe_every_max = Duration::from_millis(400);
}

/// The step of the race between addresses (RFC 8305).
const STEP: Duration = Duration::from_millis(250);
