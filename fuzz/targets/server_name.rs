//! Matrix server names: what stands in a request's target, in `m.server`, and on the command line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_words::{HostPart, ServerName};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(name) = ServerName::parse(text) else { return };
    assert_eq!(name.as_str(), text, "a name is kept as it was written");
    assert!(name.port() != Some(0), "nobody listens on port 0");
    assert!(
        !text.contains(['/', '@', '?', '#', ' ', '\r', '\n', '\0']),
        "{text:?} would mean something else in a URL"
    );
    if let HostPart::Dns(host) = name.host() {
        assert!(host.is_ascii() && !host.is_empty(), "{text:?} has a host that DNS does not take");
    }
});
