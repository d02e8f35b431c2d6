//! `cargo xtask check`: everything that can be known without running the program.

use std::path::Path;

use crate::python;
use crate::shell::{self, Done, Failure, cargo, step};
use crate::tidy;

/// Runs every check, and stops at the first that fails.
///
/// # Errors
/// The check that failed, and the remedy.
pub fn run(advisories: bool) -> Done {
    step("format", cargo().args(["fmt", "--all", "--check"]))
        .map_err(|failure| failure.remedy("cargo fmt --all"))?;
    tidy::run()?;
    deny(advisories)?;
    step(
        "clippy",
        cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    )?;
    step(
        "docs",
        cargo().args(["doc", "--workspace", "--no-deps", "--locked"]).env("RUSTDOCFLAGS", "-D warnings"),
    )?;
    python::check()
}

/// Licences, sources and bans always, of everything that has a lock file; the advisory database is a repository of its own
/// that has to be fetched, so it is asked only when wanted.
fn deny(advisories: bool) -> Done {
    if !shell::succeeds(cargo().args(["deny", "--version"])) {
        return Err(Failure::new("cargo deny is missing").remedy("cargo install --locked cargo-deny"));
    }
    for lock in shell::tracked(&["Cargo.lock"])? {
        let place = lock.parent().filter(|place| *place != Path::new("")).unwrap_or(Path::new("."));
        let mut deny = cargo();
        deny.args(["deny", "--log-level", "error", "--workspace", "--all-features", "--locked"]);
        deny.arg("--manifest-path").arg(place.join("Cargo.toml"));
        deny.args(["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]);
        if advisories {
            deny.arg("advisories");
        }
        step(&format!("deny {}", place.display()), &mut deny)?;
    }
    Ok(())
}
