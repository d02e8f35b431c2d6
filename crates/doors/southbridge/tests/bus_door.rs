//! The bus door before a real bus, in a federation of a few names: from a caller's bytes to a homeserver, and back.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use southbridge::bus::SideBus;
use southbridge::bus_door::{BusDoor, BusDoorConfig, ServedBus};
use southbridge_bus::signing::{KeyId, SigningKey, SigningKeys, sign_json};
use southbridge_testkit::homeserver::{Canned, HostScript, OnSend};
use southbridge_words::Secret;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream};

use support::bus::{BusWorld, eventually, in_bus_world};

type Door = BusDoor<ServedBus>;

fn door(world: &BusWorld, bus: &SideBus) -> Door {
    let clock = world.rig.kernel.clock();
    BusDoor::new(ServedBus::new(bus.clone(), clock), clock, BusDoorConfig::new(Secret::new(*b"sesame")))
}

/// A connection to the door.
fn connect(door: &Door) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let door = door.clone();
    tokio::task::spawn_local(async move { door.serve_connection(ours).await });
    theirs
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

async fn ask(door: &Door, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = connect(door);
    let body = if body.is_null() { String::new() } else { body.to_string() };
    stream.write_all(request(method, path, &body).as_bytes()).await.expect("the door reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the door answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().expect("a status"), serde_json::from_str(body).expect("JSON"))
}

/// A stream of results, line by line, without the sizes of chunks.
struct Lines(BufReader<DuplexStream>);

impl Lines {
    async fn open(door: &Door, path: &str) -> Self {
        let mut stream = connect(door);
        stream.write_all(request("GET", path, "").as_bytes()).await.expect("the door reads");
        Self(BufReader::new(stream))
    }

    async fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(Duration::from_secs(20), self.0.read_line(&mut line)).await;
            assert!(read.expect("a line in time").expect("a line") > 0, "the stream has ended");
            if line.starts_with('{') {
                return serde_json::from_str(&line).expect("JSON");
            }
        }
    }
}

/// A message for a room of two: it arrives at both, one of them finds fault with it, and the caller is told both.
#[tokio::test]
async fn what_is_handed_in_at_the_door_arrives_and_is_told() {
    in_bus_world(async |world| {
        world.hosts(["a.test", "b.test"]);
        let fault = OnSend::ProcessWithErrors(vec![("$e".to_owned(), "not in room".to_owned())]);
        world.servers.on_send("b.test", [fault]);
        let bus = world.open().await;
        let door = door(&world, &bus);
        let mut lines = Lines::open(&door, "/bus/v1/results").await;
        let beginning = lines.next().await;
        assert_eq!(beginning["type"], "heartbeat");

        ask(&door, "PUT", "/bus/v1/sets/room", &json!({ "destinations": ["a.test", "b.test"] })).await;
        let message = json!({ "submissions": [
            { "pdu": { "content": { "n": 1 } }, "destination_set": "room", "key": "k", "event_id": "$e" },
            { "edu": { "edu_type": "m.direct_to_device", "content": { "message_id": "m" } }, "destinations": ["a.test"] },
        ]});
        let (_, answer) = ask(&door, "POST", "/bus/v1/send", &message).await;
        let seqs: Vec<u64> =
            answer["results"].as_array().unwrap().iter().map(|it| it["seq"].as_u64().unwrap()).collect();
        assert!(seqs[0] < seqs[1], "{answer}");
        let (_, again) = ask(&door, "POST", "/bus/v1/send", &message).await;
        assert_eq!(again["results"][0]["seq"], seqs[0], "the key is known");

        let mut told = [lines.next().await, lines.next().await];
        told.sort_by_key(|line| line["destination"].to_string());
        assert!(told.iter().all(|line| line["type"] == "delivered"), "{told:?}");
        assert_eq!(told[1]["pdu_errors"], json!({ "$e": "not in room" }));
        assert_eq!(told[1]["upto"], seqs[0]);
        eventually("both have it", || world.numbers_at(&support::bus::server("b.test")) == [1]).await;

        // Whoever comes back with the token of the beginning hears it all again.
        let from = format!("/bus/v1/results?from={}", beginning["token"].as_str().unwrap());
        let mut again = Lines::open(&door, &from).await;
        assert_eq!(again.next().await["type"], "heartbeat");
        assert_eq!(again.next().await["type"], "delivered");
    })
    .await;
}

/// A host that answers 500: its queue is shown, dropped when that is confirmed, and the loss is told.
#[tokio::test]
async fn a_queue_is_shown_and_dropped_and_the_loss_is_told() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        let bus = world.open_with(|config| config.limits.queue.failure_first = Duration::from_secs(60)).await;
        let door = door(&world, &bus);
        let mut lines = Lines::open(&door, "/bus/v1/results").await;
        lines.next().await;
        world.servers.on_send("a.test", [OnSend::Refuse(Canned::json(500, "{}"))]);
        let message = json!({ "submissions": [{ "pdu": {}, "destinations": ["a.test"] }] });
        let (_, answer) = ask(&door, "POST", "/bus/v1/send", &message).await;
        eventually("it waits", || {
            bus.queue(&support::bus::server("a.test")).is_some_and(|queue| queue.failures > 0)
        })
        .await;
        let (status, row) = ask(&door, "GET", "/bus/v1/queues/a.test", &Value::Null).await;
        assert_eq!((status, &row["state"], &row["items"]), (200, &json!("waiting"), &json!(1)), "{row}");
        assert!(row["hold"].is_string() && row["retry_in_ms"].is_u64(), "{row}");
        let (_, would) = ask(&door, "DELETE", "/bus/v1/queues/a.test", &Value::Null).await;
        assert_eq!((&would["dropped"], &would["lost"]["items"]), (&json!(false), &json!(1)));
        let (_, done) = ask(&door, "DELETE", "/bus/v1/queues/a.test?confirm=yes", &Value::Null).await;
        assert_eq!((&done["dropped"], &done["lost"]["items"]), (&json!(true), &json!(1)));
        let told = lines.next().await;
        assert_eq!((&told["type"], &told["reason"]), (&json!("given_up"), &json!("ordered")), "{told}");
        assert_eq!(told["upto"], answer["results"][0]["seq"]);
    })
    .await;
}

