//! `[log]`: what is said on standard error.

use crate::config::key::{Key, Kind, Section, key, optional};
use crate::config::reader::Reader;

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important level that is written, or filter directives.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Log {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        let level = reader.choice("level");
        let filter = reader.text("filter").unwrap_or_else(|| level.to_owned());
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&filter) {
            reader.refuse("filter", &format!("{filter:?} is not a filter: {error}"));
        }
        let format = if reader.choice("format") == "json" { LogFormat::Json } else { LogFormat::Text };
        Self { filter, format }
    }
}

/// The keys of `[log]`.
pub const SECTION: Section = Section {
    name: "log",
    about: "What is said on standard error. Under systemd lines carry no time of their own: the journal has it.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key(
        "level",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "\"info\"",
        "`error` wants a human, `warn` will want one, `info` is a change of state, `debug` is one request, `trace` is \
         one frame.",
    ),
    optional(
        "filter",
        Kind::Text,
        "`level`, for everything",
        "Levels by part of the program, such as \"info,southbridge_kernel::pool=debug\". The environment's \
         `SOUTHBRIDGE_LOG` wins over it.",
    ),
    key("format", Kind::Choice(&["text", "json"]), "\"text\"", "Text for people, or one JSON object a line."),
];
