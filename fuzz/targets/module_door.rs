//! What may come from whoever is let in at the module door: one frame, read as a greeting and as a question.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge::module_door::frames::{parted, to_daemon};
use southbridge::module_door::words::{Asked, Greeting, Hello, PROTOCOL, Request, parts};

fuzz_target!(|bytes: &[u8]| {
    let Ok((head, body)) = parted(bytes) else { return };
    assert_eq!(4 + head.len() + body.len(), bytes.len(), "bytes that nobody looks at");
    assert_eq!(to_daemon(head, body)[4..], *bytes, "it is framed as it came");
    if let Ok(greeting) = Greeting::read(head) {
        assert_eq!(greeting.protocol, PROTOCOL);
        if let Ok(hello) = serde_json::from_slice::<Hello>(head) {
            assert!(!hello.server_name.0.as_str().is_empty());
        }
    }
    let Ok(Asked(_, request)) = serde_json::from_slice(head) else { return };
    match request {
        Request::SendPdu { to, .. } | Request::SendEdu { to, .. } => {
            // A name takes a byte at least, with its quotes and its comma.
            assert!(to.len() * 4 <= head.len() + 1, "more names than were said");
        }
        Request::Carry { pdus, edus, .. } => {
            let mut rest = body;
            let Ok(pdus) = parts(&mut rest, pdus) else { return };
            let Ok(edus) = parts(&mut rest, edus) else { return };
            let read: Vec<u8> = pdus.into_iter().chain(edus).flat_map(|(part, _)| part).collect();
            assert_eq!([&read, rest].concat(), body, "it is cut where its parts end");
        }
        _ => {}
    }
});