#[tokio::test]
async fn a_homeserver_is_asked_by_way_of_the_door() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        let bus = world.open().await;
        let door = door(&world, &bus);
        let question = json!({ "destination": "a.test", "path": "/_matrix/federation/v1/version" });
        let (status, answer) = ask(&door, "POST", "/bus/v1/query", &question).await;
        assert!(status == 200 && answer["response"].is_object(), "{status}: {answer}");
        let nobody = json!({ "destination": "nobody.test", "path": "/_matrix/federation/v1/version", "timeout_ms": 300 });
        let (status, answer) = ask(&door, "POST", "/bus/v1/query", &nobody).await;
        assert!(matches!(status, 502 | 504) && answer["status"].is_null(), "{status}: {answer}");
        assert!(answer["errcode"].as_str().unwrap().starts_with("ORG.SOUTHBRIDGE."), "{answer}");
    })
    .await;
}

/// An object that a homeserver signed is handed in to be checked; its keys are fetched, shown and forgotten.
#[tokio::test]
async fn what_others_signed_is_checked_at_the_door() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        let key = SigningKey::from_seed(KeyId::parse("ed25519:k").unwrap(), &[5; 32]);
        let keys = SigningKeys::of(key.clone());
        let sign = |object: Value| -> Value {
            let signed = sign_json(object.to_string().as_bytes(), "a.test", &keys).unwrap();
            serde_json::from_slice(signed.as_bytes()).unwrap()
        };
        let published = sign(json!({
            "server_name": "a.test", "valid_until_ts": 4_102_444_800_000_u64, "old_verify_keys": {},
            "verify_keys": { "ed25519:k": { "key": key.verify_key().to_string() } },
        }));
        let canned = vec![("/_matrix/key/v2/server".to_owned(), Canned::json(200, &published.to_string()))];
        world.servers.set("a.test", HostScript { canned, ..HostScript::default() });
        let bus = world.open().await;
        let door = door(&world, &bus);
        let object = sign(json!({ "a": 1 }));
        let mut forged = object.clone();
        forged["a"] = json!(2);
        let checks = json!({ "checks": [
            { "object": object, "signer": "a.test" }, { "object": forged, "signer": "a.test" },
            { "object": object, "signer": "b.test" }, { "event": {}, "room_version": "10" }, 7,
        ]});
        let (status, answer) = ask(&door, "POST", "/bus/v1/verify", &checks).await;
        assert_eq!((status, &answer["results"][0]), (200, &json!({ "verified": "object" })), "{answer}");
        let codes: Vec<_> = (1..5).map(|n| answer["results"][n]["errcode"].as_str().unwrap()).collect();
        let refused = "ORG.SOUTHBRIDGE.NOT_VERIFIED";
        assert_eq!(codes, [refused, refused, "M_BAD_JSON", "M_BAD_JSON"], "{answer}");

        let (status, shown) = ask(&door, "GET", "/bus/v1/keys/a.test", &Value::Null).await;
        assert_eq!((status, &shown["keys"][0]["id"]), (200, &json!("ed25519:k")), "{shown}");
        assert_eq!(
            (&shown["keys"][0]["standing"], &shown["keys"][0]["good_now"]),
            (&json!("signing"), &json!(true))
        );
        let nobody = ask(&door, "GET", "/bus/v1/keys/nobody.test?timeout_ms=5000", &Value::Null).await;
        assert_eq!(
            (nobody.0, &nobody.1["errcode"]),
            (502, &json!("ORG.SOUTHBRIDGE.NO_KEYS")),
            "{}",
            nobody.1
        );
        assert_eq!(ask(&door, "DELETE", "/bus/v1/keys/a.test", &Value::Null).await.0, 200);
        assert_eq!(ask(&door, "DELETE", "/bus/v1/keys/a.test", &Value::Null).await.0, 404);
    })
    .await;
}

/// The bus ends first, the door after it: who is still there is told what to do, and streams end with a word.
#[tokio::test]
async fn a_bus_that_ends_says_so() {
    in_bus_world(async |world| {
        let bus = world.open().await;
        let door = door(&world, &bus);
        let mut lines = Lines::open(&door, "/bus/v1/results").await;
        lines.next().await;
        bus.close().await;
        let message = json!({ "submissions": [{ "pdu": {}, "destinations": ["a.test"] }] });
        let (_, answer) = ask(&door, "POST", "/bus/v1/send", &message).await;
        assert_eq!(answer["results"][0]["errcode"], "ORG.SOUTHBRIDGE.CLOSING");
        door.close();
        assert_eq!(lines.next().await["type"], "end");
        door.drained().await;
    })
    .await;
}
