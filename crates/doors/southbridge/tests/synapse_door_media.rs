//! Media through the Synapse door: redirects are followed here, and part heads reach Synapse in one piece.

mod house;

use std::time::Duration;

use house::{Answer, at_home, request};
use southbridge_testkit::certificates::Alpn;
use southbridge_testkit::homeserver::{Canned, HostScript, Media, blob};
use southbridge_testkit::raw::{RawPeer, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Stock Synapse would send its signature along.
#[tokio::test]
async fn a_redirect_of_legacy_media_is_followed_here_without_the_signature() {
    at_home(async |house| {
        let url = format!("https://{}/blob/50000", house.name("cdn.test"));
        house.servers.set("a.test", HostScript { media: Media::Redirect(url), ..HostScript::default() });
        let answer = house.get(&house.name("a.test"), LEGACY).await;
        assert_eq!((answer.status, answer.whole, answer.field("location")), (200, true, None));
        assert_eq!(answer.field("content-length"), Some("50000"));
        assert!(answer.body.iter().copied().eq(blob(50000)));
        let hop = house.servers.received_by("cdn.test").pop().unwrap();
        assert_eq!(hop.target, "/blob/50000");
        assert!(!hop.headers.contains_key("authorization"));
        assert_eq!(house.door.snapshot().redirects, 1);
    })
    .await;
}

#[tokio::test]
async fn a_relative_redirect_asks_the_same_homeserver_again() {
    at_home(async |house| {
        let canned = vec![(LEGACY.to_owned(), Canned::json(308, "").with("location", "/blob/10"))];
        house.servers.set("a.test", HostScript { canned, ..HostScript::default() });
        let answer = house.get(&house.name("a.test"), LEGACY).await;
        assert!(answer.status == 200 && answer.body.iter().copied().eq(blob(10)), "{answer:?}");
        let hop = house.servers.received_by("a.test").pop().unwrap();
        assert!(!hop.headers.contains_key("authorization"));
    })
    .await;
}

/// The part that should be the file says where the file is: Synapse must be given the file.
#[tokio::test]
async fn a_location_in_federation_media_is_replaced_by_what_it_leads_to() {
    at_home(async |house| {
        let url = format!("https://{}/blob/50000", house.name("cdn.test"));
        house.servers.set("a.test", HostScript { media: Media::Redirect(url), ..HostScript::default() });
        let answer = house.get(&house.name("a.test"), MEDIA).await;
        assert_eq!((answer.status, answer.whole), (200, true));
        let boundary =
            answer.field("content-type").unwrap().strip_prefix("multipart/mixed; boundary=").unwrap();
        let before = format!(
            "--{boundary}\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--{boundary}\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        let body =
            [before.into_bytes(), blob(50000).collect(), format!("\r\n--{boundary}--\r\n").into_bytes()];
        assert!(answer.body == body.concat());
    })
    .await;
}

/// Faults 12 and 13: loops, other schemes and addresses that are denied end at the door.
#[tokio::test]
async fn a_media_redirect_that_must_not_be_followed_is_not_handed_back_either() {
    at_home(async |house| {
        let looping = format!("https://{}{LEGACY}", house.name("a.test"));
        for location in [
            looping.as_str(),
            "http://cdn.test/x",
            "file:///etc/passwd",
            "https://user@cdn.test/",
            "https://private.test/x",
            "https://10.0.0.1/x",
            "https://[::ffff:10.0.0.1]/x",
            "https://169.254.169.254/latest",
        ] {
            let canned = vec![(LEGACY.to_owned(), Canned::json(307, "").with("location", location))];
            let script =
                HostScript { canned, media: Media::Redirect(location.to_owned()), ..HostScript::default() };
            house.servers.set("a.test", script);
            for path in [LEGACY, MEDIA] {
                let answer = house.get(&house.name("a.test"), path).await;
                assert_eq!((answer.status, answer.field("location")), (502, None), "{location} {path}");
                assert!(!answer.text().contains("Location:"), "{location} {path}");
            }
        }
        assert_eq!(house.servers.received_by("cdn.test").len(), 0);
    })
    .await;
}

/// 128 bytes of media, cut at every byte: Synapse always sees the same first read.
#[tokio::test]
async fn part_heads_reach_synapse_in_one_write_however_they_were_cut() {
    let sample = "--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n\
        Content-Disposition: inline\r\n\r\nsmall fi\r\n--b--\r\n";
    at_home(async |house| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Length: {}\r\n\r\n",
            sample.len()
        );
        let scripts = (1..sample.len()).map(|at| {
            let (first, second) = sample.split_at(at);
            let pause = Step::Pause(Duration::from_millis(2));
            vec![
                Step::ReadRequest,
                Step::write(format!("{head}{first}")),
                pause,
                Step::write(second),
                Step::Close,
            ]
        });
        let peer = RawPeer::tls(&house.authority, Alpn::Http1, scripts.collect()).await.unwrap();
        let name = format!("a.test:{}", peer.address().port());
        for at in 1..sample.len() {
            let mut stream = house.knock("door").await;
            stream.write_all(request("GET", &name, MEDIA, "").as_bytes()).await.unwrap();
            let mut first = vec![0; 64 * 1024];
            let read = stream.read(&mut first).await.unwrap();
            let answer = Answer::parse(&first[..read]).expect("a whole head");
            assert_eq!((answer.status, answer.text().as_str()), (200, sample), "cut at {at}");
        }
    })
    .await;
}

/// Synapse would follow a location that comes after the file, once it has read all: it must not read all.
#[tokio::test]
async fn a_third_part_of_media_is_never_passed_on_whole() {
    let third = "\r\n--b\r\nLocation: https://10.0.0.1/\r\n\r\n\r\n--b--\r\n";
    at_home(async |house| {
        let answer = |file: &str| {
            let body =
                format!("--b\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--b\r\n\r\n{file}{third}");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed; boundary=b";
            let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            vec![Step::ReadRequest, Step::write(answer), Step::Close]
        };
        let scripts = vec![answer("small"), answer(&"x".repeat(1_000_000))];
        let peer = RawPeer::tls(&house.authority, Alpn::Http1, scripts).await.unwrap();
        let name = format!("a.test:{}", peer.address().port());
        let small = house.get(&name, MEDIA).await;
        assert!(small.status == 502 && small.text().contains("two parts"), "{}", small.text());
        let big = house.get(&name, MEDIA).await;
        assert_eq!((big.status, big.whole, big.text().contains("Location")), (200, false, false));
    })
    .await;
}

const LEGACY: &str = "/_matrix/media/v3/download/a.test/x";
const MEDIA: &str = "/_matrix/federation/v1/media/download/x";
