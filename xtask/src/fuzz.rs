//! `cargo xtask fuzz`: made-up input for the parsers that read what strangers send.
//!
//! The targets live in `fuzz/`, a package outside the workspace. libFuzzer's instrumentation is a
//! nightly flag; `RUSTC_BOOTSTRAP=1` lets a stable compiler take it, and `--sanitizer none` does
//! without the sanitizers, which would need a standard library built for them. Our code has no
//! `unsafe` in its parsers, so panics, overflows and time are what there is to find.

use std::fs;

use crate::shell::{self, Done, Failure, cargo, checkout, step};

/// Runs one target, or all, `seconds` each, starting from `fuzz/seeds/TARGET`.
///
/// # Errors
/// cargo-fuzz is missing, there is no such target, or an input was found that breaks one.
pub fn run(target: Option<&str>, seconds: u32) -> Done {
    if !shell::succeeds(cargo().args(["fuzz", "--version"])) {
        return Err(Failure::new("cargo fuzz is missing").remedy("cargo install --locked cargo-fuzz"));
    }
    let targets = targets()?;
    let chosen: Vec<&String> = targets.iter().filter(|name| target.is_none_or(|it| it == *name)).collect();
    if chosen.is_empty() {
        return Err(Failure::new("there is no such fuzz target")
            .remedy(format!("take one of: {}", targets.join(", "))));
    }
    for name in chosen {
        one(name, seconds)?;
    }
    Ok(())
}

fn one(name: &str, seconds: u32) -> Done {
    let corpus = format!("fuzz/corpus/{name}");
    let seeds = format!("fuzz/seeds/{name}");
    fs::create_dir_all(checkout().join(&corpus))
        .map_err(|error| Failure::new(format!("{corpus} cannot be made: {error}")))?;
    let mut fuzz = cargo();
    fuzz.env("RUSTC_BOOTSTRAP", "1").args(["fuzz", "run", "--sanitizer", "none", name, &corpus, &seeds]);
    fuzz.args(["--", &format!("-max_total_time={seconds}"), "-max_len=65536", "-timeout=5"]);
    step(&format!("fuzz {name} for {seconds} s"), &mut fuzz).map_err(|failure| {
        failure.remedy(format!(
            "an input that broke it is in fuzz/artifacts/{name}: fix the parser and copy it to {seeds}, so that it stays"
        ))
    })
}

fn targets() -> Result<Vec<String>, Failure> {
    let dir = checkout().join("fuzz/targets");
    let entries = fs::read_dir(&dir)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", dir.display())))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}
