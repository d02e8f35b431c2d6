//! What is registered in a region, and where. Only the region's own process has this; it never reads it back from
//! the memory that others can write.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::buckets::BUCKETS;
use super::layout::{Draft, HEADER_BYTES, at, within};
use super::mapping::Mapping;
use super::metric::{Kind, Metric, RegisterError, Unit};

/// The figures of one region.
pub(super) struct Registry {
    /// Where the next record will be.
    used: usize,
    /// By name: what the name stands for.
    names: HashMap<String, (Kind, Unit)>,
    /// By name and labels: where the record is.
    places: HashMap<String, Slot>,
    slots: Vec<Slot>,
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Its value.
    pub(super) value: usize,
    /// Its buckets.
    pub(super) buckets: Option<usize>,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self { used: HEADER_BYTES, names: HashMap::new(), places: HashMap::new(), slots: Vec::new() }
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// The place of `metric`: found, or made at the end. `reserve` is asked for the memory up to a byte.
    pub(super) fn register(
        &mut self,
        metric: &Metric<'_>,
        kind: Kind,
        mapping: &Mapping,
        reserve: impl FnOnce(usize) -> bool,
    ) -> Result<Slot, RegisterError> {
        metric.check(kind)?;
        let mut labels = metric.labels.to_vec();
        labels.sort_unstable();
        let key = key(metric.name, &labels);
        let held = self.names.get(metric.name).copied();
        if let Some((held, held_unit)) = held.filter(|held| *held != (kind, metric.unit)) {
            let (wanted, wanted_unit) = (kind, metric.unit);
            return Err(RegisterError::Otherwise {
                metric: metric.name.to_owned(),
                held,
                held_unit,
                wanted,
                wanted_unit,
            });
        }
        if let Some(slot) = self.places.get(&key) {
            return Ok(*slot);
        }
        let draft = Draft::new(metric, if held.is_none() { metric.help } else { "" }, &labels, kind);
        let (begin, end) = (self.used, self.used + draft.bytes);
        if end > mapping.bytes() || !reserve(end) {
            mapping.word(at::REFUSED).fetch_add(1, Ordering::Relaxed);
            return Err(RegisterError::Full {
                metric: metric.name.to_owned(),
                held: begin as u64,
                held_max: mapping.bytes() as u64,
            });
        }
        mapping.write(begin, &draft.head);
        self.used = end;
        // Only now may a reader see it.
        mapping.word(at::USED).store(end as u64, Ordering::Release);
        let slot = Slot { value: begin + within::VALUE, buckets: draft.buckets.map(|at| begin + at) };
        self.names.insert(metric.name.to_owned(), (kind, metric.unit));
        self.places.insert(key, slot);
        self.slots.push(slot);
        Ok(slot)
    }

    /// Sets every value to zero.
    pub(super) fn forget_values(&self, mapping: &Mapping) {
        for slot in &self.slots {
            mapping.word(slot.value).store(0, Ordering::Relaxed);
            mapping.word(slot.value + 8).store(0, Ordering::Relaxed);
            for bucket in slot.buckets.iter().flat_map(|at| (0..BUCKETS).map(move |bucket| at + 8 * bucket)) {
                mapping.word(bucket).store(0, Ordering::Relaxed);
            }
        }
        mapping.word(at::REFUSED).store(0, Ordering::Relaxed);
    }
}

/// No two series have the same: a name has no NUL in it, and a value stands behind its length.
fn key(name: &str, labels: &[(&str, &str)]) -> String {
    let mut key = name.to_owned();
    for (name, value) in labels {
        key.push_str(&format!("\0{name}\0{}\0{value}", value.len()));
    }
    key
}
