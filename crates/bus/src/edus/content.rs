//! What stands in the content of the EDUs that we know.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::part::Key;
use crate::outgoing::EduKind;
use crate::outgoing::json::write_string;

/// What a part is about, what it says of typing, and what is written of it where it is merged with others.
pub(super) struct Piece {
    pub(super) key: Key,
    pub(super) is_typing: Option<bool>,
    pub(super) raw: Bytes,
}

/// The parts of `content`; none when it has another shape than the specification gives it, or more than we could
/// merge without losing some of it.
pub(super) fn pieces(kind: EduKind, content: &[u8]) -> Option<Vec<Piece>> {
    match kind {
        EduKind::Typing => typing(content),
        EduKind::Presence => presence(content),
        EduKind::Receipt => receipts(content),
        _ => None,
    }
}

#[derive(serde::Deserialize)]
struct TypingContent<'a> {
    #[serde(borrow)]
    room_id: Cow<'a, str>,
    #[serde(borrow)]
    user_id: Cow<'a, str>,
    typing: bool,
}

fn typing(content: &[u8]) -> Option<Vec<Piece>> {
    let content: TypingContent<'_> = serde_json::from_slice(content).ok()?;
    let key = Key::Typing { room: quoted(&content.room_id), user: quoted(&content.user_id) };
    Some(vec![Piece { key, is_typing: Some(content.typing), raw: Bytes::new() }])
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PresenceContent<'a> {
    #[serde(borrow)]
    push: Vec<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct PresencePush<'a> {
    #[serde(borrow)]
    user_id: Cow<'a, str>,
}

fn presence(content: &[u8]) -> Option<Vec<Piece>> {
    let content: PresenceContent<'_> = serde_json::from_slice(content).ok()?;
    let piece = |raw: &&RawValue| {
        let push: PresencePush<'_> = serde_json::from_str(object(raw)?).ok()?;
        let key = Key::Presence { user: quoted(&push.user_id) };
        Some(Piece { key, is_typing: None, raw: copied(raw) })
    };
    content.push.iter().map(piece).collect()
}

#[derive(serde::Deserialize)]
struct Receipt<'a> {
    #[serde(borrow)]
    data: Option<ReceiptData<'a>>,
}

#[derive(serde::Deserialize)]
struct ReceiptData<'a> {
    #[serde(borrow)]
    thread_id: Option<Cow<'a, str>>,
}

fn receipts(content: &[u8]) -> Option<Vec<Piece>> {
    let rooms: Pairs<'_, Pairs<'_, Pairs<'_, &RawValue>>> = serde_json::from_slice(content).ok()?;
    let mut pieces = Vec::new();
    for (room, types) in &rooms.0 {
        for (receipt_type, users) in &types.0 {
            for (user, raw) in &users.0 {
                let receipt: Receipt<'_> = serde_json::from_str(object(raw)?).ok()?;
                let thread = receipt.data.and_then(|data| data.thread_id);
                let key = Key::Receipt {
                    room: quoted(room),
                    receipt_type: quoted(receipt_type),
                    user: quoted(user),
                    thread: thread.map(|thread| quoted(&thread)),
                };
                pieces.push(Piece { key, is_typing: None, raw: copied(raw) });
            }
        }
    }
    Some(pieces)
}

/// A JSON object as it stands there: in order, and repeated names repeatedly.
struct Pairs<'a, V>(Vec<(Cow<'a, str>, V)>);

#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Pairs<'de, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for PairsVisitor<V> {
            type Value = Pairs<'de, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    pairs.push((name, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor(PhantomData))
    }
}

/// The text of `raw` when it is an object: what is read by name could also be a list to serde.
fn object(raw: &RawValue) -> Option<&str> {
    raw.get().starts_with('{').then(|| raw.get())
}

fn quoted(text: &str) -> Box<str> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    String::from_utf8(out).expect("JSON is UTF-8").into()
}

/// Its own bytes: one receipt that waits must not hold on to the whole of a long EDU.
fn copied(raw: &RawValue) -> Bytes {
    Bytes::copy_from_slice(raw.get().as_bytes())
}
