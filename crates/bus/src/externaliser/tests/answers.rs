//! What a destination may answer, and what is done then (faults rows 16 to 18).

use std::time::Duration;

use bytes::Bytes;
use southbridge_words::{Class, Step};

use super::world::{World, name, said};
use crate::externaliser::{Action, Answer, Event, ExternaliserLimits, Failure, GivenUp, Hold, QueueState};
use crate::transaction::Transaction;

const B: &str = "b.example";
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn world() -> World {
    World::new(ExternaliserLimits::default())
}

/// A transaction of `count` PDUs on the wire.
fn flying(world: &mut World, count: usize) -> Transaction {
    (0..count).for_each(|n| world.pdu(&n.to_string(), &[B]));
    sent(world)
}

fn sent(world: &mut World) -> Transaction {
    assert!(world.is_asked(B), "{:?}", world.view(B));
    world.grant(B).unwrap()
}

fn wait_of(world: &mut World, answer: Answer) -> Duration {
    world.answer(B, answer);
    let wait = world.next_wait();
    assert_eq!(world.view(B).unwrap().state, QueueState::Waiting);
    wait
}

fn with_retry_after(value: &str) -> Answer {
    Answer { status: 429, retry_after: Some(value.to_owned()), body: Bytes::new() }
}

/// The answer was lost, the host was restarted, a proxy said something: the same id and the same bytes until the 200,
/// whatever is handed in meanwhile.
#[test]
fn rows_16_to_18_what_may_have_arrived_is_repeated_byte_for_byte() {
    let mut world = world();
    let first = flying(&mut world, 2);
    let reason = String::new();
    world.fail(B, Failure::PerhapsSent { step: Step::Response, reason });
    let answers = [(500, ""), (502, "<html>"), (200, "<html>"), (200, "{}"), (302, ""), (204, ""), (421, "")];
    for (status, body) in answers {
        world.pdu("later", &[B]);
        world.pass(HOUR);
        assert_eq!(sent(&mut world), first, "before {status}");
        world.answer(B, Answer::new(status, body));
        assert_eq!(world.view(B).unwrap().hold, Some(Hold::Failing(status)));
    }
    world.pass(HOUR);
    assert_eq!(sent(&mut world), first);
    world.ok(B);
    assert_eq!(said(&sent(&mut world)), vec!["later"; 7]);
}

