//! Promise: a media redirect is never handed back to Synapse.

use std::net::{Ipv6Addr, TcpListener};

use southbridge_testkit::homeserver::{Canned, Media, blob};

use crate::caller::Answer;
use crate::house::{Wishes, at_home, in_house};

const LEGACY: &str = "/_matrix/media/v3/download/a.test/x";
const AUTHENTICATED: &str = "/_matrix/federation/v1/media/download/x";

fn is_blob(answer: &Answer, length: u64) -> bool {
    answer.status == 200 && answer.whole && answer.body.iter().copied().eq(blob(length))
}

/// Stock Synapse would follow it around the address policy, with its signature in hand.
#[tokio::test]
async fn a_redirect_of_legacy_media_is_followed_without_the_signature() {
    at_home(async |house| {
        let absolute = format!("https://{}/blob/70000?sig=%2F..%2f", house.name("cdn.test"));
        let relative = "/blob/500";
        for status in [302, 307, 308] {
            for (location, length) in [(absolute.as_str(), 70_000), (relative, 500)] {
                let canned = Canned::json(status, "{}").with("location", location);
                house.set("a.test", |script| script.canned = vec![(LEGACY.to_owned(), canned)]);
                let answer = house.get(&house.name("a.test"), LEGACY).await;
                assert!(is_blob(&answer, length), "{status} {location}: {}", answer.head);
                assert_eq!(answer.field("location"), None);
            }
        }
        let mut hops: Vec<_> = house.servers.received();
        hops.retain(|request| request.target.starts_with("/blob/"));
        assert_eq!(hops.len(), 6);
        for hop in hops {
            assert!(!hop.headers.contains_key("authorization"), "{} was sent the signature", hop.host);
            assert!(!hop.headers.contains_key("proxy-authorization"), "{} was sent the secret", hop.host);
        }
        assert_eq!(house.servers.received_by("cdn.test")[0].target, "/blob/70000?sig=%2F..%2f");
    })
    .await;
}

/// The second part of the answer says where the file is: Synapse is given the file in its place.
#[tokio::test]
async fn a_location_part_is_replaced_by_the_file() {
    at_home(async |house| {
        let url = format!("https://{}/blob/70000", house.name("cdn.test"));
        house.set("a.test", |script| script.media = Media::Redirect(url));
        let answer = house.get(&house.name("a.test"), AUTHENTICATED).await;
        assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
        assert!(answer.field("content-type").unwrap().starts_with("multipart/mixed"), "{}", answer.head);
        let file: Vec<u8> = blob(70_000).collect();
        assert!(answer.body.windows(file.len()).any(|window| window == file), "the file is not there");
        assert!(!answer.text().to_lowercase().contains("location:"));
        let hop = house.servers.received_by("cdn.test").pop().unwrap();
        assert!(!hop.headers.contains_key("authorization"));
    })
    .await;
}

/// Somebody else's service on this machine is what such a redirect would like to reach.
#[tokio::test]
async fn a_redirect_to_a_denied_address_leads_nowhere() {
    let wishes = Wishes { addresses: "allow = [\"127.0.0.1\"]", ..Wishes::default() };
    in_house(wishes, async |house| {
        let inside = TcpListener::bind("127.9.9.9:0").unwrap();
        let sixth = TcpListener::bind((Ipv6Addr::LOCALHOST, 0));
        let inside_port = inside.local_addr().unwrap().port();
        let sixth_port = sixth.as_ref().map_or(1, |listener| listener.local_addr().unwrap().port());
        house.dns.host("inside.test", &["127.9.9.9".parse().unwrap()], 60);
        for location in [
            format!("https://127.9.9.9:{inside_port}/"),
            format!("https://inside.test:{inside_port}/"),
            format!("https://[::ffff:127.9.9.9]:{inside_port}/"),
            format!("https://[::1]:{sixth_port}/"),
            format!("http://127.0.0.1:{}/blob/1", house.servers.port()),
            "https://10.0.0.1/".to_owned(),
            "https://169.254.169.254/latest/meta-data".to_owned(),
            "file:///etc/passwd".to_owned(),
            "//".to_owned(),
            "https://".to_owned(),
        ] {
            let canned = Canned::json(307, "{}").with("location", &location);
            house.set("a.test", |script| {
                script.canned = vec![(LEGACY.to_owned(), canned)];
                script.media = Media::Redirect(location.clone());
            });
            for path in [LEGACY, AUTHENTICATED] {
                let answer = house.get(&house.name("a.test"), path).await;
                assert_eq!((answer.status, answer.field("location")), (502, None), "{location} {path}");
            }
        }
        for listener in [Ok(inside), sixth].into_iter().flatten() {
            listener.set_nonblocking(true).unwrap();
            assert!(listener.accept().is_err(), "somebody came to {listener:?}");
        }
    })
    .await;
}

/// On the federation API a redirect is an answer like any other. It is followed by nobody.
#[tokio::test]
async fn a_redirect_of_anything_else_is_not_followed() {
    at_home(async |house| {
        let path = "/_matrix/federation/v1/event/1";
        let location = format!("https://{}/blob/1", house.name("cdn.test"));
        let canned = Canned::json(307, "{}").with("location", &location);
        house.set("a.test", |script| script.canned = vec![(path.to_owned(), canned)]);
        let answer = house.get(&house.name("a.test"), path).await;
        assert_eq!((answer.status, answer.field("location")), (307, None));
        assert_eq!(house.servers.received_by("cdn.test").len(), 0);
    })
    .await;
}
