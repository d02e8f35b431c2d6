//! `cargo xtask synapses`: the module in each release of Synapse that it says it was tested with.
//!
//! Each has an environment of its own under `target/synapses`, made when it is first asked for. One more release, older than
//! what the module needs, must be left as it is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::python;
use crate::shell::{self, Done, Failure, checkout, command, step, target_dir};
use crate::synapse;

/// The table of the module. It is read, so that there is one.
const TABLE: &str = "python/southbridge/synapse/_releases.py";

/// A release that lacks what the module needs.
const LEFT_ALONE: &str = "1.150.0";

/// Runs the smoke tests with each release, or with the one `only` names, and prints what came of it.
///
/// # Errors
/// An environment cannot be made, or a test failed with one of them; the table is printed all the same.
pub fn run(only: Option<&str>) -> Done {
    let releases = releases()?;
    let wanted: Vec<(&str, &str)> = releases
        .iter()
        .map(|release| (release.as_str(), ""))
        .chain([(LEFT_ALONE, LEFT_ALONE_TEST)])
        .filter(|(release, _)| only.is_none_or(|only| only == *release))
        .collect();
    if wanted.is_empty() {
        let known = releases.join(", ");
        return Err(Failure::new(format!("{} is not in {TABLE}", only.unwrap_or_default()))
            .remedy(format!("one of {known}, {LEFT_ALONE}")));
    }
    python::module()?;
    let mut rows = Vec::new();
    for (release, test) in wanted {
        let interpreter = environment(release)?;
        let filter = Some(test).filter(|test| !test.is_empty());
        let tested = python::smoke(&interpreter, filter, &format!("Synapse {release}"));
        rows.push((release, test, tested.is_ok()));
    }
    report(&rows)
}

fn report(rows: &[(&str, &str, bool)]) -> Done {
    println!("{:<10} {:<12} result", "Synapse", "expected");
    for (release, test, is_good) in rows {
        let expected = if test.is_empty() { "taken over" } else { "left alone" };
        println!("{release:<10} {expected:<12} {}", if *is_good { "passed" } else { "FAILED" });
    }
    let failed: Vec<&str> = rows.iter().filter(|row| !row.2).map(|row| row.0).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("Synapse {}: failed, see above", failed.join(", ")))
        .remedy("cargo xtask synapses RELEASE runs one of them"))
}

/// The releases in the table, newest first.
fn releases() -> Result<Vec<String>, Failure> {
    let table = fs::read_to_string(checkout().join(TABLE))
        .map_err(|error| Failure::new(format!("{TABLE}: {error}")))?;
    let found = versions(&table);
    if found.is_empty() {
        return Err(Failure::new(format!("no releases are found in {TABLE}")));
    }
    Ok(found)
}

fn versions(table: &str) -> Vec<String> {
    let rows = table.lines().skip_while(|line| !line.starts_with("RELEASES")).skip(1);
    rows.map_while(|line| line.trim().strip_prefix('"')?.split('"').next().map(str::to_owned)).collect()
}

/// The interpreter of an environment that has `release`.
fn environment(release: &str) -> Result<PathBuf, Failure> {
    let folder = target_dir().join("synapses").join(release);
    let interpreter = folder.join("bin/python");
    if !synapse::is_ready(&interpreter) {
        step(&format!("make {}", folder.display()), command("python3").args(["-m", "venv"]).arg(&folder))?;
        install(&interpreter, release)?;
    }
    Ok(interpreter)
}

fn install(interpreter: &Path, release: &str) -> Done {
    let mut pip = command(interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(synapse::requirements(release));
    step(&format!("install Synapse {release}"), &mut pip)?;
    if synapse::is_ready(interpreter) {
        return Ok(());
    }
    let shown = shell::output(command(interpreter).args(["-c", "import synapse.app.homeserver"]));
    Err(shown.err().unwrap_or_else(|| Failure::new(format!("Synapse {release} cannot be imported"))))
}

const LEFT_ALONE_TEST: &str = "test_a_synapse_that_lacks_something_is_left_alone";

#[cfg(test)]
mod tests {
    use super::{releases, versions};

    /// The table that is there has at least five, and the first is the one we test with everywhere.
    #[test]
    fn the_releases_of_the_module_are_found() {
        let found = releases().expect("it is in the checkout");
        assert!(found.len() >= 5, "{found:?}");
        assert_eq!(found[0], crate::synapse::RELEASE);
    }

    /// What stands before and after the table does not count.
    #[test]
    fn only_the_table_is_read() {
        let table = "\"1.0\": A\nRELEASES: X = {\n    \"1.2.3\": B,\n    \"1.2.0\": B,\n}\n\"1.1\"\n";
        assert_eq!(versions(table), ["1.2.3", "1.2.0"]);
    }
}
