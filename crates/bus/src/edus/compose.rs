//! Merges parts into EDUs, within the room that a transaction has left.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rustc_hash::FxHashMap;

use super::along::Along;
use super::limits::EduLimits;
use super::part::{FRAME_BYTES, Key, Part};
use crate::outgoing::EduKind;

/// EDUs in the making.
pub(super) struct Composer<'a> {
    limits: &'a EduLimits,
    drafts: Vec<Vec<Arc<Part>>>,
    edus_max: usize,
    bytes_left: usize,
    /// The presence EDU that has room for more.
    presence: Option<usize>,
    /// The receipt EDUs. The n-th receipt of one place goes into the n-th of them, or a later one.
    receipts: Vec<usize>,
    places: FxHashMap<u64, usize>,
    /// Kinds of which one of unknown shape found no room: those behind it must not overtake it.
    is_closed: [bool; EduKind::ALL.len()],
}

impl<'a> Composer<'a> {
    pub(super) fn new(limits: &'a EduLimits, edus_max: usize, bytes_max: usize) -> Self {
        Self {
            limits,
            drafts: Vec::new(),
            edus_max,
            bytes_left: bytes_max,
            presence: None,
            receipts: Vec::new(),
            places: FxHashMap::default(),
            is_closed: [false; EduKind::ALL.len()],
        }
    }

    /// Takes `part` in, if there is room. Says whether there was.
    pub(super) fn admit(&mut self, part: &Arc<Part>) -> bool {
        match &part.key {
            Some(Key::Presence { .. }) => self.admit_presence(part),
            Some(Key::Receipt { .. }) => self.admit_receipt(part),
            Some(Key::Typing { .. }) => self.begin(part).is_some(),
            None => self.admit_in_order(part),
        }
    }

    /// How many EDUs, and their JSON objects separated by commas.
    pub(super) fn finish(self) -> (Along, Bytes) {
        let mut along = Along::default();
        for part in self.drafts.iter().filter_map(|draft| draft.first()) {
            along.add_one(part.kind);
        }
        if let [draft] = &self.drafts[..]
            && let Some(came_as) = came_as(draft)
        {
            return (along, came_as.clone());
        }
        let bytes = self.drafts.iter().flatten().map(|part| part.alone_bytes() + 1).sum();
        let mut out = BytesMut::with_capacity(bytes);
        for (at, draft) in self.drafts.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            write_edu(&mut out, draft);
        }
        (along, out.freeze())
    }

    fn admit_presence(&mut self, part: &Arc<Part>) -> bool {
        if let Some(at) = self.presence
            && self.drafts[at].len() < self.limits.presence_users_max
        {
            return self.join(at, part);
        }
        let begun = self.begin(part);
        self.presence = begun.or(self.presence);
        begun.is_some()
    }

    fn admit_receipt(&mut self, part: &Arc<Part>) -> bool {
        let mut level = self.places.get(&part.place).copied().unwrap_or(0);
        while let Some(at) = self.receipts.get(level)
            && self.drafts[*at].len() >= self.limits.receipts_max
        {
            level += 1;
        }
        let is_in = match self.receipts.get(level).copied() {
            Some(at) => self.join(at, part),
            None => self.begin(part).map(|at| self.receipts.push(at)).is_some(),
        };
        if is_in {
            self.places.insert(part.place, level + 1);
        }
        is_in
    }

    fn admit_in_order(&mut self, part: &Arc<Part>) -> bool {
        let kind = part.kind as usize;
        if !self.is_closed[kind] {
            self.is_closed[kind] = self.begin(part).is_none();
        }
        !self.is_closed[kind]
    }

    /// Begins an EDU with `part`; where it stands.
    fn begin(&mut self, part: &Arc<Part>) -> Option<usize> {
        if self.drafts.len() >= self.edus_max {
            return None;
        }
        self.bytes_left = self.bytes_left.checked_sub(part.alone_bytes() + 1)?;
        self.drafts.push(vec![Arc::clone(part)]);
        Some(self.drafts.len() - 1)
    }

    fn join(&mut self, at: usize, part: &Arc<Part>) -> bool {
        let Some(left) = self.bytes_left.checked_sub(part.merged_bytes()) else {
            return false;
        };
        self.bytes_left = left;
        self.drafts[at].push(Arc::clone(part));
        true
    }
}

/// The EDU that a draft is already, if its only part came in one of its own.
fn came_as(draft: &[Arc<Part>]) -> Option<&Bytes> {
    let [part] = draft else { return None };
    part.alone.as_ref()
}

fn write_edu(out: &mut BytesMut, draft: &[Arc<Part>]) {
    if let Some(came_as) = came_as(draft) {
        out.put_slice(came_as);
        return;
    }
    if draft.first().is_some_and(|part| part.kind == EduKind::Presence) {
        write_presence(out, draft);
    } else {
        write_receipts(out, draft);
    }
}

fn write_presence(out: &mut BytesMut, draft: &[Arc<Part>]) {
    out.put_slice(PRESENCE_HEAD);
    for (at, part) in draft.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        out.put_slice(&part.raw);
    }
    out.put_slice(PRESENCE_TAIL);
}

/// Rooms, types and users sorted, each once.
fn write_receipts(out: &mut BytesMut, draft: &[Arc<Part>]) {
    let mut sorted: Vec<(&str, &str, &str, &Bytes)> = draft.iter().filter_map(|part| receipt(part)).collect();
    sorted.sort_unstable_by_key(|(room, receipt_type, user, _)| (*room, *receipt_type, *user));
    out.put_slice(RECEIPTS_HEAD);
    let mut last: Option<(&str, &str)> = None;
    for (room, receipt_type, user, raw) in sorted {
        let is_room = last.is_some_and(|(last_room, _)| last_room == room);
        let is_type = is_room && last.is_some_and(|(_, last_type)| last_type == receipt_type);
        let closing: &[u8] = match last {
            None => b"",
            Some(_) if is_type => b",",
            Some(_) if is_room => b"},",
            Some(_) => b"}},",
        };
        out.put_slice(closing);
        if !is_room {
            write_name(out, room);
            out.put_u8(b'{');
        }
        if !is_type {
            write_name(out, receipt_type);
            out.put_u8(b'{');
        }
        write_name(out, user);
        out.put_slice(raw);
        last = Some((room, receipt_type));
    }
    // The braces of the last room and type.
    out.put_slice(b"}}");
    out.put_slice(RECEIPTS_TAIL);
}

fn receipt(part: &Part) -> Option<(&str, &str, &str, &Bytes)> {
    match &part.key {
        Some(Key::Receipt { room, receipt_type, user, .. }) => Some((room, receipt_type, user, &part.raw)),
        _ => None,
    }
}

fn write_name(out: &mut BytesMut, quoted: &str) {
    out.put_slice(quoted.as_bytes());
    out.put_u8(b':');
}

const PRESENCE_HEAD: &[u8] = b"{\"content\":{\"push\":[";
const PRESENCE_TAIL: &[u8] = b"]},\"edu_type\":\"m.presence\"}";
const RECEIPTS_HEAD: &[u8] = b"{\"content\":{";
const RECEIPTS_TAIL: &[u8] = b"},\"edu_type\":\"m.receipt\"}";
const _: () = assert!(FRAME_BYTES >= PRESENCE_HEAD.len() + PRESENCE_TAIL.len());
const _: () = assert!(FRAME_BYTES >= RECEIPTS_HEAD.len() + RECEIPTS_TAIL.len());
