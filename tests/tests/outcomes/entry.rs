//! Promises about who is let in: whoever does not know the secret causes nothing, nobody smuggles, and nobody who
//! comes is refused a connection.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::caller::{Answer, SECRET, VERSION, ask_on, ask_tcp, knock, request};
use crate::house::{House, at_home, until};

fn nobody_was_bothered(house: &House) {
    assert_eq!((house.servers.counts().accepted, house.dns.queries_total()), (0, 0));
}

/// Fault 29. The name is one that would have to be looked up: not even that happens.
#[tokio::test]
async fn row_29_a_caller_without_the_secret_causes_nothing() {
    at_home(async |house| {
        let right = request("PUT", "a.test", VERSION, "{}");
        let line = format!("Proxy-Authorization: Bearer {SECRET}\r\n");
        let cases = [
            (right.replace(&line, ""), "M_MISSING_TOKEN"),
            (right.replace(SECRET, "open-sesam"), "M_UNAUTHORIZED"),
            (right.replace(SECRET, "open-sesame1"), "M_UNAUTHORIZED"),
            (right.replace(SECRET, ""), "M_UNAUTHORIZED"),
            (right.replace("Bearer", "Basic"), "M_UNAUTHORIZED"),
            (right.replace("Proxy-Authorization", "Authorization"), "M_MISSING_TOKEN"),
            (right.replace(&line, &format!("{line}{line}")), "M_UNAUTHORIZED"),
        ];
        for (request, errcode) in cases {
            for answer in [house.send(&request).await, ask_tcp(house.tcp, &request).await] {
                assert_eq!(
                    (answer.status, answer.json()["errcode"].as_str()),
                    (401, Some(errcode)),
                    "{request}"
                );
                assert!(!answer.text().contains("a.test"), "{}", answer.text());
            }
        }
        // An invalid name is no way to find out what is behind the door either.
        assert_eq!(house.send(request("GET", "u@a:0", VERSION, "").replace(&line, "")).await.status, 401);
        nobody_was_bothered(&house);
    })
    .await;
}

/// Faults 9 and 29: what two readers could read in two ways is read by nobody.
#[tokio::test]
async fn row_29_a_smuggled_request_is_refused_and_so_is_its_carrier() {
    at_home(async |house| {
        let name = house.name("a.test");
        let first = request("PUT", &name, "/_matrix/federation/v1/send/1", "{}");
        let hidden = request("GET", &name, "/hidden", "");
        let with = |field: &str| first.replace("Content-Length: 2", field);
        for smuggled in [
            format!("{first}{hidden}"),
            with("Content-Length: 2\r\nTransfer-Encoding: chunked"),
            with("Transfer-Encoding: chunked\r\nContent-Length: 2"),
            with("Transfer-Encoding: xchunked"),
            with("Transfer-Encoding: chunked, chunked"),
            with("Content-Length: 2\r\nContent-Length: 1"),
            with("Content-Length: +2"),
            with("Content-Length : 2"),
            with("Content-Length: 2\r\n folded: yes"),
            with("Content-Length: 2\r\nX: a\rb"),
            with("Content-Length: 2\r\nX: a\0b"),
            first.replace("\r\nHost", "\nHost"),
            first.replace(" HTTP/1.1", " HTTP/2.0"),
            first.replace(" HTTP/1.1", "\tHTTP/1.1"),
            first.replace("/send/1", "/send/1\tx"),
        ] {
            for answer in [house.send(&smuggled).await, ask_tcp(house.tcp, &smuggled).await] {
                assert!(matches!(answer.status, 400..=499 | 501 | 505), "{} to {smuggled:?}", answer.status);
            }
        }
        nobody_was_bothered(&house);
    })
    .await;
}

/// The door for federation is no proxy for anything else.
#[tokio::test]
async fn row_29_the_door_for_federation_serves_no_other_scheme() {
    at_home(async |house| {
        let name = house.name("a.test");
        for line in [
            format!("GET http://{name}/"),
            format!("GET https://{name}/"),
            format!("GET ftp://{name}/"),
            format!("CONNECT {name}"),
            "GET /_matrix/federation/v1/version".to_owned(),
            "OPTIONS *".to_owned(),
            format!("GET matrix-federation:{name}/"),
            format!("GET matrix-federation:///{name}/"),
            format!("GET //{name}/"),
        ] {
            let answer = house
                .send(format!(
                    "{line} HTTP/1.1\r\nHost: {name}\r\nProxy-Authorization: Bearer {SECRET}\r\n\r\n"
                ))
                .await;
            assert!((400..500).contains(&answer.status), "{line}: {}", answer.status);
            assert_eq!(answer.field("content-type"), Some("application/json"), "{line}");
        }
        nobody_was_bothered(&house);
    })
    .await;
}

/// Synapse makes a connection for each request, and takes one refusal for a dead destination.
#[tokio::test]
async fn two_thousand_callers_at_once_are_all_answered() {
    at_home(async |house| {
        raise_descriptors(CALLERS * 2);
        // One host may be asked for so much at a time; people are in rooms with many.
        let names = ["a.test", "b.test", "c.test", "d.test", "cdn.test"].map(|host| house.name(host));
        for name in &names {
            assert_eq!(house.get(name, VERSION).await.status, 200);
        }
        let mut streams = Vec::new();
        for _ in 0..CALLERS {
            streams.push(knock(&house.unix()).await);
        }
        let mut calls = JoinSet::new();
        for (mut stream, name) in streams.into_iter().zip(names.iter().cycle()) {
            let request = request("GET", name, VERSION, "");
            calls.spawn(async move { ask_on(&mut stream, request).await });
        }
        let answers = calls.join_all().await;
        let well = |answer: &&Answer| answer.status == 200 && answer.whole;
        let refused = answers.iter().find(|answer| !well(answer));
        assert!(refused.is_none(), "{refused:?}");
        assert_eq!(answers.len() as u64, CALLERS);
        until(Duration::from_secs(5), "the descriptors are given back", || {
            let open = std::fs::read_dir(format!("/proc/{}/fd", house.pid())).unwrap().count();
            open < 100
        })
        .await;
    })
    .await;
}

fn raise_descriptors(needed: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    }
}

const CALLERS: u64 = 2000;
