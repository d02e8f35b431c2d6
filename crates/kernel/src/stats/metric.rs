//! What a figure is called, and in which unit it is kept.
//!
//! # Units
//! A cell of the region is one 64-bit word, so that adding to it is one instruction. Seconds are therefore kept as
//! nanoseconds and ratios as billionths; bytes and plain numbers as they are.
//!
//! # Source
//! K10; names and labels follow the data model of Prometheus.

use std::fmt;

/// What a figure counts or measures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Unit {
    /// Things: whole numbers.
    #[default]
    Count = 0,
    /// Seconds, kept to the nanosecond.
    Seconds = 1,
    /// Bytes.
    Bytes = 2,
    /// A part of a whole, or any other number with a fraction, kept to the billionth.
    Ratio = 3,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 4] = [Self::Count, Self::Seconds, Self::Bytes, Self::Ratio];

    /// The name that programs and tables use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }

    /// The unit called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.name() == name)
    }

    /// How much is kept for one of it.
    pub const fn per_one(self) -> u64 {
        match self {
            Self::Count | Self::Bytes => 1,
            Self::Seconds | Self::Ratio => 1_000_000_000,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Count),
            1 => Some(Self::Seconds),
            2 => Some(Self::Bytes),
            3 => Some(Self::Ratio),
            _ => None,
        }
    }
}

/// What kind of figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Only grows.
    Counter = 1,
    /// Goes up and down.
    Gauge = 2,
    /// How values are spread.
    Histogram = 3,
}

impl Kind {
    /// The name that Prometheus uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Counter),
            2 => Some(Self::Gauge),
            3 => Some(Self::Histogram),
            _ => None,
        }
    }
}

/// What a figure is registered under.
#[derive(Clone, Copy, Debug, Default)]
pub struct Metric<'a> {
    /// Its name: letters, digits, `_` and `:`, not beginning with a digit; by custom with the unit and, for
    /// counters, `_total` at its end.
    pub name: &'a str,
    /// What it is, in a sentence.
    pub help: &'a str,
    /// Its unit.
    pub unit: Unit,
    /// Names and values that tell it from others of the same name. Their order does not matter.
    pub labels: &'a [(&'a str, &'a str)],
}

impl<'a> Metric<'a> {
    /// A figure without labels, in plain numbers.
    pub const fn new(name: &'a str, help: &'a str) -> Self {
        Self { name, help, unit: Unit::Count, labels: &[] }
    }

    /// The same in `unit`.
    #[must_use]
    pub const fn in_unit(self, unit: Unit) -> Self {
        Self { unit, ..self }
    }

    /// The same with `labels`.
    #[must_use]
    pub const fn with(self, labels: &'a [(&'a str, &'a str)]) -> Self {
        Self { labels, ..self }
    }

    pub(super) fn check(&self, kind: Kind) -> Result<(), RegisterError> {
        check_name(self.name)?;
        let refuse = |problem| RegisterError::BadLabel { metric: self.name.to_owned(), problem };
        if self.help.len() > HELP_BYTES_MAX {
            return Err(RegisterError::HelpTooLong { metric: self.name.to_owned(), bytes: self.help.len() });
        }
        if self.labels.len() > LABELS_MAX {
            return Err(refuse(format!("{} labels, the most is {LABELS_MAX}", self.labels.len())));
        }
        for (place, (name, value)) in self.labels.iter().enumerate() {
            check_label(name, value, kind).map_err(refuse)?;
            if self.labels[..place].iter().any(|(before, _)| before == name) {
                return Err(refuse(format!("the label {name:?} is given twice")));
            }
        }
        Ok(())
    }
}

