use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn canonical(text: &str) -> String {
    written(text, Numbers::Canonical)
}

fn written(text: &str, numbers: Numbers) -> String {
    let canonical = to_canonical(text.as_bytes(), numbers).expect(text);
    String::from_utf8(canonical.as_bytes().to_vec()).unwrap()
}

fn refused(text: &[u8]) -> CanonicalError {
    to_canonical(text, Numbers::AsPython).expect_err("it has no canonical form")
}

/// The examples of the specification's appendix "Canonical JSON", all of them.
#[test]
fn the_examples_of_the_specification_come_out_as_written() {
    for (text, expected) in [
        ("{}", "{}"),
        ("{\n \"one\": 1,\n \"two\": \"Two\"\n}", r#"{"one":1,"two":"Two"}"#),
        (r#"{"b": "2", "a": "1"}"#, r#"{"a":"1","b":"2"}"#),
        (r#"{"b":"2","a":"1"}"#, r#"{"a":"1","b":"2"}"#),
        (
            r#"{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {"display_name": "John Doe",
            "three_pids": [{"medium": "email", "address": "john.doe@example.org"},
            {"medium": "msisdn", "address": "123456789"}]}}}"#,
            concat!(
                r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe","three_pids":"#,
                r#"[{"address":"john.doe@example.org","medium":"email"},{"address":"123456789","medium":"msisdn"}]},"#,
                r#""success":true}}"#
            ),
        ),
        (r#"{"a": "日本語"}"#, r#"{"a":"日本語"}"#),
        (r#"{"本": 2, "日": 1}"#, r#"{"日":1,"本":2}"#),
        (r#"{"a": "\u65E5"}"#, r#"{"a":"日"}"#),
        (r#"{"a": null}"#, r#"{"a":null}"#),
        (r#"{"a": -0, "b": 1e10}"#, r#"{"a":0,"b":10000000000}"#),
    ] {
        assert_eq!(canonical(text), expected);
    }
}

/// What canonicaljson 2.0 on Python 3.11 made of these texts.
#[test]
fn numbers_come_out_as_python_writes_them() {
    for (text, expected) in [
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("0.0", "0.0"),
        ("1.0", "1.0"),
        ("1e10", "10000000000.0"),
        ("1E-4", "0.0001"),
        ("0.00001", "1e-05"),
        ("1e15", "1000000000000000.0"),
        ("123456789012345678.0", "1.2345678901234568e+17"),
        ("1e16", "1e+16"),
        ("9999999999999998.0", "9999999999999998.0"),
        ("1.5e300", "1.5e+300"),
        ("5e-324", "5e-324"),
        ("1e-400", "0.0"),
        ("-1e-400", "-0.0"),
        ("0.1", "0.1"),
        ("1.10", "1.1"),
        ("2.675", "2.675"),
        ("1e22", "1e+22"),
        ("1e23", "1e+23"),
        ("9007199254740993.0", "9007199254740992.0"),
        (
            "12345678901234567890123456789012345678901234567890",
            "12345678901234567890123456789012345678901234567890",
        ),
        ("-9007199254740993", "-9007199254740993"),
        // As near to .2 as to .3: the even one.
        ("938107522398812.25", "938107522398812.2"),
        ("9381075223988123024700908.747e-10", "938107522398812.2"),
        ("-0.00012", "-0.00012"),
        ("-123.5e-2", "-1.235"),
    ] {
        assert_eq!(written(text, Numbers::AsPython), expected, "{text}");
    }
}

#[test]
fn canonical_numbers_are_small_integers() {
    for (text, expected) in [
        ("9007199254740991", "9007199254740991"),
        ("-9007199254740991", "-9007199254740991"),
        ("100.0", "100"),
        ("-0.0", "0"),
        ("1.5e1", "15"),
    ] {
        assert_eq!(canonical(text), expected);
    }
    for text in
        ["9007199254740992", "-9007199254740992", "1.5", "1e300", "1e16", "99999999999999999999", "1e400"]
    {
        let refused = to_canonical(text.as_bytes(), Numbers::Canonical);
        assert!(matches!(refused, Err(CanonicalError::Number { at: 0, .. })), "{text}");
    }
}

#[test]
fn numbers_that_python_cannot_read_are_refused() {
    let digits = "9".repeat(4_300);
    assert_eq!(written(&digits, Numbers::AsPython), digits);
    assert_eq!(written(&format!("-{digits}"), Numbers::AsPython), format!("-{digits}"));
    for text in
        [format!("9{digits}"), format!("-9{digits}"), "1e400".to_owned(), "-1e999999999999".to_owned()]
    {
        assert!(matches!(refused(text.as_bytes()), CanonicalError::Number { at: 0, .. }));
    }
}

#[test]
fn strings_are_escaped_no_more_than_needed() {
    for (text, expected) in [
        (r#""\/\u002f\u0022\u005c""#, r#""//\"\\""#),
        (r#""\u0008\u000C\u000a\u000D\u0009""#, r#""\b\f\n\r\t""#),
        (r#""\b\f\n\r\t""#, r#""\b\f\n\r\t""#),
        (r#""\u0000\u001F\u007f""#, "\"\\u0000\\u001f\u{7f}\""),
        (r#""\uD83D\ude00""#, "\"\u{1f600}\""),
        ("\"\u{2028}\u{ffff}\"", "\"\u{2028}\u{ffff}\""),
    ] {
        assert_eq!(canonical(text), expected);
    }
}

/// Escaped keys are compared by what they stand for: a quote sorts before a letter, though its escape does not.
#[test]
fn keys_are_ordered_by_code_point_and_the_last_of_equal_ones_counts() {
    for (text, expected) in [
        (r#"{"a":1,"\"":2}"#, r#"{"\"":2,"a":1}"#),
        (r#"{"\\":1,"Z":2,"]":3}"#, r#"{"Z":2,"\\":1,"]":3}"#),
        (r#"{"\u0001":1,"\n":2,"\u000b":3," ":4}"#, r#"{"\u0001":1,"\n":2,"\u000b":3," ":4}"#),
        ("{\"\u{10000}\":1,\"\u{ffff}\":2}", "{\"\u{ffff}\":2,\"\u{10000}\":1}"),
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#),
        (r#"{"ab":1,"a":2,"":3}"#, r#"{"":3,"a":2,"ab":1}"#),
        (r#"[{"b":{"d":[],"c":{}},"a":[{"z":1,"y":2}]}]"#, r#"[{"a":[{"y":2,"z":1}],"b":{"c":{},"d":[]}}]"#),
    ] {
        assert_eq!(canonical(text), expected);
    }
}

#[test]
fn only_members_of_the_outermost_object_are_left_out() {
    let text = br#"{"z":{"signatures":1},"signatures":{"b":1,"a":2},"unsigned":{},"a":[{"unsigned":2}]}"#;
    let left = to_canonical_without(text, Numbers::Canonical, &["signatures", "unsigned"]).unwrap();
    assert_eq!(left.as_bytes(), br#"{"a":[{"unsigned":2}],"z":{"signatures":1}}"#);
    let nothing = to_canonical_without(br#"{"a":1}"#, Numbers::Canonical, &["a"]).unwrap();
    assert_eq!(nothing.as_bytes(), b"{}");
    for text in ["[]", "1", "\"{}\""] {
        let refused = to_canonical_without(text.as_bytes(), Numbers::Canonical, &[]);
        assert_eq!(refused, Err(CanonicalError::NotObject));
    }
}

#[test]
fn what_is_no_json_is_refused_where_it_breaks() {
    for (text, at) in [
        ("", 0),
        ("{", 1),
        ("{}x", 2),
        ("[1,]", 3),
        ("{\"a\":1,}", 7),
        ("{a:1}", 1),
        ("nul", 0),
        ("NaN", 0),
        ("Infinity", 0),
        ("01", 1),
        ("-", 0),
        ("1.", 0),
        ("1e", 0),
        ("+1", 0),
        ("\"\n\"", 1),
        ("\"\\x\"", 1),
        ("\"\\u12g4\"", 1),
        ("\"\\u12", 1),
        ("\"", 1),
        ("\u{feff}{}", 0),
        ("[1 2]", 3),
        ("'a'", 0),
        ("{} {}", 3),
    ] {
        assert_eq!(refused(text.as_bytes()), CanonicalError::Syntax { at }, "{text:?}");
    }
    assert_eq!(refused(b"\"\xff\""), CanonicalError::NotUtf8 { at: 1 });
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud800x""#] {
        assert_eq!(refused(text.as_bytes()), CanonicalError::LoneSurrogate { at: 1 }, "{text}");
    }
}

/// Two hundred thousand brackets are an answer, not a crash.
#[test]
fn nesting_has_a_bound() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let most = DEPTH_MAX as usize;
    assert_eq!(written(&nested(most), Numbers::Canonical), nested(most));
    let too_deep = CanonicalError::TooDeep { depth_max: DEPTH_MAX };
    assert_eq!(refused(nested(most + 1).as_bytes()), too_deep);
    assert_eq!(refused("[".repeat(200_000).as_bytes()), too_deep);
    assert_eq!(refused("{\"a\":".repeat(200_000).as_bytes()), too_deep);
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53) + 1..(1_i64 << 53)).prop_map(Value::from),
        "\\PC{0,6}|[\\x00-\\x20\"\\\\/]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-c\"\\\\é\u{1}]{0,3}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    /// However a value is written, its canonical form is the one that ruma makes of it; and that is its own
    /// canonical form, in either reading of numbers.
    #[test]
    fn the_canonical_form_is_the_one_that_ruma_makes(value in json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let ours = canonical(&text.unwrap());
        let theirs = ruma_common::CanonicalJsonValue::try_from(value).unwrap().to_string();
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(&canonical(&ours), &ours);
        prop_assert_eq!(&written(&ours, Numbers::AsPython), &ours);
    }

    /// A double, however it is written, is written back as a text that reads as the same double and stays as it is.
    #[test]
    fn doubles_survive(value in any::<f64>().prop_filter("JSON has no others", |value| value.is_finite())) {
        let once = written(&format!("{value:e}"), Numbers::AsPython);
        prop_assert_eq!(once.parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        prop_assert_eq!(&written(&once, Numbers::AsPython), &once);
    }

    /// Whatever bytes come, they are read without panic, and what has a form has one only.
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..60),
                                       text in "[\\[\\]{}\",:0-9a\\\\u.eE+ -]{0,40}") {
        for text in [bytes.as_slice(), text.as_bytes()] {
            if let Ok(once) = to_canonical(text, Numbers::AsPython) {
                let again = to_canonical(once.as_bytes(), Numbers::AsPython);
                prop_assert_eq!(again, Ok(once));
            }
        }
    }
}
