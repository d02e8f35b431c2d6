//! What is volatile for one destination.

use southbridge_words::WallTime;

use super::batch::Batch;
use super::compose::Composer;
use super::limits::EduLimits;
use super::reader::VolatileEdu;
use super::shed::Shed;
use super::slots::Slots;
use crate::outgoing::EduKind;

/// The volatile EDUs that wait for one destination. One pointer, and nothing behind it while nothing waits.
///
/// It does not ask to be woken: what is stale is dropped when it is next touched, and there is no more of it than
/// the limits allow.
#[derive(Debug, Default)]
pub struct WaitingEdus(Option<Box<Slots>>);

/// What came of a push.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "what was dropped is counted"]
pub struct Pushed {
    /// Parts that need not be sent any more, because a later one says it all or takes them back.
    pub collapsed: u64,
    /// Parts that were dropped for want of room.
    pub shed: Shed,
}

impl WaitingEdus {
    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many parts wait.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |slots| slots.len())
    }

    /// How many bytes wait, as if each part were sent in an EDU of its own. Other destinations may share them.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |slots| slots.bytes())
    }

    /// When the oldest of what waits was created.
    pub fn oldest(&self) -> Option<WallTime> {
        self.0.as_ref()?.iter().map(|part| part.created_at).min()
    }

    /// `edu` is to be sent, and stands in for what it supersedes.
    pub fn push(&mut self, edu: &VolatileEdu, limits: &EduLimits, wall: WallTime) -> Pushed {
        let mut pushed = Pushed { collapsed: 0, shed: edu.left_out };
        if edu.slots.is_empty() {
            return pushed;
        }
        let slots = self.0.get_or_insert_default();
        for slot in &*edu.slots {
            pushed.collapsed += slots.push(slot.clone());
        }
        self.bound(limits, wall, &mut pushed.shed);
        pushed
    }

    /// Takes out what fits into at most `edus_max` EDUs of `bytes_max` bytes together, the earliest first, and leaves
    /// the rest; drops what is stale.
    ///
    /// With room for one EDU of [`EduLimits::part_bytes_max`] something is taken if anything is left. With less,
    /// what waits may not fit at all: see [`take_alone`](Self::take_alone).
    pub fn take(&mut self, edus_max: usize, bytes_max: usize, limits: &EduLimits, wall: WallTime) -> Batch {
        let Some(slots) = &mut self.0 else {
            return Batch::default();
        };
        let mut batch = Batch::default();
        slots.expire(limits, wall, &mut batch.expired);
        // A comma less than there are EDUs.
        let mut composer = Composer::new(limits, edus_max, bytes_max.saturating_add(1));
        batch.slots.reserve(slots.len());
        for slot in slots.take_all() {
            if composer.admit(&slot.part) {
                batch.slots.push(slot);
            } else {
                slots.keep(slot);
            }
        }
        (batch.along, batch.json) = composer.finish();
        self.tidy();
        batch
    }

    /// Takes out the earliest part, in an EDU of its own and whatever its size; drops what is stale.
    ///
    /// For a transaction that has nothing else in it and had not enough room for anything: as a PDU that is
    /// larger than a transaction should be, it cannot be cut and so goes alone. Something is taken if anything is
    /// left, so a destination is never asked for again and again in vain.
    pub fn take_alone(&mut self, limits: &EduLimits, wall: WallTime) -> Batch {
        let mut batch = Batch::default();
        if let Some(slots) = &mut self.0 {
            slots.expire(limits, wall, &mut batch.expired);
            if let Some(slot) = slots.take_first() {
                let mut composer = Composer::new(limits, 1, usize::MAX);
                composer.admit(&slot.part);
                (batch.along, batch.json) = composer.finish();
                batch.slots.push(slot);
            }
            self.tidy();
        }
        batch
    }

    /// Puts back what was surely not processed by its destination. What was said meanwhile is not overridden.
    pub fn restore(&mut self, batch: Batch, limits: &EduLimits, wall: WallTime) -> Pushed {
        let mut pushed = Pushed::default();
        if !batch.slots.is_empty() {
            pushed.collapsed = self.0.get_or_insert_default().put_back(batch.slots);
            self.bound(limits, wall, &mut pushed.shed);
        }
        pushed
    }

    /// Drops what is too old to be worth sending.
    pub fn expire(&mut self, limits: &EduLimits, wall: WallTime) -> Shed {
        self.shed(|slots, shed| slots.expire(limits, wall, shed))
    }

    /// Drops the oldest until no more than `bytes_max` bytes wait.
    pub fn shed_to(&mut self, bytes_max: usize) -> Shed {
        self.shed(|slots, shed| slots.drop_oldest(usize::MAX, bytes_max, shed))
    }

    /// Drops all of one kind.
    pub fn shed_kind(&mut self, kind: EduKind) -> Shed {
        self.shed(|slots, shed| slots.drop_kind(kind, shed))
    }

    /// Drops everything.
    pub fn clear(&mut self) -> Shed {
        let mut shed = Shed::default();
        for part in self.0.iter().flat_map(|slots| slots.iter()) {
            shed.add(part.kind, 1);
        }
        self.0 = None;
        shed
    }

    fn bound(&mut self, limits: &EduLimits, wall: WallTime, shed: &mut Shed) {
        if let Some(slots) = &mut self.0 {
            let is_over = |slots: &Slots| slots.len() > limits.parts_max || slots.bytes() > limits.bytes_max;
            if is_over(slots) {
                slots.expire(limits, wall, shed);
            }
            if is_over(slots) {
                // An eighth less than the bound, so that the next one does not start it all again.
                let within = |held: usize, most: usize| if held > most { most - most / 8 } else { most };
                let parts_max = within(slots.len(), limits.parts_max);
                let bytes_max = within(slots.bytes(), limits.bytes_max);
                slots.drop_oldest(parts_max, bytes_max, shed);
            }
            self.tidy();
        }
    }

    fn shed(&mut self, drop: impl FnOnce(&mut Slots, &mut Shed)) -> Shed {
        let mut shed = Shed::default();
        if let Some(slots) = &mut self.0 {
            drop(slots, &mut shed);
            self.tidy();
        }
        shed
    }

    fn tidy(&mut self) {
        self.0.take_if(|slots| slots.is_empty());
    }
}
