//! The Federation Side Bus against real homeservers, with a real outbox: what arrives, in which order, how often.

mod support;

use serde_json::json;
use southbridge::bus::{Acknowledgement, SendError};
use southbridge_bus::externaliser::Event;
use southbridge_testkit::homeserver::OnSend;

use support::bus::{
    assert_signed, delivery_to, edu, eventually, in_bus_world, numbers_in, pdu, send, slow, to,
};

/// A message is handed in for two servers. It is on the disk before that is answered, and arrives at both, signed
/// for each, byte for byte as it was handed in.
#[tokio::test]
async fn an_acknowledged_pdu_is_durable_and_arrives_as_it_was() {
    in_bus_world(async |world| {
        let names = world.hosts(["a.test", "b.test"]);
        let bus = world.open().await;
        let mut results = bus.results(None);
        let acknowledged = bus.send_pdu(pdu(1), to(&names), None).await;
        assert!(matches!(acknowledged, Ok(Acknowledgement::Durable(_))), "{acknowledged:?}");
        for name in &names {
            eventually("it arrives", || !world.servers.sent_to(name.as_str()).is_empty()).await;
            let [transaction] = &*world.servers.sent_to(name.as_str()) else { panic!("one transaction") };
            assert_signed(transaction, name);
            let raw = pdu(1).bytes().clone();
            let body = transaction.body.clone();
            assert!(body.windows(raw.len()).any(|part| part == raw), "{body:?}");
            assert_eq!(transaction.json()["origin"], "origin.test");
        }
        for _ in 0..2 {
            let delivered = results.next().await;
            assert!(delivered.is_some());
        }
        eventually("nothing is left to do", || bus.queue(&names[0]).is_none()).await;
    })
    .await;
}

/// Two hundred messages are handed in at once: they arrive in that order, at most fifty at a time, and not each
/// for itself.
#[tokio::test]
async fn pdus_arrive_in_the_order_given_and_together() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let destinations = to(std::slice::from_ref(&name));
        let sending = (0..200).map(|number| bus.send_pdu(pdu(number), destinations.clone(), None));
        for acknowledged in futures_util::future::join_all(sending).await {
            acknowledged.expect("there is room");
        }
        eventually("all arrive", || world.numbers_at(&name).len() == 200).await;
        assert_eq!(world.numbers_at(&name), (0..200).collect::<Vec<_>>());
        let sent = world.servers.sent_to(name.as_str());
        assert!(sent.iter().all(|transaction| numbers_in(transaction).len() <= 50));
        assert!(sent.len() <= 8, "{} transactions", sent.len());
    })
    .await;
}

/// While a transaction is under way, somebody types and somebody writes: both go along with the next one. A
/// device list goes too, and is durable.
#[tokio::test]
async fn edus_ride_along() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let destinations = to(std::slice::from_ref(&name));
        world.servers.set("a.test", slow());
        send(&bus, 1, &destinations).await.expect("there is room");
        eventually("it is under way", || !world.servers.sent_to("a.test").is_empty()).await;
        let typing = |typing: bool| {
            edu("m.typing", &json!({ "room_id": "!r:a.test", "user_id": "@u:origin.test", "typing": typing }))
        };
        let list = edu("m.device_list_update", &json!({ "user_id": "@u:origin.test", "stream_id": 1 }));
        let (volatile, durable, second) = tokio::join!(
            bus.send_edu(typing(true), destinations.clone(), None),
            bus.send_edu(list, destinations.clone(), None),
            send(&bus, 2, &destinations),
        );
        assert_eq!(volatile, Ok(Acknowledgement::Volatile));
        assert!(matches!(durable, Ok(Acknowledgement::Durable(_))));
        second.expect("there is room");
        eventually("all arrive", || world.numbers_at(&name) == [1, 2]).await;
        let sent = world.servers.sent_to("a.test");
        let last = sent.last().expect("it was looked at").json();
        let mut types: Vec<_> =
            last["edus"].as_array().expect("EDUs").iter().map(|edu| edu["edu_type"].clone()).collect();
        types.sort_by_key(ToString::to_string);
        assert_eq!(types, ["m.device_list_update", "m.typing"]);
    })
    .await;
}

/// The peer finds fault with one event. It has the transaction all the same: nothing is sent again, and who
/// reads the results is told which event and why.
#[tokio::test]
async fn a_refused_pdu_is_told_and_not_sent_again() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let mut results = bus.results(None);
        let error = ("$bad".to_owned(), "not allowed".to_owned());
        world.servers.on_send("a.test", [OnSend::ProcessWithErrors(vec![error])]);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        let Event::Delivered { response, items, .. } = delivery_to(&mut results, &name).await else {
            panic!("a delivery")
        };
        assert_eq!((response.errors["$bad"].as_str(), items), ("not allowed", 1));
        send(&bus, 2, std::slice::from_ref(&name)).await.expect("there is room");
        delivery_to(&mut results, &name).await;
        assert_eq!(world.numbers_at(&name), [1, 2]);
    })
    .await;
}

/// The same item is handed in twice under one key, as after a crash of the caller: it is known, and goes out once.
#[tokio::test]
async fn row_24_an_item_handed_in_twice_under_one_key_is_sent_once() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let destinations = to(std::slice::from_ref(&name));
        let key = || Some("$one".into());
        let first = bus.send_pdu(pdu(1), destinations.clone(), key()).await;
        let second = bus.send_pdu(pdu(1), destinations.clone(), key()).await;
        assert_eq!(first, second);
        send(&bus, 2, &destinations).await.expect("there is room");
        eventually("both arrive", || world.numbers_at(&name).len() >= 2).await;
        assert_eq!(world.numbers_at(&name), [1, 2]);
    })
    .await;
}

/// The bus is closed while a host takes its time: what is under way ends, and nothing more is accepted.
#[tokio::test]
async fn closing_lets_what_is_under_way_end() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let mut results = bus.results(None);
        world.servers.set("a.test", slow());
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        eventually("it is under way", || !world.servers.sent_to("a.test").is_empty()).await;
        let other = bus.clone();
        bus.close().await;
        delivery_to(&mut results, &name).await;
        assert_eq!(send(&other, 2, std::slice::from_ref(&name)).await, Err(SendError::Closing));
        let again = world.open().await;
        assert!(again.queue(&name).is_none(), "all of it is on record");
    })
    .await;
}
