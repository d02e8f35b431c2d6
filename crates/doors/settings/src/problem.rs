//! What is wrong with a configuration: all of it at once, each with the place and the way out.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line and column in the file, both from 1; none when the problem is not at a place in it.
    pub place: Option<(usize, usize)>,
    /// What is wrong and what is allowed.
    pub text: String,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// In the order of the file. Never empty.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    /// One line for each problem: `file:line:column: what is wrong`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            if let Some(file) = &self.file {
                write!(f, "{}:", file.display())?;
                if let Some((line, column)) = problem.place {
                    write!(f, "{line}:{column}:")?;
                }
                f.write_str(" ")?;
            }
            f.write_str(&problem.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The line and column of the byte at `at`, both from 1; columns count characters.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Why one value is not taken, and where in it, if not at its beginning.
#[derive(Debug)]
pub struct Wrong {
    /// What is wrong with it.
    pub text: String,
    /// Where in the file.
    pub span: Option<Range<usize>>,
}

impl From<String> for Wrong {
    fn from(text: String) -> Self {
        Self { text, span: None }
    }
}

/// The nearest of `known` to `found`, when it is near enough to be meant.
pub fn near_miss<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = found.to_lowercase();
    // One slip of the finger in a short word moves the similarity a long way.
    let score = |name: &str| match strsim::osa_distance(&found, name) {
        0 | 1 => 1.0,
        _ => strsim::jaro_winkler(&found, name),
    };
    let scored = known.into_iter().map(|name| (score(name), name));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= NEAR_ENOUGH).then_some(best.1)
}

/// Two letters swapped, one missing or one too many in a short word stay above this; other words do not.
const NEAR_ENOUGH: f64 = 0.8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_has_a_near_miss_and_another_word_has_none() {
        let known = ["listen", "secret_file", "request_timeout"];
        assert_eq!(near_miss("lisen", known), Some("listen"));
        assert_eq!(near_miss("tsl", ["tls"]), Some("tls"));
        assert_eq!(near_miss("Secret-File", known), Some("secret_file"));
        assert_eq!(near_miss("timeout_request", known), None);
        assert_eq!(near_miss("colour", known), None);
    }

    #[test]
    fn places_count_from_one() {
        let text = "a\nbü = 1\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, text.find('=').unwrap()), (2, 4));
        assert_eq!(place(text, 999), (3, 1));
    }
}
