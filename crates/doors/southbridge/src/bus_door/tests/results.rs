//! The stream of results.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::bus_door::{Happened, ResultLine};

fn delivered(destination: &str, token: &str) -> ResultLine {
    let what = Happened::Delivered {
        destination: destination.to_owned(),
        transaction: "t1".to_owned(),
        upto: Some(9),
        items: 1,
        pdu_errors: [("$e".to_owned(), "no".to_owned())].into(),
    };
    ResultLine { what, token: token.to_owned() }
}

/// The lines that have come: those of the next chunk.
async fn read_lines(stream: &mut DuplexStream) -> Vec<Value> {
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        size.push(stream.read_u8().await.unwrap());
    }
    let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap().trim(), 16).unwrap();
    let mut chunk = vec![0; size + 2];
    stream.read_exact(&mut chunk).await.unwrap();
    let text = String::from_utf8(chunk).unwrap();
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A reader comes back with the token of its last line, misses nothing, and is told when the bus ends.
#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_behind_its_token_and_says_when_it_ends() {
    let bus = Scripted::default();
    let gap = ResultLine { what: Happened::Gap, token: "3".to_owned() };
    bus.script().lines.extend([delivered("a.example", "1"), delivered("b.example", "2"), gap]);
    let door = door(&bus);
    let (ours, mut theirs) = duplex(1 << 16);
    let reading = async {
        theirs.write_all(request("GET", "/bus/v1/results?from=1", "").as_bytes()).await.unwrap();
        let head = read_head(&mut theirs).await;
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("application/x-ndjson"), "{head}");
        assert_eq!(read_lines(&mut theirs).await, [json!({"type": "heartbeat", "token": "1"})]);
        let line = json!({
            "type": "delivered", "token": "2", "destination": "b.example", "transaction": "t1", "upto": 9,
            "items": 1, "pdu_errors": {"$e": "no"},
        });
        assert_eq!(read_lines(&mut theirs).await, [line, json!({"type": "gap", "token": "3"})]);
        let start = tokio::time::Instant::now();
        assert_eq!(read_lines(&mut theirs).await, [json!({"type": "heartbeat", "token": "3"})]);
        assert_eq!(start.elapsed(), Duration::from_secs(15));
        door.close();
        assert_eq!(read_lines(&mut theirs).await, [json!({"type": "end", "token": "3"})]);
    };
    tokio::join!(reading, door.serve_connection(ours));
}

/// A program that was stopped in a debugger, say: its connection is ended, and it costs no memory meanwhile.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_reading_loses_its_connection() {
    let bus = Scripted::default();
    bus.script().lines.extend((0..10_000).map(|number| delivered("a.example", &number.to_string())));
    let door = door(&bus);
    let (ours, mut theirs) = duplex(1 << 10);
    theirs.write_all(request("GET", "/bus/v1/results?from=0", "").as_bytes()).await.unwrap();
    let start = tokio::time::Instant::now();
    door.serve_connection(ours).await;
    assert_eq!(start.elapsed(), Duration::from_secs(120));
}

/// What the description says of an answer is what is in it.
#[test]
fn the_fields_of_answers_are_described() {
    let description: Value = serde_json::from_str(crate::bus_door::OPENAPI).unwrap();
    let bus = Scripted::default();
    bus.queue_up("a.example", "waiting", 1);
    let mut row = bus.script().queues[&name("a.example")].clone();
    (row.transaction, row.failing_for_ms, row.hold) = (Some("t".into()), Some(1), Some("down".to_owned()));
    let given_up = Happened::GivenUp { destination: String::new(), upto: 1, items: 1, reason: String::new() };
    let failure = crate::bus_door::QueryFailure {
        errcode: String::new(),
        error: String::new(),
        status: Some(1),
        extra: [("a".to_owned(), json!(1))].into_iter().collect(),
    };
    let line = |what| json!(ResultLine { what, token: String::new() });
    let mut lines = line(given_up);
    let delivered = json!(delivered("a.example", "1"));
    lines.as_object_mut().unwrap().extend(delivered.as_object().unwrap().clone());
    for (schema, answer) in [
        ("Queue", json!(row)),
        ("Lost", json!(row.at_stake())),
        ("QueryFailure", json!(failure)),
        ("ResultLine", lines),
    ] {
        let keys = |value: &Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        let described = &description["components"]["schemas"][schema]["properties"];
        assert_eq!(keys(&answer), keys(described), "{schema}");
    }
    let states = &description["components"]["schemas"]["QueueState"]["enum"];
    assert_eq!(*states, json!(crate::bus_door::QUEUE_STATES));
}
