//! Unpatched Synapses from PyPI (one process each, SQLite) whose outbound federation goes through Southbridge.
//!
//! Server names can be looked up through Southbridge only, so whatever arrives at the other side has gone through it.
//! One Synapse reaches its Southbridge by a unix socket, the other by TCP.

use std::cell::Cell;
use std::net::TcpListener;

use bytes::Bytes;
use serde_json::Value;
use southbridge_testkit::homeserver::{Behaviour, Canned, HostScript, Media, blob};
use southbridge_tests::client_api::ClientApi;
use southbridge_tests::failure::While;
use southbridge_tests::federation::{FORBIDDEN, Federation, Household, Plan};
use southbridge_tests::following::Following;
use southbridge_tests::patience::{STEP_MAX, eventually, step, step_within};
use southbridge_tests::southbridge::DoorKind;
use southbridge_tests::{Failure, Result};

/// Alice at alpha.test and Bob at beta.test do what people do. Every request between their servers is carried by
/// Southbridge, and so is what Alice's server sends to an application service and a push gateway.
#[tokio::test]
#[ignore = "needs Synapse from PyPI: cargo xtask test"]
async fn two_synapses_federate_through_southbridge() {
    let federation = start(&[Plan::new(ALPHA, DoorKind::Unix), Plan::new(BETA, DoorKind::Tcp)]).await;
    let (alice, bob) = people(&federation).await;
    let room = step("Alice makes a public room", alice.create_public_room("lobby")).await;
    step("Alice's rooms are listed at Bob's server", rooms_are_listed(&bob)).await;
    let mut alice_sees = step("Alice watches", alice.follow()).await;
    step("Bob joins over federation", bob.join(LOBBY)).await;
    let mut bob_sees = step("Bob watches", bob.follow()).await;
    step("Alice sees Bob join", alice_sees.until("Bob join", |seen| seen.joined(bob.user()))).await;

    let event = step("Alice says hello", alice.say(&room, "hello")).await;
    step("Bob hears it", bob_sees.until("hello", |seen| seen.said("hello"))).await;
    step("Bob types", bob.type_in(&room)).await;
    let typing = alice_sees.until("Bob type", |seen| seen.types(&room, bob.user()));
    step("Alice sees Bob type", typing).await;
    step("Bob has read it", bob.read(&room, &event)).await;
    let read = alice_sees.until("Bob's receipt", |seen| seen.has_read(bob.user(), &event));
    step("Alice sees that Bob has read it", read).await;
    step("Bob answers", bob.say(&room, "hello Alice")).await;
    step("Alice hears it", alice_sees.until("hello Alice", |seen| seen.said("hello Alice"))).await;

    step("Alice's server finds Bob's device keys", device_keys(&alice, &bob)).await;
    step("profiles are looked up both ways", profiles(&alice, &bob)).await;
    step("Bob downloads a file that Alice has uploaded", media(&alice, &bob)).await;
    step("an application service is pinged through the forward proxy", ping(&federation)).await;
    step("a push gateway is notified through the forward proxy", push(&federation, &alice, &bob, &room))
        .await;
    for (home, other) in [(federation.home(0), BETA), (federation.home(1), ALPHA)] {
        step("Southbridge tells what it did", admin_pages(home, other)).await;
    }
    step("no destination is backed off from", no_backoff(&federation)).await;
}

