//! Homeservers that fail, and what the bus makes of it (faults rows 7 and 16 to 20).

mod support;

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use southbridge::bus::{Delivery, SendError, SideBus};
use southbridge_bus::externaliser::QueueState;
use southbridge_kernel::discovery::{Discover, DiscoveryError, Route};
use southbridge_testkit::homeserver::{Behaviour, Canned, OnSend};
use southbridge_testkit::memory_outbox::{Fate, MemoryDisk, MemoryOutbox};
use southbridge_words::{
    Append, Appended, Instant, Mark, Outbox, OutboxError, Page, Recovered, Seq, ServerName, ServiceName,
    Upkeep, WallTime,
};

use support::bus::{
    BusWorld, delivery_to, edu, eventually, in_bus_world, numbers_in, quick, send, signer, slow, to,
};
use support::federation::wait;

/// The peer has processed a transaction and its answer is lost on the way. The same is sent again, byte for byte,
/// and the peer has processed it once. What was handed in meanwhile follows in a transaction of its own.
#[tokio::test]
async fn row_18_a_lost_answer_costs_no_second_processing() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        world.servers.on_send("a.test", [OnSend::ProcessAndCut, OnSend::ProcessAndCut]);
        let destinations = to(std::slice::from_ref(&name));
        send(&bus, 1, &destinations).await.expect("there is room");
        eventually("it is with the peer", || !world.servers.sent_to("a.test").is_empty()).await;
        send(&bus, 2, &destinations).await.expect("there is room");
        eventually("both arrive", || world.numbers_at(&name).contains(&2)).await;
        assert_eq!(world.numbers_at(&name), [1, 2]);
        let sent = world.servers.sent_to("a.test");
        let first: Vec<_> = sent.iter().filter(|transaction| transaction.id == sent[0].id).collect();
        assert_eq!(first.len(), 3, "{sent:?}");
        assert!(first.iter().all(|transaction| transaction.body == first[0].body));
        assert_eq!(first.iter().filter(|transaction| transaction.processed).count(), 1);
    })
    .await;
}

/// Answers that do not say that the peer has it: an error, a page of a proxy, a 200 without content.
#[tokio::test]
async fn rows_16_and_17_what_is_no_success_is_repeated_as_it_was() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let html = Canned { status: 502, headers: Vec::new(), body: "<html>".into() };
        let answers = [
            OnSend::Refuse(Canned::json(500, "{}")),
            OnSend::Refuse(html),
            OnSend::ProcessAndSay(Canned::json(200, "<html>")),
            OnSend::ProcessAndSay(Canned::json(200, "{}")),
        ];
        world.servers.on_send("a.test", answers);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        eventually("it is delivered", || bus.queue(&name).is_none()).await;
        let sent = world.servers.sent_to("a.test");
        assert_eq!(sent.len(), 5);
        assert!(sent.iter().all(|one| (&one.id, &one.body) == (&sent[0].id, &sent[0].body)));
        assert_eq!(sent.iter().filter(|one| one.processed).count(), 1);
    })
    .await;
}

/// The success is packed, although nobody offered to unpack it. It is not unpacked, so that it cannot be a bomb, and is no success: what
/// the peer made of the transaction is unknown, and it is sent again as it was.
#[tokio::test]
async fn row_07_an_answer_that_is_packed_is_an_unknown_outcome() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let packed = |encoding: &str| {
            let canned = Canned { status: 200, headers: Vec::new(), body: GZIP_OF_SUCCESS.into() };
            OnSend::ProcessAndSay(canned.with("content-encoding", encoding))
        };
        world.servers.on_send("a.test", [packed("gzip"), packed("gzip, gzip")]);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        eventually("it is delivered", || bus.queue(&name).is_none()).await;
        let sent = world.servers.sent_to("a.test");
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|one| (&one.id, &one.body) == (&sent[0].id, &sent[0].body)));
        assert_eq!(world.numbers_at(&name), [1]);
        let received = world.servers.received_by("a.test");
        assert!(received.iter().all(|request| !request.headers.contains_key("accept-encoding")));
    })
    .await;
}

/// A server asks for ten minutes of peace and gets them, unless it is heard from.
#[tokio::test]
async fn row_16_a_retry_after_is_honoured() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let refusal = || OnSend::Refuse(Canned::json(429, "{}").with("retry-after", "600"));
        world.servers.on_send("a.test", [refusal(), refusal()]);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        for (ending, attempts) in [("its time", 1), ("a word from the host", 2)] {
            eventually("it waits", || {
                let view = bus.queue(&name).expect("it has work");
                view.state == QueueState::Waiting && view.failures == attempts
            })
            .await;
            let until = bus.queue(&name).and_then(|view| view.until).expect("it waits for a time");
            let left = until.saturating_since(world.rig.kernel.clock().now());
            assert!(left > Duration::from_secs(590), "{left:?}");
            assert_eq!(world.servers.sent_to("a.test").len() as u32, attempts, "before {ending}");
            if attempts == 1 {
                // The wait is up to a quarter longer than what was asked for.
                wait(Duration::from_secs(760)).await;
            } else {
                bus.wake(&name);
            }
        }
        eventually("it is delivered", || world.numbers_at(&name) == [1]).await;
    })
    .await;
}

