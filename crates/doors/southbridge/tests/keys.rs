//! The keys of other homeservers, and what they signed, on sockets (F18; fault row 30).

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use southbridge::bus::keys::IncomingRequest;
use southbridge::bus::{BusConfig, SideBus, VerifyError};
use southbridge_bus::keyring::{KeyError, Notary, Purpose, Trouble, Wanted};
use southbridge_bus::signing::{
    Event, KeyId, Numbers, RoomVersion, Signer, SigningKey, SigningKeys, Verified, sign_json, to_canonical,
};
use southbridge_testkit::homeserver::{Behaviour, Canned, HostScript};
use southbridge_words::{ServerName, WallTime};

use support::bus::{BusWorld, ORIGIN, in_bus_world, server, signer};
use support::federation::wait;

const PATIENCE: Duration = Duration::from_secs(20);
const SERVER: &str = "/_matrix/key/v2/server";
const QUERY: &str = "/_matrix/key/v2/query";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn key(version: &str, seed: u8) -> SigningKey {
    SigningKey::from_seed(KeyId::of_version(version).expect("a version"), &[seed; 32])
}

/// The key that everybody has whose name begins so.
fn key_of(server: &str) -> SigningKey {
    key("a", server.as_bytes()[0])
}

fn now(world: &BusWorld) -> WallTime {
    world.rig.kernel.clock().wall()
}

/// What `server` says of itself, good for a day, before anybody signs it.
fn document(world: &BusWorld, server: &str, key: &SigningKey) -> Value {
    json!({
        "server_name": server,
        "valid_until_ts": (now(world) + DAY).unix_millis(),
        "verify_keys": { key.id().as_str(): { "key": key.verify_key().to_string() } },
        "old_verify_keys": {},
    })
}

fn signed(document: &Value, signer: &str, key: &SigningKey) -> Value {
    let signed = sign_json(document.to_string().as_bytes(), signer, &SigningKeys::of(key.clone()));
    serde_json::from_slice(signed.expect("an object").as_bytes()).expect("JSON")
}

fn answers(world: &BusWorld, host: &str, path: &str, body: &Value) {
    let canned = vec![(path.to_owned(), Canned::json(200, &body.to_string()))];
    world.servers.set(host, HostScript { canned, ..HostScript::default() });
}

/// `server` publishes its key.
fn publish(world: &BusWorld, server: &str) {
    let key = key_of(server);
    answers(world, server, SERVER, &signed(&document(world, server, &key), server, &key));
}

/// How often `host` was asked at `path`.
fn asked(world: &BusWorld, host: &str, path: &str) -> usize {
    world.servers.received_by(host).iter().filter(|request| request.target.starts_with(path)).count()
}

/// A message of `sender`'s server, signed with `key`.
fn event(world: &BusWorld, sender: &str, key: &SigningKey) -> Vec<u8> {
    let event = json!({
        "type": "m.room.message", "room_id": "!r:a.test", "sender": format!("@u:{sender}"), "depth": 3,
        "origin_server_ts": now(world).unix_millis(), "content": { "body": "hello", "msgtype": "m.text" },
        "prev_events": [], "auth_events": [],
    });
    let version = version();
    let event = Event::parse(event.to_string().as_bytes(), &version).expect("an event");
    let signed = event.sign(&server(sender), &SigningKeys::of(key.clone())).expect("it can be signed");
    signed.as_bytes().to_vec()
}

fn version() -> RoomVersion {
    RoomVersion::parse("10").expect("known")
}

async fn verify(bus: &SideBus, event: &[u8]) -> Result<Verified, VerifyError> {
    bus.keys().verify_event(event, &version(), PATIENCE).await.map(|event| event.verified)
}

fn wanted(server: &ServerName) -> Wanted {
    Wanted { server: server.clone(), key: key("a", 0).id().clone(), purpose: Purpose::Request }
}

/// A bus with the notary `n.test`, whose keys the operator knows.
fn with_notary(config: &mut BusConfig) {
    let key = key_of("n.test");
    let keys = vec![(key.id().clone(), key.verify_key())];
    config.keys.sources.notaries = vec![Notary { server: server("n.test"), keys }];
    config.keys.fetch_timeout = Duration::from_secs(3);
}

/// A hundred events of one server come at once: it is asked once, unsigned, and each event is believed. One that was
/// changed on the way is not, and one whose content was changed is good for what a redaction leaves of it.
#[tokio::test]
async fn events_are_verified_and_their_server_is_asked_once() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        publish(&world, "a.test");
        let bus = world.open().await;
        let event = event(&world, "a.test", &key_of("a.test"));
        let all = futures_util::future::join_all((0..100).map(|_| verify(&bus, &event))).await;
        assert!(all.iter().all(|verified| *verified == Ok(Verified::Whole)), "{all:?}");
        assert_eq!(asked(&world, "a.test", SERVER), 1);
        let requests = world.servers.received_by("a.test");
        assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")));

        let text = String::from_utf8(event).expect("JSON");
        let redacted = verify(&bus, text.replace("hello", "adieu").as_bytes()).await;
        assert_eq!(redacted, Ok(Verified::RedactedOnly));
        let forged = verify(&bus, text.replace("\"depth\":3", "\"depth\":4").as_bytes()).await;
        let forged = forged.expect_err("it was changed");
        assert!(!forged.is_repeatable(), "{forged}");
        assert_eq!(asked(&world, "a.test", SERVER), 1);
    })
    .await;
}

