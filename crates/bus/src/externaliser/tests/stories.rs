//! The way of a PDU, an EDU, a transaction.

use super::world::{World, edus, name, said};
use crate::externaliser::{Acknowledgement, Event, ExternaliserLimits, QueueState};
use southbridge_words::Seq;

const B: &str = "b.example";

fn world() -> World {
    World::new(ExternaliserLimits::default())
}

/// It is accepted when it is in the outbox, sent when its transaction is on record, and forgotten when it was taken.
#[test]
fn a_pdu_is_delivered() {
    let mut world = world();
    world.holds_writes = true;
    world.pdu("hello", &[B]);
    assert_eq!(world.take_events(), []);
    assert!(!world.is_asked(B), "nothing is sent that is not durable");
    world.write();
    let acknowledgement = Acknowledgement::Durable(Seq(1));
    let ticket = southbridge_words::Ticket(1);
    assert_eq!(world.take_events(), [Event::Accepted { ticket, acknowledgement }]);
    assert!(world.is_asked(B));
    assert_eq!(world.grant(B), None, "it is not on record yet");
    world.write();
    let transaction = world.transmitted(&name(B)).unwrap();
    assert_eq!(said(&transaction), ["hello"]);
    assert_eq!(world.view(B).unwrap().state, QueueState::Flying);
    world.ok(B);
    let events = world.take_events();
    let [Event::Delivered { upto, items, transaction: id, .. }] = &*events else { panic!("{events:?}") };
    assert_eq!((*upto, *items, id), (Some(Seq(1)), 1, &transaction.id));
    world.write();
    assert_eq!(world.store.cursor(&name(B)), Seq(1));
    assert_eq!(world.view(B), None, "an idle queue does not exist");
    assert_eq!(world.bus.poll_timeout(), None);
}

/// What came by the time of the grant goes along; what comes while the transaction is put on record does not.
#[test]
fn a_transaction_holds_what_was_queued_at_the_grant() {
    let mut world = world();
    world.pdu("one", &[B]);
    world.pdu("two", &[B]);
    world.holds_writes = true;
    assert_eq!(world.grant(B), None);
    world.edu("m.typing", r#"{"room_id":"!r","user_id":"@u","typing":true}"#, &[B]);
    world.write();
    let transaction = world.transmitted(&name(B)).unwrap();
    assert_eq!((said(&transaction), edus(&transaction)), (vec!["one".into(), "two".into()], vec![]));
    world.holds_writes = false;
    world.ok(B);
    assert!(world.is_asked(B));
    let transaction = world.grant(B).unwrap();
    assert_eq!(edus(&transaction), ["m.typing"]);
    assert!(transaction.body.len() < 300);
}

/// One transaction at a time: fifty go, ten wait, and nobody asks for a second connection meanwhile.
#[test]
fn one_transaction_is_in_flight() {
    let mut world = world();
    (0..60).for_each(|n| world.pdu(&n.to_string(), &[B]));
    assert!(world.is_asked(B));
    assert_eq!(said(&world.grant(B).unwrap()).len(), 50);
    world.pdu("60", &[B]);
    assert!(!world.is_asked(B));
    world.ok(B);
    let rest = said(&world.grant(B).unwrap());
    assert_eq!((rest.len(), rest[0].as_str(), rest[10].as_str()), (11, "50", "60"));
}

/// Volatile EDUs are acknowledged as such, sent without a record, and leave no trace.
#[test]
fn a_volatile_edu_is_sent_without_a_record() {
    let mut world = world();
    world.edu("m.typing", r#"{"room_id":"!r","user_id":"@u","typing":true}"#, &[B]);
    let events = world.take_events();
    assert!(matches!(events[0], Event::Accepted { acknowledgement: Acknowledgement::Volatile, .. }));
    world.holds_writes = true;
    assert_eq!(edus(&world.grant(B).unwrap()), ["m.typing"]);
    world.ok(B);
    assert_eq!((world.view(B), world.bus.counts().volatile_bytes), (None, 0));
}
