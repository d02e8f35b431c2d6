//! `cargo xtask adapters`: the tests of httpx, requests, aiohttp, treq and Twisted, with the kernel under their clients.
//!
//! Each project's source comes from PyPI, by its hash, into `target/clients`; nothing of it is copied into the
//! repository. What of its tests is left out, and why, is in `python/tests/clients/left_out.txt`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::python;
use crate::shell::{Done, Failure, checkout, command, step, target_dir};

/// A project, and what it is asked.
struct Project {
    name: &'static str,
    /// Where its packages lie in its source, for those whose tests are among them.
    packages: &'static str,
    /// Where in its source the tests are started.
    start: &'static str,
    tests: &'static [&'static str],
}

static PROJECTS: [Project; 5] = [
    Project {
        name: "httpx",
        packages: "",
        start: "",
        tests: &[
            "tests/test_api.py",
            "tests/test_timeouts.py",
            "tests/client/test_client.py",
            "tests/client/test_async_client.py",
        ],
    },
    Project {
        name: "requests",
        packages: "",
        start: "",
        tests: &["tests/test_requests.py", "tests/test_lowlevel.py"],
    },
    // Among its tests, for where it is started Python imports from, and what is compiled is not in its source.
    Project { name: "aiohttp", packages: "tests", start: "tests", tests: &["test_client_functional.py"] },
    Project { name: "treq", packages: "src", start: "", tests: &["src/treq/test/test_treq_integration.py"] },
    Project { name: "twisted", packages: "src", start: "", tests: &["src/twisted/web/test/test_agent.py"] },
];

/// Runs the tests of every project, or of `only`.
///
/// # Errors
/// A test failed, or there is no such project; at the end, so that every project has had its turn.
pub fn run(only: Option<&str>) -> Done {
    let chosen: Vec<&Project> =
        PROJECTS.iter().filter(|it| only.is_none_or(|name| name == it.name)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = PROJECTS.iter().map(|project| project.name).collect();
        let names = names.join(", ");
        return Err(Failure::new("there is no such project").remedy(format!("take one of: {names}")));
    }
    let dir = target_dir().join("clients");
    fs::create_dir_all(&dir).map_err(|error| Failure::new(format!("{}: {error}", dir.display())))?;
    let sources = sources()?;
    venv(&dir, &sources)?;
    python::module()?;
    let results = dir.join("results.txt");
    let _none_yet = fs::remove_file(&results);
    let mut failed = Vec::new();
    for project in chosen {
        let source = fetched(&dir, project.name, &sources)?;
        if tests(&dir, project, &source, &results).is_err() {
            failed.push(project.name);
        }
    }
    eprint!("{}", fs::read_to_string(&results).unwrap_or_default());
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("tests of {} failed on the kernel", failed.join(", "))).remedy(
        "mend the adapter, or say in python/tests/clients/left_out.txt why it cannot be as the client's own",
    ))
}

/// The lines of `sources.txt`: a release, and its hash.
fn sources() -> Result<Vec<String>, Failure> {
    let path = clients().join("sources.txt");
    let text =
        fs::read_to_string(&path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    Ok(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect())
}

/// A venv of its own: the releases that are tested, and what their tests need.
fn venv(dir: &Path, sources: &[String]) -> Done {
    let groups = fs::read_to_string(checkout().join("pyproject.toml")).unwrap_or_default();
    let wanted = format!("{}\n{groups}", sources.join("\n"));
    let stamp = dir.join("venv/southbridge-clients");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    step("make target/clients/venv", command("python3").args(["-m", "venv"]).arg(dir.join("venv")))?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"];
    step("renew pip", interpreter(dir).args(pip).arg("pip>=25.1"))?;
    let mut install = interpreter(dir);
    install.args(pip).args(["--group", "clients"]);
    install.args(sources.iter().filter_map(|line| line.split_whitespace().next()));
    step("install the clients and what their tests need", &mut install)?;
    fs::write(&stamp, wanted).map_err(|error| Failure::new(format!("{}: {error}", stamp.display())))
}

/// The unpacked source of `name`, fetched when it is not there.
fn fetched(dir: &Path, name: &str, sources: &[String]) -> Result<PathBuf, Failure> {
    let line = sources.iter().find(|line| line.starts_with(&format!("{name}==")));
    let line = line.ok_or_else(|| Failure::new(format!("sources.txt does not name {name}")))?;
    let release = line.split_whitespace().next().unwrap_or_default().replace("==", "-");
    let unpacked = dir.join(&release);
    if unpacked.is_dir() {
        return Ok(unpacked);
    }
    let requirement = dir.join(format!("{name}.txt"));
    fs::write(&requirement, line)
        .map_err(|error| Failure::new(format!("{}: {error}", requirement.display())))?;
    let mut download = interpreter(dir);
    download.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    download.args(["--require-hashes", "--no-binary", name, "--dest"]).arg(dir);
    step(&format!("fetch {release}"), download.arg("--requirement").arg(&requirement))?;
    let mut unpack = command("tar");
    unpack.arg("-xzf").arg(dir.join(format!("{release}.tar.gz"))).arg("-C").arg(dir);
    step(&format!("unpack {release}"), &mut unpack)?;
    Ok(unpacked)
}

fn tests(dir: &Path, project: &Project, source: &Path, results: &Path) -> Done {
    let mut pytest = interpreter(dir);
    let packages = [source.join(project.packages), clients(), checkout().join("python")];
    let path = env::join_paths(packages)
        .map_err(|_| Failure::new("the checkout lies in a directory whose name has a colon"))?;
    pytest.current_dir(source.join(project.start)).env("PYTHONPATH", path);
    pytest.env("SOUTHBRIDGE_CLIENT", project.name).env("SOUTHBRIDGE_CLIENT_RESULTS", results);
    pytest.args(["-m", "pytest", "-p", "on_the_kernel", "-q", "-p", "no:cacheprovider", "--tb=short"]);
    // What they say of themselves: doctests of the whole package, and warnings that a newer release of a tool has.
    pytest.args(["-o", "addopts=", "--timeout=120"]).args(project.tests);
    step(&format!("the tests of {}", project.name), &mut pytest)
}

fn interpreter(dir: &Path) -> Command {
    command(dir.join("venv/bin/python"))
}

fn clients() -> PathBuf {
    checkout().join("python/tests/clients")
}