/// The origin is gone for good, and a notary still has its keys. It is asked about many servers at once.
#[tokio::test]
async fn a_notary_stands_in_for_dead_origins_in_batches() {
    in_bus_world(async |world| {
        let names: Vec<String> = (0..40).map(|n| format!("d{n}.test")).collect();
        world.hosts(["n.test"]);
        let documents = names.iter().map(|name| {
            let own = signed(&document(&world, name, &key_of(name)), name, &key_of(name));
            signed(&own, "n.test", &key_of("n.test"))
        });
        let body = json!({ "server_keys": documents.collect::<Vec<_>>() }).to_string();
        let canned = vec![(QUERY.to_owned(), Canned::json(200, &body))];
        // What comes while it thinks is gathered.
        world.servers.set("n.test", HostScript { canned, ..support::bus::slow() });
        let bus = world.open_with(with_notary).await;
        let events: Vec<_> = names.iter().map(|name| event(&world, name, &key_of(name))).collect();
        let all = futures_util::future::join_all(events.iter().map(|event| verify(&bus, event))).await;
        assert!(all.iter().all(|verified| *verified == Ok(Verified::Whole)), "{all:?}");
        let queries = asked(&world, "n.test", QUERY);
        assert!(queries <= 12, "{queries} queries for 40 servers");
        assert_eq!(bus.keys().counters().notary_fetches, queries as u64);
    })
    .await;
}

/// Row 30: a notary makes up a key for a server, and signs it. Nobody believes it, for the server has not.
#[tokio::test]
async fn row_30_a_notary_that_lies_is_not_believed() {
    in_bus_world(async |world| {
        world.hosts(["n.test"]);
        let made_up = key("a", 66);
        let lie = signed(&document(&world, "d.test", &made_up), "n.test", &key_of("n.test"));
        answers(&world, "n.test", QUERY, &json!({ "server_keys": [lie] }));
        let bus = world.open_with(with_notary).await;
        let error = verify(&bus, &event(&world, "d.test", &made_up)).await.expect_err("a lie");
        let VerifyError::Key(KeyError::Unavailable { trouble, .. }) = &error else { panic!("{error:?}") };
        assert!(matches!(trouble, Trouble::NotBelieved(_)) && error.is_repeatable(), "{error:?}");
    })
    .await;
}

/// What somebody does to an answer.
type Spoil = Box<dyn Fn(&mut Value)>;

/// Row 30: key servers answer with another name, unsigned, expired, with ten thousand keys, with a megabyte. Each is
/// refused with its reason.
#[tokio::test]
async fn row_30_bad_answers_are_refused() {
    in_bus_world(async |world| {
        let bus = world.open().await;
        let keys = (0..10_000).map(|n| (format!("ed25519:k{n}"), json!({ "key": "AAAA" }))).collect();
        let (good, expired) = (key_of("a.test"), WallTime::from_unix_millis(1_000_000_000_000));
        let cases: [(&str, Spoil, &str); 5] = [
            ("a1.test", Box::new(|answer| answer["server_name"] = json!("b.test")), "another server"),
            ("a2.test", Box::new(|answer| answer["signatures"] = json!({})), "not signed"),
            (
                "a3.test",
                Box::new(move |answer| answer["valid_until_ts"] = expired.unix_millis().into()),
                "no longer",
            ),
            (
                "a4.test",
                Box::new(move |answer| answer["verify_keys"] = Value::Object(Clone::clone(&keys))),
                "",
            ),
            ("a5.test", Box::new(|answer| answer["more"] = "x".repeat(70_000).into()), "larger"),
        ];
        for (name, spoil, words) in cases {
            let [host] = world.hosts([name]);
            let mut answer = document(&world, name, &good);
            spoil(&mut answer);
            let is_signed = answer.get("signatures").is_none();
            let answer = if is_signed { signed(&answer, name, &good) } else { answer };
            answers(&world, name, SERVER, &answer);
            let error = bus.keys().key(wanted(&host), PATIENCE).await.expect_err(name);
            assert!(matches!(error, VerifyError::Key(KeyError::Unavailable { .. })), "{name}: {error:?}");
            assert!(error.to_string().contains(words), "{name}: {error}");
        }
        assert!(bus.keys().counters().bytes < 64 * 1024, "nothing of it is remembered");
    })
    .await;
}

