//! `cargo xtask test`: units and simulated worlds, doc tests, Python, then real peers.
//!
//! Tests that need a real peer carry `#[ignore = "…"]` with the reason, so that a bare `cargo test`
//! works anywhere; here the peers are put in place and those tests run as well.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::debian::{NGINX, Needed, packages};
use crate::programs::{self, DAEMON_VARIABLE};
use crate::python;
use crate::shell::{self, Done, Failure, cargo, command, step};
use crate::{synapse, synapses, wheel};

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What needs no real peer.
    Quick,
    /// Every test.
    Usual,
    /// And what takes an hour: the counts in full, the module in every release of Synapse, the wheel on every interpreter.
    Full,
}

/// Runs every test of `extent`, or those whose name contains `filter`.
///
/// # Errors
/// What failed first, and what to install where something is missing.
pub fn run(extent: Extent, filter: Option<&str>) -> Done {
    packages(&BUILD_PROGRAMS)?;
    let daemon = programs::dev_daemon()?;
    examples(&daemon)?;
    let runner = Runner::find();
    let path = path_with_postgresql()?;

    step("tests", runner.command(&[], filter).env(DAEMON_VARIABLE, &daemon).env("PATH", &path))?;
    if filter.is_none() {
        step("doc tests", cargo().args(["test", "--doc", "--workspace", "--locked", "--quiet"]))?;
    }
    packages(&PYTHON_PROGRAMS)?;
    if extent == Extent::Quick {
        return python::test(extent, filter, None);
    }
    peers()?;
    let synapse = synapse::python()?;
    python::test(extent, filter, Some(&synapse))?;
    let mut peers = runner.command(runner.ignored_only(), filter);
    peers.env(DAEMON_VARIABLE, &daemon).env(synapse::PYTHON_VARIABLE, synapse).env("PATH", &path);
    step("tests with real peers", &mut peers)?;
    if extent == Extent::Full && filter.is_none() {
        synapses::run(None)?;
        wheel::run(None)?;
    }
    Ok(())
}

/// The configurations we show are understood by the daemon we built.
fn examples(daemon: &Path) -> Done {
    for example in shell::tracked(&[".toml"])?.iter().filter(|path| path.starts_with("examples")) {
        let mut check = command(daemon);
        check.arg("check-config").arg(example).stdout(Stdio::null());
        step(&format!("check {}", example.display()), &mut check)?;
    }
    Ok(())
}

/// Who runs the tests.
enum Runner {
    /// One process a test, with a limit on the time of each.
    Nextest,
    /// What every toolchain has.
    Cargo,
}

impl Runner {
    fn find() -> Self {
        if shell::succeeds(cargo().args(["nextest", "--version"])) {
            return Self::Nextest;
        }
        eprintln!("    cargo-nextest is missing, cargo test runs the tests instead;");
        eprintln!("    to have them faster and with a time limit each: cargo install --locked cargo-nextest");
        Self::Cargo
    }

    fn command(&self, extra: &[&str], filter: Option<&str>) -> Command {
        let mut command = cargo();
        match self {
            Self::Nextest => {
                command.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]);
                command.args(["--no-tests", "pass"]).args(extra).args(filter);
            }
            Self::Cargo => {
                command.args(["test", "--workspace", "--locked", "--no-fail-fast"]);
                command.args(["--lib", "--bins", "--tests"]).args(filter).arg("--").args(extra);
            }
        }
        command
    }

    fn ignored_only(&self) -> &'static [&'static str] {
        match self {
            Self::Nextest => &["--run-ignored", "only"],
            Self::Cargo => &["--ignored"],
        }
    }
}

/// OpenSSL and SQLite are built from their sources.
const BUILD_PROGRAMS: [Needed; 3] =
    [(&["cc", "--version"], "gcc"), (&["perl", "-v"], "perl"), (&["make", "--version"], "make")];

const PYTHON_PROGRAMS: [Needed; 2] = [(&["python3", "-c", "import venv, ensurepip"], "python3-venv"), NGINX];

const PEER_PROGRAMS: [Needed; 2] =
    [(&["ip", "-V"], "iproute2"), (&["redis-server", "--version"], "redis-server")];

/// Makes sure that there is what tests with real peers need besides Synapse.
///
/// # Errors
/// Something is missing and cannot be installed; the remedy says what to install.
pub fn peers() -> Done {
    packages(&PEER_PROGRAMS)?;
    path_with_postgresql().map(drop)
}

/// Where programs are looked for, PostgreSQL's own included: Debian puts them aside.
fn path_with_postgresql() -> Result<OsString, Failure> {
    let search = || {
        let path = env::var_os("PATH").unwrap_or_default();
        let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let aside = versions.map(|version| version.path().join("bin"));
        env::join_paths(env::split_paths(&path).chain(aside)).unwrap_or(path)
    };
    let path = search();
    if shell::succeeds(command("initdb").arg("--version").env("PATH", &path)) {
        return Ok(path);
    }
    packages(&[(&["initdb", "--version"], "postgresql")])?;
    Ok(search())
}
