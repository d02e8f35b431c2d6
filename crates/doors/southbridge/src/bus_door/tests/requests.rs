//! Requests and their answers.

use serde_json::json;
use southbridge_bus::outgoing::OutgoingPdu;
use tokio::io::{AsyncWriteExt, duplex};

use super::*;
use crate::bus_door::{Acknowledged, Code, Failure, QueryFailure, What};

const PDU: &str = r#"{ "z":1, "a":"\u00e9" }"#;

/// A burst of messages: each has its own answer, in the order they came; one mistake keeps nobody.
#[tokio::test]
async fn submissions_are_answered_one_by_one_in_order() {
    let bus = Scripted::default();
    bus.script()
        .answers
        .extend([Ok(Acknowledged::Durable { seq: 7 }), Err(Failure::new(Code::OutboxFull, "no room"))]);
    let door = door(&bus);
    let body = format!(
        r#"{{"submissions":[{{"pdu":{PDU},"destinations":["a.example"]}},{{"pdu":7}},
            {{"pdu":{{}},"destinations":["b.example"]}},
            {{"edu":{{"edu_type":"m.typing","content":{{}}}},"destinations":["c.example"]}}]}}"#
    );
    let (status, answer) = ask(&door, "POST", "/bus/v1/send", &body).await;
    assert_eq!(status, 200);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[0], json!({"acknowledgement": "durable", "seq": 7}));
    assert_eq!(results[1]["errcode"], "M_BAD_JSON");
    assert_eq!(results[2], json!({"errcode": "ORG.SOUTHBRIDGE.OUTBOX_FULL", "error": "no room"}));
    assert_eq!(results[3], json!({"acknowledgement": "volatile"}));
    let sent: Vec<_> = bus.script().sent.iter().map(|sent| sent.destinations[0].to_string()).collect();
    assert_eq!(sent, ["a.example", "b.example", "c.example"]);
    assert_eq!(bus.script().sent[0].what, What::Pdu(OutgoingPdu::new(PDU).unwrap()));
    let counted = door.snapshot();
    assert_eq!((counted.durable, counted.volatile, counted.refused, counted.bodies_bytes), (1, 1, 2, 0));
}

#[tokio::test]
async fn a_set_is_put_once_and_named_with_every_message() {
    let bus = Scripted::default();
    let door = door(&bus);
    let message = r#"{"submissions":[{"pdu":{},"destination_set":"!room:a"}]}"#;
    let (_, early) = ask(&door, "POST", "/bus/v1/send", message).await;
    assert_eq!(early["results"][0]["errcode"], "ORG.SOUTHBRIDGE.UNKNOWN_SET");
    let names = r#"{"destinations":["a.example","b.example","a.example"]}"#;
    let put = ask(&door, "PUT", "/bus/v1/sets/%21room%3Aa", names).await;
    assert_eq!(put, (200, json!({"name": "!room:a", "destinations": 2})));
    ask(&door, "POST", "/bus/v1/send", message).await;
    assert_eq!(bus.script().sent[0].destinations.len(), 2);
    let (_, listed) = ask(&door, "GET", "/bus/v1/sets", "").await;
    assert_eq!(listed, json!({"sets": [{"name": "!room:a", "destinations": 2}]}));
    assert_eq!(ask(&door, "DELETE", "/bus/v1/sets/!room:a", "").await.0, 200);
    assert_eq!(ask(&door, "DELETE", "/bus/v1/sets/!room:a", "").await.0, 404);
}

#[tokio::test]
async fn nobody_comes_in_without_the_secret() {
    let bus = Scripted::default();
    let door = door(&bus);
    let with = |field: &str| format!("GET /bus/v1/queues HTTP/1.1\r\nHost: x\r\n{field}\r\n");
    for (field, code) in [
        ("", "M_MISSING_TOKEN"),
        ("Authorization: Bearer sesam\r\n", "M_UNKNOWN_TOKEN"),
        ("Authorization: Basic sesame\r\n", "M_UNKNOWN_TOKEN"),
        ("Authorization: Bearer sesame\r\nAuthorization: Bearer x\r\n", "M_UNKNOWN_TOKEN"),
    ] {
        let (status, body) = tell(&door, &with(field)).await;
        assert!(status == 401 && body.contains(code), "{field}: {body}");
    }
    assert_eq!(door.snapshot().denied, 4);
    let unguarded = BusDoor::new(bus, Clock::start(), BusDoorConfig::new(Secret::new([])));
    assert_eq!(tell(&unguarded, &with("Authorization: Bearer \r\n")).await.0, 401);
}

