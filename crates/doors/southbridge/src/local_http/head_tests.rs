use proptest::prelude::*;

use super::*;

fn read(head: &str) -> Result<RequestHead, HeadError> {
    RequestHead::parse(&Bytes::copy_from_slice(head.as_bytes()))
}

/// What Synapse sends, as it was seen on the wire.
const SYNAPSE: &str = "PUT matrix-federation://remote.example/_matrix/federation/v1/send/17952%2F?a=%20b&a HTTP/1.1\r\n\
    Connection: close\r\n\
    Content-Length: 281\r\n\
    User-Agent: Synapse/1.163.2\r\n\
    Content-Type: application/json\r\n\
    Authorization: X-Matrix origin=\"hs1.test\",key=\"ed25519:1\",sig=\"a\"\r\n\
    Authorization: X-Matrix origin=\"hs1.test\",key=\"ed25519:2\",sig=\"b\"\r\n\
    Proxy-Authorization: Bearer sesame\r\n\
    Host: remote.example:80\r\n\r\n";

#[test]
fn synapses_request_is_taken_apart_without_a_byte_changed() {
    let head = read(SYNAPSE).unwrap();
    assert_eq!((&head.method, head.version), (&Method::PUT, Version::HTTP_11));
    let Target::Absolute { scheme, authority, path_and_query } = &head.target else { panic!("{head:?}") };
    assert_eq!((&**scheme, &**authority), ("matrix-federation", "remote.example"));
    assert_eq!(path_and_query.as_str(), "/_matrix/federation/v1/send/17952%2F?a=%20b&a");
    assert_eq!(head.framing, Framing::Length(281));
    assert_eq!(head.credentials, Credentials::One(HeaderValue::from_static("Bearer sesame")));
    let fields: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        fields,
        [
            ("user-agent", "Synapse/1.163.2"),
            ("content-type", "application/json"),
            ("authorization", "X-Matrix origin=\"hs1.test\",key=\"ed25519:1\",sig=\"a\""),
            ("authorization", "X-Matrix origin=\"hs1.test\",key=\"ed25519:2\",sig=\"b\""),
        ]
    );
}

#[test]
fn fields_of_this_hop_are_not_passed_on() {
    let head = read(
        "GET http://a.example/ HTTP/1.1\r\nHost: a\r\nConnection: close, X-Mine ,keep-alive\r\nX-Mine: 1\r\n\
         x-mine: 2\r\nKeep-Alive: 5\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: h2c\r\nProxy-Connection: close\r\n\
         Proxy-Authenticate: x\r\nX-Other: 3\r\nX-Empty:\r\n\r\n",
    )
    .unwrap();
    let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-other", "x-empty"]);
}

