//! Signatures as others made them: the vectors of the Matrix specification, of Wycheproof, and of signedjson.

#![allow(clippy::unwrap_used, reason = "a test says what it expects")]

use serde::Deserialize;
use southbridge_bus::signing::{
    BadSignature, CanonicalJson, Event, EventError, KeyId, Numbers, RequestError, RoomVersion, SecretKey,
    ServerKeys, Signature, SignedJsonError, Signer, SigningKeys, UnfitRequest, Verified, VerifyKey, XMatrix,
    sign_json, to_canonical, verify_json,
};
use southbridge_words::ServerName;

/// The specification's key: server `domain`, key `ed25519:1`.
const KEY_FILE: &str = "ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1";
const KEY: &str = "XGX0JRS2Af3be3knz2fBiRbApjm2Dh61gXDJA8kcJNI";
const MINIMAL_EVENT: &[u8] = br#"{"room_id":"!x:domain","sender":"@a:domain","origin":"domain",
    "origin_server_ts":1000000,"signatures":{},"hashes":{},"type":"X","content":{},"prev_events":[],
    "auth_events":[],"depth":3,"unsigned":{"age_ts":1000000}}"#;
const REDACTABLE_EVENT: &[u8] = br#"{"content":{"body":"Here is the message content"},"event_id":"$0:domain",
    "origin":"domain","origin_server_ts":1000000,"type":"m.room.message","room_id":"!r:domain",
    "sender":"@u:domain","signatures":{},"unsigned":{"age_ts":1000000}}"#;

fn keys() -> SigningKeys {
    SigningKeys::parse(KEY_FILE).unwrap()
}

fn key() -> VerifyKey {
    VerifyKey::parse(KEY).unwrap()
}

fn key_id() -> KeyId {
    KeyId::parse("ed25519:1").unwrap()
}

fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}

fn content(text: &str) -> CanonicalJson {
    to_canonical(text.as_bytes(), Numbers::AsPython).unwrap()
}

fn text(json: &CanonicalJson) -> &str {
    std::str::from_utf8(json.as_bytes()).unwrap()
}

