//! Many destinations, too much of everything, and clocks that jump (faults rows 21, 25, 27 and 28).

use std::time::Duration;

use southbridge_words::{Step, WallTime};

use super::world::{World, edus, name, names, pdu, said};
use crate::externaliser::{Action, Answer, Event, ExternaliserLimits, Failure, Refused, ShedReason};
use crate::outgoing::OutgoingEdu;

const B: &str = "b.example";
const SECOND: Duration = Duration::from_secs(1);

fn hosts(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("h{n}.example")).collect()
}

fn refs(hosts: &[String]) -> Vec<&str> {
    hosts.iter().map(String::as_str).collect()
}

fn presence(user: usize) -> String {
    format!(r#"{{"push":[{{"user_id":"@{user}:a.example","presence":"online"}}]}}"#)
}

fn receipt(user: usize) -> String {
    format!(r#"{{"!r":{{"m.read":{{"@{user}":{{"event_ids":["$e"],"data":{{"ts":1}}}}}}}}}}"#)
}

/// Ten times too much presence: it is dropped and counted, presence before receipts, and what must not be dropped
/// is all there.
#[test]
fn row_27_under_pressure_presence_goes_first_and_nothing_durable() {
    let limits = ExternaliserLimits { volatile_bytes_max: 100_000, ..ExternaliserLimits::default() };
    let mut world = World::new(limits);
    let hosts = hosts(20);
    let to = refs(&hosts);
    world.pdu("durable", &to);
    world.edu("m.direct_to_device", r#"{"messages":{}}"#, &to);
    (0..10).for_each(|user| world.edu("m.receipt", &receipt(user), &to));
    for user in 0..400 {
        world.edu("m.presence", &presence(user), &to);
        world.pass(Duration::from_millis(1));
        assert!(world.bus.counts().volatile_bytes <= 100_000);
    }
    let mut shed = crate::edus::Shed::default();
    for event in world.take_events() {
        if let Event::Shed { shed: more, why: ShedReason::Pressure, .. } = event {
            shed += more;
        }
    }
    assert!(shed.presence > 4000, "{shed:?}");
    assert_eq!((shed.receipts, shed.typing), (0, 0));
    for host in to {
        let transaction = world.grant(host).unwrap();
        assert_eq!(said(&transaction), ["durable"]);
        let mut sent = edus(&transaction);
        assert_eq!(sent[0], "m.direct_to_device");
        // What is left of presence may be too much to go along.
        world.ok(host);
        sent.extend(world.grant(host).iter().flat_map(edus));
        assert!(sent.contains(&"m.receipt".to_owned()), "{sent:?}");
    }
}

/// The users whose presence is in `transaction`.
fn users(transaction: &crate::transaction::Transaction) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&transaction.body).unwrap();
    let pushes = body["edus"].as_array().unwrap().iter().filter_map(|edu| edu["content"]["push"].as_array());
    pushes.flatten().map(|push| push["user_id"].to_string()).collect()
}

/// Sixty people come on line again and again, for three hundred servers; then somebody says something. The pushes for
/// which there is no time wait and are collapsed, the message is sent to everybody at once, and the EDUs follow at their
/// pace: the last state of each, and nobody is left out.
#[test]
fn row_27_a_message_passes_ten_times_too_many_edus() {
    let limits = ExternaliserLimits {
        spreads_per_second: 20_000,
        volatile_sends_per_second: 100,
        ..ExternaliserLimits::default()
    };
    let mut world = World::new(limits);
    let hosts = hosts(300);
    let to = refs(&hosts);
    for _ in 0..10 {
        (0..60).for_each(|user| world.edu("m.presence", &presence(user), &to));
    }
    let before = world.bus.counts();
    assert!(before.sends <= 11 && before.broadcast_parts <= 60, "{before:?}");
    world.pdu("hello", &to);
    assert_eq!(world.bus.counts().sends, 300, "the message for everybody, or what was begun before");
    let mut heard = std::collections::BTreeMap::<_, (usize, std::collections::BTreeSet<String>)>::new();
    let mut turns = 0;
    while world.view_any() || world.bus.counts().broadcast_parts > 0 {
        let sends: Vec<_> = std::mem::take(&mut world.done)
            .into_iter()
            .filter_map(|action| match action {
                Action::Send { destination, .. } => Some(destination),
                _ => None,
            })
            .collect();
        assert!(turns == 0 || sends.len() <= 11 + 2, "{} begun in 20 ms for EDUs alone", sends.len());
        for host in sends {
            let transaction = world.grant(host.as_str()).unwrap();
            let (messages, seen) = heard.entry(host.clone()).or_default();
            *messages += said(&transaction).len();
            seen.extend(users(&transaction));
            world.ok(host.as_str());
        }
        world.pass(Duration::from_millis(20));
        turns += 1;
        assert!(turns < 2000, "they never end");
    }
    assert_eq!(heard.len(), 300);
    assert!(heard.values().all(|(messages, seen)| *messages == 1 && seen.len() == 60));
    assert_eq!(world.bus.counts().shed, crate::edus::Shed::default());
}

/// A host that has been out of reach for five minutes gets no typing and presence any more; they are counted.
#[test]
fn what_is_stale_by_then_is_not_kept_for_a_dead_host() {
    let mut world = World::new(ExternaliserLimits::default());
    world.pdu("durable", &[B]);
    world.edu("m.presence", &presence(1), &[B]);
    for _ in 0..12 {
        if world.is_asked(B) {
            world.fail(B, Failure::NotSent { step: Step::Connect, reason: String::new() });
        }
        world.pass(60 * SECOND);
    }
    world.edu("m.presence", &presence(2), &[B]);
    assert_eq!((world.bus.counts().volatile_bytes, world.bus.counts().shed.presence), (0, 1));
    let is_shed = |event: &Event| matches!(event, Event::Shed { why: ShedReason::Unreachable, shed, .. } if shed.presence == 1);
    assert!(world.take_events().iter().any(is_shed));
}

/// A room of three thousand: one write, a bounded number of sends, one body for all, and all queues gone afterwards.
#[test]
fn one_message_to_three_thousand_hosts() {
    let mut world = World::new(ExternaliserLimits::default());
    let hosts = hosts(3000);
    world.holds_writes = true;
    world.pdu("hello", &refs(&hosts));
    world.write();
    assert_eq!(world.bus.counts().sends, 1536, "strangers have a part of the places");
    let mut bodies = std::collections::BTreeSet::new();
    let mut writes = 0;
    while world.bus.counts().destinations > 0 && world.view_any() {
        let asked: Vec<_> = std::mem::take(&mut world.done)
            .into_iter()
            .filter_map(|action| match action {
                Action::Send { destination, .. } => Some(destination),
                _ => None,
            })
            .collect();
        asked.iter().for_each(|host| world.bus.handle_granted(host, world.at));
        world.drain();
        world.write();
        world.write();
        writes += 2;
        for host in asked {
            let transaction = world.transmitted(&host).unwrap();
            bodies.insert(transaction.body.as_ptr() as usize);
            world.ok(host.as_str());
        }
        world.write();
    }
    assert!(writes <= 8, "marks of many share a write: {writes}");
    assert!(bodies.len() <= 3, "{} renderings", bodies.len());
    let counts = world.bus.counts();
    assert_eq!((counts.item_bytes, counts.sends, counts.queues.iter().sum::<usize>()), (0, 0, 0));
}

/// A region comes back: two thousand hosts are tried again, jittered, and no faster than the budget for retries.
#[test]
fn row_28_a_region_that_comes_back_is_no_herd() {
    let mut world = World::new(ExternaliserLimits::default());
    let hosts = hosts(2000);
    world.pdu("hello", &refs(&hosts));
    let fail_all = |world: &mut World| {
        let mut count = 0;
        while let Some(at) = world.done.iter().position(|action| matches!(action, Action::Send { .. })) {
            let Action::Send { destination, .. } = world.done.swap_remove(at) else { unreachable!() };
            count += 1;
            world.fail(destination.as_str(), Failure::NotSent { step: Step::Connect, reason: String::new() });
        }
        count
    };
    assert_eq!(fail_all(&mut world), 2000);
    let mut retries = Vec::new();
    for _ in 0..600 {
        world.pass(SECOND);
        retries.push(fail_all(&mut world));
    }
    let windows = retries.chunks(10).map(|window| window.iter().sum::<usize>());
    let most = windows.skip(1).max().unwrap();
    assert!((80..=100).contains(&most), "{most} retries in ten seconds");
    assert!(retries[30..].iter().all(|count| *count <= 25), "{retries:?}");
}

/// The wall clock jumps by a day, both ways: no deadline, no wait and no retry moves.
#[test]
fn row_21_a_jump_of_the_wall_clock_moves_no_deadline() {
    for jumped in [1_760_000_000_000 - 86_400_000, 1_760_000_000_000 + 86_400_000] {
        let mut world = World::new(ExternaliserLimits::default());
        world.pdu("one", &[B]);
        world.grant(B).unwrap();
        world.answer(B, Answer::new(500, ""));
        let wait = world.next_wait();
        world.at.wall = WallTime::from_unix_millis(jumped);
        assert_eq!(world.next_wait(), wait);
        world.is_asked(B);
        world.pass(wait);
        assert!(world.is_asked(B));
        assert_eq!(said(&world.grant(B).unwrap()), ["one"]);
        world.ok(B);
        world.edu("m.typing", r#"{"room_id":"!r","user_id":"@u","typing":true}"#, &[B]);
        assert_eq!(edus(&world.grant(B).unwrap()).len(), 1, "made and sent by the same clock");
    }
}

/// More waits to be written than may: refused at once, typed, and nothing is kept of it.
#[test]
fn what_waits_to_be_accepted_is_bounded() {
    let limits = ExternaliserLimits { accepting_max: 3, ..ExternaliserLimits::default() };
    let mut world = World::new(limits);
    world.holds_writes = true;
    (0..3).for_each(|_| world.pdu("x", &[B]));
    let ticket = world.ticket();
    let refused = world.bus.send_pdu(ticket, pdu("x"), names(&[B]), None, world.at);
    assert!(matches!(refused, Err(Refused::Overloaded { waiting: 3, waiting_max: 3, .. })));
    let refused = world.bus.send_pdu(ticket, pdu("x"), names(&[]), None, world.at);
    assert_eq!(refused, Err(Refused::NoDestination));
    let typing = r#"{"room_id":"!r","user_id":"@u","typing":true}"#;
    let edu = OutgoingEdu::new("m.typing", typing, world.at.wall).unwrap();
    assert_eq!(world.bus.send_edu(ticket, edu, names(&[B]), None, world.at), Ok(()));
}

/// An operator drops a backlog and is told what that was; what is under way is stopped, and later items go out.
#[test]
fn a_dropped_backlog_is_named() {
    let mut world = World::new(ExternaliserLimits::default());
    (0..7).for_each(|n| world.pdu(&n.to_string(), &[B]));
    world.edu("m.presence", &presence(1), &[B]);
    world.grant(B).unwrap();
    world.edu("m.presence", &presence(2), &[B]);
    let lost = world.bus.drop_backlog(&name(B), world.at);
    world.drain();
    assert_eq!((lost.items, lost.at_least, lost.volatile), (7, false, 1));
    assert!(world.is_withdrawn(B));
    assert!(world.take_events().iter().any(|event| matches!(event, Event::GivenUp { items: 7, .. })));
    assert_eq!((world.store.cursor(&name(B)).0, world.view(B)), (7, None));
    world.ok(B);
    world.is_asked(B);
    world.pdu("later", &[B]);
    assert!(world.is_asked(B));
    assert_eq!(said(&world.grant(B).unwrap()), ["later"]);
}

/// While the bus is being closed nothing is begun; what is on the wire may end.
#[test]
fn a_closing_bus_begins_nothing() {
    let mut world = World::new(ExternaliserLimits::default());
    world.pdu("one", &[B]);
    world.grant(B).unwrap();
    world.bus.handle_closing();
    let ticket = world.ticket();
    assert_eq!(world.bus.send_pdu(ticket, pdu("x"), names(&[B]), None, world.at), Err(Refused::Closing));
    assert!(!world.bus.is_idle());
    world.ok(B);
    assert!(world.bus.is_idle());
    assert_eq!(world.store.cursor(&name(B)).0, 1);
}
