//! The head of a request at the Synapse door: the first bytes of whoever can reach the socket.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge::local_http::Framing;
use southbridge::local_http::head::is_hop_by_hop;
use southbridge::synapse_door::read_head;
use southbridge_words::ServerName;

fuzz_target!(|bytes: &[u8]| {
    let Ok((head, addressee)) = read_head(bytes) else { return };
    let text = |needle: &str| bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
    // What is passed on is what was signed, byte for byte.
    assert!(text(addressee.path_and_query.as_str()), "{:?} was not asked for", addressee.path_and_query);
    assert!(text(addressee.server.as_str()), "{:?} was not asked for", addressee.server);
    assert_eq!(ServerName::parse(addressee.server.as_str()).as_ref(), Ok(&addressee.server));
    for (name, value) in &head.headers {
        assert!(!is_hop_by_hop(name.as_str()), "{name} belongs to this hop");
        assert!(
            !value.as_bytes().iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')),
            "{name} would break a head"
        );
    }
    // A head that could be read in two ways is not read at all.
    assert!(!head.headers.contains_key("content-length"));
    if head.framing == Framing::Chunked {
        assert!(!text("\r\nContent-Length:") && !text("\r\ncontent-length:"));
    }
    // Cut anywhere, it is no head.
    assert!(read_head(&bytes[..bytes.len() - 1]).is_err());
});