/// A transaction is too large for whoever stands before the host: it goes in smaller ones, in order, each item once.
#[tokio::test]
async fn row_16_what_is_too_large_is_cut() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open_with(|config| config.limits.queue.transaction_bytes_min = 1024).await;
        // While it thinks about the first, the others gather.
        world.servers.set("a.test", slow());
        let too_large = || OnSend::Refuse(Canned::json(413, "{}"));
        world.servers.on_send("a.test", [OnSend::Process, too_large(), too_large(), too_large()]);
        let destinations = to(std::slice::from_ref(&name));
        let sending = (0..100).map(|number| send(&bus, number, &destinations));
        for acknowledged in futures_util::future::join_all(sending).await {
            acknowledged.expect("there is room");
        }
        eventually("all arrive", || world.numbers_at(&name).len() == 100).await;
        assert_eq!(world.numbers_at(&name), (0..100).collect::<Vec<_>>());
        let sizes: Vec<_> =
            world.servers.sent_to("a.test").iter().map(|sent| numbers_in(sent).len()).collect();
        assert!(sizes[1] > sizes[2] && sizes[2] > sizes[3] && sizes[3] > sizes[4], "{sizes:?}");
    })
    .await;
}

/// One host is dead. The others are served as if it were not there; it costs no connection, and little memory.
/// When it is back it gets everything, in order.
#[tokio::test]
async fn a_dead_host_costs_nothing_and_is_caught_up() {
    in_bus_world(async |world| {
        let [dead, alive] = world.hosts(["dead.test", "alive.test"]);
        let bus = world.open().await;
        world.servers.behave("dead.test", Behaviour::Reset);
        let both = to(&[dead.clone(), alive.clone()]);
        for number in 0..300 {
            send(&bus, number, &both).await.expect("there is room");
        }
        eventually("the living has all", || world.numbers_at(&alive).len() == 300).await;
        let view = bus.queue(&dead).expect("it has a backlog");
        assert_eq!(view.items, 300);
        assert!(view.held <= 100, "{} are in memory", view.held);
        assert_eq!(world.numbers_at(&dead), [] as [u64; 0]);
        world.servers.behave("dead.test", Behaviour::Healthy);
        bus.wake(&dead);
        eventually("it is caught up", || {
            bus.wake(&dead);
            world.numbers_at(&dead).len() == 300
        })
        .await;
        assert_eq!(world.numbers_at(&dead), (0..300).collect::<Vec<_>>());
    })
    .await;
}

/// The process dies while a transaction is with a peer that never answers. The next one sends it again as it was,
/// and then what else was accepted.
#[tokio::test]
async fn row_19_a_restart_goes_on_with_the_same_transaction() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let destinations = to(std::slice::from_ref(&name));
        let bus = world.open().await;
        world.servers.on_send("a.test", [OnSend::ProcessAndHang]);
        send(&bus, 1, &destinations).await.expect("there is room");
        eventually("it is with the peer", || world.servers.sent_to("a.test").len() == 1).await;
        send(&bus, 2, &destinations).await.expect("there is room");
        drop(bus);
        let bus = world.open().await;
        eventually("all arrive", || world.numbers_at(&name) == [1, 2]).await;
        let sent = world.servers.sent_to("a.test");
        assert_eq!((&sent[0].id, &sent[0].body), (&sent[1].id, &sent[1].body));
        eventually("nothing is left to do", || bus.queue(&name).is_none()).await;
    })
    .await;
}

/// The disk is full. What must be durable is refused, and the caller still has it; typing goes on; when there is
/// room, so does the rest.
#[tokio::test]
async fn row_20_a_full_disk_refuses_what_must_be_durable() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let destinations = to(std::slice::from_ref(&name));
        let disk = MemoryDisk::default();
        let bus = open_on_disk(&world, &disk).await;
        disk.set_fate(Fate::Full);
        let refused = send(&bus, 1, &destinations).await;
        assert!(matches!(refused, Err(SendError::OutboxFull { .. })), "{refused:?}");
        let content =
            serde_json::json!({ "room_id": "!r:a.test", "user_id": "@u:origin.test", "typing": true });
        bus.send_edu(edu("m.typing", &content), destinations.clone(), None).await.expect("it needs no disk");
        eventually("it arrives", || !world.servers.sent_to("a.test").is_empty()).await;
        disk.set_fate(Fate::Kept);
        eventually_sent(&bus, &world, 2).await;
    })
    .await;
}

