//! The configuration: whatever an operator, or the editor of one, leaves in the file.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use southbridge_daemon::config::{Config, Environment};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Secret files are read where they are named; this directory has none, and paths that begin at the root are left out.
    if text.contains('/') {
        return;
    }
    let environment =
        Environment { secret: None, postgres_password: None, state_dir: PathBuf::from("/nonexistent") };
    match Config::parse(text, None, &environment) {
        Ok(config) => drop(config.warnings()),
        Err(problems) => {
            assert!(!problems.list.is_empty(), "a refusal has a reason");
            let said = problems.to_string();
            assert!(!said.contains('\0'), "{said:?} is for people");
        }
    }
});