/// The specification's two signed objects; `unsigned` and other signatures are kept and change nothing.
#[test]
fn signed_objects_are_those_of_the_specification() {
    for (object, signature) in [
        ("{}", "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ"),
        (
            r#"{"one":1,"two":"Two"}"#,
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ] {
        let signed = sign_json(object.as_bytes(), "domain", &keys()).unwrap();
        assert!(
            text(&signed).contains(&format!(r#""signatures":{{"domain":{{"ed25519:1":"{signature}"}}}}"#))
        );
        assert_eq!(verify_json(signed.as_bytes(), "domain", &key_id(), &key()), Ok(()));
    }
    let more = br#"{"unsigned":{"age":4},"two":"Two","signatures":{"domain":{"rsa:x":"?"},"x":{}},"one":1}"#;
    let signed = sign_json(more, "domain", &keys()).unwrap();
    assert!(text(&signed).contains(r#""signatures":{"domain":{"ed25519:1":"KqmLSbO39"#), "{}", text(&signed));
    assert!(text(&signed).contains(r#""rsa:x":"?"},"x":{}},"two":"Two","unsigned":{"age":4}}"#));
    assert_eq!(verify_json(signed.as_bytes(), "domain", &key_id(), &key()), Ok(()));
}

#[test]
fn an_object_that_was_changed_or_signed_by_another_is_not_believed() {
    let signed = sign_json(br#"{"one":1}"#, "domain", &keys()).unwrap();
    let changed = text(&signed).replace("\"one\":1", "\"one\":2");
    let verify = |text: &str, signer| verify_json(text.as_bytes(), signer, &key_id(), &key());
    assert_eq!(verify(&changed, "domain"), Err(SignedJsonError::Bad(BadSignature)));
    assert!(matches!(verify(text(&signed), "other"), Err(SignedJsonError::Missing { .. })));
    assert!(matches!(verify(r#"{"signatures":[]}"#, "domain"), Err(SignedJsonError::Signatures)));
    let many: Vec<_> = (0..300).map(|n| format!("\"s{n}\":{{\"ed25519:1\":\"\"}}")).collect();
    let many = format!("{{\"signatures\":{{{}}}}}", many.join(","));
    assert_eq!(verify(&many, "s1"), Err(SignedJsonError::TooMany { count: 300 }));
}

/// The specification's two signed events: hash, signature, and what a redaction leaves is still signed.
#[test]
fn signed_events_are_those_of_the_specification() {
    let version = RoomVersion::parse("1").unwrap();
    for (event, hash, signature) in [
        (
            MINIMAL_EVENT,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            REDACTABLE_EVENT,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ] {
        let event = Event::parse(event, &version).unwrap();
        let signed = event.sign(&server("domain"), &keys()).unwrap();
        assert!(
            text(&signed).contains(&format!("\"hashes\":{{\"sha256\":\"{hash}\"}}")),
            "{}",
            text(&signed)
        );
        assert!(text(&signed).contains(&format!("{{\"domain\":{{\"ed25519:1\":\"{signature}\"}}}}")));
    }
}

fn of_domain(server: &ServerName, id: &KeyId) -> Option<VerifyKey> {
    (server.as_str() == "domain" && *id == key_id()).then(key)
}

/// A message, its redaction, a forgery, and one whose server's key nobody knows.
#[test]
fn an_event_is_believed_as_far_as_it_was_signed() {
    let version = RoomVersion::parse("6").unwrap();
    let signed = Event::parse(REDACTABLE_EVENT, &version).unwrap().sign(&server("domain"), &keys()).unwrap();
    let verify = |text: &str| Event::parse(text.as_bytes(), &version).and_then(|it| it.verify(of_domain));
    assert_eq!(verify(text(&signed)), Ok(Verified::Whole));
    let redacted = Event::parse(signed.as_bytes(), &version).unwrap().redacted().unwrap();
    assert!(text(&redacted).contains("\"content\":{}"));
    assert_eq!(verify(text(&redacted)), Ok(Verified::RedactedOnly));
    assert_eq!(verify(&text(&signed).replace("Here", "Gone")), Ok(Verified::RedactedOnly));
    let forged = text(&signed).replace("@u:domain", "@v:domain");
    assert_eq!(verify(&forged), Err(EventError::Signed(SignedJsonError::Bad(BadSignature))));
    let foreign = text(&signed).replace("@u:domain", "@u:other");
    assert_eq!(verify(&foreign), Err(EventError::NotSigned { server: server("other") }));
    assert!(matches!(RoomVersion::parse("nope"), Err(EventError::UnknownRoomVersion)));
}

/// Whoever must have signed: the sender, in old rooms the event id's server, the server that let somebody in.
#[test]
fn the_servers_that_must_have_signed_depend_on_event_and_room_version() {
    let signers = |version: &str, text: &str| {
        let version = RoomVersion::parse(version).unwrap();
        let signers = Event::parse(text.as_bytes(), &version).and_then(|event| event.signers());
        signers.map(|it| it.iter().map(ServerName::to_string).collect::<Vec<_>>().join(" "))
    };
    let member = r#"{"type":"m.room.member","sender":"@a:one:8448","event_id":"$x:two","content":
        {"membership":"MEMBERSHIP","join_authorised_via_users_server":"@b:three"INVITE}}"#;
    let join = member.replace("MEMBERSHIP", "join").replace("INVITE", "");
    assert_eq!(signers("1", &join).as_deref(), Ok("one:8448 two"));
    assert_eq!(signers("3", &join).as_deref(), Ok("one:8448"));
    assert_eq!(signers("8", &join).as_deref(), Ok("one:8448 three"));
    let invite = member.replace("MEMBERSHIP", "invite").replace("INVITE", r#","third_party_invite":{}"#);
    assert_eq!(signers("1", &invite).as_deref(), Ok("two"));
    assert_eq!(signers("6", r#"{"type":"x","sender":"nobody"}"#), Err(EventError::Field { field: "sender" }));
    assert_eq!(signers("6", r#"{"sender":"@a:b"}"#), Err(EventError::Field { field: "type" }));
}

/// Room versions 1 to 5 carry numbers that later ones refuse, and their signatures hold all the same.
#[test]
fn odd_numbers_of_old_rooms_are_signed_as_they_stand() {
    let old = RoomVersion::parse("5").unwrap();
    let odd = br#"{"type":"m.room.power_levels","sender":"@a:domain","depth":12345678901234567890,
        "content":{"users":{"@a:domain":1.0e2},"junk":1.5}}"#;
    let signed = Event::parse(odd, &old).unwrap().sign(&server("domain"), &keys());
    assert!(
        matches!(signed, Err(EventError::Signed(SignedJsonError::Canonical(_)))),
        "we make no such event"
    );
    let redacted = Event::parse(odd, &old).unwrap().redacted().unwrap();
    assert_eq!(
        text(&redacted),
        concat!(
            r#"{"content":{"users":{"@a:domain":100.0}},"depth":12345678901234567890,"#,
            r#""sender":"@a:domain","type":"m.room.power_levels"}"#
        )
    );
    let new = RoomVersion::parse("6").unwrap();
    assert!(matches!(Event::parse(odd, &new), Err(EventError::Canonical(_))));
}

/// What the versions keep differs in what is nested, too.
#[test]
fn a_redaction_keeps_what_the_room_version_keeps() {
    let event = br#"{"type":"m.room.member","state_key":"@b:x","origin":"x","junk":1,"content":{"membership":"invite",
        "displayname":"B","third_party_invite":{"display_name":"b","signed":{"mxid":"@b:x","token":{"a":[1]}}}}}"#;
    let redacted = |version: &str| {
        let version = RoomVersion::parse(version).unwrap();
        text(&Event::parse(event, &version).unwrap().redacted().unwrap()).to_owned()
    };
    assert_eq!(
        redacted("10"),
        r#"{"content":{"membership":"invite"},"origin":"x","state_key":"@b:x","type":"m.room.member"}"#
    );
    assert_eq!(
        redacted("11"),
        concat!(
            r#"{"content":{"membership":"invite","third_party_invite":{"signed":{"mxid":"@b:x","token":{"a":[1]}}}},"#,
            r#""state_key":"@b:x","type":"m.room.member"}"#
        )
    );
}

#[test]
fn an_event_is_named_by_what_its_room_version_says() {
    let name = |version: &str| {
        let version = RoomVersion::parse(version).unwrap();
        Event::parse(REDACTABLE_EVENT, &version).unwrap().event_id().unwrap()
    };
    assert_eq!(name("1"), "$0:domain");
    assert_eq!((name("3").len(), name("4").len()), (44, 44));
    assert_eq!(name("3").replace('+', "-").replace('/', "_"), name("4"));
    let large = format!(r#"{{"type":"x","content":{{"body":"{}"}}}}"#, "x".repeat(65_536));
    let version = RoomVersion::parse("11").unwrap();
    assert!(matches!(Event::parse(large.as_bytes(), &version), Err(EventError::TooLarge { .. })));
}

/// The request that signedjson signed with the same key: the value of `Authorization`, to the byte.
#[test]
fn a_signed_request_is_the_one_that_signedjson_signs() {
    let signer = Signer::new(server("a.example"), keys());
    let destination = server("b.example:8448");
    let uri = "/_matrix/federation/v1/send/1?x=y";
    let body = content(r#"{ "pdus" : [] }"#);
    let values = signer.authorization("PUT", uri, &destination, Some(&body)).unwrap();
    let expected = concat!(
        r#"X-Matrix origin="a.example",destination="b.example:8448",key="ed25519:1",sig="#,
        r#""QBtWWySeJtfVnFuPdUl8PD3ln8tUGL3nVYSGNwUIeDkuFAEA9XpO9gtc9sqwdfwBd/6P8w4I4TlQHbyaBOOkBA""#
    );
    assert_eq!(values, [expected]);
    let read = XMatrix::parse(values[0].as_bytes()).unwrap();
    assert_eq!(read.verify("PUT", uri, &destination, Some(&body), &key()), Ok(()));
}

/// Each part of a request is signed: change one and it is not believed.
#[test]
fn a_request_that_was_changed_is_not_believed() {
    let us = server("b.example");
    let signer = Signer::new(server("a.example"), keys());
    let values = signer.authorization("PUT", "/x?y=%20", &us, Some(&content("{}"))).unwrap();
    let read = XMatrix::parse(values[0].as_bytes()).unwrap();
    let bad = Err(RequestError::Signature(BadSignature));
    assert_eq!(read.verify("PUT", "/x?y=%20", &us, Some(&content("{}")), &key()), Ok(()));
    assert_eq!(read.verify("POST", "/x?y=%20", &us, Some(&content("{}")), &key()), bad);
    assert_eq!(read.verify("PUT", "/x?y=+", &us, Some(&content("{}")), &key()), bad);
    assert_eq!(read.verify("PUT", "/x?y=%20", &us, Some(&content("[]")), &key()), bad);
    assert_eq!(read.verify("PUT", "/x?y=%20", &us, None, &key()), bad);
    let other = server("c.example");
    let wrong = RequestError::WrongDestination { named: us.clone() };
    assert_eq!(read.verify("PUT", "/x?y=%20", &other, Some(&content("{}")), &key()), Err(wrong));
    // An old server does not say for whom it signed: it counts if it was for us.
    let silent = XMatrix { destination: None, ..read.clone() };
    assert_eq!(silent.verify("PUT", "/x?y=%20", &us, Some(&content("{}")), &key()), Ok(()));
    assert_eq!(silent.verify("PUT", "/x?y=%20", &other, Some(&content("{}")), &key()), bad);
    let another = XMatrix { origin: server("evil.example"), ..read };
    assert_eq!(another.verify("PUT", "/x?y=%20", &us, Some(&content("{}")), &key()), bad);
}

/// A server that changes its key signs with both for a while: one value each.
#[test]
fn every_key_that_signs_gets_a_value() {
    let file = format!("{KEY_FILE}\ned25519 a_2 {}\ned25519 0 5 {KEY}", "A".repeat(43));
    let signer = Signer::new(server("a.example"), SigningKeys::parse(&file).unwrap());
    let values = signer.authorization("GET", "/_matrix/federation/v1/version", &server("b"), None).unwrap();
    let ids: Vec<_> = values.iter().map(|value| XMatrix::parse(value.as_bytes()).unwrap().key).collect();
    assert_eq!(ids.iter().map(KeyId::as_str).collect::<Vec<_>>(), ["ed25519:1", "ed25519:a_2"]);
    for (value, key) in values.iter().zip(signer.keys().active()) {
        let read = XMatrix::parse(value.as_bytes()).unwrap();
        let uri = "/_matrix/federation/v1/version";
        assert_eq!(read.verify("GET", uri, &server("b"), None, &key.verify_key()), Ok(()));
    }
}

/// Row 10: line breaks, spaces and the like in what we are asked to send are refused before a byte is signed.
#[test]
fn row_10_what_would_break_the_request_line_is_not_signed() {
    let signer = Signer::new(server("a.example"), keys());
    let sign = |method, uri| signer.authorization(method, uri, &server("b"), None);
    for (method, at) in [("", 0), ("GET ", 3), ("GET\r\nX:", 3), ("P\"UT", 1), ("G\0T", 1), ("GÉT", 1)] {
        assert_eq!(sign(method, "/"), Err(UnfitRequest::Method { at }), "{method:?}");
    }
    for (uri, at) in [
        ("", 0),
        ("_matrix", 0),
        ("https://x/", 0),
        ("/a b", 2),
        ("/a\r\nb", 2),
        ("/a\0", 2),
        ("/é", 1),
        ("/a#b", 2),
        ("/\u{7f}", 1),
    ] {
        assert_eq!(sign("GET", uri), Err(UnfitRequest::Uri { at }), "{uri:?}");
    }
    for name in ["b\r\nHost: evil", "b\"", "b,key=x", "b c", "b\0"] {
        assert!(ServerName::parse(name).is_err(), "{name:?} never gets as far as a signature");
    }
    // What is odd but harmless is signed as JSON wants it.
    assert!(sign("GET", "/a\"b\\c").is_ok());
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wycheproof {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    public_key: PublicKey,
    tests: Vec<Case>,
}

#[derive(Deserialize)]
struct PublicKey {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    tc_id: u32,
    comment: String,
    msg: String,
    sig: String,
    result: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Wycheproof's set for Ed25519, every case of it: truncated, padded, malleable and forged signatures among them.
#[test]
fn every_wycheproof_case_ends_as_it_should() {
    let set: Wycheproof = serde_json::from_str(include_str!("vectors/ed25519_wycheproof.json")).unwrap();
    let mut ran = 0;
    for group in &set.test_groups {
        let key: [u8; 32] = bytes(&group.public_key.pk).try_into().unwrap();
        let key = VerifyKey::from_bytes(&key);
        for case in &group.tests {
            let signature: Option<[u8; 64]> = bytes(&case.sig).try_into().ok();
            let fits = signature.is_some_and(|signature| {
                key.is_ok_and(|key| key.verify(&bytes(&case.msg), &Signature::from_bytes(signature)).is_ok())
            });
            assert_eq!(fits, case.result == "valid", "case {}: {}", case.tc_id, case.comment);
            ran += 1;
        }
    }
    assert_eq!((ran, ran), (set.number_of_tests, 151));
}

/// The points for which anybody can sign are no keys: with one of them a stranger could speak for a server.
#[test]
fn keys_that_anybody_can_sign_for_are_refused() {
    let identity = {
        let mut point = [0; 32];
        point[0] = 1;
        point
    };
    for weak in [identity, [0; 32]] {
        assert!(VerifyKey::from_bytes(&weak).is_err());
    }
    // A point spelled with a coordinate that is not reduced: two spellings of one key would be two keys.
    assert!(VerifyKey::from_bytes(&[0xff; 32]).is_err());
}

/// A key response that signedjson signed, and a notary with it: both signatures hold.
#[test]
fn a_key_response_that_signedjson_signed_is_believed() {
    let response = r#"{"server_name": "one.example", "valid_until_ts": 1800086400000,
        "verify_keys": {"ed25519:a": {"key": "iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w"}},
        "old_verify_keys": {"ed25519:old": {"key": "gTl3Dqh9F19Wo1Rmw0x+zMuNipG07jeiXfYPW4/Js5Q",
            "expired_ts": 1700000000000}},
        "signatures": {"one.example": {"ed25519:a":
            "S4Q4lAyPH8wV1aH+rBdsHsMhnCrh53JTvNOZBG6X7X2K6EuyMgmYvStVlS0Y2AEAlTVMNF39CfekEw8QcPTFCg"},
            "notary.example": {"ed25519:a":
            "9QDrwDmWqiRhoLUN9BLYsOy+BA8QwixMmQqN4Fg/Q1R6JxRGXndZu+hWZg2YPpl6AMcVaVYzclSZHXIvs5kFCg"}}}"#;
    let (one, notary) = (server("one.example"), server("notary.example"));
    let keys = ServerKeys::parse(response.as_bytes(), &one, 2).unwrap();
    let id = KeyId::parse("ed25519:a").unwrap();
    assert_eq!(keys.current, [(id.clone(), SecretKey::from_seed(&[1; 32]).verify_key())]);
    assert_eq!(keys.expired[0].key, SecretKey::from_seed(&[2; 32]).verify_key());
    assert_eq!(keys.expired[0].expired_at.unix_millis(), 1_700_000_000_000);
    let notary_key = SecretKey::from_seed(&[3; 32]).verify_key();
    assert_eq!(keys.verify_notary(&one, &notary, &[(id.clone(), notary_key)]), Ok(()));
    let of_another = [(id, SecretKey::from_seed(&[4; 32]).verify_key())];
    assert!(keys.verify_notary(&one, &notary, &of_another).is_err());
    assert!(keys.verify_notary(&one, &notary, &[]).is_err());
}
