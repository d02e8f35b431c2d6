//! The Python package: its tools and frameworks in a venv under `target`, its native module, its tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::guided;
use crate::programs::{DAEMON_VARIABLE, run};
use crate::shell::{self, Done, Failure, announce, cargo, checkout, command, step, step_within, target_dir};
use crate::suite::Extent;
use crate::synapse;
use crate::wheel::HOSTILE_VARIABLE;

/// With what features the native module is shipped, and with what it is measured: what a completion costs and nothing else,
/// only the second can be asked.
pub const SHIPPED: &str = "ordered";
pub const MEASURED: &str = "ordered,measure";

/// What the native module is called in the package.
const MODULE: &str = "_kernel.abi3.so";

/// What pip installs: the groups of `pyproject.toml`.
const GROUPS: [&str; 2] = ["frameworks", "check"];

/// Frontends that change the whole process, and how their interpreter is started.
pub const APART: [(&str, &[&str]); 2] = [
    ("twisted-asyncio", &["-m", "pytest"]),
    ("gevent-patched", &["-m", "gevent.monkey", "--module", "pytest"]),
];

/// Style and types, without the native module.
///
/// # Errors
/// The tool that found something, and the remedy.
pub fn check() -> Done {
    venv()?;
    step("ruff", tool("ruff").args(["check", "--no-cache", "."]))?;
    step("ruff format", tool("ruff").args(["format", "--no-cache", "--check", "."]))
        .map_err(|failure| failure.remedy("target/venv/bin/ruff format ."))?;
    let interpreter = venv_dir().join("bin/python");
    step("pyright", tool("pyright").args(["--warnings", "--pythonpath"]).arg(interpreter))?;
    step("mypy", &mut tool("mypy"))
}

/// Every test of the package, those in a Synapse too when an interpreter that has one is named; the full extent repeats
/// a hundred times as often what counts forks, exits and cancellations.
///
/// # Errors
/// What failed first.
pub fn test(extent: Extent, filter: Option<&str>, synapse: Option<&Path>) -> Done {
    let quick = extent == Extent::Quick;
    venv()?;
    module()?;
    let peers = hostile_peers()?;
    if filter.is_none() {
        step("stubtest", python().args(["-m", "mypy.stubtest", "southbridge._kernel"]))?;
    }
    let pytest = |start: &[&str]| {
        let mut pytest = pytest(start, quick, filter);
        pytest.env(HOSTILE_VARIABLE, &peers);
        if let Some(synapse) = synapse {
            pytest.env(synapse::PYTHON_VARIABLE, synapse);
        }
        pytest
    };
    step("python", &mut pytest(&["-m", "pytest"]))?;
    for (frontend, start) in APART {
        let mut suite = pytest(start);
        suite.arg(format!("--frontend={frontend}"));
        step(&format!("python with {frontend}"), &mut suite)?;
    }
    if extent == Extent::Full {
        let mut counts = pytest(&["-m", "pytest"]);
        counts.args(["-m", "counted", "-s"]).env("SOUTHBRIDGE_TIMES", "100");
        step("a thousand forks and exits, a hundred thousand cancellations", &mut counts)?;
    }
    Ok(())
}

/// `tests` of `python/tests` in the Synapse of the interpreter `synapse`, or those of them whose name contains `filter`; each is
/// said when it has ended, and all of them end within `limit`. `name` is what it is called while they run.
///
/// # Errors
/// One of them failed, or it took too long.
pub fn with_synapse(
    synapse: &Path,
    tests: &[&str],
    filter: Option<&str>,
    name: &str,
    limit: Duration,
) -> Done {
    venv()?;
    let mut pytest = python();
    pytest.args(["-m", "pytest", "-v", "--no-header", "-p", "no:cacheprovider"]);
    pytest.args(tests.iter().map(|test| format!("python/tests/{test}")));
    if let Some(filter) = filter {
        pytest.args(["-k", filter]);
    }
    step_within(name, pytest.env(synapse::PYTHON_VARIABLE, synapse), limit)
}

/// Builds the program with the hostile peers; where it is.
///
/// # Errors
/// It does not build.
pub fn hostile_peers() -> Result<PathBuf, Failure> {
    // Of the workspace, and not of one package: with the features that everything else is built with.
    let build = ["build", "--workspace", "--example", "hostile_peers", "--locked"];
    step("hostile peers", cargo().args(build))?;
    Ok(target_dir().join("debug/examples/hostile_peers"))
}

/// Builds the native module as it is shipped, and its peer, and measures; `args` are those of `benches/python`.
///
/// # Errors
/// Something does not build, or a bound was missed.
pub fn bench(args: &[String]) -> Done {
    measured_module("peers")?;
    let bridge = checkout().join("benches/python/bridge/Cargo.toml");
    let beside = target_dir().join("bridge");
    let mut build = cargo();
    build.args(["build", "--release", "--locked", "--manifest-path"]).arg(bridge);
    step("bridge of pyo3-async-runtimes (release)", build.arg("--target-dir").arg(&beside))?;
    place(&beside.join("release/libbridge.so"), &beside.join("bridge.abi3.so"))?;
    let path = [checkout().join("python"), checkout().join("benches"), beside];
    let path = std::env::join_paths(path).map_err(|error| Failure::new(error.to_string()))?;
    announce("bench of the package");
    run(tool("python").env("PYTHONPATH", path).args(["-m", "python"]).args(args))
}

