//! Reads one table of the file by the table of its keys, and remembers everything that is wrong.

use std::borrow::Cow;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use southbridge_policy::limits::InvalidLimit;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::key::{Fallback, Key, Kind, Section};
use crate::problem::{Problem, Wrong, near_miss, place};
use crate::value::{
    PortRange, parse_duration, parse_mode, parse_ports, parse_size, show_duration, show_size,
};

/// The file that is being read, and what has been found wrong with it.
#[derive(Debug)]
pub struct Source<'a> {
    text: &'a str,
    dir: &'a Path,
    problems: RefCell<Vec<Problem>>,
}

/// One table of the file.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Source<'a>,
    section: &'static Section,
    title: String,
    span: Option<Range<usize>>,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Source<'a> {
    /// The file with this text, whose relative paths are relative to `dir`.
    pub fn new(text: &'a str, dir: &'a Path) -> Self {
        Self { text, dir, problems: RefCell::default() }
    }

    /// Remembers that something is wrong at `span`.
    pub fn problem(&self, span: Option<Range<usize>>, text: String) {
        let place = span.map(|span| place(self.text, span.start));
        self.problems.borrow_mut().push(Problem { place, text });
    }

    /// Everything that was wrong, in the order of the file.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.place);
        problems
    }
}

impl<'a> Reader<'a> {
    /// Opens a table and refuses the keys it does not know.
    pub fn open(
        source: &'a Source<'a>,
        section: &'static Section,
        title: String,
        given: Option<&'a Spanned<DeValue<'a>>>,
    ) -> Self {
        let span = given.map(Spanned::span);
        let table = given.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                source.problem(
                    span.clone(),
                    format!("`{title}` must be a table; write [{title}] on a line of its own"),
                );
            }
            table
        });
        let reader = Self { source, section, title, span, table };
        reader.refuse_unknown();
        reader
    }

    /// Whether the table stands in the file.
    pub fn is_given(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key stands in the file.
    pub fn has(&self, name: &str) -> bool {
        self.given(name).is_some()
    }

    /// Remembers that what stands at `name` does not fit the rest.
    pub fn refuse(&self, name: &str, text: &str) {
        let span = self.given(name).map(Spanned::span).or_else(|| self.span.clone());
        self.source.problem(span, format!("{}.{name}: {text}", self.title));
    }

    /// Remembers that the values of the table do not fit together.
    pub fn refuse_table(&self, text: &str) {
        self.source.problem(self.span.clone(), format!("[{}]: {text}", self.title));
    }

    /// Remembers what a machine says of its limits.
    pub fn check(&self, validated: Result<(), InvalidLimit>) {
        if let Err(error) = validated {
            self.refuse(error.field, error.problem);
        }
    }

    /// Refuses two durations that stand the wrong way round.
    pub fn check_order(&self, least: &str, most: &str) {
        let (low, high) = (self.duration(least), self.duration(most));
        if low > high {
            let (low, high) = (show_duration(low), show_duration(high));
            self.refuse(least, &format!("{low} is above {most}, which is {high}"));
        }
    }

    /// The span of time at `name`, or its default.
    pub fn duration(&self, name: &str) -> Duration {
        self.value(name, |value, kind| {
            let duration = parse_duration(text_of(value, kind)?).map_err(|why| quoted(value, &why))?;
            match kind {
                Kind::Duration { min, max } if duration < *min || duration > *max => {
                    Err(out_of_range(value, &show_duration(*min), &show_duration(*max)))
                }
                _ => Ok(duration),
            }
        })
    }

    /// The number of bytes at `name`, or its default.
    pub fn size(&self, name: &str) -> u64 {
        self.value(name, |value, kind| {
            let bytes = parse_size(text_of(value, kind)?).map_err(|why| quoted(value, &why))?;
            match kind {
                Kind::Size { min, max } if bytes < *min || bytes > *max => {
                    Err(out_of_range(value, &show_size(*min), &show_size(*max)))
                }
                _ => Ok(bytes),
            }
        })
    }

    /// The number at `name`, or its default.
    pub fn count(&self, name: &str) -> u64 {
        self.value(name, count_of)
    }

    /// As [`Reader::count`], for keys whose most fits in 32 bits.
    pub fn count32(&self, name: &str) -> u32 {
        u32::try_from(self.count(name)).expect("the table of keys bounds this count to 32 bits")
    }

    /// As [`Reader::size`], for keys whose most fits in 32 bits.
    pub fn size32(&self, name: &str) -> u32 {
        u32::try_from(self.size(name)).expect("the table of keys bounds this size to 32 bits")
    }

    /// The truth at `name`, or its default.
    pub fn flag(&self, name: &str) -> bool {
        self.value(name, |value, kind| value.as_bool().ok_or_else(|| expected(value, kind)))
    }

    /// The word at `name`, or its default.
    pub fn choice(&self, name: &str) -> &'static str {
        self.value(name, |value, kind| {
            let Kind::Choice(words) = kind else { return Err(expected(value, kind)) };
            let word = text_of(value, kind)?;
            words.iter().copied().find(|known| *known == word).ok_or_else(|| {
                let hint = near_miss(word, words.iter().copied());
                let hint = hint.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
                format!("{word:?} is not known; expected {kind}{hint}").into()
            })
        })
    }

    /// The permissions at `name`, or their default.
    pub fn mode(&self, name: &str) -> u32 {
        self.value(name, |value, kind| parse_mode(text_of(value, kind)?).map_err(|why| quoted(value, &why)))
    }

    /// The text at `name`, if there is one.
    pub fn text(&self, name: &str) -> Option<String> {
        self.optional(name, |value, kind| text_of(value, kind).map(str::to_owned))
    }

    /// The path at `name`, if there is one.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.optional(name, |value, kind| self.path_of(value, kind))
    }

    /// The paths at `name`, or their default.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        self.list(name, |value, kind| self.path_of(value, kind))
    }

    /// The networks at `name`, or their default.
    pub fn networks(&self, name: &str) -> Vec<IpNet> {
        self.list(name, |value, kind| {
            let text = text_of(value, kind)?;
            let network =
                text.parse().or_else(|_| text.parse().map(|address: std::net::IpAddr| address.into()));
            network.map_err(|_| quoted(value, "is not a network; write it as \"10.0.0.0/8\" or \"::1\""))
        })
    }

    /// The addresses with a port at `name`, or their default.
    pub fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        self.list(name, |value, kind| {
            let text = text_of(value, kind)?;
            text.parse().map_err(|_| {
                let hint = match text.parse::<std::net::IpAddr>() {
                    Ok(address) => format!("; did you mean \"{}\"?", SocketAddr::new(address, 53)),
                    Err(_) => "; write it as \"127.0.0.1:5353\"".to_owned(),
                };
                quoted(value, &format!("is not an address with a port{hint}"))
            })
        })
    }

    /// The ports at `name`, or their default.
    pub fn ports(&self, name: &str) -> Vec<PortRange> {
        self.list(name, |value, kind| {
            let text = match value {
                DeValue::Integer(number) => Cow::Owned(number.to_string()),
                _ => Cow::Borrowed(text_of(value, kind)?),
            };
            parse_ports(&text).map_err(|why| quoted(value, &why))
        })
    }

    fn path_of(&self, value: &DeValue<'_>, kind: &Kind) -> Result<PathBuf, Wrong> {
        match text_of(value, kind)? {
            "" => Err("an empty path names nothing".to_owned().into()),
            text => Ok(self.source.dir.join(text)),
        }
    }

    /// What stands at `name`, or its default.
    fn value<T>(&self, name: &str, read: impl Fn(&DeValue<'_>, &Kind) -> Result<T, Wrong>) -> T {
        let key = self.key(name);
        if let Some(value) = self.given(name).and_then(|value| self.try_read(key, value, &read)) {
            return value;
        }
        let Fallback::Value(default) = key.default else { panic!("{name} has no default to fall back on") };
        let default = DeValue::parse(default).expect("the defaults in the table of keys are TOML");
        read(default.get_ref(), &key.kind).expect("the defaults in the table of keys fit their kinds")
    }

    /// The number at `name`, if there is one, for keys whose most fits in 32 bits.
    pub fn optional_count32(&self, name: &str) -> Option<u32> {
        self.optional(name, count_of).and_then(|number| u32::try_from(number).ok())
    }

    /// The directory that relative paths are relative to.
    pub fn dir(&self) -> &Path {
        self.source.dir
    }

    /// What stands at `name` as a table of its own, with `section`'s keys.
    pub fn table(&self, name: &str, section: &'static Section) -> Self {
        Self::open(self.source, section, format!("{}.{name}", self.title), self.given(name))
    }

    /// What stands at `name`, if anything does.
    fn optional<T>(&self, name: &str, read: impl Fn(&DeValue<'_>, &Kind) -> Result<T, Wrong>) -> Option<T> {
        let key = self.key(name);
        self.given(name).and_then(|value| self.try_read(key, value, &read))
    }

    /// The items of a list, each read by `read`; a single value counts as a list of one.
    pub fn list<T>(&self, name: &str, read: impl Fn(&DeValue<'_>, &Kind) -> Result<T, Wrong>) -> Vec<T> {
        self.value(name, |value, kind| match value {
            DeValue::Array(items) if items.len() > LIST_LENGTH_MAX => {
                Err(format!("the list has {} items, the most is {LIST_LENGTH_MAX}", items.len()).into())
            }
            DeValue::Array(items) => items
                .iter()
                .map(|item| read(item.get_ref(), kind).map_err(|wrong| at(wrong, item.span())))
                .collect(),
            DeValue::String(_) | DeValue::Integer(_) | DeValue::Table(_) => {
                read(value, kind).map(|one| vec![one])
            }
            _ => Err(expected(value, kind)),
        })
    }

    fn try_read<T>(
        &self,
        key: &Key,
        value: &Spanned<DeValue<'_>>,
        read: impl Fn(&DeValue<'_>, &Kind) -> Result<T, Wrong>,
    ) -> Option<T> {
        read(value.get_ref(), &key.kind)
            .map_err(|wrong| {
                let span = wrong.span.unwrap_or_else(|| value.span());
                self.source.problem(Some(span), format!("{}.{}: {}", self.title, key.name, wrong.text));
            })
            .ok()
    }

    fn key(&self, name: &str) -> &'static Key {
        self.section
            .key(name)
            .unwrap_or_else(|| panic!("{name} is missing from the keys of {}", self.section.name))
    }

    fn given(&self, name: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.and_then(|table| table.get(name))
    }

    fn refuse_unknown(&self) {
        for (key, _) in self.table.into_iter().flatten() {
            let found: &str = key.get_ref();
            if self.section.key(found).is_some() {
                continue;
            }
            let known = || self.section.keys.iter().map(|key| key.name);
            let hint = match near_miss(found, known()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known keys are {}", known().collect::<Vec<_>>().join(", ")),
            };
            let text = format!("unknown key `{}` in [{}]; {hint}", cut(found), self.title);
            self.source.problem(Some(key.span()), text);
        }
    }
}

fn count_of(value: &DeValue<'_>, kind: &Kind) -> Result<u64, Wrong> {
    let Kind::Count { min, max } = kind else { return Err(expected(value, kind)) };
    let number = integer(value).ok_or_else(|| expected(value, kind))?;
    let fits = u64::try_from(number).ok().filter(|number| (*min..=*max).contains(number));
    fits.ok_or_else(|| out_of_range(value, &min.to_string(), &max.to_string()))
}

/// The text that stands there.
///
/// # Errors
/// What was expected instead.
pub fn text_of<'v>(value: &'v DeValue<'_>, kind: &Kind) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| match (value, kind) {
        (DeValue::Integer(number), Kind::Duration { .. }) => {
            format!("{number} has no unit; did you mean \"{number}s\"? (units are ms, s, m, h, d)").into()
        }
        (DeValue::Integer(number), Kind::Size { .. }) => {
            format!("{number} has no unit; did you mean \"{number}B\"? (units are B, KiB, MiB, GiB)").into()
        }
        _ => expected(value, kind),
    })
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let number = value.as_integer()?;
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// That something else was expected.
pub fn expected(value: &DeValue<'_>, kind: &Kind) -> Wrong {
    match kind {
        Kind::Secret => format!("expected {kind}, found {}", value.type_str()).into(),
        _ => format!("expected {kind}, found {}", shown(value)).into(),
    }
}

/// That the value, which is repeated, `why`.
pub fn quoted(value: &DeValue<'_>, why: &str) -> Wrong {
    format!("{} {why}", shown(value)).into()
}

fn out_of_range(value: &DeValue<'_>, min: &str, max: &str) -> Wrong {
    format!("{} is out of range; the least is {min}, the most is {max}", shown(value)).into()
}

/// That it is wrong there, if nothing more exact is known.
pub fn at(wrong: Wrong, span: Range<usize>) -> Wrong {
    Wrong { span: wrong.span.or(Some(span)), ..wrong }
}

fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{:?}", cut(text)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        other => format!("a {}", other.type_str()),
    }
}

/// Enough of `text` to know it again.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Longer lists of addresses or files are a mistake.
const LIST_LENGTH_MAX: usize = 1024;
/// Enough of a value to know it again.
const SHOWN_CHARS_MAX: usize = 60;
