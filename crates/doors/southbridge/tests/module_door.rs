//! Modules of homeservers at the door of a daemon: real sockets, a real kernel, homeservers that record what they get.

mod support;

use std::path::PathBuf;

use futures_util::StreamExt;
use serde_json::{Value, json};
use southbridge::module_door::{ModuleDoor, ModuleDoorConfig, frames, words};
use southbridge_kernel::net::{AddressPolicy, ListenAddress, ListenOptions, Listener};
use southbridge_testkit::homeserver::{Canned, OnSend};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::spawn_local;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use support::bus::{BusWorld, ORIGIN, assert_signed, eventually, in_bus_world};

struct Opened {
    door: ModuleDoor,
    path: PathBuf,
    _directory: TempDir,
}

fn open(world: &BusWorld, change: impl FnOnce(&mut ModuleDoorConfig)) -> Opened {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("module.sock");
    let mut config = ModuleDoorConfig::default();
    change(&mut config);
    let door = ModuleDoor::new(world.southbridge.clone(), config);
    let listener = Listener::bind(&ListenAddress::Unix(path.clone()), &ListenOptions::default());
    let (listener, serving) = (listener.expect("a socket"), door.clone());
    spawn_local(async move { serving.serve(&listener).await });
    Opened { door, path, _directory: directory }
}

struct Module {
    read: FramedRead<OwnedReadHalf, LengthDelimitedCodec>,
    write: OwnedWriteHalf,
}

fn hello() -> Value {
    json!({
        "protocol": words::PROTOCOL,
        "version": "1.2.3",
        "server_name": ORIGIN,
        // The seed of the house's test key: thirty-two sevens.
        "signing_keys": "ed25519 test BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc",
        "give_back_after": 60.0,
        "items_max": 1000,
        "bytes_max": 1 << 20,
    })
}

impl Module {
    async fn connect(opened: &Opened) -> Self {
        let (read, write) = UnixStream::connect(&opened.path).await.expect("it listens").into_split();
        Self { read: frames::reader(read, 1 << 24), write }
    }

    /// One that has said who it is, and is welcome.
    async fn welcome(opened: &Opened) -> Self {
        let mut module = Self::connect(opened).await;
        module.say(&hello(), b"").await;
        let welcome = module.hear().await.expect("an answer");
        assert_eq!(welcome, json!({"protocol": words::PROTOCOL, "version": env!("CARGO_PKG_VERSION")}));
        module
    }

    async fn say(&mut self, head: &Value, body: &[u8]) {
        let frame = frames::to_daemon(head.to_string().as_bytes(), body);
        self.write.write_all(&frame).await.expect("it reads");
    }

    async fn hear(&mut self) -> Option<Value> {
        let frame = self.read.next().await?.ok()?;
        Some(serde_json::from_slice(&frame).expect("JSON"))
    }

    /// What the question with this number is answered with; nothing else is under way.
    async fn ask(&mut self, id: u64, request: Value, body: &[u8]) -> Value {
        self.say(&json!([id, request]), body).await;
        let answer = self.hear().await.expect("an answer");
        assert_eq!(answer[0], id);
        answer[1].clone()
    }