#[tokio::test]
async fn the_answer_of_a_homeserver_comes_as_it_is() {
    let bus = Scripted::default();
    bus.script().responses.push_back(Ok(r#"{ "displayname":"\u00e9" }"#.into()));
    let failure = |errcode: &str, status| QueryFailure {
        errcode: errcode.to_owned(),
        error: "no".to_owned(),
        status,
        extra: serde_json::Map::new(),
    };
    bus.script().responses.push_back(Err(failure("M_NOT_FOUND", Some(404))));
    bus.script().responses.push_back(Err(failure("ORG.SOUTHBRIDGE.TIMEOUT", None)));
    let door = door(&bus);
    let question = r#"{"destination":"a.example","path":"/_matrix/federation/v1/query/profile"}"#;
    let (status, body) = tell(&door, &request("POST", "/bus/v1/query", question)).await;
    assert_eq!((status.as_u16(), body.as_str()), (200, r#"{"response":{ "displayname":"\u00e9" }}"#));
    let not_found = ask(&door, "POST", "/bus/v1/query", question).await;
    assert_eq!(not_found, (502, json!({"errcode": "M_NOT_FOUND", "error": "no", "status": 404})));
    assert_eq!(ask(&door, "POST", "/bus/v1/query", question).await.0, 504);
}

/// Whoever asked has left: nobody waits for the answer any more.
#[tokio::test]
async fn a_question_is_given_up_when_its_caller_leaves() {
    let bus = Scripted::default();
    let door = door(&bus);
    let (ours, mut theirs) = duplex(1 << 16);
    let leaving = async {
        let question = r#"{"destination":"a.example","path":"/_matrix/x","timeout_ms":0}"#;
        theirs.write_all(request("POST", "/bus/v1/query", question).as_bytes()).await.unwrap();
        while bus.script().asked.is_empty() {
            tokio::task::yield_now().await;
        }
        drop(theirs);
    };
    tokio::join!(leaving, door.serve_connection(ours));
    assert_eq!(bus.script().given_up, 1);
}

#[tokio::test]
async fn queues_are_shown_page_by_page() {
    let bus = Scripted::default();
    for (destination, state) in [("a.example", "waiting"), ("b.example", "flying"), ("c.example", "waiting")]
    {
        bus.queue_up(destination, state, 3);
    }
    let door = door(&bus);
    let names = |answer: &Value| -> Vec<String> {
        let rows = answer["queues"].as_array().unwrap();
        rows.iter().map(|row| row["destination"].as_str().unwrap().to_owned()).collect()
    };
    let (_, first) = ask(&door, "GET", "/bus/v1/queues?limit=2", "").await;
    assert_eq!(
        (names(&first), &first["next"]),
        (vec!["a.example".into(), "b.example".into()], &json!("b.example"))
    );
    let (_, second) = ask(&door, "GET", "/bus/v1/queues?limit=2&after=b.example", "").await;
    assert_eq!((names(&second), &second["next"]), (vec!["c.example".into()], &Value::Null));
    let (_, waiting) = ask(&door, "GET", "/bus/v1/queues?state=waiting&limit=2", "").await;
    assert_eq!((names(&waiting).len(), &waiting["next"]), (2, &Value::Null));
    let (status, wrong) = ask(&door, "GET", "/bus/v1/queues?state=sleeping", "").await;
    assert!(status == 400 && wrong["error"].as_str().unwrap().contains("ready, waiting"), "{wrong}");
}

/// What would be lost is said first, and nothing happens until somebody says yes.
#[tokio::test]
async fn a_queue_is_dropped_only_when_that_is_confirmed() {
    let bus = Scripted::default();
    bus.queue_up("a.example", "waiting", 3);
    let door = door(&bus);
    let lost = json!({"items": 3, "at_least": false, "volatile": 2});
    let (_, asked) = ask(&door, "DELETE", "/bus/v1/queues/a.example", "").await;
    assert_eq!(asked, json!({"destination": "a.example", "dropped": false, "lost": lost}));
    assert_eq!(ask(&door, "GET", "/bus/v1/queues/a.example", "").await.0, 200);
    let (_, done) = ask(&door, "DELETE", "/bus/v1/queues/a.example?confirm=yes", "").await;
    assert_eq!(done, json!({"destination": "a.example", "dropped": true, "lost": lost}));
    let (status, gone) = ask(&door, "GET", "/bus/v1/queues/a.example", "").await;
    assert_eq!((status, &gone["errcode"]), (404, &json!("M_NOT_FOUND")));
}

#[tokio::test]
async fn whoever_was_heard_of_is_woken() {
    let bus = Scripted::default();
    let door = door(&bus);
    let woken = ask(&door, "POST", "/bus/v1/wake", r#"{"destinations":["a.example"]}"#).await;
    assert_eq!((woken, &bus.script().woken[..]), ((200, json!({"woken": 1})), &[name("a.example")][..]));
}

#[tokio::test]
async fn what_is_asked_wrongly_is_told() {
    let bus = Scripted::default();
    let door = door(&bus);
    for (method, path, body, status, code) in [
        ("POST", "/bus/v1/send", "{", 400, "M_NOT_JSON"),
        ("POST", "/bus/v1/send", "{}", 400, "M_BAD_JSON"),
        ("GET", "/bus/v1/send", "", 405, "M_UNRECOGNIZED"),
        ("GET", "/elsewhere", "", 404, "M_UNRECOGNIZED"),
        ("GET", "/bus/v1/queues/a_b", "", 400, "M_INVALID_PARAM"),
        ("GET", "/bus/v1/queues?limit=0", "", 400, "M_INVALID_PARAM"),
        ("GET", "/bus/v1/results?from=yesterday", "", 400, "M_INVALID_PARAM"),
    ] {
        let (found, answer) = ask(&door, method, path, body).await;
        assert_eq!((found, answer["errcode"].as_str().unwrap()), (status, code), "{method} {path}");
    }
    let announced = "POST /bus/v1/send HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sesame\r\n\
                     Content-Length: 99999999999\r\n\r\n";
    assert_eq!(tell(&door, announced).await.0, 413);
}

/// Connections are kept; a door that closes ends those that wait.
#[tokio::test]
async fn a_connection_serves_until_the_door_closes() {
    let bus = Scripted::default();
    let door = door(&bus);
    let (ours, mut theirs) = duplex(1 << 20);
    let asking = async {
        for _ in 0..3 {
            theirs.write_all(request("GET", "/bus/v1/openapi.json", "").as_bytes()).await.unwrap();
            let (status, body) = read_answer(&mut theirs).await;
            assert!(status == 200 && body == crate::bus_door::OPENAPI);
        }
        door.close();
    };
    tokio::join!(asking, door.serve_connection(ours));
    assert_eq!(door.snapshot().connections, 1);
}
