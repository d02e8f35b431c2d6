//! Where the content of a part of federation media ends: the body of a stranger, in pieces that he may have cut as well.
//!
//! The input is the length of the pieces in one byte, what comes after the dashes of the delimiter up to a line feed, then the
//! body.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use southbridge::client::Cutter;

fuzz_target!(|bytes: &[u8]| {
    let [length, bytes @ ..] = bytes else { return };
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(boundary), Some(body)) = (halves.next(), halves.next()) else { return };
    if boundary.contains(&b'\r') {
        return;
    }
    let delimiter = [b"\r\n--", boundary].concat();
    let mut cutter = Cutter::new(delimiter.clone().into());
    let (mut content, mut rest) = (Vec::new(), None::<Vec<u8>>);
    for piece in body.chunks(usize::from(*length).max(1)) {
        if let Some(rest) = &mut rest {
            rest.extend_from_slice(piece);
            continue;
        }
        let cut = cutter.cut(Bytes::copy_from_slice(piece));
        content.extend_from_slice(&cut.before);
        content.extend_from_slice(&cut.content);
        rest = cut.rest.map(|rest| rest.to_vec());
    }
    content.extend_from_slice(&cutter.finish());
    let ends_at = body.windows(delimiter.len()).position(|window| window == delimiter);
    assert_eq!(content, body[..ends_at.unwrap_or(body.len())], "content ends at the first delimiter");
    assert_eq!(rest.unwrap_or_default(), body[ends_at.unwrap_or(body.len())..], "nothing is lost behind it");
});
