//! Which room may lean on which crate of others.

use super::Findings;
use super::workspace::Package;

/// Rooms that only decide, and what they therefore have no use for.
const PURE_ROOMS: [&str; 4] = ["words", "policy", "wire", "bus"];

/// Crates that do: sockets, threads, files, clocks, chance.
const DOING: [&str; 24] = [
    "async-std",
    "chrono",
    "crossbeam-channel",
    "fastrand",
    "getrandom",
    "h2",
    "hickory-resolver",
    "hyper",
    "hyper-util",
    "libc",
    "memmap2",
    "mio",
    "nix",
    "openssl",
    "rand",
    "reqwest",
    "rusqlite",
    "rustix",
    "rustls",
    "socket2",
    "tempfile",
    "time",
    "tokio",
    "tokio-rustls",
];

/// Crates that have one home, and where it is.
const HOMES: [(&str, &[&str], &str); 8] = [
    ("jiter", &["crates/doors/python"], "it makes Python objects"),
    ("pyo3", &["crates/doors/python"], "no Python object ever reaches the I/O thread"),
    ("openssl", &["crates/kernel"], "the legacy TLS profile is the kernel's"),
    ("tokio-openssl", &["crates/kernel"], "the legacy TLS profile is the kernel's"),
    ("hickory-resolver", &["crates/kernel"], "DNS is resolved in one subsystem (F4)"),
    ("rusqlite", &["crates/stores", "tests"], "blocking work has a thread of its own"),
    (
        "tokio-postgres",
        &["crates/kernel", "crates/stores", "crates/testkit", "tests"],
        "the kernel owns connections",
    ),
    ("clap", &["crates/doors/daemon", "benches", "xtask", "tests"], "only programs have a command line"),
];

/// No room leans on what its floor must not know.
pub fn check(packages: &[Package], findings: &mut Findings) {
    for package in packages {
        let manifest = package.dir.join("Cargo.toml");
        let room = package.room.as_deref().unwrap_or_default();
        for dependency in package.dependencies.iter().filter(|it| !it.ours && !it.dev) {
            let name = dependency.name.as_str();
            if PURE_ROOMS.contains(&room) && DOING.contains(&name) {
                findings.problem(
                    manifest.display(),
                    format_args!("{room} only decides, it may not depend on {name}"),
                );
            }
            if room == "kernel" && name.starts_with("ruma") {
                findings.problem(manifest.display(), "the kernel has never heard of Matrix");
            }
            let home = HOMES.iter().find(|(crate_name, ..)| *crate_name == name);
            if let Some((_, homes, why)) = home
                && !homes.iter().any(|home| package.dir.starts_with(home))
            {
                findings.problem(
                    manifest.display(),
                    format_args!("{name} has its home in {}: {why}", homes.join(", ")),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::workspace::Dependency;
    use super::*;

    fn problems(room: &str, dir: &str, crate_name: &str, dev: bool) -> usize {
        let dependency = Dependency { name: crate_name.to_owned(), dev, ours: false };
        let package = Package {
            name: "it".to_owned(),
            room: Some(room.to_owned()),
            dir: PathBuf::from(dir),
            dependencies: vec![dependency],
        };
        let mut findings = Findings::default();
        check(&[package], &mut findings);
        findings.problems.len()
    }

    /// A machine with a socket is not a machine; a test of one may have what it likes.
    #[test]
    fn pure_rooms_lean_on_nothing_that_does() {
        assert_eq!(problems("bus", "crates/bus", "tokio", false), 1);
        assert_eq!(problems("bus", "crates/bus", "tokio", true), 0);
        assert_eq!(problems("policy", "crates/policy", "rand", false), 1);
        assert_eq!(problems("kernel", "crates/kernel", "tokio", false), 0);
    }

    /// Python is named in one door, Matrix nowhere in the kernel.
    #[test]
    fn some_crates_have_one_home() {
        assert_eq!(problems("doors", "crates/doors/python", "pyo3", false), 0);
        assert_eq!(problems("doors", "crates/doors/daemon", "pyo3", false), 1);
        assert_eq!(problems("kernel", "crates/kernel", "ruma-common", false), 1);
    }
}
