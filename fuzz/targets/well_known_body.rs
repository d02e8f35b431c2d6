//! Bodies of `/.well-known/matrix/server`: whatever the web server of a stranger serves there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_bus::resolver::parse_body;
use southbridge_words::ServerName;

fuzz_target!(|body: &[u8]| {
    if let Ok(delegation) = parse_body(body) {
        let name = delegation.server.as_str();
        assert_eq!(ServerName::parse(name).as_ref(), Ok(&delegation.server), "{name:?} is a server name");
        assert!(body.len() <= 50 * 1024, "a longer body is not read at all");
    }
});
