//! Counters, gauges and histograms: handles to cells of the region, bumped by one atomic add.
//!
//! A handle holds the mapping and an address in it. Bumping takes no lock, makes no system call, allocates nothing
//! and waits for nobody, on whatever thread. Clones are the same figure.
//!
//! # Units
//! Arguments are in the unit the figure was registered with ([`Unit`]): seconds, bytes, things.
//!
//! # Source
//! K10; DESIGN decision 11.
#![allow(unsafe_code, reason = "a cell is an address in shared memory")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::buckets::{BUCKETS, bucket_of};
use super::mapping::Mapping;
use super::metric::Unit;

/// A number that only grows.
#[derive(Clone)]
pub struct Counter {
    cell: Cell,
    unit: Unit,
}

impl Counter {
    pub(super) fn new(cell: Cell, unit: Unit) -> Self {
        Self { cell, unit }
    }

    /// Adds `more` whole units.
    pub fn add(&self, more: u64) {
        self.cell.word().fetch_add(more.wrapping_mul(self.unit.per_one()), Ordering::Relaxed);
    }

    /// Adds `more` units. What is negative or no number adds nothing.
    pub fn add_f64(&self, more: f64) {
        self.cell.word().fetch_add(scaled(more, self.unit), Ordering::Relaxed);
    }

    /// The number now, in whole units.
    pub fn get(&self) -> u64 {
        self.cell.word().load(Ordering::Relaxed) / self.unit.per_one()
    }

    /// The number now, with its fraction.
    pub fn get_f64(&self) -> f64 {
        self.cell.word().load(Ordering::Relaxed) as f64 / self.unit.per_one() as f64
    }

    /// Takes over what is counted elsewhere, in the unit it is kept in.
    pub(super) fn mirror(&self, stored: u64) {
        self.cell.word().store(stored, Ordering::Relaxed);
    }
}

/// A number that goes up and down. Several threads may add to one; who sets it, had better be alone.
#[derive(Clone)]
pub struct Gauge {
    cell: Cell,
    unit: Unit,
}

impl Gauge {
    pub(super) fn new(cell: Cell, unit: Unit) -> Self {
        Self { cell, unit }
    }

    /// The number is `value` now. What is no number changes nothing.
    pub fn set(&self, value: f64) {
        if !value.is_nan() {
            self.cell.word().store(signed(value, self.unit).cast_unsigned(), Ordering::Relaxed);
        }
    }

    /// It changes by `more`, which may be negative.
    pub fn add(&self, more: f64) {
        self.cell.word().fetch_add(signed(more, self.unit).cast_unsigned(), Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> f64 {
        let stored = self.cell.word().load(Ordering::Relaxed).cast_signed();
        stored as f64 / self.unit.per_one() as f64
    }
}

/// How values are spread. Observing costs an add for the bucket and one for the sum.
#[derive(Clone)]
pub struct Histogram {
    cell: Cell,
    buckets: NonNull<AtomicU64>,
    unit: Unit,
}

// SAFETY: the pointer leads into the mapping that `cell` keeps, to words that are touched by atomic operations only.
unsafe impl Send for Histogram {}
// SAFETY: as above.
unsafe impl Sync for Histogram {}

impl Histogram {
    /// The histogram whose sum is at `cell`, its maximum in the word after, and its buckets from byte `buckets` on.
    pub(super) fn new(cell: Cell, buckets: usize, unit: Unit) -> Self {
        let first = cell.mapping.word_at(buckets);
        // The last one must be within the mapping, too.
        let _checked = cell.mapping.word_at(buckets + 8 * (BUCKETS - 1));
        Self { cell, buckets: first, unit }
    }

    /// Counts one `value`. What is negative counts as nothing at all, and what is no number is not counted.
    pub fn observe(&self, value: f64) {
        if !value.is_nan() {
            self.observe_stored(scaled(value, self.unit));
        }
    }

    /// Counts one `duration`, in a histogram of seconds.
    pub fn record(&self, duration: Duration) {
        match self.unit {
            Unit::Seconds => self.observe_stored(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)),
            _ => self.observe(duration.as_secs_f64()),
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        (0..BUCKETS).map(|bucket| self.bucket(bucket).load(Ordering::Relaxed)).sum()
    }

    /// All of them together.
    pub fn sum(&self) -> f64 {
        self.cell.word().load(Ordering::Relaxed) as f64 / self.unit.per_one() as f64
    }

    fn observe_stored(&self, stored: u64) {
        self.bucket(bucket_of(stored)).fetch_add(1, Ordering::Relaxed);
        self.cell.word().fetch_add(stored, Ordering::Relaxed);
        // Seldom true once it has been in use for a while, so seldom a second write.
        if stored > self.cell.word_after().load(Ordering::Relaxed) {
            self.cell.word_after().fetch_max(stored, Ordering::Relaxed);
        }
    }

    fn bucket(&self, bucket: usize) -> &AtomicU64 {
        debug_assert!(bucket < BUCKETS);
        // SAFETY: `bucket_of` gives less than BUCKETS for every value, and `new` has checked that so many words
        // from `buckets` on lie in the mapping, which `cell` keeps.
        unsafe { self.buckets.add(bucket).as_ref() }
    }
}

/// A word of the region, and the region's memory with it.
#[derive(Clone)]
pub(super) struct Cell {
    mapping: Arc<Mapping>,
    word: NonNull<AtomicU64>,
}

// SAFETY: the pointer leads into `mapping`, to words that are touched by atomic operations only.
unsafe impl Send for Cell {}
// SAFETY: as above.
unsafe impl Sync for Cell {}

impl Cell {
    /// The word at byte `at` of `mapping`, which must have a word after it.
    pub(super) fn new(mapping: Arc<Mapping>, at: usize) -> Self {
        let word = mapping.word_at(at);
        let _checked = mapping.word_at(at + 8);
        Self { mapping, word }
    }

    fn word(&self) -> &AtomicU64 {
        // SAFETY: the word lies in `mapping`, whose address never changes and which lives as long as `self`.
        unsafe { self.word.as_ref() }
    }

    fn word_after(&self) -> &AtomicU64 {
        // SAFETY: as above; `new` has checked that the next word lies in the mapping as well.
        unsafe { self.word.add(1).as_ref() }
    }
}

/// As it is kept, never below zero. A conversion of floats saturates.
fn scaled(value: f64, unit: Unit) -> u64 {
    (value * unit.per_one() as f64).round() as u64
}

fn signed(value: f64, unit: Unit) -> i64 {
    (value * unit.per_one() as f64).round() as i64
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Counter({} {})", self.get(), self.unit.name())
    }
}

impl fmt::Debug for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gauge({} {})", self.get(), self.unit.name())
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} of {})", self.count(), self.unit.name())
    }
}
