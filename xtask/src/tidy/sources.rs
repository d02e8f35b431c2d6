//! What every source file keeps to: a module doc, a size, a name, and no `unsafe` outside its homes.

use std::path::Path;

use super::Findings;
use crate::shell::{Failure, tracked};

const LINES_MAX: usize = 700;
const LINES_MANY: usize = 500;

/// Written apart, so that this file does not find itself.
const UNFINISHED: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("to", "do!")];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Checks every source file that git knows.
///
/// # Errors
/// A file cannot be read.
pub fn check(findings: &mut Findings) -> Result<(), Failure> {
    for path in tracked(&[".rs", ".py", ".pyi"])? {
        let text = super::read(&path)?;
        name(&path, findings);
        // The stub of a native module is one file, however many nouns the module has.
        if path.extension().is_none_or(|it| it != "pyi") {
            size(&path, &text, findings);
        }
        unfinished(&path, &text, findings);
        if path.extension().is_some_and(|it| it == "rs") {
            opening(&path, &text, findings);
            unsafety(&path, &text, findings);
        }
    }
    Ok(())
}

fn name(path: &Path, findings: &mut Findings) {
    let stems = path.iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
    for stem in stems {
        // What it helps or manages may be said before it: systemd is a service_manager.
        if EMPTY_NAMES.contains(&stem) {
            findings.problem(path.display(), format_args!("{stem} says nothing about what is inside"));
        }
    }
}

fn size(path: &Path, text: &str, findings: &mut Findings) {
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.problem(
            path.display(),
            format_args!("{lines} lines, at most {LINES_MAX}: a new noun wants its own file"),
        );
    } else if lines > LINES_MANY {
        findings.warning(path.display(), format_args!("{lines} lines: is there a second noun in it?"));
    }
}

fn unfinished(path: &Path, text: &str, findings: &mut Findings) {
    for (number, line) in numbered(text) {
        for marker in UNFINISHED {
            if has_word(line, marker) {
                findings.problem(
                    format_args!("{}:{number}", path.display()),
                    format_args!("unfinished: {marker}"),
                );
            }
        }
    }
}

/// The tests of a module may lie in a file of their own, and need no opening: the module has one.
fn opening(path: &Path, text: &str, findings: &mut Findings) {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    if stem.is_some_and(|stem| stem == "tests" || stem.ends_with("_tests")) {
        return;
    }
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if !first.is_some_and(|line| line.starts_with("//! ")) {
        findings.problem(path.display(), "no module doc: it opens with what it is for (`//! …`)");
    }
}

fn unsafety(path: &Path, text: &str, findings: &mut Findings) {
    let at_home = may_be_unsafe(path);
    let mut said_safe_at = None;
    for (number, line) in numbered(text) {
        if line.contains("SAFETY:") || line.contains("# Safety") {
            said_safe_at = Some(number);
        }
        let code = code_of(line);
        if !has_word(code, "unsafe") {
            continue;
        }
        let place = format!("{}:{number}", path.display());
        if !at_home {
            findings.problem(place, "unsafe outside kernel/port, kernel/stats, activation and FFI");
        } else if said_safe_at.is_none_or(|said| number - said > SAFETY_REACH) {
            findings.problem(place, "unsafe without its `// SAFETY:`");
        }
    }
}

/// How many lines below its reason an `unsafe` may stand.
const SAFETY_REACH: usize = 12;

fn may_be_unsafe(path: &Path) -> bool {
    let shared = ["crates/kernel/src/port", "crates/kernel/src/stats"];
    let activation = path.starts_with("crates/doors")
        && path.iter().any(|part| part.to_string_lossy().starts_with("activation"));
    let foreign = path.iter().any(|part| part.to_string_lossy().starts_with("ffi"));
    shared.iter().any(|home| path.starts_with(home)) || activation || foreign
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The line without its comment and without the insides of its strings, near enough.
fn code_of(line: &str) -> &str {
    let comment = line
        .match_indices("//")
        .map(|(at, _)| at)
        .find(|at| line[..*at].matches('"').count().is_multiple_of(2));
    let code = comment.map_or(line, |at| &line[..at]);
    code.find('"').map_or(code, |at| &code[..at])
}

fn has_word(line: &str, word: &str) -> bool {
    let boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        boundary(line[..at].chars().next_back())
            && (word.ends_with('!') || boundary(line[at + word.len()..].chars().next()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(check: fn(&Path, &str, &mut Findings), path: &str, text: &str) -> usize {
        let mut findings = Findings::default();
        check(Path::new(path), text, &mut findings);
        findings.problems.len()
    }

    /// The homes of unsafe code are few, and even there each block gives its reason.
    #[test]
    fn unsafe_code_stays_at_home_and_gives_its_reason() {
        let bare = "fn f() { unsafe { g() } }";
        let told = "// SAFETY: g has no conditions.\nfn f() { unsafe { g() } }";
        assert_eq!(problems(unsafety, "crates/bus/src/lib.rs", told), 1);
        assert_eq!(problems(unsafety, "crates/kernel/src/port/queue.rs", bare), 1);
        assert_eq!(problems(unsafety, "crates/kernel/src/port/queue.rs", told), 0);
        assert_eq!(problems(unsafety, "crates/doors/southbridge/src/activation.rs", told), 0);
    }

    /// Talking about it is not doing it.
    #[test]
    fn unsafe_in_a_comment_or_a_name_is_no_finding() {
        let text = "// unsafe is denied here\n#![deny(unsafe_code)]\nlet s = \"unsafe\";";
        assert_eq!(problems(unsafety, "crates/bus/src/lib.rs", text), 0);
    }

    /// A file says first what it is for.
    #[test]
    fn a_file_opens_with_its_doc() {
        assert_eq!(problems(opening, "a.rs", "//! What it is for.\n"), 0);
        assert_eq!(problems(opening, "a.rs", "#![no_main]\n//! What it is for.\n"), 0);
        assert_eq!(problems(opening, "a.rs", "use std::fmt;\n"), 1);
    }

    /// Whole words only: a method whose name holds the marker is no marker.
    #[test]
    fn unfinished_work_is_found() {
        let marker = UNFINISHED[0];
        assert_eq!(problems(unfinished, "a.rs", &format!("// {marker}: later")), 1);
        assert_eq!(problems(unfinished, "a.rs", &format!("const {marker}_LIST: u8 = 1;")), 0);
    }

    /// A name must say what is inside.
    #[test]
    fn empty_names_are_refused() {
        let count = |path: &str| {
            let mut findings = Findings::default();
            name(Path::new(path), &mut findings);
            findings.problems.len()
        };
        assert_eq!(count("tests/common/mod.rs"), 1);
        assert_eq!(count("crates/kernel/src/manager.rs"), 1);
        assert_eq!(count("crates/kernel/src/pool/mod.rs"), 0);
    }
}