/// Builds the native module as it is shipped, and measures what it does to the Synapse of the interpreter `synapse`, by `daemon`
/// too where there is one; `args` are those of `benches/python/synapse`.
///
/// # Errors
/// Something does not build, or a bound was missed.
pub fn bench_module(synapse: &Path, daemon: Option<&Path>, args: &[String]) -> Done {
    measured_module("plots")?;
    let path = [checkout().join("python"), checkout().join("benches")];
    let path = std::env::join_paths(path).map_err(|error| Failure::new(error.to_string()))?;
    announce("bench of a Synapse with the module");
    let mut bench = tool("python");
    bench.env("PYTHONPATH", path).env(synapse::PYTHON_VARIABLE, synapse);
    if let Some(daemon) = daemon {
        bench.env(DAEMON_VARIABLE, daemon);
    }
    run(bench.args(["-m", "python.synapse"]).args(args))
}

/// The interpreter of the venv, with what the tests need and what pip calls `group`.
///
/// # Errors
/// Something cannot be installed.
pub fn with_group(group: &str) -> Result<PathBuf, Failure> {
    venv()?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--group", group];
    step(&format!("install the group {group}"), python().args(install))?;
    Ok(venv_dir().join("bin/python"))
}

/// The package with `module`, in the folder `place`, away from the one in the checkout; where the module is in it.
///
/// # Errors
/// Something cannot be copied.
pub fn package_with(module: &Path, place: &Path) -> Result<PathBuf, Failure> {
    shell::copy_tracked("python/southbridge", &[".py"], place)?;
    let to = place.join(MODULE);
    shell::copy(module, &to)?;
    Ok(to)
}

/// The native module, as it is shipped but for what is measured, in its place; and what pip calls `group`.
fn measured_module(group: &str) -> Done {
    with_group(group)?;
    place(&guided::module(MEASURED)?, &in_checkout())
}

fn pytest(start: &[&str], quick: bool, filter: Option<&str>) -> Command {
    let mut pytest = python();
    pytest.args(start).args(["-q", "-p", "no:cacheprovider", "python/tests"]);
    if quick {
        pytest.args(["-m", "not slow"]);
    }
    if let Some(filter) = filter {
        pytest.args(["-k", filter]);
    }
    pytest
}

/// Builds the native module and puts it where the package looks for it.
///
/// # Errors
/// It does not build, or cannot be copied.
pub fn module() -> Done {
    // The tests run with the watch over the interpreter's lock: an I/O thread that takes it does not live (K1).
    let build = ["build", "--package", "southbridge-python", "--features", "watch-interpreter", "--locked"];
    step("native module", cargo().args(build))?;
    place(&target_dir().join("debug/lib_kernel.so"), &in_checkout())
}

/// Copies what was built to where it is imported from; a process that has the one before loaded keeps that.
fn place(built: &Path, place: &Path) -> Done {
    let _none_yet = fs::remove_file(place);
    shell::copy(built, place)
}

fn in_checkout() -> PathBuf {
    checkout().join("python/southbridge").join(MODULE)
}

/// Makes the venv, and installs into it what `pyproject.toml` names.
fn venv() -> Done {
    let said = fs::read_to_string(checkout().join("pyproject.toml")).unwrap_or_default();
    let groups = said.split("[dependency-groups]").nth(1).unwrap_or_default();
    let groups = groups.split("\n[").next().unwrap_or_default();
    let stamp = venv_dir().join("southbridge-groups");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == groups) {
        return Ok(());
    }
    // Somebody may have it elsewhere, and a link to it here; Python makes none of a link.
    let dir = fs::canonicalize(venv_dir()).unwrap_or_else(|_| venv_dir());
    step("make target/venv", command("python3").args(["-m", "venv"]).arg(&dir)).map_err(|failure| {
        failure.remedy("install Python with its venv module; on Debian: apt-get install python3 python3-venv")
    })?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"];
    step("renew pip", python().args(pip).arg("pip>=25.1"))?;
    let mut install = python();
    install.args(pip);
    for group in GROUPS {
        install.args(["--group", group]);
    }
    step("install Python's tools and frameworks", &mut install)?;
    fs::write(&stamp, groups).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))
}

fn venv_dir() -> PathBuf {
    target_dir().join("venv")
}

fn tool(name: &str) -> Command {
    command(venv_dir().join("bin").join(name))
}

fn python() -> Command {
    let mut python = tool("python");
    python.env("PYTHONPATH", checkout().join("python"));
    python
}