/// `kill -9` in the middle of a conversation. The sockets stay open, as systemd keeps them; messages and a key query
/// wait in their backlog, and all of it arrives when there is a Southbridge again. Then each Southbridge hands over to a
/// successor while profiles are asked for all the time.
#[tokio::test]
#[ignore = "needs Synapse from PyPI: cargo xtask test"]
async fn synapse_does_not_notice_that_southbridge_is_killed_or_replaced() {
    let mut federation = start(&[Plan::new(ALPHA, DoorKind::Unix), Plan::new(BETA, DoorKind::Tcp)]).await;
    let (alice, bob) = people(&federation).await;
    let room = step("Alice makes a public room", alice.create_public_room("lobby")).await;
    step("Bob joins over federation", bob.join(LOBBY)).await;
    let mut alice_sees = step("Alice watches", alice.follow()).await;
    let mut bob_sees = step("Bob watches", bob.follow()).await;

    let carol = step("Carol registers at Bob's server", federation.home(1).synapse.register("carol")).await;
    let key = step("Carol publishes keys", carol.publish_device_keys()).await;

    step("every Southbridge is killed in the middle of a conversation", async {
        let killing = async {
            bob_sees.until("half of it", |seen| seen.said("Alice 10")).await?;
            federation.households.iter_mut().try_for_each(|home| home.southbridge.kill())
        };
        let (conversation, killed) = tokio::join!(converse(&alice, &bob, &room, 0..20), killing);
        conversation.and(killed)
    })
    .await;
    let answer = step("a key query waits for new Southbridges", async {
        // Nothing is known of Carol at Alice's server, which therefore has to ask.
        let mut asking = tokio::spawn(keys_of(alice.clone(), carol.user().to_owned()));
        converse(&alice, &bob, &room, 20..25).await?;
        if asking.is_finished() {
            let answer = (&mut asking).await.while_doing("key query")?;
            return Err(Failure::new(format!("answered without Southbridge: {answer:?}")));
        }
        for home in &mut federation.households {
            home.southbridge.start().await?;
        }
        asking.await.while_doing("key query")?
    })
    .await;
    assert!(answer.to_string().contains(&key), "Carol's key is missing: {answer}");
    step("both converse again", converse(&alice, &bob, &room, 25..30)).await;
    step("Bob has heard everything", heard(&mut bob_sees, "Alice", 30)).await;
    step("Alice has heard everything", heard(&mut alice_sees, "Bob", 30)).await;
    step("no destination is backed off from", no_backoff(&federation)).await;

    for (index, (asker, asked)) in [(&alice, &bob), (&bob, &alice)].into_iter().enumerate() {
        let home = &mut federation.households[index];
        step("Southbridge hands over under way", hand_over(home, asker, asked)).await;
    }
    step("both converse through the successors", converse(&alice, &bob, &room, 30..40)).await;
    step("Bob has heard everything", heard(&mut bob_sees, "Alice", 40)).await;
    step("Alice has heard everything", heard(&mut alice_sees, "Bob", 40)).await;
    step("no destination is backed off from", no_backoff(&federation)).await;
}

/// Media of servers that know the old way only, or keep their files elsewhere. Southbridge goes there itself, leaves the
/// signature behind, and does not go where it may not; Synapse never learns that there was a redirect.
#[tokio::test]
#[ignore = "needs Synapse from PyPI: cargo xtask test"]
async fn southbridge_follows_media_redirects_so_that_synapse_need_not() {
    let federation = start(&[Plan::new(ALPHA, DoorKind::Unix)]).await;
    let alice = step("Alice registers", federation.home(0).synapse.register("alice")).await;
    federation.add_host("cdn.test");
    let elsewhere = format!("https://cdn.test:{}/blob/4000", federation.others.port());
    let trap = TcpListener::bind((FORBIDDEN, 0)).expect("all of 127.0.0.0/8 is ours");
    trap.set_nonblocking(true).expect("sockets can be made so");
    let forbidden = format!("https://{}/blob/4000", trap.local_addr().expect("it is bound"));
    let says = |media| HostScript { media, ..HostScript::default() };
    federation.add_fake("old.test", says(Media::LegacyOnly(5000)));
    federation.add_fake("old-away.test", legacy_redirect(&elsewhere));
    federation.add_fake("away.test", says(Media::Redirect(elsewhere)));
    federation.add_fake("old-trick.test", legacy_redirect(&forbidden));
    federation.add_fake("trick.test", says(Media::Redirect(forbidden)));
    let behaviour = Behaviour::HtmlBadGateway;
    federation.add_fake("broken.test", HostScript { behaviour, ..HostScript::default() });

    for (host, length) in [("old.test", 5000), ("old-away.test", 4000), ("away.test", 4000)] {
        step(&format!("media comes from {host}"), async {
            let reply = alice.download(&format!("{host}/file")).await?;
            let is_whole = reply.status.is_success() && reply.body.iter().copied().eq(blob(length));
            is_whole.then_some(()).while_doing(format_args!("{reply:?}"))
        })
        .await;
    }
    step("no media comes from forbidden places", async {
        let (old, new) =
            tokio::join!(alice.download("old-trick.test/file"), alice.download("trick.test/file"));
        for reply in [old?, new?] {
            reply.status.is_server_error().then_some(()).while_doing(format_args!("{reply:?}"))?;
        }
        Ok(())
    })
    .await;
    step("no media comes from a host that is broken", async {
        let reply = alice.download("broken.test/file").await?;
        reply.status.is_server_error().then_some(()).while_doing(format_args!("{reply:?}"))
    })
    .await;
    // Who redirects well is asked again. The broken one shows that a back-off would be seen.
    let backoffs = federation.home(0).synapse.backoffs().expect("its database is there");
    let backed_off = |name: &str| backoffs.iter().any(|(host, interval)| host == name && *interval > 0);
    assert!(!backed_off("away.test") && !backed_off("old-away.test"), "{backoffs:?}");
    assert!(backed_off("broken.test"), "{backoffs:?}");
    let visitor = trap.accept();
    assert!(visitor.is_err(), "somebody went to the forbidden address: {visitor:?}");
    let at_cdn = federation.others.received_by("cdn.test");
    assert_eq!(at_cdn.len(), 2, "{at_cdn:?}");
    for request in at_cdn {
        assert!(!request.headers.contains_key("authorization"), "the signature travelled: {request:?}");
    }
    let at_old = federation.others.received_by("old.test");
    assert!(at_old.iter().any(|request| request.headers.contains_key("authorization")), "{at_old:?}");
}

