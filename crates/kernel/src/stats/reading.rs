//! What is read out of a region, by its own process or by another, while it is written or long after.
//!
//! Nothing is believed that is not checked: a file may be cut off, of another version, or not a region at all. What
//! can be read of it is read, and what cannot is said.
//!
//! # Units
//! Values are as they are kept ([`Unit::per_one`]); what is shown to people is in the unit itself.
//!
//! # Source
//! K10.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use southbridge_words::WallTime;

use super::distribution::Distribution;
use super::layout::{HEADER_BYTES, Head, MAGIC, PROGRAM_BYTES_MAX, VERSION, at, within};
use super::metric::{Kind, LABELS_MAX, Unit, check_label, check_name};
use super::place;
use super::region::BYTES_MAX;

/// Everything in a region at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Whose it is.
    pub pid: u32,
    /// What that process calls itself.
    pub program: String,
    /// When it started.
    pub started_at: WallTime,
    /// When its kernel last said that it is well.
    pub beat_at: WallTime,
    /// Figures that found no room.
    pub refused: u64,
    /// The figures, in the order they were registered.
    pub figures: Vec<Figure>,
    /// What could not be read, if something could not.
    pub damage: Option<Damage>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// What it is; empty for all but the first of a name.
    pub help: String,
    /// Its unit.
    pub unit: Unit,
    /// Its labels, in order.
    pub labels: Vec<(String, String)>,
    /// What it says.
    pub value: Value,
}

/// What a figure says, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(i64),
    /// Of a histogram.
    Histogram(Box<Distribution>),
}

/// Where a region cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// At which byte.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error(transparent)]
    System(#[from] io::Error),
    /// It is something else.
    #[error("this is no statistics region of Southbridge")]
    Foreign,
    /// It is too short to have a header.
    #[error("the file has {bytes} bytes and was cut off: the header alone has {HEADER_BYTES}")]
    Cut {
        /// Its length.
        bytes: usize,
    },
    /// It was written by another Southbridge.
    #[error(
        "the region has version {found}, and this program reads version {VERSION}; read it with the program that wrote it"
    )]
    OtherVersion {
        /// Its version.
        found: u32,
    },
}

impl Reading {
    /// Reads the file at `path`, and says whether its process lives.
    ///
    /// # Errors
    /// [`ReadError`] when it cannot be read, or is something else.
    pub fn of_file(path: &Path) -> Result<(Self, bool), ReadError> {
        let file = place::open(path)?;
        let alive = place::is_alive(&file);
        let mut bytes = Vec::new();
        let length = fs::metadata(path)?.len();
        // The records end long before the file, as a rule: its end is a hole.
        let mut limited = (&file).take(length.min(BYTES_MAX));
        (&mut limited).take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
        let used = word(&bytes, at::USED).unwrap_or(0).saturating_sub(HEADER_BYTES as u64);
        (&mut limited).take(used).read_to_end(&mut bytes)?;
        Ok((Self::parse(&bytes)?, alive))
    }

    /// Reads a region from memory.
    ///
    /// # Errors
    /// [`ReadError`] when it has no header that can be read.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadError> {
        let known = MAGIC.len().min(bytes.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(ReadError::Foreign);
        }
        let (Some(header), Some(version)) = (bytes.get(..HEADER_BYTES), word(bytes, at::VERSION)) else {
            return Err(ReadError::Cut { bytes: bytes.len() });
        };
        let halves = version.to_ne_bytes();
        let half =
            |at: usize| u32::from_ne_bytes([halves[at], halves[at + 1], halves[at + 2], halves[at + 3]]);
        if half(0) != VERSION || half(4) as usize != HEADER_BYTES {
            return Err(ReadError::OtherVersion { found: half(0) });
        }
        let field = |at: usize| word(header, at).unwrap_or(0);
        let program = (field(at::PROGRAM) as usize).min(PROGRAM_BYTES_MAX);
        let mut reading = Self {
            pid: u32::try_from(field(at::PID)).unwrap_or(0),
            program: String::from_utf8_lossy(&header[at::PROGRAM + 8..][..program]).into_owned(),
            started_at: WallTime::from_unix_millis(field(at::STARTED)),
            beat_at: WallTime::from_unix_millis(field(at::BEAT)),
            refused: field(at::REFUSED),
            figures: Vec::new(),
            damage: None,
        };
        reading.damage = reading.read_records(bytes, usize::try_from(field(at::USED)).unwrap_or(usize::MAX));
        Ok(reading)
    }

    /// The figure called `name` with just these `labels`, in order.
    pub fn figure(&self, name: &str, labels: &[(&str, &str)]) -> Option<&Figure> {
        let same = |figure: &&Figure| {
            figure.name == name
                && figure.labels.len() == labels.len()
                && figure.labels.iter().zip(labels).all(|(one, other)| one.0 == other.0 && one.1 == other.1)
        };
        self.figures.iter().find(same)
    }

    fn read_records(&mut self, bytes: &[u8], used: usize) -> Option<Damage> {
        let mut at = HEADER_BYTES;
        let end = used.min(bytes.len());
        while at < end {
            let figure = Head::read(&bytes[at..end]).and_then(|head| {
                let record = &bytes[at..at + head.bytes];
                Ok((head, read_figure(record, &head)?))
            });
            match figure {
                Ok((head, figure)) => {
                    at += head.bytes;
                    self.figures.push(figure);
                }
                Err(problem) => return Some(Damage { at, problem }),
            }
        }
        let problem = "the file was cut off";
        (at < used).then_some(Damage { at, problem })
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_ne_bytes(*word))
}

/// The figure in `record`, which is as long as `head` says.
fn read_figure(record: &[u8], head: &Head) -> Result<Figure, &'static str> {
    let (name, rest) = record[within::TEXT..].split_at(head.name_bytes);
    let (help, rest) = rest.split_at(head.help_bytes);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "a text that is no text");
    let name = text(name)?;
    check_name(&name).map_err(|_| "a name that cannot name a figure")?;
    let labels = read_labels(&rest[..head.labels_bytes], head)?;
    let stored = word(record, within::VALUE).unwrap_or(0);
    let value = match head.kind {
        Kind::Counter => Value::Counter(stored),
        Kind::Gauge => Value::Gauge(stored.cast_signed()),
        Kind::Histogram => {
            let maximum = word(record, within::MAXIMUM).unwrap_or(0);
            let buckets = record[head.text_end()..].chunks_exact(8);
            let counts = buckets.map(|bytes| word(bytes, 0).unwrap_or(0));
            Value::Histogram(Box::new(Distribution::new(counts, stored, maximum)))
        }
    };
    Ok(Figure { name, help: text(help)?, unit: head.unit, labels, value })
}

fn read_labels(mut bytes: &[u8], head: &Head) -> Result<Vec<(String, String)>, &'static str> {
    if head.labels > LABELS_MAX {
        return Err("a record with too many labels");
    }
    let mut next = || {
        let (length, rest) = bytes.split_first_chunk().ok_or("a label is cut off")?;
        let (text, rest) =
            rest.split_at_checked(u16::from_ne_bytes(*length).into()).ok_or("a label is cut off")?;
        bytes = rest;
        String::from_utf8(text.to_vec()).map_err(|_| "a text that is no text")
    };
    let mut labels = Vec::with_capacity(head.labels);
    for _ in 0..head.labels {
        let (name, value) = (next()?, next()?);
        check_label(&name, &value, head.kind).map_err(|_| "a label that cannot be one")?;
        labels.push((name, value));
    }
    if bytes.is_empty() { Ok(labels) } else { Err("a record whose parts do not fit it") }
}
