//! Chores that build one of our own programs and hand over to it.

use std::path::{Path, PathBuf};

use crate::shell::{Done, Failure, announce, cargo, command, output, step, target_dir};
use crate::{python, synapse};

/// Builds the daemon for release and runs `southbridge demo` with `args`, or with `--synapse` among them the demo with
/// real Synapses.
///
/// # Errors
/// It does not build, Synapse was asked for and cannot be had, or the demo failed.
pub fn demo(args: &[String]) -> Done {
    let daemon = release_daemon()?;
    if args.iter().any(|arg| arg == "--synapse") {
        return with_synapse("synapse-demo", "demo with real Synapses", &daemon, args);
    }
    announce("demo");
    run(command(daemon).arg("demo").args(args))
}

/// Builds and runs the benchmarks with `args`, or with `--synapse` among them the one that asks what Synapse costs, with
/// `--module` what the module does to it, or with `--python` those of the Python package.
///
/// # Errors
/// They do not build, Synapse was asked for and cannot be had, or a bound was not met.
pub fn bench(args: &[String]) -> Done {
    if args.iter().any(|arg| arg == "--synapse") {
        return with_synapse("synapse-cost", "bench of real Synapses", &shipped_daemon()?, args);
    }
    let without = |flag: &str| {
        let others = || args.iter().filter(|arg| *arg != flag).cloned().collect::<Vec<String>>();
        args.iter().any(|arg| arg == flag).then(others)
    };
    if let Some(others) = without("--module") {
        let daemon = others.iter().any(|arg| arg == "--daemon").then(shipped_daemon).transpose()?;
        return python::bench_module(&synapse::python()?, daemon.as_deref(), &others);
    }
    if let Some(others) = without("--python") {
        return python::bench(&others);
    }
    // They measure the daemon that lies beside them.
    let packages = ["-p", "southbridge-benches", "-p", "southbridge-daemon"];
    step(
        "build benches (dist: ten minutes, the first time)",
        cargo().args(["build", "--profile", "dist", "--locked"]).args(packages),
    )?;
    announce("bench");
    run(command(target_dir().join("dist").join("southbridge-benches")).args(args))
}

/// Builds `program` of the package `southbridge-tests` and runs it with all of `args` but `--synapse`. Such programs
/// wait most of the time, and are built for tests anyway.
fn with_synapse(program: &str, what: &str, daemon: &Path, args: &[String]) -> Done {
    let python = synapse::python()?;
    let build = ["build", "--locked", "-p", "southbridge-tests", "--bin", program];
    step(&format!("build {program} (dev)"), cargo().args(build))?;
    announce(what);
    let mut built = command(target_dir().join("debug").join(program));
    built.env(synapse::PYTHON_VARIABLE, python).env(DAEMON_VARIABLE, daemon);
    run(built.args(args.iter().filter(|arg| *arg != "--synapse")))
}

/// Tells tests and demos which daemon to start; who sets it has one that is built already.
pub const DAEMON_VARIABLE: &str = "SOUTHBRIDGE_BIN";

/// The shells we write completions for, and the names their files must have.
const COMPLETIONS: [(&str, &str); 3] =
    [("bash", "southbridge"), ("zsh", "_southbridge"), ("fish", "southbridge.fish")];

/// Has the daemon write its manual pages and completions.
///
/// # Errors
/// It does not build, or the directory cannot be written.
pub fn man() -> Done {
    let pages = target_dir().join("man");
    std::fs::create_dir_all(&pages)
        .map_err(|error| Failure::new(format!("{} cannot be made: {error}", pages.display())))?;
    let daemon = dev_daemon()?;
    step("manual pages", command(&daemon).arg("man").arg("--dir").arg(&pages))?;
    for (shell, file) in COMPLETIONS {
        let script = output(command(&daemon).args(["completions", shell]))?;
        std::fs::write(pages.join(file), script)
            .map_err(|error| Failure::new(format!("{file} cannot be written: {error}")))?;
    }
    eprintln!("    they are in {}", pages.display());
    Ok(())
}

/// The daemon as who builds it has it: built here, or the one that [`DAEMON_VARIABLE`] names.
///
/// # Errors
/// It does not build.
pub fn release_daemon() -> Result<PathBuf, Failure> {
    optimised_daemon("release")
}

/// The daemon as it is shipped, optimised as a whole: what is measured.
fn shipped_daemon() -> Result<PathBuf, Failure> {
    optimised_daemon("dist")
}

fn optimised_daemon(profile: &str) -> Result<PathBuf, Failure> {
    if let Some(given) = std::env::var_os(DAEMON_VARIABLE) {
        return Ok(given.into());
    }
    let args =
        ["build", "--profile", profile, "--locked", "-p", "southbridge-daemon", "--bin", "southbridge"];
    step(&format!("build southbridge ({profile})"), cargo().args(args))?;
    Ok(target_dir().join(profile).join("southbridge"))
}

/// The daemon as tests run it: quick to build, with overflow checks and assertions.
///
/// # Errors
/// It does not build.
pub fn dev_daemon() -> Result<PathBuf, Failure> {
    let args = ["build", "--locked", "-p", "southbridge-daemon", "--bin", "southbridge"];
    step("build southbridge (dev)", cargo().args(args))?;
    Ok(target_dir().join("debug").join("southbridge"))
}

/// Runs a program whose own output says how it went.
///
/// # Errors
/// It cannot be started, or did not end well.
pub fn run(program: &mut std::process::Command) -> Done {
    let name = program.get_program().display().to_string();
    match program.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::new(format!("{name} ended with {status}"))),
        Err(error) => Err(Failure::new(format!("{name} cannot be started: {error}"))),
    }
}
