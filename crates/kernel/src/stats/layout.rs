//! How a region is laid out: a header, and then one record after another.
//!
//! Everything is in the byte order of the machine: a region is read where it was written. Records are only ever
//! appended, and the header's `used` is raised when a record is whole, so a reader at any moment, and one who comes
//! after a crash, finds whole records up to `used`.
//!
//! ```text
//! header, 256 bytes                          record, a multiple of 64 bytes
//!   0  magic "SBSTATS\n"                       0  length of the record, u32
//!   8  version, u32; length of header, u32     4  kind, u8; unit, u8; number of labels, u16
//!  16  length of the file                      8  length of name, help and labels, u16 each; 0
//!  24  used: where the next record will be    16  the value; the sum of a histogram
//!  32  process id                             24  the maximum of a histogram
//!  40  start, Unix milliseconds               32  name, help, then of each label its name and value,
//!  48  registrations refused for want of room     both behind their lengths (u16)
//!  56  last sign of life, Unix milliseconds   then, from a multiple of 64 on, the buckets of a histogram
//!  64  length of the program's name
//!  72  the program's name
//! ```
//!
//! A value is one word: of a counter a `u64`, of a gauge an `i64`, in the unit's smallest part ([`super::Unit`]).
//! The help stands in the first record of a name; the others have none.
//!
//! # Source
//! K10; DESIGN decision 11.

use super::buckets::BUCKETS;
use super::metric::{Kind, Metric, Unit};

/// What a region begins with.
pub(super) const MAGIC: [u8; 8] = *b"SBSTATS\n";
/// The version of this layout. A reader takes no other.
pub(super) const VERSION: u32 = 1;
/// The length of the header.
pub(super) const HEADER_BYTES: usize = 256;
/// Records begin at multiples of this: a cache line, so that no two figures share one.
pub(super) const LINE: usize = 64;

/// Where the words of the header are.
pub(super) mod at {
    /// The magic.
    pub(in super::super) const MAGIC: usize = 0;
    /// Version and length of the header.
    pub(in super::super) const VERSION: usize = 8;
    /// Length of the file.
    pub(in super::super) const CAPACITY: usize = 16;
    /// Where the next record will be.
    pub(in super::super) const USED: usize = 24;
    /// The process.
    pub(in super::super) const PID: usize = 32;
    /// When it started.
    pub(in super::super) const STARTED: usize = 40;
    /// Registrations refused.
    pub(in super::super) const REFUSED: usize = 48;
    /// The last sign of life.
    pub(in super::super) const BEAT: usize = 56;
    /// The program, behind its length.
    pub(in super::super) const PROGRAM: usize = 64;
}

/// The longest name of a program that is kept.
pub(super) const PROGRAM_BYTES_MAX: usize = HEADER_BYTES - at::PROGRAM - 8;

/// Where the parts of a record are, from its beginning.
pub(super) mod within {
    /// The value, or the sum.
    pub(in super::super) const VALUE: usize = 16;
    /// The maximum.
    pub(in super::super) const MAXIMUM: usize = 24;
    /// Name, help and labels.
    pub(in super::super) const TEXT: usize = 32;
}

/// A record in the making.
pub(super) struct Draft {
    /// What stands in it before its first value is counted.
    pub(super) head: Vec<u8>,
    /// Its length.
    pub(super) bytes: usize,
    /// Where its buckets begin, if it has some.
    pub(super) buckets: Option<usize>,
}

impl Draft {
    /// The record of `metric`, which has been checked; `labels` are its labels in order.
    pub(super) fn new(metric: &Metric<'_>, help: &str, labels: &[(&str, &str)], kind: Kind) -> Self {
        let mut text = Vec::with_capacity(256);
        text.extend_from_slice(metric.name.as_bytes());
        text.extend_from_slice(help.as_bytes());
        let plain = text.len();
        for part in labels.iter().flat_map(|(name, value)| [name, value]) {
            text.extend_from_slice(&short(part.len()).to_ne_bytes());
            text.extend_from_slice(part.as_bytes());
        }
        let labels_bytes = text.len() - plain;
        let end = (within::TEXT + text.len()).next_multiple_of(LINE);
        let buckets = (kind == Kind::Histogram).then_some(end);
        let bytes = end + buckets.map_or(0, |_| 8 * BUCKETS);
        let mut head = Vec::with_capacity(end);
        head.extend_from_slice(
            &u32::try_from(bytes).expect("a record is a few thousand bytes").to_ne_bytes(),
        );
        head.extend_from_slice(&[kind as u8, metric.unit as u8]);
        for length in [labels.len(), metric.name.len(), help.len(), labels_bytes, 0] {
            head.extend_from_slice(&short(length).to_ne_bytes());
        }
        head.resize(within::TEXT, 0);
        head.extend_from_slice(&text);
        Self { head, bytes, buckets }
    }
}

fn short(length: usize) -> u16 {
    u16::try_from(length).expect("the lengths of names, helps and labels are bounded")
}

/// The parts of a record's head, as they stand there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) bytes: usize,
    pub(super) kind: Kind,
    pub(super) unit: Unit,
    pub(super) labels: usize,
    pub(super) name_bytes: usize,
    pub(super) help_bytes: usize,
    pub(super) labels_bytes: usize,
}

impl Head {
    /// Reads the head of the record that `record` begins with.
    ///
    /// # Errors
    /// Says what it is that no writer writes.
    pub(super) fn read(record: &[u8]) -> Result<Self, &'static str> {
        let word = |at: usize| record.get(at..at + 2).map(|b| usize::from(u16::from_ne_bytes([b[0], b[1]])));
        let length = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes) as usize);
        let (Some(bytes), Some(labels), Some(name_bytes), Some(help_bytes), Some(labels_bytes)) =
            (length, word(6), word(8), word(10), word(12))
        else {
            return Err("a record is cut off");
        };
        let kind =
            record.get(4).and_then(|byte| Kind::from_byte(*byte)).ok_or("a record of no known kind")?;
        let unit =
            record.get(5).and_then(|byte| Unit::from_byte(*byte)).ok_or("a record of no known unit")?;
        let head = Self { bytes, kind, unit, labels, name_bytes, help_bytes, labels_bytes };
        let needed = head.text_end() + if kind == Kind::Histogram { 8 * BUCKETS } else { 0 };
        if bytes != needed {
            return Err("a record whose parts do not fit it");
        }
        if bytes > record.len() {
            return Err("a record is cut off");
        }
        Ok(head)
    }

    /// Where its text ends, and its buckets begin.
    pub(super) fn text_end(&self) -> usize {
        (within::TEXT + self.name_bytes + self.help_bytes + self.labels_bytes).next_multiple_of(LINE)
    }
}
