//! The reference of all keys, printed from the tables that the reader obeys.

use std::fmt::Write;

use super::key::{Fallback, Key, Section};
use super::sections::SECTIONS;

/// The reference as a page of the book.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for section in SECTIONS {
        let _ = write!(page, "\n## `[{}]`\n\n{}\n", section.name, section.about);
        for key in section.keys {
            page.push_str(&markdown_key(key));
        }
    }
    page
}

/// The reference for a terminal: all of it, or the tables and keys whose name contains `about`.
pub fn text(about: Option<&str>) -> String {
    let mut out = String::new();
    for section in SECTIONS {
        let keys: Vec<&Key> = section.keys.iter().filter(|key| matches(section, key, about)).collect();
        if keys.is_empty() {
            continue;
        }
        let _ = writeln!(out, "[{}]\n{}", section.name, wrapped(section.about, "# "));
        for key in keys {
            out.push_str(&text_key(key));
        }
        out.push('\n');
    }
    out
}

fn matches(section: &Section, key: &Key, about: Option<&str>) -> bool {
    about.is_none_or(|about| format!("{}.{}", section.name, key.name).contains(about))
}

fn markdown_key(key: &Key) -> String {
    let default = match key.default {
        Fallback::Value(value) => format!("`{value}`"),
        Fallback::Described(words) => words.to_owned(),
    };
    format!("\n### `{}`\n\n*Takes* {}. *Default:* {default}.\n\n{}\n", key.name, key.kind, key.about)
}

fn text_key(key: &Key) -> String {
    let line = match key.default {
        Fallback::Value(value) => format!("{} = {value}", key.name),
        Fallback::Described(words) => format!("# {} = …   (default: {words})", key.name),
    };
    format!("{}\n{}\n{line}\n", wrapped(key.about, "  # "), wrapped(&format!("Takes {}.", key.kind), "  # "))
        .replace("\n# ", "\n  # ")
}

/// `text` in lines of a comfortable length, each with `prefix` before it.
fn wrapped(text: &str, prefix: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always a last line");
        if !last.is_empty() && last.len() + word.len() >= LINE_LENGTH {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    let lines: Vec<String> = lines.iter().map(|line| format!("{prefix}{line}")).collect();
    lines.join("\n")
}

const LINE_LENGTH: usize = 92;

const HEAD: &str = "# Configuration\n\n\
<!-- Printed by `southbridge config-reference --markdown`; do not edit by hand. -->\n\n\
`southbridge serve --config FILE` reads a TOML file. Every key may be left out, and so may the file. Relative paths\n\
are relative to the file. Durations are a number and `ms`, `s`, `m`, `h` or `d`; sizes a number and `B`, `KiB`, `MiB`\n\
or `GiB`. `southbridge check-config FILE` finds every mistake at once; `southbridge config-reference WORD` prints\n\
the part of this page that a word occurs in.\n\n\
The *state directory* is systemd's `STATE_DIRECTORY`; without systemd `/var/lib/southbridge` for root, and\n\
`~/.local/state/southbridge` for everyone else.\n";
