//! An outbox in trouble, a backlog, a restart, another process (faults rows 19, 20 and 25; F15, F16).

use std::time::Duration;

use southbridge_words::{OutboxError, Partition, Partitions, Seq, Step, Upkeep};

use super::store::Store;
use super::world::{World, edus, name, names, pdu, said};
use crate::externaliser::{Answer, Event, ExternaliserLimits, Failure, Hold, QueueState, Refused};

const B: &str = "b.example";
const SECOND: Duration = Duration::from_secs(1);
const TYPING: &str = r#"{"room_id":"!r","user_id":"@u","typing":true}"#;

fn world() -> World {
    World::new(ExternaliserLimits::default())
}

fn full() -> Option<OutboxError> {
    Some(OutboxError::Full { reason: "no room".to_owned() })
}

fn unavailable() -> Option<OutboxError> {
    Some(OutboxError::Unavailable { reason: "away".to_owned() })
}

fn refusals(world: &mut World) -> Vec<Refused> {
    let why = |event| match event {
        Event::Refused { why, .. } => Some(why),
        _ => None,
    };
    world.take_events().into_iter().filter_map(why).collect()
}

/// The disk is full: what must be durable is refused, typed; typing goes on, and what was accepted is delivered and
/// makes room.
#[test]
fn row_20_a_full_outbox_refuses_items_and_lets_the_rest_go_on() {
    let mut world = world();
    world.pdu("accepted", &[B]);
    (world.store.trouble, world.store.trouble_for_items) = (full(), true);
    world.pdu("refused", &["c.example"]);
    assert!(matches!(&*refusals(&mut world), [Refused::OutboxFull { .. }]));
    let refused = world.bus.send_pdu(southbridge_words::Ticket(99), pdu("x"), names(&[B]), None, world.at);
    assert!(matches!(refused, Err(Refused::OutboxFull { .. })), "for a second nothing is even tried");
    world.edu("m.typing", TYPING, &["d.example"]);
    assert_eq!(edus(&world.grant("d.example").unwrap()), ["m.typing"]);
    assert_eq!(said(&world.grant(B).unwrap()), ["accepted"]);
    world.ok(B);
    assert_eq!(world.store.cursor(&name(B)), Seq(1));
    world.store.trouble = None;
    world.pass(2 * SECOND);
    world.pdu("later", &["c.example"]);
    assert!(world.take_events().contains(&Event::OutboxRecovered));
    assert_eq!(said(&world.grant("c.example").unwrap()), ["later"]);
}

/// The database hangs in the midst of a commit, for a minute. Whoever waits for that commit is told what became of it,
/// and nothing before; others are refused in time, typing goes on, nobody holds a connection; then all goes on.
#[test]
fn row_20_a_write_that_hangs_holds_up_nobody_else() {
    let mut world = world();
    world.holds_writes = true;
    world.pdu("doubtful", &[B]);
    world.pass(9 * SECOND);
    world.pdu("behind it", &[B]);
    world.pass(9 * SECOND);
    assert_eq!(refusals(&mut world), [], "the one waits for what is known, the other not long enough");
    world.pass(2 * SECOND);
    assert!(matches!(&*refusals(&mut world), [Refused::OutboxUnavailable { .. }]));
    world.edu("m.typing", TYPING, &["d.example"]);
    assert_eq!(edus(&world.grant("d.example").unwrap()), ["m.typing"]);
    world.pass(40 * SECOND);
    assert!(!world.is_asked(B));
    world.holds_writes = false;
    world.write();
    let events = world.take_events();
    assert!(events.iter().any(|event| matches!(event, Event::Accepted { .. })), "{events:?}");
    assert!(events.contains(&Event::OutboxRecovered));
    assert_eq!(said(&world.grant(B).unwrap()), ["doubtful"]);
}

/// The database is away for three seconds: nothing is begun and nobody holds a connection for it, volatile EDUs go
/// out, items wait; then everything goes on.
#[test]
fn an_outbox_that_comes_back_is_waited_for() {
    let mut world = world();
    world.pdu("one", &[B]);
    world.store.trouble = unavailable();
    assert_eq!(world.grant(B), None);
    assert!(world.is_given_back(B));
    world.pdu("two", &[B]);
    world.edu("m.typing", TYPING, &[B]);
    assert!(world.is_asked(B));
    let transaction = world.grant(B).unwrap();
    assert_eq!((said(&transaction).len(), edus(&transaction).len()), (0, 1));
    world.ok(B);
    assert!(!world.is_asked(B));
    world.store.trouble = None;
    world.pass(3 * SECOND);
    assert!(world.is_asked(B));
    assert_eq!(said(&world.grant(B).unwrap()), ["one", "two"]);
    assert!(refusals(&mut world).is_empty());
}

