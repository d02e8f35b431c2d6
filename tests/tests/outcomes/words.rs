//! Promise: of what Synapse signs, not a byte changes.

use southbridge_testkit::raw::{Step, faults};

use crate::caller::{SECRET, VERSION};
use crate::house::at_home;

/// Signatures are made over the path as it was written, whatever a web server would make of it.
#[tokio::test]
async fn a_path_arrives_byte_for_byte() {
    at_home(async |house| {
        let (peer, name) = house.peer(vec![faults::well()]).await;
        let paths = [
            "/_matrix/federation/v1/event/%24abc%2Fdef%2f",
            "/_matrix/federation/v1/query/profile?user_id=%40a%3Ab.test&field=displayname&&x",
            "/_matrix//federation/v1/../v1/./version;v=1,2",
            "/_matrix/federation/v1/it's/(this)*!$&+=~_-.%7E%zz",
            "/_matrix/federation/v1/a?b?c=/?&d=%20+%2B;e",
            "//_matrix/version",
            "/_matrix/federation/v1/{curly}\"quote\"",
            "/?",
        ];
        for path in paths {
            let answer = house.get(&name, path).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let received = String::from_utf8(peer.received(0)).unwrap();
        let lines: Vec<_> = received.lines().filter(|line| line.starts_with("GET ")).collect();
        let expected: Vec<_> = paths.iter().map(|path| format!("GET {path} HTTP/1.1")).collect();
        assert_eq!(lines, expected);
    })
    .await;
}

/// What cannot be passed on as it stands is refused, and nothing is made of it.
#[tokio::test]
async fn a_path_that_would_have_to_change_is_refused() {
    at_home(async |house| {
        for path in ["/_matrix/a#b", "/#", "/a?b#c", "/a<b>", "/a\u{7f}", "", "?a=b", "a"] {
            let answer = house.get(&house.name("a.test"), path).await;
            assert_eq!(answer.status, 400, "{path:?}: {}", answer.text());
        }
        assert_eq!(house.servers.counts().accepted, 0);
    })
    .await;
}

/// Every signature is passed on, and nothing that was between Synapse and its proxy only.
#[tokio::test]
async fn a_request_arrives_with_its_signatures_and_a_host_of_its_own() {
    at_home(async |house| {
        let (peer, name) = house.peer(vec![faults::well()]).await;
        let body = "{\"a\":\"\\u0000 \u{e9}\u{1f600}\",  \"b\" :1}\r\n\r\n";
        let request = format!(
            "PUT matrix-federation://{name}/_matrix/federation/v1/send/1 HTTP/1.1\r\nConnection: close, X-Between\r\n\
             X-Between: us\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Connection: close\r\n\
             Content-Length: {}\r\nContent-Type: application/json; charset=x\r\n\
             Authorization: X-Matrix sig=\"1\"\r\nAuthorization: X-Matrix sig=\"2\"\r\n\
             Proxy-Authorization: Bearer {SECRET}\r\nHost: elsewhere.test:80\r\n\r\n{body}",
            body.len()
        );
        let answer = house.send(request).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{}", answer.text());
        let received = String::from_utf8(peer.received(0)).unwrap();
        let (head, arrived) = received.split_once("\r\n\r\n").unwrap();
        assert_eq!(arrived, body);
        let mut fields: Vec<_> = head.lines().skip(1).map(str::to_ascii_lowercase).collect();
        fields.sort();
        let length = format!("content-length: {}", body.len());
        let host = format!("host: {name}");
        assert_eq!(
            fields,
            [
                "authorization: x-matrix sig=\"1\"",
                "authorization: x-matrix sig=\"2\"",
                &length,
                "content-type: application/json; charset=x",
                &host,
            ]
        );
    })
    .await;
}

/// What a peer says to its neighbour on the wire is not for Synapse; its content, and what it is, are.
#[tokio::test]
async fn a_response_arrives_as_it_was_sent() {
    at_home(async |house| {
        let response = "HTTP/1.1 418 Short and stout\r\nContent-Type: application/json; charset=utf-8\r\n\
            Connection: keep-alive, X-Hop\r\nX-Hop: mine\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\
            Retry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n5;x=y\r\n\":1}\n\r\n0\r\n\r\n";
        let (_peer, name) =
            house.peer(vec![vec![Step::ReadRequest, Step::write(response), Step::Again]]).await;
        let answer = house.get(&name, VERSION).await;
        assert_eq!((answer.status, answer.text().as_str(), answer.whole), (418, "{\"a\":1}\n", true));
        assert_eq!(answer.field("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(answer.field("retry-after"), Some("7"));
        for absent in ["x-hop", "keep-alive", "upgrade"] {
            assert_eq!(answer.field(absent), None, "{absent}");
        }
    })
    .await;
}
