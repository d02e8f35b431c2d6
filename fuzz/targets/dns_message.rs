//! The packet of a name server that answers for SRV records: from the wire to records that can be used.
#![no_main]

use libfuzzer_sys::fuzz_target;
use southbridge_kernel::dns::read_srv_message;

fuzz_target!(|bytes: &[u8]| {
    let Ok(records) = read_srv_message(bytes, "_matrix-fed._tcp.example.org.", RECORDS_MAX) else { return };
    assert!(records.len() <= RECORDS_MAX);
    for record in records {
        let target = &record.target;
        assert!(!target.is_empty() && target.is_ascii(), "{target:?} is no name");
        assert!(&**target == "." || !target.ends_with('.'), "{target:?} has a final dot");
    }
});

const RECORDS_MAX: usize = 32;
