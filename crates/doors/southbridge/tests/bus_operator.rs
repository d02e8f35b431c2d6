//! What an operator sees of the Federation Side Bus, and can do.

mod support;

use std::time::Duration;

use southbridge::bus::SideBus;
use southbridge_bus::externaliser::QueueState;
use southbridge_kernel::admin::{Admin, Readiness};
use southbridge_testkit::homeserver::{Canned, OnSend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use support::bus::{BusWorld, eventually, in_bus_world, pdu, send, to};

/// Asks the admin socket, and gives back all it says.
async fn ask(world: &BusWorld, bus: &SideBus, request: &str) -> String {
    let kernel = world.rig.kernel.clone();
    let admin = Admin::new(kernel, Readiness::default(), vec![bus.metrics()]).also_waking(bus.also_wake());
    let (mut ours, theirs) = tokio::io::duplex(1 << 20);
    let answering = tokio::task::spawn_local(async move { admin.answer(theirs).await });
    let head =
        format!("{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    ours.write_all(head.as_bytes()).await.expect("it listens");
    let mut said = String::new();
    ours.read_to_string(&mut said).await.expect("text");
    answering.await.expect("it answers");
    said
}

/// A host has asked for an hour of peace. Its operator says on the telephone that all is well, and ours wakes it:
/// what waits goes out at once.
#[tokio::test]
async fn an_operator_who_wakes_a_host_wakes_its_queue() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let refusal = Canned::json(429, "{}").with("retry-after", "3600");
        world.servers.on_send("a.test", [OnSend::Refuse(refusal)]);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        eventually("it waits", || bus.queue(&name).is_some_and(|view| view.state == QueueState::Waiting))
            .await;
        let said = ask(&world, &bus, "POST /hosts/a.test/wake").await;
        assert!(said.starts_with("HTTP/1.1 200"), "{said}");
        eventually("it arrives", || world.numbers_at(&name) == [1]).await;
        let said = ask(&world, &bus, "POST /hosts/nobody.test/wake").await;
        assert!(said.starts_with("HTTP/1.1 404"), "{said}");
    })
    .await;
}

/// The metrics say how many transactions there were and what came of them, what waits, and how the outbox does.
#[tokio::test]
async fn the_metrics_tell_what_became_of_transactions() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        world.servers.on_send("a.test", [OnSend::Refuse(Canned::json(500, "{}"))]);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        eventually("it is delivered", || bus.queue(&name).is_none()).await;
        let said = ask(&world, &bus, "GET /metrics").await;
        for line in [
            "southbridge_bus_transactions_total{outcome=\"success\"} 1",
            "southbridge_bus_transactions_total{outcome=\"server_error\"} 1",
            "southbridge_bus_items_delivered_total 1",
            "southbridge_bus_queues{state=\"waiting\"} 0",
            "southbridge_bus_edus_dropped_total{type=\"m.typing\"} 0",
            "southbridge_outbox_trouble 0",
            "southbridge_outbox_jobs_waiting 0",
        ] {
            assert!(said.contains(line), "{line} is not in {said}");
        }
    })
    .await;
}

/// A backlog is looked at page by page, and one that is given up is told: how much it was, and to those who read
/// the results.
#[tokio::test]
async fn a_backlog_is_listed_and_can_be_dropped() {
    in_bus_world(async |world| {
        let names = world.hosts(["a.test", "b.test", "c.test"]);
        let bus = world.open().await;
        let refusal = || OnSend::Refuse(Canned::json(429, "{}").with("retry-after", "3600"));
        for name in &names {
            world.servers.on_send(name.as_str(), [refusal()]);
        }
        for number in 0..3 {
            bus.send_pdu(pdu(number), to(&names), None).await.expect("there is room");
        }
        let waits = |name| bus.queue(name).is_some_and(|view| view.state == QueueState::Waiting);
        eventually("all wait", || names.iter().all(waits)).await;
        let listed = |after, max| {
            let page: Vec<_> = bus.queues(after, max).into_iter().map(|(name, _)| name).collect();
            page
        };
        assert_eq!(listed(None, 2), names[..2]);
        assert_eq!(listed(Some(&names[1]), 2), names[2..]);
        let mut results = bus.results(None);
        let lost = bus.drop_backlog(&names[0]).await.expect("it is there");
        assert_eq!((lost.items, lost.at_least), (3, false));
        eventually("it is gone", || bus.queue(&names[0]).is_none_or(|view| view.items == 0)).await;
        assert!(results.try_next().is_some(), "it is told");
        let given_up = ask(&world, &bus, "GET /metrics").await;
        assert!(
            given_up.contains("southbridge_bus_items_given_up_total{reason=\"ordered\"} 3"),
            "{given_up}"
        );
        // And what was given up stays so.
        let lately = Duration::from_millis(50);
        bus.wake(&names[0]);
        let came =
            tokio::time::timeout(lately, eventually("it comes", || !world.numbers_at(&names[0]).is_empty()));
        assert!(came.await.is_err());
    })
    .await;
}
