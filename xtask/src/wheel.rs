//! `cargo xtask wheel`: the wheel that is published, and the suite on every interpreter it is for.
//!
//! One abi3 wheel serves CPython 3.10 and all that follow. Whether it does is shown by installing it, as pip does, in
//! a fresh venv of every `python3.X` that is on `PATH` or under pyenv, away from the checkout, so that nothing but
//! the wheel can be imported; the same once more with what the source distribution builds.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::guided::Guide;
use crate::order;
use crate::python::{APART, SHIPPED, hostile_peers};
use crate::shell::{self, Done, Failure, announce, checkout, command, step, target_dir};

/// Builds, installs, runs; `only` is one interpreter, such as `3.12`.
///
/// # Errors
/// What failed first; a suite that fails on one interpreter does not keep the others from their turn.
pub fn run(only: Option<&str>) -> Done {
    let peers = hostile_peers()?;
    let tools = tools()?;
    let dist = work().join("dist");
    let _none_yet = fs::remove_dir_all(&dist);
    let build = |what: &[&str]| {
        let mut maturin = command(tools.join("bin/maturin"));
        maturin.args(what).arg("--out").arg(&dist);
        maturin
    };
    let guide = Guide::make(SHIPPED)?;
    let mut shipped = build(&["build", "--profile", "dist", "--features", SHIPPED, "--locked"]);
    step("wheel (dist: ten minutes, the first time)", guide.lead(&mut shipped))?;
    step("source distribution", &mut build(&["sdist"]))?;
    let wheel = the_one(&dist, "-abi3-", ".whl")?;
    let source = the_one(&dist, "southbridge-", ".tar.gz")?;
    step(
        "what the index will say of it",
        command(tools.join("bin/twine")).args(["check", "--strict"]).args([&wheel, &source]),
    )?;
    let suite = suite()?;
    let mut rows =
        vec![format!("{} {}", name(&wheel), size(&wheel)), format!("{} {}", name(&source), size(&source))];
    if cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        rows.push(ordered(&guide.built())?);
    }
    let mut failed = Vec::new();
    let found = interpreters();
    let asked = found.values().filter(|found| only.is_none_or(|only| found.minor == only));
    for interpreter in asked {
        announce(&format!("CPython {} ({})", interpreter.version, interpreter.path.display()));
        let told = on(interpreter, &wheel, &suite, &peers);
        if let Err(failure) = &told {
            failed.push(format!("{}: {}", interpreter.version, failure.what));
        }
        rows.push(format!(
            "CPython {:<10} {}",
            interpreter.version,
            told.unwrap_or_else(|failure| failure.what)
        ));
    }
    let told = from_source(&source);
    failed.extend(told.as_ref().err().map(|failure| format!("from source: {}", failure.what)));
    rows.push(format!("from source        {}", told.unwrap_or_else(|failure| failure.what)));
    for row in &rows {
        println!("{row}");
    }
    if found.is_empty() || !failed.is_empty() {
        return Err(Failure::new(format!("the wheel does not do everywhere: {}", failed.join("; ")))
            .remedy("install the interpreters that are missing, or see above for what failed"));
    }
    Ok(())
}

/// How much of the order of its functions `module` has.
///
/// # Errors
/// So little that the order is another module's.
fn ordered(module: &Path) -> Result<String, Failure> {
    let (found, listed) = order::found(module)?;
    let said = format!("{found} of {listed} functions that run lie in order");
    // Of those that are called something else in the module that is measured, the list has both names.
    if found * 2 < listed {
        return Err(Failure::new(said).remedy("cargo xtask order"));
    }
    Ok(said)
}

/// One interpreter.
struct Interpreter {
    path: PathBuf,
    /// `3.12.1`, with a `t` when it is a free-threaded build.
    version: String,
    /// `3.12`.
    minor: String,
    is_free_threaded: bool,
}

/// What is there, one for each minor version, in their order.
fn interpreters() -> BTreeMap<(u32, bool), Interpreter> {
    let mut found = BTreeMap::new();
    for dir in places() {
        for minor in OLDEST..=NEWEST {
            for name in [format!("python3.{minor}"), format!("python3.{minor}t")] {
                if let Some(one) = interpreter(&dir.join(name), minor) {
                    found.entry((minor, one.is_free_threaded)).or_insert(one);
                }
            }
        }
    }
    found
}

