//! JSON read with bounds: lists that end before they cost memory, names that are checked as they are read, raw values
//! whose nesting is counted.
//!
//! # Source
//! K14; issue 3, item 1: PDUs travel as their raw bytes.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use southbridge_words::ServerName;

use super::failure::{Code, Failure};

/// A list of at most `MAX` items. A longer one is refused at the first item too many.
#[derive(Debug)]
pub(super) struct Bounded<T, const MAX: usize>(pub Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} items in a list")));
            }
            list.push(item);
        }
        Ok(Bounded(list))
    }
}

/// A table of at most `MAX` keys, in the order of the text; no key stands there twice.
#[derive(Debug)]
pub(super) struct Table<T, const MAX: usize>(pub Vec<(String, T)>);

impl<T, const MAX: usize> Default for Table<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Table<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TableVisitor(PhantomData))
    }
}

struct TableVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for TableVisitor<T, MAX> {
    type Value = Table<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with at most {MAX} keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut table: Vec<(String, T)> = Vec::new();
        while let Some((key, value)) = entries.next_entry::<String, T>()? {
            if table.len() == MAX {
                return Err(A::Error::custom(format_args!("more than {MAX} keys in an object")));
            }
            if table.iter().any(|(known, _)| *known == key) {
                return Err(A::Error::custom(format_args!("{key:?} stands there twice")));
            }
            table.push((key, value));
        }
        Ok(Table(table))
    }
}

/// A server name, checked as it is read.
#[derive(Debug)]
pub(super) struct Name(pub ServerName);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a server name")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Name, E> {
        ServerName::parse(text).map(Name).map_err(|error| {
            let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            E::custom(format_args!("{shown:?}: {error}"))
        })
    }
}

/// Reads `json` as a `T`.
///
/// # Errors
/// [`Failure`] says whether it is no JSON at all, or has another shape, and where.
pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(json).map_err(|error| {
        use serde_json::error::Category;
        match error.classify() {
            Category::Data => Failure::new(Code::BadJson, error.to_string()),
            _ => Failure::new(Code::NotJson, format!("not JSON: {error}")),
        }
    })
}

/// Refuses `value` when it is nested deeper than [`DEPTH_MAX`]. Its syntax is known to be right.
///
/// # Errors
/// [`Failure`] with the bound.
pub(super) fn check_depth(what: &str, value: &RawValue) -> Result<(), Failure> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in value.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth -= 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Failure::new(
                Code::BadJson,
                format!("{what} is nested more than {DEPTH_MAX} levels deep, which other homeservers refuse"),
            ));
        }
    }
    Ok(())
}

/// The fields that a `T` may have: the refusal of an unknown one lists them.
#[cfg(test)]
pub(super) fn fields_of<'a, T: Deserialize<'a>>() -> std::collections::BTreeSet<String> {
    let error = read::<T>(br#"{"no such field":0}"#).err().expect("an unknown field is refused").text;
    let (_, listed) = error.split_once("expected").expect("the refusal lists the known ones");
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The recursion limit of the JSON readers that other homeservers use is 128 and more; nobody writes that by hand.
pub(super) const DEPTH_MAX: usize = 100;
/// Enough of a name to know it again.
const SHOWN_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_at_its_bound() {
        assert_eq!(read::<Bounded<u8, 2>>(b"[1, 2]").unwrap().0, [1, 2]);
        let error = read::<Bounded<u8, 2>>(b"[1, 2, 3]").unwrap_err();
        assert!(error.code == Code::BadJson && error.text.contains("more than 2 items"), "{error}");
    }

    #[test]
    fn a_table_has_each_key_once() {
        let table = read::<Table<u8, 2>>(br#"{"b":1,"a":2}"#).unwrap();
        assert_eq!(table.0, [("b".to_owned(), 1), ("a".to_owned(), 2)]);
        assert!(read::<Table<u8, 2>>(br#"{"a":1,"a":2}"#).unwrap_err().text.contains("twice"));
        assert!(read::<Table<u8, 1>>(br#"{"a":1,"b":2}"#).unwrap_err().text.contains("more than 1"));
    }

    #[test]
    fn a_name_that_is_none_is_named() {
        let error = read::<Bounded<Name, 2>>(br#"["a.example", "b_b.example"]"#).unwrap_err();
        assert!(error.code == Code::BadJson && error.text.contains("b_b.example"), "{error}");
        assert_eq!(read::<Name>(br#""\u0061.example""#).unwrap().0.as_str(), "a.example");
    }

    /// Brackets in texts are no nesting.
    #[test]
    fn nesting_is_counted_outside_of_texts() {
        let raw = |text: String| RawValue::from_string(text).unwrap();
        let nested = |depth: usize| raw("[".repeat(depth) + &"]".repeat(depth));
        assert!(check_depth("it", &nested(DEPTH_MAX)).is_ok());
        assert!(check_depth("it", &nested(DEPTH_MAX + 1)).is_err());
        assert!(check_depth("it", &nested(1_000_000)).is_err());
        assert!(check_depth("it", &raw(format!(r#""\"{}""#, "[".repeat(500)))).is_ok());
    }
}