async fn start(plans: &[Plan]) -> Federation {
    step_within(STEP_MAX * 2, "all processes start", Federation::start(plans)).await
}

async fn people(federation: &Federation) -> (ClientApi, ClientApi) {
    let alice = step("Alice registers", federation.home(0).synapse.register("alice")).await;
    (alice, step("Bob registers", federation.home(1).synapse.register("bob")).await)
}

async fn rooms_are_listed(bob: &ClientApi) -> Result<()> {
    let rooms = bob.public_rooms_of(ALPHA).await?;
    rooms.iter().any(|room| room == "lobby").then_some(()).while_doing(format_args!("{rooms:?}"))
}

async fn device_keys(alice: &ClientApi, bob: &ClientApi) -> Result<()> {
    let key = bob.publish_device_keys().await?;
    // Synapse answers from what it remembers of devices, and hears of the new keys a moment later.
    eventually(STEP_MAX, "Bob's keys are known", || async {
        let answer = keys_of(alice.clone(), bob.user().to_owned()).await?;
        Ok(answer.to_string().contains(&key).then_some(()))
    })
    .await
}

async fn keys_of(asker: ClientApi, user: String) -> Result<Value> {
    asker.keys_of(&user).await
}

async fn profiles(alice: &ClientApi, bob: &ClientApi) -> Result<()> {
    for (asked, asker, name) in [(alice, bob, "Alice in Wonderland"), (bob, alice, "Bob the Builder")] {
        asked.set_display_name(name).await?;
        let found = asker.display_name_of(asked.user()).await?;
        (found == name).then_some(()).while_doing(format_args!("{} is called {found}", asked.user()))?;
    }
    Ok(())
}

async fn media(alice: &ClientApi, bob: &ClientApi) -> Result<()> {
    let content: Bytes = blob(300_000).collect();
    let media = alice.upload("notes.bin", "application/x-notes", content.clone()).await?;
    let reply = bob.download(&media).await?;
    let header =
        |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (kind, disposition) = (header("content-type"), header("content-disposition"));
    if !reply.status.is_success() || kind != "application/x-notes" || !disposition.contains("notes.bin") {
        return Err(Failure::new(format!("{} {:?}", reply.status, reply.headers)));
    }
    (reply.body == content).then_some(()).while_doing("the file is another")
}

async fn ping(federation: &Federation) -> Result<()> {
    federation.home(0).synapse.ping_app_service().await?;
    let caught = federation.trap.caught();
    let pinged = caught.iter().any(|request| request.target == "/_matrix/app/v1/ping");
    pinged.then_some(()).while_doing(format_args!("{caught:?}"))
}