/// A task of the bus panics, which none should. Its queue is not stuck for it.
#[tokio::test]
async fn a_panic_leaves_no_queue_behind() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let disk = MemoryDisk::default();
        let broken = Rc::new(BreaksOnce { then: world.southbridge.matrix(), broken: true.into() });
        let outbox = Box::new(MemoryOutbox::open(&disk));
        let bus =
            SideBus::open_on(&world.rig.kernel, broken, outbox, signer(), quick()).await.expect("it opens");
        let mut results = bus.results(None);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        delivery_to(&mut results, &name).await;
        assert_eq!(world.numbers_at(&name), [1]);
    })
    .await;
}

/// The outbox has a bug and its thread ends. What must be durable is refused, now and later, and nobody hangs;
/// typing goes on.
#[tokio::test]
async fn an_outbox_that_breaks_is_told_to_everybody() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let destinations = to(std::slice::from_ref(&name));
        let outbox = Box::new(Broken(MemoryOutbox::open(&MemoryDisk::default())));
        let bus = SideBus::open(&world.southbridge, outbox, signer(), quick()).await.expect("it opens");
        for number in 0..3 {
            let refused = send(&bus, number, &destinations).await;
            assert!(matches!(refused, Err(SendError::OutboxFailed { .. })), "{refused:?}");
        }
        let content =
            serde_json::json!({ "room_id": "!r:a.test", "user_id": "@u:origin.test", "typing": true });
        bus.send_edu(edu("m.typing", &content), destinations, None).await.expect("it needs no disk");
        eventually("it arrives", || !world.servers.sent_to("a.test").is_empty()).await;
        bus.close().await;
    })
    .await;
}

/// A reader of results comes back with its token and goes on where it was; one that comes too late, or with
/// the token of another start, is told so.
#[tokio::test]
async fn results_go_on_from_a_token() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open_with(|config| config.results.results_max = 2).await;
        let mut results = bus.results(None);
        let mut tokens = vec![results.token()];
        for number in 0..4 {
            send(&bus, number, std::slice::from_ref(&name)).await.expect("there is room");
            let Some(Delivery::Event { token, .. }) = results.next().await else { panic!("an event") };
            tokens.push(token);
        }
        let read = |from| {
            let mut results = bus.results(Some(from));
            std::iter::from_fn(|| results.try_next()).map(|one| matches!(one, Delivery::Gap { .. })).collect()
        };
        assert_eq!(
            (read(tokens[4]), read(tokens[3]), read(tokens[2])),
            (vec![], vec![false], vec![false; 2])
        );
        assert_eq!(read(tokens[0]), [true, false, false]);
        let other = "0123456789abcdef-4".parse().expect("a token");
        assert_eq!(read(other), [true, false, false]);
        let text = tokens[3].to_string();
        assert_eq!(text.parse(), Ok(tokens[3]));
    })
    .await;
}

async fn open_on_disk(world: &BusWorld, disk: &MemoryDisk) -> SideBus {
    let outbox = Box::new(MemoryOutbox::open(disk));
    SideBus::open(&world.southbridge, outbox, signer(), quick()).await.expect("it opens")
}

/// Hands a PDU in until it is taken, and sees it arrive.
async fn eventually_sent(bus: &SideBus, world: &BusWorld, number: u64) {
    let name = support::bus::server("a.test");
    while send(bus, number, std::slice::from_ref(&name)).await.is_err() {
        wait(Duration::from_secs(1)).await;
    }
    eventually("it arrives", || world.numbers_at(&name) == [number]).await;
}

/// Finds everybody, but panics the first time.
struct BreaksOnce {
    then: Rc<dyn Discover>,
    broken: std::cell::Cell<bool>,
}

impl Discover for BreaksOnce {
    fn discover<'a>(
        &'a self,
        service: &'a ServiceName,
        deadline: Instant,
    ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
        assert!(!self.broken.replace(false), "as scripted");
        self.then.discover(service, deadline)
    }
}

/// An outbox with a bug in it.
struct Broken(MemoryOutbox);

impl Outbox for Broken {
    fn recover(&mut self) -> Result<Recovered, OutboxError> {
        self.0.recover()
    }

    fn write(&mut self, _: &[Append], _: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        panic!("as scripted")
    }

    fn read(
        &mut self,
        destination: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError> {
        self.0.read(destination, after, items_max, bytes_max)
    }

    fn upkeep(&mut self, now: WallTime) -> Result<Upkeep, OutboxError> {
        self.0.upkeep(now)
    }
}

/// `{"pdus":{}}`, by gzip.
const GZIP_OF_SUCCESS: &[u8] = &[
    31, 139, 8, 0, 0, 0, 0, 0, 2, 3, 171, 86, 42, 72, 41, 45, 86, 178, 170, 174, 173, 5, 0, 235, 179, 222,
    162, 11, 0, 0, 0,
];
