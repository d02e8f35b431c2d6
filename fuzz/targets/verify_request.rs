//! What a caller of the bus hands in to be checked, read as far as it goes without a key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge::bus_door::{Check, read_checks};
use southbridge_bus::signing::{Event, SignedJson, XMatrix};

fuzz_target!(|input: &[u8]| {
    let Ok(read) = read_checks(input) else { return };
    for check in read.checks.into_iter().flatten() {
        match check {
            Check::Event { text, version } => {
                let Ok(event) = Event::parse(text.as_bytes(), &version) else { continue };
                let _ = (event.made_at(), event.event_id());
                for (_, keys) in event.signing_keys().into_iter().flatten() {
                    assert!((1..=Event::KEYS_PER_SIGNER_MAX).contains(&keys.len()));
                }
                if event.signers().is_ok_and(|signers| !signers.is_empty()) {
                    assert!(event.verify(|_, _| None).is_err(), "verified without a key");
                }
            }
            Check::Object { text, .. } => drop(SignedJson::parse(text.as_bytes())),
            Check::Request { authorization, .. } => drop(XMatrix::parse(authorization.as_bytes())),
        }
    }
});