/// Why a figure was not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// The name is not one that Prometheus takes.
    #[error("{name:?} cannot name a figure: {problem}")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// A label is not one that Prometheus takes.
    #[error("a label of {metric} is wrong: {problem}")]
    BadLabel {
        /// Whose label.
        metric: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },
    /// The help is a book.
    #[error("the help of {metric} has {bytes} bytes, the most is {HELP_BYTES_MAX}")]
    HelpTooLong {
        /// Whose help.
        metric: String,
        /// Its length.
        bytes: usize,
    },
    /// The name is another figure's.
    #[error("{metric} is a {held} in {} already, and cannot be a {wanted} in {} too", .held_unit.name(), .wanted_unit.name())]
    Otherwise {
        /// The name.
        metric: String,
        /// What it is.
        held: Kind,
        /// In which unit.
        held_unit: Unit,
        /// What was asked for.
        wanted: Kind,
        /// In which unit.
        wanted_unit: Unit,
    },
    /// There is no room for it.
    #[error(
        "no room for {metric}: {held} of {held_max} bytes of the statistics region are used; \
         use fewer values of labels, or give the region more room"
    )]
    Full {
        /// What was refused.
        metric: String,
        /// Bytes in use.
        held: u64,
        /// Bytes there are.
        held_max: u64,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether `name` may name a figure.
pub(super) fn check_name(name: &str) -> Result<(), RegisterError> {
    let refuse = |problem: String| Err(RegisterError::BadName { name: shortened(name), problem });
    if name.len() > NAME_BYTES_MAX {
        return refuse(format!("it has {} bytes, the most is {NAME_BYTES_MAX}", name.len()));
    }
    let good = |at: usize, b: u8| {
        b.is_ascii_alphabetic() || b == b'_' || b == b':' || (at > 0 && b.is_ascii_digit())
    };
    if name.is_empty() || !name.bytes().enumerate().all(|(at, b)| good(at, b)) {
        return refuse("write letters, digits, `_` and `:`, and no digit first".to_owned());
    }
    Ok(())
}

/// Whether a label may be called `name` and have `value`.
pub(super) fn check_label(name: &str, value: &str, kind: Kind) -> Result<(), String> {
    let shown = shortened(name);
    let good = |at: usize, b: u8| b.is_ascii_alphabetic() || b == b'_' || (at > 0 && b.is_ascii_digit());
    if name.is_empty() || !name.bytes().enumerate().all(|(at, b)| good(at, b)) {
        return Err(format!(
            "{shown:?} cannot name a label; write letters, digits and `_`, and no digit first"
        ));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("the name {shown:?} has {} bytes, the most is {NAME_BYTES_MAX}", name.len()));
    }
    if name.starts_with("__") {
        return Err(format!("{shown:?} begins with `__`, which is Prometheus's own"));
    }
    if name == "le" && kind == Kind::Histogram {
        return Err("\"le\" is what the bounds of a histogram are called".to_owned());
    }
    if value.len() > VALUE_BYTES_MAX {
        return Err(format!(
            "the value of {shown:?} has {} bytes, the most is {VALUE_BYTES_MAX}",
            value.len()
        ));
    }
    Ok(())
}

fn shortened(name: &str) -> String {
    name.chars().take(80).collect()
}

/// The longest name of a figure or label.
const NAME_BYTES_MAX: usize = 200;
/// The longest help.
const HELP_BYTES_MAX: usize = 1000;
/// The longest value of a label: as long as a server name.
const VALUE_BYTES_MAX: usize = 255;
/// The most labels of one figure.
pub(super) const LABELS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for good in ["a", "_a", ":a", "http_requests_total", "job:rate5m", "A9"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", "9a", "a-b", "a b", "ä", "a.b", "a\n", "a{b}"] {
            assert!(matches!(check_name(bad), Err(RegisterError::BadName { .. })), "{bad:?}");
        }
        let error = check_name(&"a".repeat(201)).unwrap_err().to_string();
        assert!(error.contains("201 bytes, the most is 200"), "{error}");
    }

    #[test]
    fn labels_follow_the_rules_of_prometheus() {
        let check = |kind, labels: &[(&str, &str)]| {
            Metric::new("m", "").with(labels).check(kind).map_err(|error| error.to_string())
        };
        assert_eq!(check(Kind::Counter, &[("class", "\"quoted\" \\ ä \n"), ("le", "1")]), Ok(()));
        for (labels, word) in [
            (&[("", "x")][..], "cannot name a label"),
            (&[("a-b", "x")], "cannot name a label"),
            (&[("a:b", "x")], "cannot name a label"),
            (&[("1", "x")], "cannot name a label"),
            (&[("__name__", "x")], "Prometheus's own"),
            (&[("a", "x"), ("a", "y")], "given twice"),
            (&[("le", "1")], "bounds of a histogram"),
            (&[("a", &"v".repeat(256))], "256 bytes, the most is 255"),
        ] {
            let error = check(Kind::Histogram, labels).unwrap_err();
            assert!(error.contains(word), "{labels:?}: {error}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("l{n}")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
        assert!(check(Kind::Gauge, &many).unwrap_err().contains("17 labels, the most is 16"));
    }

    #[test]
    fn a_unit_is_found_by_its_name_and_its_byte() {
        for unit in Unit::ALL {
            assert_eq!(Unit::from_name(unit.name()), Some(unit));
            assert_eq!(Unit::from_byte(unit as u8), Some(unit));
        }
        assert_eq!((Unit::from_name("parsecs"), Unit::from_byte(9)), (None, None));
    }
}
