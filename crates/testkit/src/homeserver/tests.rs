//! The fake homeservers, asked by a real client.

use std::time::Duration;

use hyper::{Request, Version};

use super::*;
use crate::certificates::CertificateKind;
use crate::probe;

async fn servers() -> (Arc<Authority>, Homeservers) {
    let authority = Authority::new();
    let servers = Homeservers::start(Arc::clone(&authority)).await.unwrap();
    (authority, servers)
}

/// Any name is served, in the HTTP version agreed on, and what came is on record.
#[tokio::test]
async fn every_name_is_a_healthy_host_until_told_otherwise() {
    let (authority, servers) = servers().await;
    for (alpn, version) in [(Alpn::Http2, Version::HTTP_2), (Alpn::Http1, Version::HTTP_11)] {
        let put = Request::put("https://hs1.test/_matrix/federation/v1/send/42?a=%2f").body("{}").unwrap();
        let config = authority.client_config(alpn);
        let response = probe::send(servers.address(), &config, put).await.unwrap();
        assert_eq!((response.status().as_u16(), &response.body()[..]), (200, &b"{\"pdus\":{}}"[..]));
        let last = servers.received_by("hs1.test").pop().unwrap();
        assert_eq!(last.target, "/_matrix/federation/v1/send/42?a=%2f");
        assert_eq!((last.version, last.body_bytes, last.complete), (version, 2, true));
        assert_eq!(last.body_hash, body_hash(b"{}"));
        assert_eq!(last.connection.sni.as_deref(), Some("hs1.test"));
    }
    let counts = servers.counts();
    assert_eq!((counts.accepted, counts.handshakes, counts.requests), (2, 2, 2));
}

/// A second connection of the same client needs no certificate.
#[tokio::test]
async fn session_tickets_are_given_out_and_taken_back() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http1);
    for _ in 0..2 {
        probe::get(servers.address(), &config, "https://a.test/_matrix/federation/v1/version").await.unwrap();
    }
    assert_eq!(servers.counts().resumed, 1);
    assert!(servers.received()[1].connection.resumed);
}

/// Delegation, with and without redirects, and a page that is none of it.
#[tokio::test]
async fn well_known_is_told_as_scripted() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http1);
    let say = |well_known| HostScript { well_known, ..HostScript::default() };
    servers.set("a.test", say(WellKnown::Delegate("m.a.test:1".into())));
    servers.set("b.test", say(WellKnown::Redirects { hops: 1, delegate: "m.b.test".into() }));
    let ask = |url: &'static str| probe::get(servers.address(), &config, url);
    let answer = ask("https://a.test/.well-known/matrix/server").await.unwrap();
    assert_eq!(&answer.body()[..], br#"{"m.server":"m.a.test:1"}"#);
    let hop = ask("https://b.test/.well-known/matrix/server").await.unwrap();
    assert_eq!(hop.headers()["location"], "/.well-known/matrix/server?hop=1");
    let end = ask("https://b.test/.well-known/matrix/server?hop=1").await.unwrap();
    assert_eq!(&end.body()[..], br#"{"m.server":"m.b.test"}"#);
    let absent = ask("https://c.test/.well-known/matrix/server").await.unwrap();
    assert_eq!(absent.status(), 404);
}

/// Media comes in two parts, from elsewhere, or by the legacy path only.
#[tokio::test]
async fn media_comes_as_scripted() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http2);
    let say = |media| HostScript { media, ..HostScript::default() };
    servers.set("a.test", say(Media::Bytes(100_000)));
    servers.set("b.test", say(Media::Redirect("https://cdn.test/blob/9".into())));
    servers.set("c.test", say(Media::LegacyOnly(9)));
    let ask = |url: &'static str| probe::get(servers.address(), &config, url);
    let parts = ask("https://a.test/_matrix/federation/v1/media/download/x").await.unwrap();
    assert!(parts.headers()["content-type"].to_str().unwrap().starts_with("multipart/mixed"));
    assert!(parts.body().len() > 100_000);
    let elsewhere = ask("https://b.test/_matrix/federation/v1/media/download/x").await.unwrap();
    assert!(String::from_utf8_lossy(elsewhere.body()).contains("Location: https://cdn.test/blob/9\r\n"));
    let unknown = ask("https://c.test/_matrix/federation/v1/media/download/x").await.unwrap();
    assert!(String::from_utf8_lossy(unknown.body()).contains("M_UNRECOGNIZED"));
    let legacy = ask("https://c.test/_matrix/media/v3/download/c.test/x").await.unwrap();
    assert!(legacy.body().iter().copied().eq(blob(9)));
}

