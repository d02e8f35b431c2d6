//! Promises: a body is never truncated silently, and a reader that sleeps holds back the sender.

use std::time::Duration;

use bytes::Bytes;
use southbridge_testkit::raw::{Step, faults};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::caller::{Answer, CLAIM, VERSION, request};
use crate::house::{at_home, until};

/// However a peer ends in mid-body, Synapse sees either a refusal or a response without its end.
#[tokio::test]
async fn a_body_is_never_truncated_silently() {
    at_home(async |house| {
        let mut cuts = faults::cut_off();
        cuts.extend(large_cuts());
        for (cut, script) in cuts {
            let (_peer, name) = house.peer(vec![script]).await;
            let by_unix = house.ask("POST", &name, CLAIM, "{}").await;
            let by_tcp = house.ask_by_tcp("POST", &name, CLAIM, "{}").await;
            for answer in [by_unix, by_tcp] {
                let refused = answer.status == 502 && answer.whole;
                assert!(refused || answer.status == 200 && !answer.whole, "{cut}: {}", answer.head);
                assert!(!cut.starts_with("large") || !answer.whole, "{cut}: {}", answer.head);
            }
        }
    })
    .await;
}

/// So much that the head of the response has been passed on when the cut comes.
fn large_cuts() -> Vec<faults::Named> {
    let some = "x".repeat(400_000);
    let length = format!("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n{some}");
    let chunks =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{some}\r\n", some.len());
    let until_close = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{some}");
    let end = |start: &String, ending| vec![Step::ReadRequest, Step::write(start), ending];
    vec![
        ("large: close within a length", end(&length, Step::Close)),
        ("large: reset within a length", end(&length, Step::Reset)),
        ("large: close within chunks", end(&chunks, Step::Close)),
        ("large: reset within chunks", end(&chunks, Step::Reset)),
        ("large: no close_notify after a body until close", end(&until_close, Step::Drop)),
    ]
}

/// 100 MB for somebody who reads a little and falls asleep. The peer has to wait, the daemon holds next to nothing,
/// and when the reader wakes up all of it is there.
#[tokio::test]
async fn a_reader_that_sleeps_holds_back_the_sender() {
    at_home(async |house| {
        let unit: Bytes = (0..UNIT).map(pattern).collect();
        let mut script = vec![
            Step::ReadRequest,
            Step::write(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n")),
        ];
        script.extend((0..TOTAL / UNIT).map(|_| Step::Write(unit.clone())));
        script.push(Step::Close);
        let (peer, name) = house.peer(vec![script]).await;
        // What the first request of all costs is not counted.
        assert_eq!(house.get(&house.name("a.test"), VERSION).await.status, 200);
        let before = house.resident_bytes();

        let mut stream = house.knock_by_tcp().await;
        stream.write_all(request("GET", &name, VERSION, "").as_bytes()).await.unwrap();
        let mut wire = vec![0; 64 << 10];
        let read = stream.read(&mut wire).await.unwrap();
        wire.truncate(read);
        let mut written = (0, 0);
        until(Duration::from_secs(20), "the peer is held back", || {
            written = (peer.written(), if peer.written() == written.0 { written.1 + 1 } else { 0 });
            written.1 == 25
        })
        .await;
        assert!(written.0 < TOTAL / 4, "{} bytes are on their way to a sleeper", written.0);

        let mut grown = 0;
        let (mut at, mut buffer) = (0, vec![0; 256 << 10]);
        let head = wire.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(Answer::parse(&wire).is_some_and(|answer| answer.status == 200));
        let mut fresh = wire.split_off(head);
        loop {
            assert!(
                fresh.iter().zip(at..).all(|(byte, at)| *byte == pattern(at % UNIT)),
                "mangled after {at}"
            );
            at += fresh.len() as u64;
            grown = grown.max(house.resident_bytes().saturating_sub(before));
            let Ok(read @ 1..) = stream.read(&mut buffer).await else { break };
            fresh.clear();
            fresh.extend_from_slice(&buffer[..read]);
        }
        assert_eq!(at, TOTAL);
        assert!(grown < 16 << 20, "{grown} bytes more are held");
    })
    .await;
}

fn pattern(at: u64) -> u8 {
    (at % 251) as u8
}

const UNIT: u64 = 64 << 10;
const TOTAL: u64 = 1600 * UNIT;
