//! The bytes of a transaction.

use bytes::{BufMut, Bytes, BytesMut};
use southbridge_words::{Item, ItemKind, ServerName, WallTime};

/// Renders a transaction from `origin` at `origin_server_ts`: the durable `items` in their order, and after the
/// durable EDUs `volatile_edus`, JSON objects separated by commas.
///
/// PDUs and EDUs stand in it byte for byte as they came. The result depends on nothing else, in every process and
/// version: transactions that were begun are rendered again after a restart.
pub fn render<'a, I>(origin: &ServerName, origin_server_ts: WallTime, items: I, volatile_edus: &[u8]) -> Bytes
where
    I: IntoIterator<Item = &'a Item>,
    I::IntoIter: Clone,
{
    let items = items.into_iter();
    let durable: usize = items.clone().map(|item| item.bytes.len() + 1).sum();
    let mut out = BytesMut::with_capacity(durable + volatile_edus.len() + FRAME_BYTES);
    let of_kind = |kind| items.clone().filter(move |item: &&Item| item.kind == kind);
    out.put_slice(b"{\"edus\":[");
    join(&mut out, of_kind(ItemKind::Edu).map(|item| &item.bytes[..]).chain(non_empty(volatile_edus)));
    // A server name has no character that JSON would escape.
    out.put_slice(b"],\"origin\":\"");
    out.put_slice(origin.as_str().as_bytes());
    out.put_slice(b"\",\"origin_server_ts\":");
    out.put_slice(origin_server_ts.unix_millis().to_string().as_bytes());
    out.put_slice(b",\"pdus\":[");
    join(&mut out, of_kind(ItemKind::Pdu).map(|item| &item.bytes[..]));
    out.put_slice(b"]}");
    out.freeze()
}

/// A hash of a body, the same in every process and version: FNV-1a over 64 bits. It tells whether a transaction
/// could be rendered again as it was, and protects from nothing else.
pub fn body_hash(body: &[u8]) -> u64 {
    body.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn join<'a>(out: &mut BytesMut, parts: impl Iterator<Item = &'a [u8]>) {
    for (at, part) in parts.enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(part);
    }
}

fn non_empty(bytes: &[u8]) -> Option<&[u8]> {
    (!bytes.is_empty()).then_some(bytes)
}

/// What a body has besides its PDUs and EDUs, at most: the names of its keys, a server name of 255 bytes, a number.
pub(super) const FRAME_BYTES: usize = 64 + 255 + 20;

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use southbridge_words::Seq;

    use super::*;

    fn item(seq: u64, kind: ItemKind, text: &'static str) -> Item {
        Item {
            seq: Seq(seq),
            kind,
            bytes: Bytes::from_static(text.as_bytes()),
            accepted_at: WallTime::default(),
        }
    }

    fn origin() -> ServerName {
        ServerName::parse("a.example:8448").unwrap()
    }

    /// What goes out is pinned to the byte: a later version must render an open transaction alike.
    #[test]
    fn a_body_is_always_the_same_bytes() {
        let items = [
            item(1, ItemKind::Pdu, r#"{ "b":1, "a":1.0e2}"#),
            item(2, ItemKind::Edu, r#"{"content":{},"edu_type":"m.direct_to_device"}"#),
            item(3, ItemKind::Pdu, r#"{"type":"é"}"#),
        ];
        let at = WallTime::from_unix_millis(1_700_000_000_123);
        let body = render(&origin(), at, &items, br#"{"content":{},"edu_type":"m.typing"}"#);
        let expected = concat!(
            r#"{"edus":[{"content":{},"edu_type":"m.direct_to_device"},{"content":{},"edu_type":"m.typing"}],"#,
            r#""origin":"a.example:8448","origin_server_ts":1700000000123,"#,
            r#""pdus":[{ "b":1, "a":1.0e2},{"type":"é"}]}"#,
        );
        assert_eq!(std::str::from_utf8(&body).unwrap(), expected);
        assert_eq!(body_hash(&body), 0x6aaa_b79a_991d_82c8);
        assert!(serde_json::from_slice::<Value>(&body).is_ok());
    }

    /// Nothing to send is still a transaction in form.
    #[test]
    fn an_empty_body_is_json() {
        let body = render(&origin(), WallTime::default(), &[], b"");
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (value["pdus"].as_array().unwrap().len(), value["edus"].as_array().unwrap().len()),
            (0, 0)
        );
        assert!(body.len() <= FRAME_BYTES);
    }
}
