//! What holds whatever happens, and in whatever order.

use std::time::Duration;

use proptest::prelude::*;
use southbridge_words::{Class, ConnId, PerClass, Ticket};

use super::super::*;
use super::world::{LineStage, PEERS, World};
use crate::lane::Lane;

/// Something that happens. Numbers choose among what is there.
#[derive(Clone, Debug)]
enum Event {
    Request { peer: u32, class: usize, lane: Lane, patience: u64, fresh: bool },
    Dialled(usize),
    Connected(usize, Option<u32>),
    Failed(usize),
    Returned(usize, usize, Returned),
    Draining(usize),
    Retired(usize),
    Closed(usize),
    Capacity(usize, u32),
    Cancel(usize),
    Pass(u64),
}

fn lanes() -> impl Strategy<Value = Lane> {
    prop_oneof![Just(Lane::Open), Just(Lane::Limited)]
}

fn events() -> impl Strategy<Value = Event> {
    let any = 0..1000_usize;
    prop_oneof![
        10 => (0..PEERS, 0..6_usize, lanes(), 1..20_000_u64, prop::bool::weighted(0.1)).prop_map(
            |(peer, class, lane, patience, fresh)| Event::Request { peer, class, lane, patience, fresh }
        ),
        6 => any.clone().prop_map(Event::Dialled),
        6 => (any.clone(), prop::option::weighted(0.1, 0..4_u32)).prop_map(|(at, odd)| Event::Connected(at, odd)),
        1 => any.clone().prop_map(Event::Failed),
        8 => (any.clone(), any.clone(), prop_oneof![4 => Just(Returned::Reusable), 1 => Just(Returned::Spent)])
            .prop_map(|(line, lease, returned)| Event::Returned(line, lease, returned)),
        1 => any.clone().prop_map(Event::Draining),
        1 => any.clone().prop_map(Event::Retired),
        1 => any.clone().prop_map(Event::Closed),
        1 => (any.clone(), 0..5_u32).prop_map(|(at, streams)| Event::Capacity(at, streams)),
        1 => any.prop_map(Event::Cancel),
        3 => (1..4_000_u64).prop_map(Event::Pass),
    ]
}

fn limits() -> impl Strategy<Value = PoolLimits> {
    let counts = (1..9_u32, 1..5_u32, 1..4_u32, 1..4_u32, 1..3_u32, 1..5_u32);
    let peers = (1..5_u32, 1..3_u32, 1..60_u32, 0..3_u32, 1..30_u64, 1..12_u64);
    let patience = (1..6_u64, 1..6_u64);
    (counts, peers, patience).prop_map(|((connections_max, dials, handshakes, d, h, c), peers, patience)| {
        PoolLimits {
            connections_max,
            dials_max: dials.min(connections_max),
            handshakes_max: handshakes.min(connections_max),
            limited_dials_max: d.min(dials).min(connections_max),
            limited_handshakes_max: h.min(handshakes).min(connections_max),
            limited_connections_max: c.min(connections_max),
            exclusive_per_peer_max: peers.0.min(connections_max),
            shared_per_peer_max: peers.1.min(connections_max),
            waiting_max: 60,
            waiting_per_peer_max: peers.2,
            idle_per_peer_max: peers.3,
            idle_max: Duration::from_secs(peers.4),
            dial_patience: Duration::from_secs(patience.0),
            handshake_patience: Duration::from_secs(patience.1),
            lease_max: Duration::from_secs(peers.5),
            weights: PerClass([16, 12, 8, 6, 3, 1]),
        }
    })
}

/// What peer speaks: the even ones HTTP/1.1, the odd ones HTTP/2.
fn spoken_by(peer: PeerId) -> Capacity {
    if peer.0.is_multiple_of(2) { Capacity::Exclusive } else { Capacity::Shared { streams_max: 3 } }
}

fn pick(world: &World, at: usize, stages: &[LineStage]) -> Option<ConnId> {
    let of_stage = world.lines.iter().filter(|(_, line)| stages.contains(&line.stage));
    let conns: Vec<ConnId> = of_stage.map(|(id, _)| *id).collect();
    conns.get(at.checked_rem(conns.len())?).copied()
}

