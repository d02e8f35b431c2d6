use super::*;

/// 128 bytes, as a small homeserver sends them.
const SAMPLE: &[u8] = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n\
    --b\r\nContent-Type: text/plain\r\nContent-Disposition: inline\r\n\r\nsmall file\r\n--b--\r\n";

fn boundary() -> Boundary {
    Boundary(b"b".to_vec())
}

#[test]
fn heads_are_complete_at_one_byte_and_not_before() {
    let content_at = find(SAMPLE, b"small file").unwrap();
    for at in 0..SAMPLE.len() {
        let found = boundary().find_heads(&SAMPLE[..at]);
        if at < content_at {
            assert_eq!(found, Ok(PartHeads::Incomplete), "at {at}");
        } else {
            assert_eq!(found, Ok(PartHeads::Complete { content_at, location: None }), "at {at}");
        }
    }
}

#[test]
fn a_location_instead_of_content_is_found() {
    let cases: [&[u8]; 3] = [
        b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nLocation: https://cdn/x\r\n\r\n\r\n--b--",
        b"\r\n--b\r\n\r\n{}\r\n--b\r\nX: y\r\nlocation:https://cdn/x \r\n\r\n",
        b"preamble\r\n--b  \r\nContent-Type: application/json\r\n\r\n{}\r\n--b\t\r\nLOCATION:  https://cdn/x\r\n\r\n",
    ];
    for body in cases {
        let Ok(PartHeads::Complete { location, .. }) = boundary().find_heads(body) else {
            panic!("not complete")
        };
        assert_eq!(location.as_deref(), Some(&b"https://cdn/x"[..]));
    }
}

/// What stands in the file is not a head.
#[test]
fn a_location_in_the_file_is_none() {
    let body = b"--b\r\n\r\n{}\r\n--b\r\nX: y\r\n\r\nLocation: z\r\n\r\n";
    assert!(matches!(boundary().find_heads(body), Ok(PartHeads::Complete { location: None, .. })));
}

/// Synapse would heed a location in the first part too.
#[test]
fn a_location_in_the_first_part_is_refused() {
    let body = b"--b\r\nLocation: x\r\n\r\n{}\r\n--b\r\nX: y\r\n\r\n";
    assert_eq!(boundary().find_heads(body), Err(MultipartError::MisplacedLocation));
}

/// What begins like a delimiter, and is none, must not hide the parts behind it.
#[test]
fn a_line_that_only_looks_like_a_delimiter_hides_nothing() {
    let body = b"\r\n--bX\r\n--b\r\n\r\n{\r\n--b-x}\r\n--b\r\nLocation: z\r\n\r\n";
    let Ok(PartHeads::Complete { location, .. }) = boundary().find_heads(body) else {
        panic!("not complete")
    };
    assert_eq!(location.as_deref(), Some(&b"z"[..]));
}

#[test]
fn a_body_without_two_parts_is_told_apart_from_one_that_is_not_here_yet() {
    for body in [&b"--b--\r\n"[..], b"--b\r\n\r\n{}\r\n--b--", b"--boundary\r\n"] {
        assert_eq!(boundary().find_heads(body), Err(MultipartError::Parts), "{body:?}");
    }
    for body in [&b""[..], b"x", b"--b", b"--b-", b"--b\r\n\r\n{}\r\n--b", b"--b\r\n\r\n{}\r\n--b\r\n"] {
        assert_eq!(boundary().find_heads(body), Ok(PartHeads::Incomplete), "{body:?}");
    }
    let endless = vec![b'x'; PART_HEADS_MAX];
    assert_eq!(boundary().find_heads(&endless), Err(MultipartError::TooLarge));
}

#[test]
fn boundaries_are_read_from_the_content_type() {
    let long = format!("multipart/mixed; boundary={}", "x".repeat(71));
    let named = |text| Ok(Some(text));
    let refused = Err(MultipartError::Boundary);
    let cases: &[(&str, Result<Option<&str>, MultipartError>)] = &[
        ("multipart/mixed; boundary=abc", named("abc")),
        ("Multipart/Mixed;charset=x; Boundary=\"a b;\\\"c\" ; y=z", named("a b;\"c")),
        ("multipart/mixed;boundary=abc ; x=y", named("abc")),
        ("multipart/mixed", refused),
        ("multipart/mixed; boundary=", refused),
        ("multipart/mixed; boundary=\"open", refused),
        ("multipart/mixed; x", refused),
        (&long, refused),
        ("multipart/related; boundary=abc", named("abc")),
        ("text/plain; boundary=abc", named("abc")),
        ("multipart/mixed; boundary=abc; boundary=abc", refused),
        ("multipart/mixed; boundary*=abc", refused),
        ("multipart/mixed; boundary=abc; boundary*0=abc", refused),
        ("multipart/mixed; boundary=\"abc\"d", refused),
        ("application/json", Ok(None)),
        ("application/json; charset=utf-8", Ok(None)),
    ];
    for (content_type, expected) in cases {
        let found = Boundary::of(&HeaderValue::from_str(content_type).unwrap());
        assert_eq!(found, expected.map(|text| text.map(|text| Boundary(text.into()))), "{content_type}");
    }
}

/// What we put around a fetched file is read back as what it is.
#[test]
fn what_we_write_we_can_read() {
    let boundary = Boundary::random();
    assert_ne!(boundary, Boundary::random());
    assert_eq!(Boundary::of(&boundary.content_type()), Ok(Some(boundary.clone())));
    let disposition = HeaderValue::from_static("inline; filename=x");
    let mut body = boundary.preface(&HeaderValue::from_static("image/png"), Some(&disposition));
    let content_at = body.len();
    body.extend_from_slice(b"file");
    body.extend_from_slice(&boundary.epilogue());
    assert_eq!(boundary.find_heads(&body), Ok(PartHeads::Complete { content_at, location: None }));
    assert!(
        find(&body, b"\r\nContent-Type: image/png\r\nContent-Disposition: inline; filename=x\r\n\r\nfile")
            .is_some()
    );
}
