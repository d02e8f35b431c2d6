//! What stands behind the question mark.
//!
//! # Source
//! WHATWG URL, `application/x-www-form-urlencoded` parsing: `+` is a space.

use std::ops::RangeInclusive;

use super::failure::{Code, Failure};
use super::routes::decode;

/// The arguments of a request, each once.
#[derive(Debug, Default)]
pub struct Arguments(Vec<(&'static str, String)>);

impl Arguments {
    /// Reads `query`, in which only `known` may stand.
    ///
    /// # Errors
    /// [`Failure`] names the argument that is not known, stands there twice, or cannot be decoded.
    pub fn read(query: Option<&str>, known: &'static [&'static str]) -> Result<Self, Failure> {
        let mut found = Self::default();
        for argument in query.unwrap_or_default().split('&').filter(|argument| !argument.is_empty()) {
            let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
            let Some(name) = known.iter().copied().find(|known| *known == name) else {
                let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(invalid(format!("{shown:?} is not an argument here; there may be {known}")));
            };
            if found.get(name).is_some() {
                return Err(invalid(format!("{name} stands there twice")));
            }
            let value = decode(&value.replace('+', " "))
                .ok_or_else(|| invalid(format!("{name} is not UTF-8 in percent-encoding")))?;
            found.0.push((name, value));
        }
        Ok(found)
    }

    /// The argument called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The argument called `name`, a number within `range`.
    ///
    /// # Errors
    /// [`Failure`] with the range.
    pub fn number(&self, name: &str, range: RangeInclusive<usize>) -> Result<Option<usize>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number
            .map(Some)
            .ok_or_else(|| invalid(format!("{name} is a number from {} to {}", range.start(), range.end())))
    }

    /// The argument called `name`, one of `words`.
    ///
    /// # Errors
    /// [`Failure`] with the words.
    pub fn one_of(&self, name: &str, words: &[&'static str]) -> Result<Option<&'static str>, Failure> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let word = words.iter().copied().find(|word| *word == text);
        word.map(Some).ok_or_else(|| invalid(format!("{name} is one of {}", words.join(", "))))
    }
}

fn invalid(text: String) -> Failure {
    Failure::new(Code::InvalidParam, text)
}

/// Enough of a name to know it again.
const SHOWN_CHARS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["after", "limit"];

    #[test]
    fn arguments_are_decoded_and_bounded() {
        let arguments = Arguments::read(Some("after=%5B::1%5D&limit=10&"), KNOWN).unwrap();
        assert_eq!(arguments.get("after"), Some("[::1]"));
        assert_eq!(arguments.number("limit", 1..=10), Ok(Some(10)));
        assert!(arguments.number("limit", 1..=9).unwrap_err().text.contains("from 1 to 9"));
        assert!(arguments.one_of("after", &["a", "b"]).unwrap_err().text.contains("a, b"));
        assert!(Arguments::read(None, KNOWN).unwrap().get("after").is_none());
    }

    #[test]
    fn an_argument_that_is_misspelt_is_not_passed_over() {
        for (query, words) in [("limt=1", "limit"), ("limit=1&limit=2", "twice"), ("after=%f", "percent")] {
            assert!(Arguments::read(Some(query), KNOWN).unwrap_err().text.contains(words), "{query}");
        }
    }
}