/// It does not come back: items are refused after ten seconds, and the next ones, too.
#[test]
fn nobody_waits_for_ever_for_an_outbox() {
    let mut world = world();
    world.store.trouble = unavailable();
    world.pdu("one", &[B]);
    world.pass(9 * SECOND);
    world.pdu("two", &[B]);
    assert!(refusals(&mut world).is_empty());
    world.pass(2 * SECOND);
    assert_eq!(refusals(&mut world).len(), 1);
    world.pass(60 * SECOND);
    assert!(matches!(&*refusals(&mut world), [Refused::OutboxUnavailable { .. }]));
}

/// A failed sync is final: nothing durable is taken or begun any more; what is on the wire ends, typing goes on.
#[test]
fn row_20_a_failed_outbox_is_not_used_again() {
    let mut world = world();
    world.pdu("flying", &[B]);
    world.grant(B).unwrap();
    world.pdu("waiting", &["c.example"]);
    world.store.trouble = Some(OutboxError::Failed { reason: "fsync".to_owned() });
    assert!(world.is_asked("c.example"));
    assert_eq!(world.grant("c.example"), None);
    assert!(world.is_given_back("c.example"));
    world.ok(B);
    world.edu("m.typing", TYPING, &[B]);
    assert_eq!(edus(&world.grant(B).unwrap()), ["m.typing"]);
    world.ok(B);
    let ticket = world.ticket();
    let refused = world.bus.send_pdu(ticket, pdu("x"), names(&[B]), None, world.at);
    assert!(matches!(refused, Err(Refused::OutboxFailed { .. })));
    world.store.trouble = None;
    world.pass(3600 * SECOND);
    assert!(!world.is_asked("c.example"));
    assert!(world.view(B).is_none(), "what cannot be remembered is not waited for");
}