fn play(world: &mut World, event: &Event) -> Option<()> {
    let connecting = [LineStage::Dialling, LineStage::Dialled, LineStage::Handshaking];
    let open = [LineStage::Open];
    match *event {
        Event::Request { peer, class, lane, patience, fresh } => {
            world.request(peer, Class::ALL[class], lane, Duration::from_millis(patience), fresh);
        }
        Event::Dialled(at) => world.dialled(pick(world, at, &connecting[..1])?),
        Event::Connected(at, odd) => {
            let conn = pick(world, at, &connecting[2..])?;
            let usual = spoken_by(world.lines[&conn].peer);
            let capacity = odd.map_or(usual, |streams_max| match usual {
                Capacity::Exclusive => Capacity::Shared { streams_max },
                Capacity::Shared { .. } => Capacity::Exclusive,
            });
            world.connected(conn, capacity);
        }
        Event::Failed(at) => world.failed(pick(world, at, &connecting)?),
        Event::Returned(line, lease, returned) => {
            let lent: Vec<ConnId> =
                world.lines.iter().filter(|(_, line)| !line.leases.is_empty()).map(|(id, _)| *id).collect();
            let conn = *lent.get(line.checked_rem(lent.len())?)?;
            let lease = lease % world.lines[&conn].leases.len();
            world.returned(conn, lease, returned);
        }
        Event::Draining(at) => world.draining(pick(world, at, &open)?),
        Event::Retired(at) => world.retired(pick(world, at, &open)?),
        Event::Closed(at) => {
            let all = [connecting.as_slice(), open.as_slice()].concat();
            world.closed(pick(world, at, &all)?);
        }
        Event::Capacity(at, streams_max) => world.capacity(pick(world, at, &open)?, streams_max),
        Event::Cancel(at) => {
            let ticket = *world.waiting.keys().nth(at.checked_rem(world.waiting.len())?)?;
            world.cancel(ticket);
        }
        Event::Pass(millis) => world.pass(Duration::from_millis(millis)),
    }
    Some(())
}

/// Everything goes well from now on, until nobody waits.
fn make_peace(world: &mut World) {
    for _ in 0..2_000 {
        if world.waiting.is_empty()
            && world.lent.is_empty()
            && world.pool.usage().idle == world.pool.usage().connections
        {
            return;
        }
        go_well(world);
        // Less than anybody's patience in all: nobody is to be rid of by waiting.
        world.pass(Duration::from_millis(5));
    }
    panic!("somebody starves: {:?}\n{:#?}", world.waiting, world.pool);
}

/// Every connection takes its next step, and every connection gives one lease back.
fn go_well(world: &mut World) {
    go_well_but_for(world, 0);
}

/// The same, but nothing at all is heard of the first few peers.
fn go_well_but_for(world: &mut World, silent: u32) {
    for conn in world.lines.keys().copied().collect::<Vec<_>>() {
        let Some(line) = world.lines.get(&conn).filter(|line| line.peer.0 >= silent) else { continue };
        match line.stage {
            LineStage::Dialling => world.dialled(conn),
            LineStage::Handshaking => world.connected(conn, spoken_by(line.peer)),
            LineStage::Open if !line.leases.is_empty() => world.returned(conn, 0, Returned::Reusable),
            LineStage::Open if line.capacity != Capacity::Exclusive => world.capacity(conn, 3),
            LineStage::Dialled | LineStage::Open => {}
        }
    }
}

fn tell(limits: &PoolLimits, story: &[Event]) -> World {
    let mut world = World::new(limits.clone());
    for event in story {
        play(&mut world, event);
    }
    world
}

/// Tells `story`, and then more urgent requests come for every peer, faster than they can be served: says how the
/// pool stands if the least urgent request of some peer is never served.
fn starving_in_the_rush(limits: &PoolLimits, story: &[Event]) -> Option<String> {
    let mut world = tell(&PoolLimits { waiting_per_peer_max: 60, ..limits.clone() }, story);
    world.pass(Duration::from_secs(60));
    for conn in world.lines.keys().copied().collect::<Vec<_>>() {
        world.closed(conn);
    }
    let patient: Vec<Ticket> = (0..PEERS)
        .map(|peer| world.request(peer, Class::Backfill, Lane::Limited, Duration::from_secs(36_000), false))
        .collect();
    for round in 0..2_000 {
        if patient.iter().all(|ticket| !world.waiting.contains_key(ticket)) {
            return None;
        }
        let lane = if round % 3 == 0 { Lane::Limited } else { Lane::Open };
        world.request(round % PEERS, Class::Interactive, lane, Duration::from_secs(5), false);
        world.request((round + 1) % PEERS, Class::Live, Lane::Limited, Duration::from_secs(5), false);
        go_well(&mut world);
        world.pass(Duration::from_millis(100));
    }
    let starving = patient.iter().find_map(|ticket| world.waiting.get(ticket))?;
    Some(format!("{starving:?} starves; {:?}; {:?}", world.pool.usage(), world.lines))
}