    /// Asks until somebody's place is told.
    async fn told(&mut self, floor: u64) -> Value {
        loop {
            let said = self.ask(1_000, json!({"progress": {"floor": floor}}), b"").await;
            if said["progress"]["told"].as_array().is_some_and(|told| !told.is_empty()) {
                return said["progress"].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}

fn pdu(number: u64) -> Vec<u8> {
    format!(r#"{{"type": "m.room.message", "content":{{"n":{number}}}}}"#).into_bytes()
}

fn send_pdu(position: u64, to: &[&str]) -> Value {
    json!({"send_pdu": {"event_id": format!("${position}"), "position": position, "to": to}})
}

/// Two modules, one event for two homeservers from each: they are signed and come, and each module is told of its own.
#[tokio::test]
async fn each_module_has_a_bus_of_its_own() {
    in_bus_world(async |world| {
        let hosts = world.hosts(["a.test", "b.test"]);
        let opened = open(&world, |_| ());
        for number in [1, 2] {
            let mut module = Module::welcome(&opened).await;
            let said = module.ask(7, send_pdu(number, &["a.test", "b.test"]), &pdu(number)).await;
            assert_eq!(said, "done");
            let mut names = Vec::new();
            while names.len() < 2 {
                let progress = module.told(number).await;
                for told in progress["told"].as_array().expect("rows") {
                    assert_eq!((&told[1], &told[2]), (&json!(number), &json!(false)));
                    names.push(told[0].as_str().expect("a name").to_owned());
                }
            }
            names.sort();
            assert_eq!(names, ["a.test", "b.test"]);
        }
        for host in &hosts {
            assert_eq!(world.numbers_at(host), [1, 2]);
            world.servers.sent_to(host.as_str()).iter().for_each(|sent| assert_signed(sent, host));
        }
        assert_eq!(opened.door.snapshot().connections, 2);
    })
    .await;
}

/// What is carried is answered when all of it has come, with what was said against single PDUs.
#[tokio::test]
async fn what_is_carried_is_waited_for() {
    in_bus_world(async |world| {
        let [host] = world.hosts(["a.test"]);
        let opened = open(&world, |_| ());
        let mut module = Module::welcome(&opened).await;
        let (one, two, content) =
            (pdu(1), pdu(2), br#"{"sender":"@a:b","type":"m.t","message_id":"1","messages":{}}"#);
        let carry = json!({"carry": {
            "to": "a.test",
            "pdus": [[one.len(), "$1"], [two.len(), "$2"]],
            "edus": [[content.len(), "m.direct_to_device"]],
            "at_ms": 1_800_000_000_000_u64,
        }});
        let body = [&one[..], &two[..], &content[..]].concat();
        assert_eq!(module.ask(3, carry, &body).await, json!({"carried": []}));
        assert_eq!(world.numbers_at(&host), [1, 2]);
        let sent = world.servers.sent_to("a.test");
        assert!(sent.iter().any(|sent| sent.json()["edus"][0]["edu_type"] == "m.direct_to_device"));
        // Not JSON, and not one that may be lost: refused by itself, and the connection goes on.
        assert!(module.ask(4, send_pdu(9, &["a.test"]), b"[]").await["failed"].is_string());
        let edu = json!({"send_edu": {"edu_type": "m.direct_to_device", "at_ms": 1, "to": ["a.test"]}});
        assert!(
            module.ask(5, edu, content).await["failed"].as_str().expect("why").contains("must not be lost")
        );
        assert_eq!(module.ask(6, json!({"wake": {"to": "a.test"}}), b"").await, "done");
        assert_eq!(module.ask(7, json!({"heard": {"to": "a.test"}}), b"").await, "done");
        assert_eq!(module.ask(8, json!({"give_back": {"to": "a.test"}}), b"").await, "done");
        assert!(module.ask(9, json!({"close": {"floor": 0}}), b"").await["progress"].is_object());
    })
    .await;
}

/// A connection ends: what waits for its bus is not sent any more, and nothing is left of it. Its module comes again, and
/// sends it anew.
#[tokio::test]
async fn a_bus_ends_with_its_connection() {
    in_bus_world(async |world| {
        let [host] = world.hosts(["a.test"]);
        let opened = open(&world, |_| ());
        world
            .servers
            .on_send("a.test", [OnSend::Refuse(Canned::json(429, "{}").with("retry-after", "3600"))]);
        let mut module = Module::welcome(&opened).await;
        module.ask(1, send_pdu(1, &["a.test"]), &pdu(1)).await;
        eventually("it is tried", || !world.servers.sent_to("a.test").is_empty()).await;
        drop(module);
        eventually("it is gone", || opened.door.snapshot().in_progress == 0).await;
        assert!(world.numbers_at(&host).is_empty());
        let mut module = Module::welcome(&opened).await;
        module.ask(1, send_pdu(1, &["a.test"]), &pdu(1)).await;
        module.ask(2, json!({"wake": {"to": "a.test"}}), b"").await;
        eventually("it comes", || world.numbers_at(&host) == [1]).await;
    })
    .await;
}

/// The daemon ends: its modules are asked to close their buses, and one of them does, and hears how far it has come. The other is
/// cut off after a moment.
#[tokio::test]
async fn a_daemon_that_ends_asks_its_modules_to_leave() {
    in_bus_world(async |world| {
        let [host] = world.hosts(["a.test"]);
        let opened = open(&world, |config| config.close_patience = std::time::Duration::ZERO);
        let mut deaf = Module::welcome(&opened).await;
        let mut module = Module::welcome(&opened).await;
        module.ask(1, send_pdu(5, &["a.test"]), &pdu(5)).await;
        eventually("it comes", || world.numbers_at(&host) == [5]).await;
        opened.door.close();
        assert_eq!(module.hear().await.expect("a last word"), json!([0, "closing"]));
        let last = module.ask(2, json!({"close": {"floor": 5}}), b"").await;
        assert_eq!(last["progress"]["told"], json!([["a.test", 5, false]]));
        assert_eq!(module.ask(3, send_pdu(6, &["a.test"]), &pdu(6)).await, "done");
        drop(module);
        opened.door.drained().await;
        assert_eq!(deaf.hear().await.expect("a last word"), json!([0, "closing"]));
        assert!(deaf.hear().await.is_none());
        assert_eq!(world.numbers_at(&host), [5]);
    })
    .await;
}

/// Who cannot be given a bus is told why, and cut off; so is who makes no sense later. Others notice nothing.
#[tokio::test]
async fn who_makes_no_sense_is_cut_off_alone() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        let opened = open(&world, |config| config.frame_bytes_max = 4096);
        let mut other = Module::welcome(&opened).await;
        let changed = |key: &str, value: Value| {
            let mut hello = hello();
            hello[key] = value;
            hello
        };
        for (said, why) in [
            (json!("hello"), "no greeting"),
            (changed("protocol", json!(7)), "southbridge 1.2.3 and speaks protocol 7"),
            (changed("server_name", json!("not a name")), "its greeting"),
            (changed("signing_keys", json!("rsa 1 AAAA")), "signing_keys"),
            (changed("give_back_after", json!(-1.0)), "give_back_after"),
            (changed("never_dialled", json!(["10.0.0.0/8", "1.1.1.0/24"])), "1.1.1.0/24 must not be dialled"),
            (json!("x".repeat(4096)), "frame size too big"),
        ] {
            let mut module = Module::connect(&opened).await;
            module.say(&said, b"").await;
            let refused = module.hear().await.expect("an answer")["refused"].to_string();
            assert!(refused.contains(why), "{refused}");
            assert!(module.hear().await.is_none());
        }
        assert_eq!(opened.door.snapshot().refused, 7);
        for said in [json!(["no number", {}]), json!([1, {"explode": {}}]), json!([1, {"wake": {"to": "!"}}])]
        {
            let mut module = Module::welcome(&opened).await;
            module.say(&said, b"").await;
            assert!(module.hear().await.is_none());
        }
        let mut module = Module::welcome(&opened).await;
        let carry = json!({"carry": {"to": "a.test", "pdus": [[9, "$1"]], "edus": [], "at_ms": 1}});
        module.say(&json!([1, carry]), b"short").await;
        assert!(module.hear().await.is_none());
        assert_eq!(opened.door.snapshot().malformed, 4);
        assert_eq!(other.ask(1, json!({"wake": {"to": "a.test"}}), b"").await, "done");
    })
    .await;
}

/// What is beyond the bounds is refused at once; and who says nothing does not keep its place. Who forbids what is denied here as
/// well is welcome.
#[tokio::test]
async fn everything_has_a_bound() {
    in_bus_world(async |world| {
        world.hosts(["a.test"]);
        let opened = open(&world, |config| config.greeting_max = std::time::Duration::from_millis(20));
        let mut silent = Module::connect(&opened).await;
        let refused = silent.hear().await.expect("an answer");
        assert!(refused["refused"].as_str().expect("why").contains("nothing in time"), "{refused}");
        let opened = open(&world, |config| {
            config.under_way_max = 1;
            config.addresses = AddressPolicy::new([], ["1.1.1.0/24".parse().expect("a network")]);
        });
        world
            .servers
            .on_send("a.test", [OnSend::Refuse(Canned::json(429, "{}").with("retry-after", "3600"))]);
        let mut module = Module::connect(&opened).await;
        let mut careful = hello();
        careful["never_dialled"] = json!(["10.0.0.0/8", "1.1.1.128/25"]);
        module.say(&careful, b"").await;
        assert_eq!(module.hear().await.expect("an answer")["refused"], Value::Null);
        let one = pdu(1);
        let carry = json!({"carry": {"to": "a.test", "pdus": [[one.len(), "$1"]], "edus": [], "at_ms": 1}});
        module.say(&json!([1, carry]), &one).await;
        let said = module.ask(2, json!({"progress": {"floor": 0}}), b"").await;
        assert!(said["failed"].as_str().expect("why").starts_with("1 requests of this module"), "{said}");
        assert_eq!(opened.door.snapshot().overloaded, 1);
    })
    .await;
}