/// Row 30: what was good stays, whatever the server answers later.
#[tokio::test]
async fn row_30_a_bad_answer_does_not_replace_a_good_key() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        publish(&world, "a.test");
        let bus = world.open().await;
        let event = event(&world, "a.test", &key_of("a.test"));
        assert_eq!(verify(&bus, &event).await, Ok(Verified::Whole));
        let forged = signed(&document(&world, "a.test", &key("a", 66)), "b.test", &key("a", 66));
        answers(&world, "a.test", SERVER, &forged);
        wait(Duration::from_secs(120)).await;
        let unknown = Wanted { key: key("b", 0).id().clone(), ..wanted(&name) };
        bus.keys().key(unknown, PATIENCE).await.expect_err("there is no such key");
        assert_eq!(asked(&world, "a.test", SERVER), 2);
        assert_eq!(verify(&bus, &event).await, Ok(Verified::Whole));
    })
    .await;
}

/// A dead server costs one fetch, and whoever waits is told in their time.
#[tokio::test]
async fn who_waits_for_a_silent_server_is_told_in_time() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        world.servers.behave("a.test", Behaviour::HangAfterRequest);
        let bus = world.open().await;
        let begun = std::time::Instant::now();
        let timeout = Duration::from_millis(300);
        let error = bus.keys().of_server(&name, timeout).await.expect_err("it is silent");
        assert_eq!(error, VerifyError::DeadlinePassed { waited: timeout });
        assert!(begun.elapsed() < Duration::from_secs(5) && error.is_repeatable());
        assert_eq!(bus.keys().counters().waiting, 0);
        let waiting = {
            let bus = bus.clone();
            let name = name.clone();
            tokio::task::spawn_local(async move { bus.keys().of_server(&name, Duration::ZERO).await })
        };
        support::bus::eventually("it waits", || bus.keys().counters().waiting == 1).await;
        bus.close().await;
        assert_eq!(waiting.await.expect("no panic").expect_err("the bus is gone"), VerifyError::Closing);
        support::bus::eventually("nothing is under way", || world.rig.is_at_rest()).await;
    })
    .await;
}

/// A restart remembers: the server is gone, and what it signed is verified all the same.
#[tokio::test]
async fn keys_are_known_after_a_restart() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        publish(&world, "a.test");
        let bus = world.open().await;
        let event = event(&world, "a.test", &key_of("a.test"));
        verify(&bus, &event).await.expect("good");
        let kept = bus.keys().take_changed(10);
        assert_eq!((kept.len(), kept[0].server.as_str()), (1, "a.test"));
        bus.close().await;
        let gone = Behaviour::Status { status: 503, headers: Vec::new() };
        world.servers.set("a.test", HostScript { behaviour: gone, ..HostScript::default() });
        let bus = world.open().await;
        bus.keys().restore(kept);
        assert_eq!(verify(&bus, &event).await, Ok(Verified::Whole));
        assert_eq!(asked(&world, "a.test", SERVER), 1);
        assert!(bus.keys().forget(&server("a.test")) && verify(&bus, &event).await.is_err());
    })
    .await;
}

/// A request that another homeserver sent to this one is checked, and one that was changed is not believed.
#[tokio::test]
async fn requests_that_come_in_are_verified() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        publish(&world, "a.test");
        let bus = world.open().await;
        let theirs = Signer::new(name.clone(), SigningKeys::of(key_of("a.test")));
        let content = r#"{"pdus": [], "origin":"a.test"}"#;
        let canonical = to_canonical(content.as_bytes(), Numbers::Canonical).expect("JSON");
        let uri = "/_matrix/federation/v1/send/1";
        let shown = theirs.authorization("PUT", uri, &server(ORIGIN), Some(&canonical)).expect("a request");
        let authorization = shown[0].as_bytes();
        let request =
            IncomingRequest { authorization, method: "PUT", uri, content: Some(content.as_bytes()) };
        assert_eq!(bus.keys().verify_request(&request, PATIENCE).await, Ok(name));
        let other = IncomingRequest { uri: "/_matrix/federation/v1/send/2", ..request };
        let error = bus.keys().verify_request(&other, PATIENCE).await.expect_err("another request");
        assert!(matches!(error, VerifyError::Request(_)), "{error:?}");
    })
    .await;
}

/// What this homeserver signed itself is verified with its own keys: nobody is asked.
#[tokio::test]
async fn own_keys_are_at_hand() {
    in_bus_world(async |world| {
        let bus = world.open().await;
        let object = sign_json(br#"{"a":1}"#, ORIGIN, signer().keys()).expect("an object");
        let us = server(ORIGIN);
        let checked = bus.keys().verify_object(object.as_bytes(), &us, Purpose::Request, PATIENCE).await;
        assert_eq!(checked, Ok(()));
        let unsigned = bus.keys().verify_object(br#"{"a":1}"#, &us, Purpose::Request, PATIENCE).await;
        assert_eq!(unsigned, Err(VerifyError::NotSigned { server: us.clone() }));
        assert_eq!(bus.keys().of_server(&us, PATIENCE).await.expect("known").len(), 1);
        let counters = bus.keys().counters();
        assert_eq!((counters.origin_fetches, counters.searches), (0, 0));
    })
    .await;
}