/// One limited connection of five, none kept idle. Without promises peer 4 starves: whenever the limited lane has room,
/// all that the peer may have is on its way or lent, and whenever one of those comes back, the lane is full.
#[test]
fn who_needs_several_places_at_once_gets_them() {
    let limits = PoolLimits {
        connections_max: 5,
        dials_max: 4,
        handshakes_max: 1,
        limited_dials_max: 1,
        limited_handshakes_max: 1,
        limited_connections_max: 1,
        exclusive_per_peer_max: 3,
        shared_per_peer_max: 1,
        waiting_max: 60,
        waiting_per_peer_max: 60,
        idle_per_peer_max: 0,
        idle_max: Duration::from_secs(1),
        dial_patience: Duration::from_secs(1),
        handshake_patience: Duration::from_secs(1),
        lease_max: Duration::from_secs(2),
        weights: PerClass([16, 12, 8, 6, 3, 1]),
    };
    let story = [
        Event::Request { peer: 4, class: 0, lane: Lane::Open, patience: 1, fresh: false },
        Event::Dialled(0),
        Event::Connected(0, None),
        Event::Request { peer: 0, class: 0, lane: Lane::Limited, patience: 1, fresh: false },
    ];
    assert_eq!(starving_in_the_rush(&limits, &story), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens: no bound is exceeded at any time, every ticket ends once and in its turn, nothing in
    /// use is closed, nothing in time is revoked, and nobody waits for what is free. (The world checks it.)
    #[test]
    fn the_pool_keeps_its_word(limits in limits(), story in prop::collection::vec(events(), 1..200)) {
        prop_assert_eq!(limits.validate(), Ok(()));
        tell(&limits, &story);
    }

    /// Whatever happened: as soon as all goes well, everybody is served, everything comes back, and after a
    /// while nothing is left of it.
    #[test]
    fn nobody_starves_and_nothing_is_lost(limits in limits(), story in prop::collection::vec(events(), 1..200)) {
        let mut world = tell(&limits, &story);
        for peer in 0..PEERS {
            world.request(peer, Class::Backfill, Lane::Limited, Duration::from_secs(3600), false);
            world.request(peer, Class::Interactive, Lane::Open, Duration::from_secs(3600), true);
        }
        make_peace(&mut world);
        let usage = world.pool.usage();
        let idle = usage.idle;
        prop_assert_eq!(usage, PoolUse { connections: idle, idle, ..PoolUse::default() });
        world.pass(limits.idle_max);
        prop_assert_eq!(world.pool.usage(), PoolUse::default());
        prop_assert_eq!(world.pool.poll_timeout(), None);
        prop_assert!((0..PEERS).all(|peer| world.pool.is_unused(PeerId(peer))));
    }

    /// The same facts lead to the same decisions.
    #[test]
    fn the_pool_decides_alike(limits in limits(), story in prop::collection::vec(events(), 1..100)) {
        prop_assert_eq!(tell(&limits, &story).log, tell(&limits, &story).log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened, and although more urgent requests come for every peer, faster than they can be
    /// served: the least urgent request of each peer is served at last.
    #[test]
    fn nobody_starves_in_the_rush(limits in limits(), story in prop::collection::vec(events(), 1..60)) {
        prop_assert_eq!(starving_in_the_rush(&limits, &story), None);
    }

    /// Whatever happened, and although nothing is heard of three peers ever again while requests for them keep
    /// coming: who asks for one of the others is served at last. No dial and no handshake ends by itself here.
    #[test]
    fn silent_peers_hold_up_nobody_else(limits in limits(), story in prop::collection::vec(events(), 1..60)) {
        let mut world = tell(&PoolLimits { waiting_per_peer_max: 60, ..limits }, &story);
        world.pass(Duration::from_secs(30));
        let silent = 3;
        let patient: Vec<Ticket> = (silent..PEERS)
            .map(|peer| world.request(peer, Class::Backfill, Lane::Limited, Duration::from_secs(36_000), false))
            .collect();
        for round in 0..4_000 {
            if patient.iter().all(|ticket| !world.waiting.contains_key(ticket)) {
                return Ok(());
            }
            let lane = if round % 2 == 0 { Lane::Limited } else { Lane::Open };
            world.request(round % silent, Class::Interactive, lane, Duration::from_secs(30), false);
            go_well_but_for(&mut world, silent);
            world.pass(Duration::from_millis(500));
        }
        let starving = patient.iter().find_map(|ticket| world.waiting.get(ticket));
        prop_assert!(false, "{starving:?} starves; {:?}; {:?}", world.pool.usage(), world.lines);
    }
}