/// A thousand items for a host that does not answer: a hundred in memory, then none; read back page by page, in order.
#[test]
fn a_backlog_is_read_back_in_order() {
    let mut world = world();
    world.pdu("0", &[B]);
    let first = world.grant(B).unwrap();
    (1..1000).for_each(|n| world.pdu(&n.to_string(), &[B]));
    let view = world.view(B).unwrap();
    assert_eq!((view.held, view.items, view.last), (100, 1000, Seq(1000)));
    world.fail(B, Failure::PerhapsSent { step: Step::Response, reason: String::new() });
    world.pass(60 * SECOND);
    world.is_asked(B);
    assert_eq!(world.grant(B).unwrap(), first);
    world.ok(B);
    let mut arrived = said(&first);
    while world.view(B).is_some() {
        assert!(world.bus.counts().item_bytes < 100 * 200, "{:?}", world.view(B));
        arrived.extend(said(&world.grant(B).unwrap()));
        world.ok(B);
    }
    assert_eq!(arrived, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(world.bus.counts().item_bytes, 0);
}

/// kill -9 while a transaction is on the wire: the next process sends the same id and bytes, then the rest.
#[test]
fn row_19_an_open_transaction_survives_a_crash() {
    let mut world = world();
    world.edu("m.typing", TYPING, &[B]);
    (0..60).for_each(|n| world.pdu(&n.to_string(), &[B]));
    let first = world.grant(B).unwrap();
    assert_eq!((said(&first).len(), edus(&first).len()), (50, 1));
    let mut world = World::reopened(ExternaliserLimits::default(), world.store, 2);
    world.pdu("60", &[B]);
    assert!(world.is_asked(B));
    assert_eq!(world.grant(B).unwrap(), first);
    world.ok(B);
    let rest = world.grant(B).unwrap();
    assert_eq!((said(&rest).len(), said(&rest)[10].as_str()), (11, "60"));
    assert_ne!(rest.id, first.id);
}

/// Items of an open transaction were let go of at a retention limit: it cannot be rendered as it was, so its id is given
/// up, loudly, and what is left goes out under a new one.
#[test]
fn an_id_never_has_two_bodies() {
    let mut world = world();
    world.pdu("0", &[B]);
    world.pdu("1", &[B]);
    let first = world.grant(B).unwrap();
    world.store.forget(Seq(1));
    let mut world = World::reopened(ExternaliserLimits::default(), world.store, 2);
    assert!(world.take_events().iter().any(|event| matches!(event, Event::Diverged { .. })));
    let second = world.grant(B).unwrap();
    assert_ne!(first.id, second.id);
    assert_eq!(said(&second), ["1"]);
}

/// A restart with two thousand backlogs: first contacts are spread over seconds, a bounded number at a time, and live
/// traffic for another host does not wait for them.
#[test]
fn row_25_a_restart_is_no_herd() {
    let mut world = world();
    for n in 0..2000 {
        world.pdu("x", &[&format!("h{n}.example")]);
    }
    let mut world = World::reopened(ExternaliserLimits::default(), world.store, 2);
    let sends = |world: &World| world.bus.counts().sends;
    assert!((1..10).contains(&sends(&world)), "somebody is asked at once: {}", sends(&world));
    let mut most = 0;
    for tenth in 1..=100 {
        world.pass(SECOND / 10);
        most = most.max(sends(&world));
        assert!(sends(&world) <= 1 + tenth * 60, "{} after {tenth} tenths", sends(&world));
    }
    assert_eq!(most, 192, "three quarters of the places for backlogs, for nobody has answered yet");
    world.pdu("live", &["new.example"]);
    assert!(world.is_asked("new.example"));
    assert_eq!(world.view("h0.example").map(|view| view.state == QueueState::Flying), Some(false));
}

/// A partition is another process's now: the queue is gone, what is under way is stopped, and the others go on.
#[test]
fn what_is_not_ours_any_more_is_let_go_of() {
    let mut world = world();
    world.pdu("both", &[B, "c.example"]);
    world.grant(B).unwrap();
    let lost = Partition::of(&name(B));
    let mut owned = Partitions::NONE;
    (0..=255).map(Partition::new).filter(|one| *one != lost).for_each(|one| owned.insert(one));
    let upkeep = Upkeep { owned: Some(owned), ..Upkeep::default() };
    world.bus.handle_upkeep(upkeep, world.at);
    world.drain();
    assert!(world.is_withdrawn(B));
    assert_eq!(world.view(B), None);
    world.answer(B, Answer::new(200, "{}"));
    assert_eq!(said(&world.grant("c.example").unwrap()), ["both"]);
    world.pdu("theirs", &[B]);
    assert_eq!(world.view(B), None, "accepted for whoever serves it");
    world.edu("m.typing", TYPING, &[B]);
    assert_eq!(edus(&world.grant(B).unwrap()), ["m.typing"], "volatile EDUs are sent by whoever has them");
}

/// The outbox refuses a write because one of its marks is for a destination that is not ours: it is found out which, and
/// nothing else is lost.
#[test]
fn a_fence_is_found_by_partition() {
    let mut world = world();
    world.pdu("both", &[B, "c.example"]);
    world.holds_writes = true;
    world.pdu("meanwhile", &["d.example"]);
    world.grant(B);
    world.grant("c.example");
    world.write();
    world.store.fenced = Some(Partition::of(&name(B)));
    world.holds_writes = false;
    world.write();
    assert!(world.is_given_back(B) && world.is_given_back("c.example"));
    assert_eq!(world.grant(B), None);
    assert!(world.is_given_back(B));
    assert_eq!(world.view(B), None);
    world.is_asked("c.example");
    assert_eq!(said(&world.grant("c.example").unwrap()), ["both"]);
}

/// In a shared outbox another process's item may stand before ours: everything is read back, in order.
#[test]
fn nothing_is_overtaken_in_a_shared_outbox() {
    let limits = ExternaliserLimits { outbox_shared: true, ..ExternaliserLimits::default() };
    let mut world = World::new(limits);
    let append = southbridge_words::Append {
        kind: southbridge_words::ItemKind::Pdu,
        bytes: pdu("theirs").bytes().clone(),
        destinations: names(&[B]),
        accepted_at: world.at.wall,
        key: None,
    };
    world.store.write(&[append], &[]).unwrap();
    world.pdu("ours", &[B]);
    assert!(world.is_asked(B));
    assert_eq!(said(&world.grant(B).unwrap()), ["theirs", "ours"]);
    assert_eq!(world.store.reads, 1);
}

/// What cannot be read is not skipped; the queue waits, and says so once.
#[test]
fn a_damaged_page_is_told_and_not_skipped() {
    let mut world = World::reopened(ExternaliserLimits::default(), backlog(), 2);
    assert_eq!(world.view(B).unwrap().state, QueueState::Asked);
    world.fail(B, Failure::Down { retry_in: 60 * SECOND });
    world.store.damaged = true;
    world.pass(200 * SECOND);
    assert_eq!(world.view(B).unwrap().hold, Some(Hold::Outbox));
    let trouble = |event: &Event| matches!(event, Event::OutboxTrouble { destination: Some(_), .. });
    assert_eq!(world.take_events().iter().filter(|event| trouble(event)).count(), 1);
    world.store.damaged = false;
    world.is_asked(B);
    world.pass(600 * SECOND);
    assert!(world.is_asked(B));
}

fn backlog() -> Store {
    let mut world = world();
    world.pdu("0", &[B]);
    world.store
}