fn places() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let root = env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| fs::read_dir(root.join("versions")).ok());
    let installed = versions.into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    // Those of pyenv first: what it puts on PATH are scripts, which ask which version is meant.
    installed.chain(env::split_paths(&path).filter(|dir| !dir.ends_with("shims"))).collect()
}

fn interpreter(path: &Path, minor: u32) -> Option<Interpreter> {
    if !path.is_file() {
        return None;
    }
    let told = shell::output(command(path).args(["-c", ASK])).ok()?;
    let mut words = told.split_whitespace();
    let version = words.next()?.to_owned();
    let is_free_threaded = words.next()? == "1";
    let minor = format!("3.{minor}");
    let fits = version.starts_with(&format!("{minor}."));
    let version = if is_free_threaded { format!("{version}t") } else { version };
    fits.then(|| Interpreter { path: path.to_path_buf(), version, minor, is_free_threaded })
}

/// The suites on one interpreter; what its row says.
fn on(interpreter: &Interpreter, wheel: &Path, suite: &Path, peers: &Path) -> Result<String, Failure> {
    let began = Instant::now();
    let python = venv(&interpreter.path, &interpreter.version)?;
    if interpreter.is_free_threaded {
        // It has no stable ABI before 3.15: pip has to say so, and not the loader.
        return match step("install the wheel", pip(&python).arg(wheel)) {
            Ok(()) => Err(Failure::new("takes an abi3 wheel, although it is a free-threaded build")),
            Err(_) => Ok("refuses the wheel, as a free-threaded build has to".to_owned()),
        };
    }
    step("install the wheel", pip(&python).arg(wheel))?;
    step("smoke", command(&python).current_dir(suite).args(["-c", SMOKE]))?;
    step("install the frameworks", pip(&python).args(["--group", "frameworks", "pytest"]))?;
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    let runs = APART.iter().map(|(name, start)| (Some(*name), *start));
    for (frontend, start) in std::iter::once((None, &["-m", "pytest"][..])).chain(runs) {
        let report = work().join(format!("{}.xml", interpreter.version));
        let mut pytest = command(&python);
        pytest.current_dir(suite).env_remove("PYTHONPATH").env(HOSTILE_VARIABLE, peers).args(start);
        pytest.args(["-q", "-p", "no:cacheprovider", "-c", "pyproject.toml"]).args(SUITES);
        pytest.arg(format!("--junit-xml={}", report.display()));
        pytest.args(frontend.map(|name| format!("--frontend={name}")));
        let done =
            step(&format!("suite, {}", frontend.unwrap_or("all that live in one process")), &mut pytest);
        failures.extend(done.err().map(|failure| failure.what));
        counts.add(&fs::read_to_string(&report).unwrap_or_default());
    }
    let said = format!("{counts} in {:.0} s", began.elapsed().as_secs_f64());
    if failures.is_empty() { Ok(said) } else { Err(Failure::new(said)) }
}

/// What pip makes of the source distribution: built by the interpreter at hand, and asked once.
fn from_source(source: &Path) -> Result<String, Failure> {
    let began = Instant::now();
    let python = venv(Path::new("python3"), "source")?;
    // Where it was unpacked is deleted afterwards; what the dependencies became need not be.
    step("install from source", pip(&python).arg(source).env("CARGO_TARGET_DIR", target_dir()))?;
    step("smoke", command(&python).current_dir(work()).args(["-c", SMOKE]))?;
    Ok(format!("installs and answers in {:.0} s", began.elapsed().as_secs_f64()))
}

/// Of one interpreter, over all its runs.
#[derive(Default)]
struct Counts {
    tests: u32,
    failed: u32,
    skipped: u32,
}

