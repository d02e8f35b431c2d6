//! `cargo xtask synapses`: the module in each release of Synapse that it says it was tested with.
//!
//! Each has an environment of its own under `target/synapses`, or in the folder that [`FOLDER_VARIABLE`] names, made when it is
//! first asked for. One more release, older than what the module needs, must be left as it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use crate::python;
use crate::shell::{self, Done, Failure, checkout, command, step, target_dir};
use crate::{suite, synapse};

/// The table of the module. It is read, so that there is one.
const TABLE: &str = "python/southbridge/synapse/_releases.py";

/// A release that lacks what the module needs.
const LEFT_ALONE: &str = "1.150.0";

/// Names a folder that has an environment for each release, called as it is.
const FOLDER_VARIABLE: &str = "SOUTHBRIDGE_SYNAPSES";

/// What is run with each release that is taken over: messages on both databases, what is asked of homeservers, files that they
/// send, what is counted, and three Synapses with each other.
const TESTS: [&str; 5] = [
    "test_synapse.py",
    "test_synapse_agent.py",
    "test_synapse_media.py",
    "test_synapse_figures.py",
    "test_federated.py",
];

/// What Synapse does by itself, beside which the module is looked at, is asked of one release: the one that all tests run with.
const WITH_THE_MODULE: &str = "not none and not stock";

/// How long that may take with one release.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// What is expected of a release.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    TakenOver,
    LeftAlone,
}

impl Expected {
    fn words(self) -> &'static str {
        match self {
            Self::TakenOver => "taken over",
            Self::LeftAlone => "left alone",
        }
    }
}

/// What came of the tests with a release.
struct Row {
    release: String,
    expected: Expected,
    tested: Done,
    took: Duration,
}

/// Runs the tests with each release, or with the one `only` names, and prints what came of it.
///
/// # Errors
/// An environment cannot be made, or a test failed with one of them; the table is printed all the same.
pub fn run(only: Option<&str>) -> Done {
    let releases = releases()?;
    let wanted: Vec<(&str, Expected)> = releases
        .iter()
        .map(|release| (release.as_str(), Expected::TakenOver))
        .chain([(LEFT_ALONE, Expected::LeftAlone)])
        .filter(|(release, _)| only.is_none_or(|only| only == *release))
        .collect();
    if wanted.is_empty() {
        let known = releases.join(", ");
        return Err(Failure::new(format!("{} is not in {TABLE}", only.unwrap_or_default()))
            .remedy(format!("one of {known}, {LEFT_ALONE}")));
    }
    suite::peers()?;
    python::module()?;
    let mut rows = Vec::new();
    for (number, (release, expected)) in wanted.iter().enumerate() {
        let name = format!("Synapse {release} ({} of {})", number + 1, wanted.len());
        let began = Instant::now();
        let tested = test(release, *expected, &name);
        if let Err(failure) = &tested {
            eprintln!("    {}", failure.what);
        }
        let (release, took) = ((*release).to_owned(), began.elapsed());
        rows.push(Row { release, expected: *expected, tested, took });
    }
    report(&rows)
}

fn test(release: &str, expected: Expected, name: &str) -> Done {
    let interpreter = environment(release)?;
    match expected {
        Expected::TakenOver => python::with_synapse(&interpreter, &TESTS, Some(WITH_THE_MODULE), name, LIMIT),
        Expected::LeftAlone => {
            python::with_synapse(&interpreter, &TESTS[..1], Some(LEFT_ALONE_TEST), name, LIMIT)
        }
    }
}

fn report(rows: &[Row]) -> Done {
    println!("{:<10} {:<12} {:<8} minutes", "Synapse", "expected", "result");
    for Row { release, expected, tested, took } in rows {
        let result = if tested.is_ok() { "passed" } else { "FAILED" };
        println!("{release:<10} {:<12} {result:<8} {:.1}", expected.words(), took.as_secs_f64() / 60.0);
    }
    let failed = rows.iter().filter(|row| row.tested.is_err()).map(|row| row.release.as_str());
    let failed: Vec<&str> = failed.collect();
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
    let all = env::var_os(FOLDER_VARIABLE).map_or_else(|| target_dir().join("synapses"), PathBuf::from);
    let folder = all.join(release);
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

const LEFT_ALONE_TEST: &str = "test_an_old_release_is_left_alone";

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