/// The push gateway is reached by https, through a tunnel.
async fn push(federation: &Federation, alice: &ClientApi, bob: &ClientApi, room: &str) -> Result<()> {
    federation.add_host("push.test");
    let taken = Canned::json(200, r#"{"rejected":[]}"#);
    let script = HostScript { canned: vec![("/_matrix/push/".into(), taken)], ..HostScript::default() };
    federation.others.set("push.test", script);
    alice
        .set_pusher(&format!("https://push.test:{}/_matrix/push/v1/notify", federation.others.port()))
        .await?;
    bob.say(room, "Alice, look").await?;
    eventually(STEP_MAX, "a notification", || async {
        let received = federation.others.received_by("push.test");
        Ok(received.iter().any(|request| request.target == "/_matrix/push/v1/notify").then_some(()))
    })
    .await
}

async fn admin_pages(home: &Household, other: &str) -> Result<()> {
    let southbridge = &home.southbridge;
    southbridge.is_ready().await?.then_some(()).while_doing("/ready")?;
    let host = southbridge.host(other).await?;
    let is_well = host["state"] == "healthy" && host["failures"] == 0;
    is_well.then_some(()).while_doing(format_args!("{host}"))?;
    let answered = southbridge.metric("southbridge_synapse_requests_total", "").await?;
    (answered >= 5.0).then_some(()).while_doing(format_args!("{answered} requests answered"))
}

/// Says one thing on each side for each number.
async fn converse(
    alice: &ClientApi,
    bob: &ClientApi,
    room: &str,
    numbers: std::ops::Range<u32>,
) -> Result<()> {
    for number in numbers {
        alice.say(room, &format!("Alice {number}")).await?;
        bob.say(room, &format!("Bob {number}")).await?;
    }
    Ok(())
}

async fn heard(listener: &mut Following, speaker: &str, numbers: u32) -> Result<()> {
    let what = format!("{numbers} messages of {speaker}");
    listener.until(&what, |seen| (0..numbers).all(|number| seen.said(&format!("{speaker} {number}")))).await
}

/// Hands over while `asker` asks for the profile of `asked` four at a time, without a pause; none may fail.
async fn hand_over(home: &mut Household, asker: &ClientApi, asked: &ClientApi) -> Result<()> {
    let (answered, over) = (Cell::new(0), Cell::new(false));
    let asking = || async {
        // A few more behind the hand-over, for the successor alone.
        let mut more = 0..10;
        while !over.get() || more.next().is_some() {
            asker.display_name_of(asked.user()).await?;
            answered.set(answered.get() + 1);
        }
        Ok(())
    };
    let handing_over = async {
        let busy = || async { Ok((answered.get() >= 10).then_some(())) };
        let ids = match eventually(STEP_MAX, "profiles are looked up", busy).await {
            Ok(()) => home.southbridge.hand_over().await,
            Err(failure) => Err(failure),
        };
        over.set(true);
        ids
    };
    let (ids, first, second, third, fourth) =
        tokio::join!(handing_over, asking(), asking(), asking(), asking());
    let (predecessor, successor) = ids?;
    first.and(second).and(third).and(fourth)?;
    let answered = answered.get();
    eprintln!("          {answered} profiles looked up while {predecessor} handed over to {successor}");
    if predecessor == successor {
        return Err(Failure::new("nothing was handed over"));
    }
    home.southbridge.is_ready().await?.then_some(()).while_doing("/ready of the successor")
}

async fn no_backoff(federation: &Federation) -> Result<()> {
    for home in &federation.households {
        let table = home.synapse.backoffs()?;
        let is_clean = !table.is_empty() && table.iter().all(|(_, interval)| *interval == 0);
        is_clean.then_some(()).while_doing(format_args!("{} has {table:?}", home.synapse.server_name()))?;
    }
    Ok(())
}

fn legacy_redirect(location: &str) -> HostScript {
    let unrecognized = Canned::json(404, r#"{"errcode":"M_UNRECOGNIZED","error":"Unrecognized request"}"#);
    let canned = vec![
        ("/_matrix/federation/v1/media/".to_owned(), unrecognized),
        ("/_matrix/media/".to_owned(), Canned::json(307, "{}").with("location", location)),
    ];
    HostScript { canned, ..HostScript::default() }
}

const ALPHA: &str = "alpha.test";
const BETA: &str = "beta.test";
const LOBBY: &str = "#lobby:alpha.test";