impl Counts {
    /// Adds what a report in the format of JUnit says in its head.
    fn add(&mut self, report: &str) {
        let head =
            report.split("<testsuite ").nth(1).and_then(|rest| rest.split('>').next()).unwrap_or_default();
        let count = |name: &str| {
            let value = head.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        self.tests += count("tests");
        self.failed += count("failures") + count("errors");
        self.skipped += count("skipped");
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let passed = self.tests.saturating_sub(self.failed + self.skipped);
        write!(f, "{passed:4} passed, {:2} skipped, {:2} failed", self.skipped, self.failed)
    }
}

/// maturin, and what reads the metadata as the index does.
fn tools() -> Result<PathBuf, Failure> {
    let python = venv(Path::new("python3"), "tools")?;
    step("install maturin", pip(&python).args(["--group", "wheel"]))?;
    Ok(work().join("tools"))
}

/// A fresh venv; its interpreter.
fn venv(of: &Path, name: &str) -> Result<PathBuf, Failure> {
    let dir = work().join(name);
    step("make a venv", command(of).args(["-m", "venv", "--clear"]).arg(&dir)).map_err(|failure| {
        failure.remedy("install this Python with its venv module; on Debian: apt-get install python3-venv")
    })?;
    let python = dir.join("bin/python");
    step("renew pip", pip(&python).args(["--upgrade", "pip>=25.1"]))?;
    Ok(python)
}

fn pip(python: &Path) -> Command {
    let mut pip = command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip
}

/// A copy of the suite, away from the sources of the package.
fn suite() -> Result<PathBuf, Failure> {
    let suite = work().join("suite");
    shell::copy_tracked("python/tests", &[".py"], &suite.join("tests"))?;
    shell::copy(&checkout().join("pyproject.toml"), &suite.join("pyproject.toml"))?;
    Ok(suite)
}

/// The one file in `dir` that has `part` in its name and `end` at its end.
fn the_one(dir: &Path, part: &str, end: &str) -> Result<PathBuf, Failure> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let fitting: Vec<PathBuf> =
        entries.filter(|path| name(path).contains(part) && name(path).ends_with(end)).collect();
    match &fitting[..] {
        [one] => Ok(one.clone()),
        others => Err(Failure::new(format!(
            "{} has {} files *{part}*{end}, and there should be one",
            dir.display(),
            others.len()
        ))),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn size(path: &Path) -> String {
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    format!("({}.{:02} MB)", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}

fn work() -> PathBuf {
    target_dir().join("wheel")
}

/// Where the suite looks for the program with the hostile peers.
pub const HOSTILE_VARIABLE: &str = "SOUTHBRIDGE_HOSTILE_PEERS";

const OLDEST: u32 = 10;
const NEWEST: u32 = 19;

/// What needs no checkout: how it behaves, how its process lives, what the client is told.
const SUITES: &[&str] = &[
    "tests/test_behaviour.py",
    "tests/test_behaviour_rehearsed.py",
    "tests/test_behaviour_services.py",
    "tests/test_bus.py",
    "tests/test_client.py",
    "tests/test_contexts.py",
    "tests/test_cookies.py",
    "tests/test_debug.py",
    "tests/test_downloads.py",
    "tests/test_exits.py",
    "tests/test_files.py",
    "tests/test_forks.py",
    "tests/test_gunicorn.py",
    "tests/test_hangs.py",
    "tests/test_hostile.py",
    "tests/test_lifecycle.py",
    "tests/test_loops.py",
    "tests/test_marks.py",
    "tests/test_services.py",
    "tests/test_shape.py",
    "tests/test_signals.py",
    "tests/test_statistics.py",
    "tests/test_streams.py",
    "tests/test_testing.py",
    "tests/test_testing_loops.py",
    "tests/adapters",
];

const ASK: &str = "import platform, sysconfig; print(platform.python_version(), sysconfig.get_config_var('Py_GIL_DISABLED') or 0)";

/// One request to a peer of the standard library, and the kernel's own marks of a whole package.
const SMOKE: &str = r#"
import http.server, importlib.metadata, importlib.resources, threading, southbridge
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
threading.Thread(target=server.serve_forever, daemon=True).start()
response = southbridge.get(f"http://127.0.0.1:{server.server_port}/")
assert response.status == 200, response
files = importlib.resources.files("southbridge")
assert all((files / name).is_file() for name in ("py.typed", "_kernel.pyi")), "it is not typed"
told = importlib.metadata.metadata("southbridge")
assert told["Version"] == southbridge.__version__, told["Version"]
assert {"LICENSE-APACHE", "LICENSE-MIT"} <= set(told.get_all("License-File")), "licences are missing"
print("southbridge", southbridge.__version__, response)
"#;