/// Faults 9, 10 and 29: each of these could be read in two ways, or smuggles something.
#[test]
fn ambiguous_and_illegal_heads_are_refused() {
    let long = format!("GET http://a/ HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    let many = format!("GET http://a/ HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(FIELDS_MAX + 1));
    let cases: &[(&str, &str)] = &[
        ("Content-Length: 1\r\nTransfer-Encoding: chunked", "both Content-Length"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 1", "both Content-Length"),
        ("Content-Length: 1\r\nContent-Length: 1", "more than one Content-Length"),
        ("Content-Length: 1, 1", "not a number"),
        ("Content-Length: +1", "not a number"),
        ("Content-Length: -1", "not a number"),
        ("Content-Length: 0x1", "not a number"),
        ("Content-Length:", "not a number"),
        ("Content-Length: 99999999999999999999", "not a number"),
        ("Transfer-Encoding: gzip, chunked", "other than chunked"),
        ("Transfer-Encoding: identity", "other than chunked"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "more than one Transfer-Encoding"),
        ("Transfer-Encoding : chunked", "cannot be read"),
        ("Expect: 200-maybe", "100-continue"),
        ("Host: a\r\nHost: b", "more than one Host"),
        ("X: a\r\n b", "cannot be read"),
        (" X: a", "cannot be read"),
        ("X: a\nY: b", "stray line feed"),
        ("X: a\rY: b", "stray carriage return"),
        ("X: a\0b", "stray NUL"),
        ("X: a\u{1}b", "cannot be read"),
        ("X\u{e9}: a", "cannot be read"),
        ("no colon", "cannot be read"),
        (": empty", "cannot be read"),
    ];
    for (fields, reason) in cases {
        let error =
            read(&format!("POST http://a/ HTTP/1.1\r\n{fields}\r\n\r\n")).expect_err(fields).to_string();
        assert!(error.contains(reason), "{fields:?}: {error}");
    }
    for (head, reason) in [(&long, "65536 bytes"), (&many, "100 fields")] {
        let error = read(head).expect_err(reason);
        assert_eq!(error.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert!(error.to_string().contains(reason), "{error}");
    }
    let old = read("POST http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
    assert!(old.to_string().contains("HTTP/1.0"), "{old}");
}

#[test]
fn request_lines_that_are_not_one_are_refused() {
    let cases = [
        "GET http://a/",
        "GET  http://a/ HTTP/1.1",
        "GET http://a/ HTTP/1.1 ",
        "GET http://a/ HTTP/2.0",
        "GET http://a/ HTTP/0.9",
        "GET http://a/b c HTTP/1.1",
        "GET http://a/#b HTTP/1.1",
        "GET http://a HTTP/1.1",
        "GET http://a?b HTTP/1.1",
        "GET http://a/\u{e9} HTTP/1.1",
        "GET http://a/\u{7f} HTTP/1.1",
        "GET http://a/<b> HTTP/1.1",
        "GET / HTTP/1.1",
        "GET * HTTP/1.1",
        "GET a:80 HTTP/1.1",
        "G@T http://a/ HTTP/1.1",
        "",
        "\r\nGET http://a/ HTTP/1.1",
    ];
    for line in cases {
        let error = read(&format!("{line}\r\n\r\n")).expect_err(line);
        assert_eq!(error.status(), StatusCode::BAD_REQUEST, "{line:?}: {error}");
    }
}

#[test]
fn connect_names_a_host_and_a_port() {
    let head = read("CONNECT a.example:8448 HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(head.target, Target::Authority("a.example:8448".into()));
    assert_eq!(head.version, Version::HTTP_10);
}

#[test]
fn two_proxy_authorizations_count_for_none() {
    let head =
        read("GET http://a/ HTTP/1.1\r\nProxy-Authorization: x\r\nproxy-authorization: x\r\n\r\n").unwrap();
    assert_eq!(head.credentials, Credentials::Several);
}

#[test]
fn an_expectation_counts_only_where_it_can_be_met() {
    let expects = |version: &str| {
        read(&format!("PUT http://a/ {version}\r\nExpect: 100-Continue\r\n\r\n")).unwrap().expects_continue
    };
    assert!(expects("HTTP/1.1"));
    assert!(!expects("HTTP/1.0"));
}

#[test]
fn a_responses_own_hop_fields_are_taken_out() {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("connection", "close, x-mine, content-length, content-type"),
        ("x-mine", "1"),
        ("transfer-encoding", "chunked"),
        ("proxy-authenticate", "Basic"),
        ("content-length", "5"),
        ("content-type", "text/plain"),
        ("set-cookie", "a"),
        ("set-cookie", "b"),
    ] {
        headers.append(name, value.parse().unwrap());
    }
    strip_hop_by_hop(&mut headers);
    let mut left: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    left.sort_by_key(|(name, _)| *name);
    assert_eq!(
        left,
        [("content-length", "5"), ("content-type", "text/plain"), ("set-cookie", "a"), ("set-cookie", "b")]
    );
}

/// The wire may cut a head anywhere: it is found in the same place, and refused for the same reason.
#[test]
fn a_head_is_found_wherever_it_is_cut() {
    let wire = format!("{SYNAPSE}body\n\0");
    for at in 0..=wire.len() {
        let mut scan = HeadScan::default();
        let first = scan.advance(&wire.as_bytes()[..at]).unwrap();
        let found = first.or_else(|| scan.advance(wire.as_bytes()).unwrap());
        assert_eq!(found, Some(SYNAPSE.len()), "cut at {at}");
    }
}

proptest! {
    /// Whatever comes, reading it does not panic.
    #[test]
    fn reading_anything_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = RequestHead::parse(&Bytes::from(bytes));
    }

    /// What is taken has no line end left in it, whatever stood in its fields.
    #[test]
    fn what_is_taken_has_no_line_ends(
        path in "/[ -~]{0,20}",
        name in "[A-Za-z-]{1,12}",
        value in "[ -~\\r\\n\\t\u{e9}]{0,20}",
    ) {
        let head = read(&format!("GET matrix-federation://a.example{path} HTTP/1.1\r\n{name}: {value}\r\n\r\n"));
        if let Ok(head) = head {
            let Target::Absolute { path_and_query, .. } = &head.target else { panic!("not asked for") };
            prop_assert_eq!(path_and_query.as_str(), path);
            for (_, value) in &head.headers {
                prop_assert!(!value.as_bytes().iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
            }
        }
    }
}
