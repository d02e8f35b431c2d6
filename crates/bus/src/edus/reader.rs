//! Reads what is volatile, once for all its destinations.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use southbridge_words::{Instant, WallTime};

use super::content::{Piece, pieces};
use super::limits::EduLimits;
use super::part::{Key, Part, Typing, hash_of};
use super::shed::Shed;
use super::slots::Slot;
use super::typing_memory::TypingMemory;
use crate::outgoing::{EduKind, OutgoingEdu};

/// Reads volatile EDUs; one for the whole bus.
#[derive(Debug)]
pub struct EduReader {
    limits: EduLimits,
    memory: TypingMemory,
}

/// An EDU that was read. Cheap to clone; destinations share it.
#[derive(Clone, Debug)]
pub struct VolatileEdu {
    pub(super) slots: Arc<[Slot]>,
    /// What was left out because it is too large, or too much for any destination.
    pub(super) left_out: Shed,
}

/// The EDU must not be lost, so it does not belong among those that may be: it goes into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an EDU of kind {} must not be lost and cannot wait among the volatile ones", kind.name())]
pub struct NotVolatile {
    /// Its kind.
    pub kind: EduKind,
}

impl VolatileEdu {
    /// A single part of one.
    pub(super) fn of(slot: Slot) -> Self {
        Self { slots: [slot].into(), left_out: Shed::default() }
    }

    /// How many things with a state of their own it speaks of.
    pub fn parts(&self) -> usize {
        self.slots.len()
    }

    /// What was left out of it, for want of room for it anywhere.
    pub fn left_out(&self) -> Shed {
        self.left_out
    }
}

impl EduReader {
    /// Reads within `limits`, which should be those of the destinations' queues.
    pub fn new(limits: EduLimits) -> Self {
        Self { limits, memory: TypingMemory::new() }
    }

    /// Reads `edu`, which is about to be pushed to its destinations.
    ///
    /// # Errors
    /// [`NotVolatile`] when it is of a kind that is never dropped.
    pub fn read(
        &mut self,
        edu: &OutgoingEdu,
        now: Instant,
        wall: WallTime,
    ) -> Result<VolatileEdu, NotVolatile> {
        let kind = edu.kind();
        if kind.is_durable() {
            return Err(NotVolatile { kind });
        }
        // A clock that runs ahead somewhere must not keep it for ever.
        let created_at = edu.created_at().min(wall);
        let mut parts = match pieces(kind, edu.content()) {
            Some(pieces) => self.parts(pieces, edu, created_at, now),
            None => vec![whole(edu, created_at)],
        };
        let left_out = self.bound(&mut parts, kind);
        let slots = parts.into_iter().map(|part| Slot::new(Arc::new(part))).collect();
        Ok(VolatileEdu { slots, left_out })
    }

    fn parts(
        &mut self,
        pieces: Vec<Piece>,
        edu: &OutgoingEdu,
        created_at: WallTime,
        now: Instant,
    ) -> Vec<Part> {
        let alone = (pieces.len() == 1).then(|| edu.to_json());
        let pieces = last_of_each(pieces);
        let part = |piece: Piece| {
            let hash = hash_of(&piece.key);
            Part {
                kind: edu.kind(),
                place: place_of(&piece.key),
                hash,
                typing: self.typing(piece.is_typing, hash, now),
                created_at,
                alone: alone.clone(),
                raw: piece.raw,
                key: Some(piece.key),
            }
        };
        pieces.into_iter().map(part).collect()
    }

    fn typing(&mut self, is_typing: Option<bool>, hash: u64, now: Instant) -> Typing {
        match is_typing {
            None => Typing::None,
            Some(false) => Typing::Stop,
            Some(true) if self.memory.note_start(hash, &self.limits, now) => Typing::FirstStart,
            Some(true) => Typing::Start,
        }
    }

    /// Leaves out what no destination could keep.
    fn bound(&self, parts: &mut Vec<Part>, kind: EduKind) -> Shed {
        let before = parts.len();
        parts.retain(|part| part.alone_bytes() <= self.limits.part_bytes_max);
        parts.drain(..parts.len().saturating_sub(self.limits.parts_max));
        let mut left_out = Shed::default();
        left_out.add(kind, (before - parts.len()) as u64);
        left_out
    }
}

/// An EDU of another shape: passed on as it came.
fn whole(edu: &OutgoingEdu, created_at: WallTime) -> Part {
    Part {
        kind: edu.kind(),
        key: None,
        hash: 0,
        place: 0,
        typing: Typing::None,
        created_at,
        alone: Some(edu.to_json()),
        raw: Bytes::new(),
    }
}

/// Where one EDU says several things of one key, the last of them, as its reader would have it.
fn last_of_each(pieces: Vec<Piece>) -> Vec<Piece> {
    if pieces.len() < 2 {
        return pieces;
    }
    let last: BTreeMap<&Key, usize> = pieces.iter().enumerate().map(|(at, piece)| (&piece.key, at)).collect();
    if last.len() == pieces.len() {
        return pieces;
    }
    let is_last: Vec<bool> =
        pieces.iter().enumerate().map(|(at, piece)| last.get(&piece.key) == Some(&at)).collect();
    pieces.into_iter().zip(is_last).filter_map(|(piece, is_last)| is_last.then_some(piece)).collect()
}

fn place_of(key: &Key) -> u64 {
    match key {
        Key::Receipt { room, receipt_type, user, .. } => hash_of(&(room, receipt_type, user)),
        Key::Typing { .. } | Key::Presence { .. } => 0,
    }
}