/// What a 200 says of single PDUs is told and final.
#[test]
fn row_17_refused_pdus_are_not_sent_again() {
    let mut world = world();
    flying(&mut world, 1);
    world.answer(B, Answer::new(200, r#"{"pdus":{"$a":{"error":"no"}}}"#));
    let events = world.take_events();
    let Some(Event::Delivered { response, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(response.errors["$a"], "no");
    assert_eq!(world.view(B), None);
}

/// A wish is honoured up to an hour, never undercut, and nonsense is none.
#[test]
fn row_16_a_retry_after_is_honoured_within_bounds() {
    let cases = [("120", 120, 150), ("Thu, 09 Oct 2025 08:55:00 GMT", 100, 125), ("99999999999", 3600, 4500)];
    for (value, least, most) in cases {
        let mut world = world();
        flying(&mut world, 1);
        let wait = wait_of(&mut world, with_retry_after(value)).as_secs_f64();
        assert!((f64::from(least)..=f64::from(most)).contains(&wait), "{value}: {wait}");
    }
    for value in ["0", "soon"] {
        let mut world = world();
        flying(&mut world, 1);
        let wait = wait_of(&mut world, with_retry_after(value));
        assert!((SECOND / 2..2 * SECOND).contains(&wait), "{value}: {wait:?}");
    }
}

/// A 401 or 404 proves that the host lives; it is left alone for a minute, then for hours, and nothing is lost.
#[test]
fn row_16_a_host_that_does_not_want_us_is_asked_seldom() {
    let mut world = world();
    flying(&mut world, 1);
    let mut waits = Vec::new();
    for status in [401, 403, 404, 403, 401, 403, 404, 403, 401, 403, 404, 403] {
        waits.push(wait_of(&mut world, Answer::new(status, "{}")).as_secs());
        world.pass(9 * HOUR);
        sent(&mut world);
    }
    assert!((40..80).contains(&waits[0]), "{waits:?}");
    assert!(waits[11] > 4 * 3600, "{waits:?}");
    world.ok(B);
    assert!(matches!(world.take_events().last(), Some(Event::Delivered { items: 1, .. })));
}

/// 410: gone for days, unless something is heard from it.
#[test]
fn row_16_a_host_that_is_gone_is_left_alone_until_it_speaks() {
    let mut world = world();
    flying(&mut world, 1);
    assert_eq!(wait_of(&mut world, Answer::new(410, "")).as_secs() / 86400, 7);
    assert_eq!(world.view(B).unwrap().hold, Some(Hold::Gone));
    world.pass(24 * HOUR);
    assert!(!world.is_asked(B));
    world.bus.wake(&name(B), world.at);
    world.drain();
    assert!(world.is_asked(B));
}

/// 413 was surely not processed: smaller ones go out at once, under new ids, and the size is remembered.
#[test]
fn row_16_what_is_too_large_is_cut_and_the_size_is_learnt() {
    let mut world = world();
    let big = "x".repeat(20_000);
    (0..40).for_each(|_| world.pdu(&big, &[B]));
    let first = sent(&mut world);
    world.answer(B, Answer::new(413, ""));
    let second = sent(&mut world);
    assert_ne!(first.id, second.id);
    assert!(second.body.len() <= first.body.len() / 2);
    world.ok(B);
    while world.view(B).is_some() {
        assert!(sent(&mut world).body.len() <= first.body.len() / 2);
        world.ok(B);
    }
    (0..40).for_each(|_| world.pdu(&big, &[B]));
    assert!(sent(&mut world).body.len() <= first.body.len() / 2, "it is remembered without a queue");
}

/// 520 may mean anything: the same thrice, and only then smaller ones.
#[test]
fn row_16_a_520_is_repeated_thrice_and_then_cut() {
    let mut world = world();
    let big = "x".repeat(20_000);
    (0..40).for_each(|_| world.pdu(&big, &[B]));
    let first = sent(&mut world);
    for _ in 0..2 {
        world.answer(B, Answer::new(520, ""));
        world.pass(HOUR);
        assert_eq!(sent(&mut world), first);
    }
    world.answer(B, Answer::new(520, ""));
    let second = sent(&mut world);
    assert_ne!(first.id, second.id);
    assert!(second.body.len() <= first.body.len() / 2);
}

/// One item of thirty makes the host refuse whatever it is in. It is found, given up and named; the others arrive.
#[test]
fn an_item_that_poisons_is_found_and_given_up() {
    let mut world = world();
    (0..30).for_each(|n| world.pdu(&n.to_string(), &[B]));
    let mut arrived = Vec::new();
    for _ in 0..100 {
        if world.view(B).is_none() {
            break;
        }
        if world.is_asked(B) {
            let said = said(&world.grant(B).unwrap());
            if said.contains(&"17".to_owned()) {
                world.answer(B, Answer::new(400, r#"{"errcode":"M_BAD_JSON"}"#));
            } else {
                arrived.extend(said);
                world.ok(B);
            }
        } else {
            world.pass(world.next_wait());
        }
    }
    let expected: Vec<String> = (0..30).filter(|n| *n != 17).map(|n: i32| n.to_string()).collect();
    assert_eq!(arrived, expected);
    let given_up =
        |event: &Event| matches!(event, Event::GivenUp { items: 1, reason: GivenUp::Rejected(400), .. });
    assert_eq!(world.take_events().iter().filter(|event| given_up(event)).count(), 1);
}

/// Typing that is refused is dropped, and not tried for ever.
#[test]
fn a_refused_volatile_transaction_is_dropped() {
    for status in [400, 413] {
        let mut world = world();
        world.edu("m.typing", r#"{"room_id":"!r","user_id":"@u","typing":true}"#, &[B]);
        sent(&mut world);
        wait_of(&mut world, Answer::new(status, ""));
        let is_shed = |event: &Event| matches!(event, Event::Shed { shed, .. } if shed.typing == 1);
        assert!(world.take_events().iter().any(is_shed));
        world.pass(2 * SECOND);
        assert_eq!(world.view(B), None);
    }
}

/// A transaction that cannot be signed is no way out, either: the item that is at fault is found and named.
#[test]
fn what_cannot_be_made_into_a_request_is_given_up() {
    let mut world = world();
    (0..4).for_each(|n| world.pdu(&n.to_string(), &[B]));
    let mut arrived = Vec::new();
    while world.view(B).is_some() {
        if !world.is_asked(B) {
            world.pass(world.next_wait());
            continue;
        }
        let said = said(&world.grant(B).unwrap());
        if said.contains(&"2".to_owned()) {
            world.fail(B, Failure::Unfit { reason: "it has a float".to_owned() });
        } else {
            arrived.extend(said);
            world.ok(B);
        }
    }
    assert_eq!(arrived, ["0", "1", "3"]);
    let given_up = |event: &Event| matches!(event, Event::GivenUp { items: 1, reason: GivenUp::Unfit, .. });
    assert_eq!(world.take_events().iter().filter(|event| given_up(event)).count(), 1);
}

/// A host that refuses everything does not cost a backlog in a minute: from item to item it takes longer.
#[test]
fn a_host_that_refuses_everything_loses_little() {
    let mut world = world();
    (0..100).for_each(|n| world.pdu(&n.to_string(), &[B]));
    let start = world.at.now;
    while world.at.now.saturating_since(start) < HOUR {
        if world.is_asked(B) {
            world.grant(B).unwrap();
            world.answer(B, Answer::new(400, ""));
        } else {
            world.pass(world.next_wait());
        }
    }
    let given_up = world.take_events().iter().filter(|event| matches!(event, Event::GivenUp { .. })).count();
    assert!((1..15).contains(&given_up), "{given_up}");
}

/// A host that is down is asked again when the ranker says, and holds nothing meanwhile.
#[test]
fn a_host_that_is_down_costs_nothing_meanwhile() {
    let mut world = world();
    (0..20).for_each(|n| world.pdu(&n.to_string(), &[B]));
    assert!(world.is_asked(B));
    assert!(world.bus.counts().item_bytes > 0);
    world.fail(B, Failure::Down { retry_in: 600 * SECOND });
    assert!((600..750).contains(&world.next_wait().as_secs()));
    assert_eq!((world.bus.counts().item_bytes, world.bus.counts().sends), (0, 0));
    world.pdu("20", &[B]);
    assert_eq!(world.bus.counts().item_bytes, 0);
    world.pass(750 * SECOND);
    assert!(world.done.iter().any(|action| matches!(action, Action::Send { class: Class::Backfill, .. })));
    assert_eq!(said(&sent(&mut world)).len(), 21);
}

/// A host speaks to us all the time and does not listen: it is tried every few seconds and not at every word.
#[test]
fn wake_ups_are_honoured_with_measure() {
    let mut world = world();
    flying(&mut world, 1);
    let reason = String::new;
    world.fail(B, Failure::PerhapsSent { step: Step::Response, reason: reason() });
    let mut attempts = 0;
    for _ in 0..600 {
        world.bus.wake(&name(B), world.at);
        world.pass(SECOND / 10);
        if world.is_asked(B) {
            attempts += 1;
            world.fail(B, Failure::NotSent { step: Step::Connect, reason: reason() });
        }
    }
    assert!((12..30).contains(&attempts), "{attempts} attempts in a minute");
}

/// The pool had lent a connection, and it broke before an answer came: on the next one the same goes out.
#[test]
fn a_second_grant_carries_the_same() {
    let mut world = world();
    let first = flying(&mut world, 1);
    world.pdu("later", &[B]);
    assert_eq!(world.grant(B), Some(first));
    world.bus.handle_granted(&name("nobody.example"), world.at);
    world.drain();
    assert!(world.is_given_back("nobody.example"));
}
