//! What key servers and notaries answer, told to the keyring.
//!
//! The first byte says who answers: the origin, or the notary after the origin failed.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_bus::externaliser::Moment;
use southbridge_bus::keyring::{
    Action, FetchFailure, Keyring, KeyringLimits, Notary, Purpose, Sources, Wanted,
};
use southbridge_bus::signing::{KeyId, ServerKeys, SigningKey};
use southbridge_words::{Instant, ServerName, Ticket, WallTime};

fuzz_target!(|input: &[u8]| {
    let Some((who, body)) = input.split_first() else { return };
    let server = ServerName::parse("one.example").expect("it is one");
    let id = KeyId::parse("ed25519:a").expect("it is one");
    if let Ok(keys) = ServerKeys::parse(body, &server, KEYS_MAX) {
        assert!(!keys.current.is_empty() && keys.current.len() + keys.expired.len() <= KEYS_MAX);
        assert!(keys.is_signed_by(&server, &keys.current), "nobody signed it");
    }
    let limits = KeyringLimits { keys_per_server_max: KEYS_MAX, ..KeyringLimits::default() };
    let notary_key = SigningKey::from_seed(id.clone(), &[3; 32]);
    let notary = Notary {
        server: ServerName::parse("notary.example").expect("it is one"),
        keys: vec![(id.clone(), notary_key.verify_key())],
    };
    let sources = Sources { notaries: vec![notary], ..Sources::default() };
    let mut keyring = Keyring::new(limits, sources, 7);
    let at = Moment { now: Instant::ZERO, wall: WallTime::from_unix_millis(1_800_000_000_000) };
    keyring.handle_wanted(Ticket(1), Wanted { server, key: id, purpose: Purpose::Request }, at);
    let mut answered = 0;
    while let Some(action) = keyring.poll() {
        match action {
            Action::FetchOrigin { id, .. } if who % 2 == 0 => keyring.handle_fetched(id, Ok(body), at),
            Action::FetchOrigin { id, .. } => keyring.handle_fetched(id, Err(FetchFailure::Unreachable), at),
            Action::FetchNotary { id, .. } => keyring.handle_fetched(id, Ok(body), at),
            Action::Answer { .. } | Action::Searched { .. } => answered += 1,
        }
    }
    assert_eq!(answered, 1, "every ticket is answered once");
    let counters = keyring.counters();
    assert!(counters.waiting == 0 && counters.servers <= 1 && counters.bytes < 64 * 1024);
});

const KEYS_MAX: usize = 8;
