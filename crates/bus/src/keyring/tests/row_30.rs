//! Fault row 30: whatever a key server or a notary answers, what was good stays good, and what is not is not believed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::world::{DAY, HOUR, MINUTE, World, key, name, published, signed, unsigned};
use crate::keyring::{KeyError, KeyringLimits, Sources, Trouble};
use crate::signing::{KeyId, ServerKeysError};

/// A world in which `one.example` has answered well an hour ago, and now publishes `document`.
fn after_a_good_answer(document: impl FnOnce(&World) -> Value) -> World {
    let mut world = World::new();
    world.publish("one.example", &[&key("a", 1)], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.take_asked();
    world.wait(HOUR);
    let document = document(&world);
    world.origins.insert("one.example".to_owned(), document);
    world
}

/// The answer is not believed, the key it brought is not known, and the one known before still is.
#[track_caller]
fn assert_not_believed(mut world: World, expected: &ServerKeysError) {
    let error = world.ask_for_request("one.example", "new").unwrap_err();
    let KeyError::Unavailable { trouble, .. } = &error else { panic!("{error:?}") };
    assert_eq!(trouble, &Trouble::NotBelieved(expected.clone()));
    assert_eq!(world.take_asked(), ["one.example"]);
    assert_eq!(world.ask_for_request("one.example", "a"), Ok(key("a", 1).verify_key()));
    assert_eq!(world.keyring.counters().not_believed, 1);
}

/// A server answers with the keys of another, well signed by that other.
#[test]
fn row_30_an_answer_about_another_server_is_not_believed() {
    let world = after_a_good_answer(|world| published("two.example", &[&key("new", 2)], world.wall + DAY));
    assert_not_believed(world, &ServerKeysError::WrongServer { asked: name("one.example") });
}

#[test]
fn row_30_an_unsigned_answer_is_not_believed() {
    let unsigned_one = ServerKeysError::Unsigned { server: name("one.example") };
    let world = after_a_good_answer(|world| unsigned("one.example", &[&key("new", 2)], world.wall + DAY));
    assert_not_believed(world, &unsigned_one);
    // Signed by somebody else, and signed with a key that is not in it.
    let world = after_a_good_answer(|world| {
        let document = unsigned("one.example", &[&key("new", 2)], world.wall + DAY);
        signed(&signed(&document, "evil.example", &key("new", 2)), "one.example", &key("other", 3))
    });
    assert_not_believed(world, &unsigned_one);
    // Well signed, and changed since.
    let world = after_a_good_answer(|world| {
        let mut document = published("one.example", &[&key("new", 2)], world.wall + DAY);
        document["valid_until_ts"] = json!(world.wall.unix_millis() + 1);
        document
    });
    assert_not_believed(world, &unsigned_one);
}

/// An answer from last year: it is the server's own, and proves nothing about today.
#[test]
fn row_30_an_expired_answer_is_good_for_events_of_its_time_only() {
    let mut world = World::new();
    let a = key("a", 1);
    let then = world.wall;
    world.publish("one.example", &[&a], DAY);
    world.wait(DAY * 30);
    let error = world.ask_for_request("one.example", "a").unwrap_err();
    assert!(matches!(error, KeyError::Unavailable { trouble: Trouble::Expired, .. }), "{error:?}");
    let event = |signed_at| crate::keyring::Purpose::Event { signed_at };
    assert_eq!(world.ask("one.example", "a", event(then + HOUR)), Ok(a.verify_key()));
    assert!(world.ask("one.example", "a", event(then + DAY * 2)).is_err());
}

/// The answer of yesterday is sent again today, when the server has changed its key: what is known now stays.
#[test]
fn row_30_a_replayed_answer_takes_nothing_back() {
    let mut world = World::new();
    let (a, b) = (key("a", 1), key("b", 2));
    let yesterday = published("one.example", &[&a], world.wall + HOUR);
    world.wait(DAY);
    world.publish("one.example", &[&b], DAY);
    assert!(world.ask_for_request("one.example", "b").is_ok());
    world.wait(MINUTE * 2);
    world.origins.insert("one.example".to_owned(), yesterday);
    assert!(world.ask_for_request("one.example", "a").is_err(), "the old key signs no longer");
    assert_eq!(world.ask_for_request("one.example", "b"), Ok(b.verify_key()));
    // The same from a server that gave its key another name meanwhile, and whose old answer is still in its time.
    let mut world = World::new();
    let again = published("one.example", &[&key("b", 9)], world.wall + DAY * 3);
    world.publish("one.example", &[&b], DAY);
    assert!(world.ask_for_request("one.example", "b").is_ok());
    world.origins.insert("one.example".to_owned(), again);
    world.wait(HOUR * 14);
    for _ in 0..3 {
        assert_eq!(
            world.ask_for_request("one.example", "b"),
            Ok(b.verify_key()),
            "a good key is not replaced"
        );
    }
}

/// Ten thousand keys in one answer: too many to hold, and too many to check.
#[test]
fn row_30_an_answer_with_ten_thousand_keys_is_not_believed() {
    let many = |member: &str, of: usize| {
        let member = member.to_owned();
        after_a_good_answer(move |world| {
            let new = key("new", 2);
            let mut document = unsigned("one.example", &[&new], world.wall + DAY);
            let entry = json!({"key": new.verify_key().to_string(), "expired_ts": 1});
            let keys: BTreeMap<_, _> = (1..of).map(|n| (format!("ed25519:k{n}"), entry.clone())).collect();
            for (id, key) in keys {
                document[&member][&id] = key;
            }
            signed(&document, "one.example", &new)
        })
    };
    let server = name("one.example");
    for member in ["verify_keys", "old_verify_keys"] {
        let too_many = ServerKeysError::TooManyKeys { server: server.clone(), keys: 65, keys_max: 64 };
        assert_not_believed(many(member, 65), &too_many);
        assert!(many(member, 64).ask_for_request("one.example", "new").is_ok());
        // So many that nothing of it is read.
        let mut world = many(member, 10_000);
        let error = world.ask_for_request("one.example", "new").unwrap_err();
        assert!(error.to_string().contains("its answer is larger than is taken"), "{error}");
        assert!(world.ask_for_request("one.example", "a").is_ok());
        assert!(world.keyring.counters().bytes < 2_000);
    }
}

/// One bad key in an answer, of an algorithm of tomorrow or half a point, does not spoil the good one beside it.
#[test]
fn row_30_keys_that_are_none_are_passed_over() {
    let mut world = World::new();
    let a = key("a", 1);
    let mut document = unsigned("one.example", &[&a], world.wall + DAY);
    document["verify_keys"]["ed448:x"] = json!({"key": "AAAA"});
    document["verify_keys"]["ed25519:weak"] = json!({"key": "A".repeat(43)});
    document["verify_keys"]["ed25519:odd name"] = json!({"key": a.verify_key().to_string()});
    document["old_verify_keys"]["ed25519:nothing"] = json!(null);
    world.origins.insert("one.example".to_owned(), signed(&document, "one.example", &a));
    assert!(world.ask_for_request("one.example", "a").is_ok());
    assert!(matches!(world.ask_for_request("one.example", "weak"), Err(KeyError::NotListed { .. })));
}

#[test]
fn row_30_bodies_that_are_no_key_responses_are_not_believed() {
    for body in [json!(null), json!([]), json!({}), json!({"server_name": "one.example"}), json!("x")] {
        let world = after_a_good_answer(|_| body);
        assert_not_believed(world, &ServerKeysError::Malformed);
    }
    let mut world = after_a_good_answer(|_| json!({}));
    let id = KeyId::of_version("a").unwrap();
    world.origins.insert(
        "one.example".to_owned(),
        json!({"server_name": "one.example", "verify_keys": {id.as_str(): {"key": "?"}}, "valid_until_ts": 1}),
    );
    assert_not_believed(world, &ServerKeysError::NoKey { server: name("one.example") });
}

fn one_notary() -> World {
    World::with_notaries(&["notary.example"], &Sources::default())
}

/// A notary makes up a key for a server that it is asked about, and signs everything there is to sign. Nobody can tell
/// when the server was never met; but what a server is known to sign with, a notary does not change.
#[test]
fn row_30_a_notary_that_lies_does_not_change_what_is_known() {
    let mut world = one_notary();
    let a = key("a", 1);
    world.publish("one.example", &[&a], DAY);
    assert!(world.ask_for_request("one.example", "a").is_ok());
    world.origins.clear();
    world.wait(HOUR);
    for (lie, expected) in [
        // The same name for another key; another name; no signature of the server's own; another server.
        (published("one.example", &[&key("a", 66)], world.wall + DAY), Trouble::NotContinued),
        (published("one.example", &[&key("new", 66)], world.wall + DAY), Trouble::NotContinued),
        (
            unsigned("one.example", &[&key("new", 66)], world.wall + DAY),
            Trouble::NotBelieved(ServerKeysError::Unsigned { server: name("one.example") }),
        ),
        (published("two.example", &[&key("new", 66)], world.wall + DAY), Trouble::NotAnswered),
    ] {
        world.store("notary.example", "one.example", lie);
        let error = world.ask_for_request("one.example", "new").unwrap_err();
        let KeyError::Unavailable { trouble, retry_in, .. } = error else { panic!("{error:?}") };
        assert_eq!(trouble, expected);
        assert_eq!(world.ask_for_request("one.example", "a"), Ok(a.verify_key()));
        world.wait(retry_in);
    }
}

/// An answer that says to come from the notary, and that the notary did not sign.
#[test]
fn row_30_what_the_notary_did_not_sign_is_not_believed() {
    let mut world = one_notary();
    world.store("notary.example", "one.example", published("one.example", &[&key("a", 1)], world.wall + DAY));
    world.notary_signs_with("notary.example", key("n", 99));
    let error = world.ask_for_request("one.example", "a").unwrap_err();
    let expected =
        ServerKeysError::NotOfNotary { server: name("one.example"), notary: name("notary.example") };
    assert!(
        matches!(&error, KeyError::Unavailable { trouble: Trouble::NotBelieved(found), .. } if *found == expected),
        "{error:?}"
    );
}

/// A notary answers about ten thousand servers it was not asked about.
#[test]
fn row_30_a_notary_is_believed_about_those_only_it_was_asked_about() {
    let limits = KeyringLimits::default();
    let mut world = one_notary();
    world.store("notary.example", "one.example", published("two.example", &[&key("a", 1)], world.wall + DAY));
    assert!(world.ask_for_request("one.example", "a").is_err());
    assert!(world.keyring.counters().servers <= 1 && limits.servers_max > 1);
    world.take_asked();
    world.origins.clear();
    assert!(world.ask_for_request("two.example", "a").is_err());
    assert_eq!(world.take_asked()[0], "two.example", "nothing was learned of it");
}
