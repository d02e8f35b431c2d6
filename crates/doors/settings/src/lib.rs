//! Reads settings in TOML, as every door does: by a table of the keys there are, strictly, all that is wrong at once,
//! and each mistake with its place and what was likely meant.
//!
//! Floor 3 of the house. The daemon reads its configuration by it, and programs their services.
//!
//! # Units
//! Durations and sizes carry their units in the file (`"75s"`, `"100MiB"`). Relative paths are relative to the file.
//!
//! # Architecture Invariant
//! Reading changes nothing: no file is made, no port is opened.

pub mod file;
pub mod key;
pub mod problem;
pub mod reader;
pub mod value;
