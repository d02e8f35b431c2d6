//! `cargo xtask tidy`: what is absent is architecture too, so it is checked.
//!
//! Each check reads the tree and names what breaks the house rules, with the file and the reason.

use std::fs;
use std::path::Path;

use crate::shell::{Done, Failure, announce, checkout};

mod conformance;
mod external;
mod floors;
mod links;
mod lints;
mod sources;
mod workspace;

/// What was found, one line each.
#[derive(Debug, Default)]
struct Findings {
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Findings {
    fn problem(&mut self, place: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.problems.push(format!("{place}: {what}"));
    }

    fn warning(&mut self, place: impl std::fmt::Display, what: impl std::fmt::Display) {
        self.warnings.push(format!("{place}: {what}"));
    }
}

/// Runs all of them.
///
/// # Errors
/// How many problems were found; each has been printed.
pub fn run() -> Done {
    announce("tidy");
    let mut findings = Findings::default();
    let packages = workspace::packages()?;
    floors::check(&packages, &mut findings);
    external::check(&packages, &mut findings);
    lints::check(&packages, &mut findings);
    sources::check(&mut findings)?;
    conformance::check(&mut findings)?;
    links::check(&mut findings)?;
    for warning in &findings.warnings {
        eprintln!("    warning: {warning}");
    }
    for problem in &findings.problems {
        eprintln!("    {problem}");
    }
    match findings.problems.len() {
        0 => Ok(()),
        count => Err(Failure::new(format!("tidy: {count} problems, listed above"))),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(checkout().join(path))
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", path.display())))
}
