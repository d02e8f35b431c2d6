//! Queries through the Federation Side Bus (F9).

mod support;

use std::time::Duration;

use southbridge_bus::outgoing::{FederationErrorResponse, OutgoingQuery, QueryMethod};
use southbridge_testkit::homeserver::{Behaviour, Canned, HostScript};
use southbridge_words::Class;

use support::PATIENCE;
use support::bus::{BusWorld, eventually, in_bus_world, send};

fn profile() -> OutgoingQuery {
    OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/query/profile").query("user_id", "@u:a.test")
}

fn canned(world: &BusWorld, host: &str, path: &str, canned: Canned) {
    let script = HostScript { canned: vec![(path.to_owned(), canned)], ..HostScript::default() };
    world.servers.set(host, script);
}

/// How often somebody was asked for a profile.
fn asked(world: &BusWorld) -> usize {
    let is_profile = |target: &str| target.starts_with("/_matrix/federation/v1/query/profile");
    world.servers.received_by("a.test").iter().filter(|request| is_profile(&request.target)).count()
}

fn refused_by_us(error: &FederationErrorResponse) -> bool {
    error.response.is_none()
}

/// A profile is asked for, signed; the keys of a server are asked for, and need no signature.
#[tokio::test]
async fn queries_are_signed_where_that_is_wanted() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let answer = bus.query(profile(), name.clone(), PATIENCE).await.expect("an answer");
        assert_eq!(answer.bytes(), r#"{"displayname":"Somebody at a.test"}"#);
        let keys = OutgoingQuery::new(QueryMethod::Get, "/_matrix/key/v2/server");
        bus.query(keys, name.clone(), PATIENCE).await.expect("an answer");
        let claim = OutgoingQuery::new(QueryMethod::Post, "/_matrix/federation/v1/user/keys/claim")
            .body(r#"{"one_time_keys":{}}"#);
        bus.query(claim, name.clone(), PATIENCE).await.expect("an answer");
        let asked = world.servers.received_by("a.test");
        let signed = |path: &str| {
            let request = asked.iter().find(|it| it.target.starts_with(path)).expect("it was asked");
            request.headers.contains_key("authorization")
        };
        assert!(signed("/_matrix/federation/v1/query/profile?user_id=%40u%3Aa.test"));
        assert!(signed("/_matrix/federation/v1/user/keys/claim"));
        assert!(!signed("/_matrix/key/v2/server"));
    })
    .await;
}

/// What a peer says of itself comes back whole: status, code and all else.
#[tokio::test]
async fn an_error_of_the_peer_comes_back_as_it_is() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        let body = r#"{"errcode":"M_NOT_FOUND","error":"nobody","more":1}"#;
        canned(&world, "a.test", "/_matrix/federation/v1/query/", Canned::json(404, body));
        let error = bus.query(profile(), name, PATIENCE).await.expect_err("nobody is there");
        assert_eq!((error.errcode.as_str(), &error.other["more"]), ("M_NOT_FOUND", &1.into()));
        assert_eq!(error.response.map(|response| response.status), Some(404));
    })
    .await;
}

/// A host takes the query and never answers: the caller is told in its time, and PDUs pass it by meanwhile.
#[tokio::test]
async fn a_query_ends_by_its_timeout_and_holds_nobody_up() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        world.servers.behave("a.test", Behaviour::HangAfterRequest);
        let asked_at = std::time::Instant::now();
        let error =
            bus.query(profile(), name.clone(), Duration::from_millis(400)).await.expect_err("no answer");
        let took = asked_at.elapsed();
        assert!(refused_by_us(&error), "{error:?}");
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(4), "{took:?}");
        let hanging = bus.clone();
        let silent = name.clone();
        let waiting =
            tokio::task::spawn_local(async move { hanging.query(profile(), silent, Duration::ZERO).await });
        eventually("it is asked", || asked(&world) >= 2).await;
        world.servers.behave("a.test", Behaviour::Healthy);
        send(&bus, 1, std::slice::from_ref(&name)).await.expect("there is room");
        eventually("the PDU arrives", || world.numbers_at(&name) == [1]).await;
        assert!(!waiting.is_finished(), "a query without a timeout waits");
        waiting.abort();
        eventually("it is withdrawn", || world.rig.is_at_rest()).await;
    })
    .await;
}

/// A failure that passes is not the caller's business, where asking twice does no harm.
#[tokio::test]
async fn a_passing_failure_is_retried_within_the_timeout() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        world.servers.behave("a.test", Behaviour::Status { status: 503, headers: Vec::new() });
        let recovering = async {
            eventually("it is asked", || asked(&world) > 0).await;
            world.servers.behave("a.test", Behaviour::Healthy);
        };
        let (answer, ()) = tokio::join!(bus.query(profile(), name, PATIENCE), recovering);
        answer.expect("an answer, at last");
    })
    .await;
}

/// A peer answers with more than anybody may: it is cut off, and the caller is told why.
#[tokio::test]
async fn an_answer_beyond_its_bound_is_refused() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open_with(|config| config.answers.query_bytes_max[Class::Interactive] = 1000).await;
        let body = format!("{{\"displayname\":\"{}\"}}", "x".repeat(2000));
        canned(&world, "a.test", "/_matrix/federation/v1/query/", Canned::json(200, &body));
        let error = bus.query(profile(), name, PATIENCE).await.expect_err("too much");
        assert!(refused_by_us(&error) && error.error.contains("1000"), "{error:?}");
        eventually("nothing is held", || world.rig.is_at_rest()).await;
    })
    .await;
}

/// A query whose caller has gone is not carried on for nobody.
#[tokio::test]
async fn a_query_that_nobody_waits_for_is_withdrawn() {
    in_bus_world(async |world| {
        let [name] = world.hosts(["a.test"]);
        let bus = world.open().await;
        world.servers.behave("a.test", Behaviour::HangAfterRequest);
        let asking = bus.query(profile(), name, Duration::ZERO);
        tokio::select! {
            answer = asking => panic!("{answer:?}"),
            () = eventually("it is asked", || asked(&world) > 0) => {}
        }
        eventually("it is withdrawn", || world.rig.is_at_rest()).await;
    })
    .await;
}
