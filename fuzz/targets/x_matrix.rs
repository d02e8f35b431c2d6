//! `Authorization: X-Matrix …`: what a stranger says about who it is.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_bus::signing::XMatrix;
use southbridge_words::ServerName;

fuzz_target!(|value: &[u8]| {
    let Ok(read) = XMatrix::parse(value) else { return };
    assert!(value.len() <= 4_096, "a longer value is not read at all");
    let destination = read.destination.clone().unwrap_or_else(|| ServerName::parse("b").expect("it is one"));
    // What we would send says the same, and nothing in it breaks out of its quotes.
    let written = read.header_value(&destination);
    assert!(written.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_control()), "{written:?}");
    assert_eq!(written.matches('"').count(), 8, "{written:?}");
    let again = XMatrix::parse(written.as_bytes()).expect("what is written can be read");
    assert_eq!(again, XMatrix { destination: Some(destination), ..read });
});
