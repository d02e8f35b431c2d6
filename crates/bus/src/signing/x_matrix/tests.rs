use proptest::prelude::*;

use super::*;

const SIG: &str = "QBtWWySeJtfVnFuPdUl8PD3ln8tUGL3nVYSGNwUIeDkuFAEA9XpO9gtc9sqwdfwBd/6P8w4I4TlQHbyaBOOkBA";

fn read(value: &str) -> Result<XMatrix, XMatrixError> {
    XMatrix::parse(value.as_bytes())
}

fn expected() -> XMatrix {
    XMatrix {
        origin: ServerName::parse("a.example").unwrap(),
        destination: Some(ServerName::parse("b.example:8448").unwrap()),
        key: KeyId::parse("ed25519:1").unwrap(),
        signature: Signature::parse(SIG).unwrap(),
    }
}

/// The header as today's servers, yesterday's and the specification's grammar write it.
#[test]
fn every_spelling_of_the_header_is_read() {
    for value in [
        format!(
            "X-Matrix origin=\"a.example\",destination=\"b.example:8448\",key=\"ed25519:1\",sig=\"{SIG}\""
        ),
        format!("X-Matrix origin=a.example,destination=\"b.example:8448\",key=\"ed25519:1\",sig=\"{SIG}\""),
        format!(
            "x-matrix  SIG={SIG} ,\t Key=ed25519:1, DESTINATION = b.example:8448 ,,origin=\"a.ex\\ample\" "
        ),
        format!(
            "X-MATRIX\torigin=a.example,x=\"\\\"\u{fc}, sig=\",y=,destination=b.example:8448,key=ed25519:1,sig={SIG}=="
        ),
        format!("X-Matrix ,origin=a.example,destination=b.example:8448,key=ed25519:1,signature={SIG},"),
    ] {
        assert_eq!(read(&value), Ok(expected()), "{value}");
    }
    let without = format!("X-Matrix origin=a.example,key=ed25519:1,sig={SIG}");
    assert_eq!(read(&without), Ok(XMatrix { destination: None, ..expected() }));
}

#[test]
fn headers_that_cannot_be_believed_are_refused() {
    let good = "origin=a.example,destination=b.example,key=ed25519:1";
    let sig = format!("{good},sig={SIG}");
    for (value, problem) in [
        (String::new(), "another scheme"),
        ("Bearer abc".to_owned(), "another scheme"),
        (format!("X-Matrixorigin={sig}"), "another scheme"),
        ("X-Matrix".to_owned(), "no \"origin\""),
        (format!("X-Matrix {good}"), "no \"sig\""),
        (format!("X-Matrix sig={SIG},key=ed25519:1"), "no \"origin\""),
        (format!("X-Matrix origin=a.example,sig={SIG}"), "no \"key\""),
        (format!("X-Matrix {sig},origin=b.example"), "\"origin\" more than once"),
        (format!("X-Matrix {sig},signature={SIG}"), "\"sig\" more than once"),
        (format!("X-Matrix {sig} x=y"), "cannot be read at byte"),
        (format!("X-Matrix {sig},x=\"y"), "cannot be read at byte"),
        (format!("X-Matrix {sig},x=\"y\\"), "cannot be read at byte"),
        (format!("X-Matrix {sig},x=\"a\r\nb\""), "cannot be read at byte"),
        (format!("X-Matrix {sig},x=\"a\"b"), "cannot be read at byte"),
        (format!("X-Matrix {sig},x"), "cannot be read at byte"),
        (format!("X-Matrix {sig},=y"), "cannot be read at byte"),
        (format!("X-Matrix {sig};x=y"), "\"sig\" of the authorization"),
        (format!("X-Matrix {good},sig=AAAA"), "it has 3 bytes instead of 64"),
        (format!("X-Matrix {good},sig=\"{SIG} \""), "it is not base64"),
        (format!("X-Matrix origin=\"\",key=ed25519:1,sig={SIG}"), "\"origin\" of the authorization"),
        (format!("X-Matrix origin=\"a b\",key=ed25519:1,sig={SIG}"), "\"origin\" of the authorization"),
        (format!("X-Matrix origin=a,destination=a/b,key=ed25519:1,sig={SIG}"), "\"destination\" of the"),
        (format!("X-Matrix origin=a,key=rsa:1,sig={SIG}"), "\"key\" of the authorization"),
        (format!("X-Matrix {sig}{}", ",a=b".repeat(40)), "more than 32 parameters"),
        (format!("X-Matrix {sig}{}", ",".repeat(5_000)), "the most is 4096"),
    ] {
        let error = read(&value).expect_err(&value).to_string();
        assert!(error.contains(problem), "{value}: {error:?} does not say {problem:?}");
        assert!(!error.contains(&SIG[..10]), "{error:?} shows the signature");
    }
}

proptest! {
    /// Whatever bytes come, they are read without panic; and what is read is what would be sent.
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80), cut in 0_usize..200) {
        let _ = XMatrix::parse(&bytes);
        let _ = XMatrix::parse(&[b"X-Matrix ", bytes.as_slice()].concat());
        let whole = expected().header_value(&ServerName::parse("b.example:8448").unwrap());
        prop_assert_eq!(read(&whole), Ok(expected()));
        // Cut anywhere, a signature is missing or too short.
        prop_assert!(read(&whole[..cut.min(whole.len() - 1)]).is_err());
    }

    /// Spaces, tabs, commas, case, order and unknown parameters say nothing.
    #[test]
    fn the_way_it_is_written_changes_nothing(
        order in Just([0_usize, 1, 2, 3]).prop_shuffle(),
        space in "[ \t,]{0,4}",
        unknown in "[a-m]{1,5}=(\"[ -!#-\\[\\]-~]{0,9}\"|[a-z:]{0,5})",
        shouting in any::<bool>(),
    ) {
        let parameters = [
            "origin=\"a.example\"".to_owned(),
            "destination=b.example:8448".to_owned(),
            "key=\"ed25519:1\"".to_owned(),
            format!("sig={SIG}"),
        ];
        prop_assume!(!unknown.starts_with("key="));
        let mut value = "X-Matrix ".to_owned();
        for index in order {
            let (name, rest) = parameters[index].split_once('=').unwrap();
            let name = if shouting { name.to_uppercase() } else { name.to_owned() };
            value = format!("{value}{space}{name}={rest} ,\t");
        }
        value.push_str(&unknown);
        prop_assert_eq!(read(&value), Ok(expected()));
    }
}
