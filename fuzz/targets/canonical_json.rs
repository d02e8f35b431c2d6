//! JSON of a stranger, on its way to the canonical form that signatures are made over.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_bus::signing::{Event, Numbers, RoomVersion, SignedJson, to_canonical};

fuzz_target!(|text: &[u8]| {
    let strict = to_canonical(text, Numbers::Canonical);
    let as_python = to_canonical(text, Numbers::AsPython);
    for (form, numbers) in [(&strict, Numbers::Canonical), (&as_python, Numbers::AsPython)] {
        let Ok(form) = form else { continue };
        let again = to_canonical(form.as_bytes(), numbers);
        assert_eq!(again.as_ref(), Ok(form), "a canonical form is its own canonical form");
    }
    if let Ok(strict) = &strict {
        // Without odd numbers the two readings say the same.
        assert_eq!(to_canonical(strict.as_bytes(), Numbers::AsPython).as_ref(), Ok(strict));
        assert!(strict.as_bytes().len() <= 6 * text.len() + 2, "it grows by escapes only");
    }
    let _ = SignedJson::parse(text);
    for version in ["1", "11"] {
        let version = RoomVersion::parse(version).expect("there is such a version");
        if let Ok(event) = Event::parse(text, &version) {
            let _ = (event.event_id(), event.signers(), event.verify(|_, _| None));
        }
    }
});