/// Each way of misbehaving looks to the client as its name says.
#[tokio::test]
async fn hosts_misbehave_as_scripted() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http1);
    let ask = |url: &'static str| probe::get(servers.address(), &config, url);
    let headers = vec![("retry-after".to_owned(), "7".to_owned())];
    servers.behave("busy.test", Behaviour::Status { status: 429, headers });
    let busy = ask("https://busy.test/_matrix/federation/v1/version").await.unwrap();
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].as_bytes()), (429, &b"7"[..]));
    servers.behave("html.test", Behaviour::HtmlBadGateway);
    let html = ask("https://html.test/_matrix/federation/v1/version").await.unwrap();
    assert_eq!((html.status().as_u16(), html.headers()["content-type"].as_bytes()), (502, &b"text/html"[..]));
    servers.behave("reset.test", Behaviour::Reset);
    assert!(ask("https://reset.test/").await.is_err());
    servers.set("old.test", HostScript { certificate: CertificateKind::Expired, ..HostScript::default() });
    assert!(ask("https://old.test/").await.is_err());
}

/// Three places to hang: before TLS, after it, and with the request in hand.
#[tokio::test]
async fn hosts_hang_where_they_are_told_to() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http1);
    let patience = Duration::from_millis(200);
    servers.behave("mute.test", Behaviour::HangAfterAccept);
    let mute = probe::connect(servers.address(), "mute.test", &config);
    assert!(tokio::time::timeout(patience, mute).await.is_err());
    for (behaviour, requests) in [(Behaviour::HangAfterTls, 0), (Behaviour::HangAfterRequest, 1)] {
        servers.behave("deaf.test", behaviour);
        let deaf = probe::get(servers.address(), &config, "https://deaf.test/_matrix/key/v2/server");
        assert!(tokio::time::timeout(patience, deaf).await.is_err());
        assert_eq!(servers.counts().requests, requests);
    }
}

/// A transaction comes twice, because the first answer was lost: it is processed once.
#[tokio::test]
async fn a_transaction_is_processed_once_for_each_id() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http1);
    let refusal = Canned::json(429, "{}").with("retry-after", "1");
    servers.on_send("a.test", [OnSend::Refuse(refusal), OnSend::ProcessAndCut]);
    let send = || {
        let put = Request::put("https://a.test/_matrix/federation/v1/send/42")
            .header("authorization", "X-Matrix x");
        probe::send(servers.address(), &config, put.body(r#"{"origin":"o.test"}"#).unwrap())
    };
    assert_eq!(send().await.unwrap().status(), 429);
    assert!(send().await.is_err(), "the connection is cut");
    assert_eq!(send().await.unwrap().status(), 200);
    let sent = servers.sent_to("a.test");
    assert_eq!(sent.iter().map(|one| one.processed).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!((sent[0].id.as_str(), &*sent[0].authorization), ("42", &["X-Matrix x".to_owned()][..]));
    assert_eq!(sent[0].json()["origin"], "o.test");
}

/// An idle connection does not last for ever. The host goes on to serve new ones.
#[tokio::test]
async fn open_connections_are_hung_up_on() {
    let (authority, servers) = servers().await;
    let config = authority.client_config(Alpn::Http1);
    let mut idle = probe::connect(servers.address(), "a.test", &config).await.unwrap();
    probe::get(servers.address(), &config, "https://a.test/_matrix/key/v2/server").await.unwrap();
    servers.hang_up();
    // The end of TLS or of TCP: either is an end.
    assert!(!matches!(idle.read(&mut [0; 64]).await, Ok(1..)));
    probe::get(servers.address(), &config, "https://a.test/_matrix/key/v2/server").await.unwrap();
}
