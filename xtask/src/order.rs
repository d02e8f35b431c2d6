//! `cargo xtask order`: writes the order in which the functions of Python's native module lie in its file.
//!
//! The system maps what is touched of a file together with the 64 KB around it. What runs between an import and the
//! first answer is a twentieth of the module's code and was spread over all of it, so that most of it was mapped. In
//! the order of this list it lies together.
//!
//! The names are those that the compiler gives, and change with its release, with `Cargo.lock`, and with what is
//! called: what the list does not know is laid behind the rest, and what it knows and is not there is passed over. So
//! an old list does no harm, and less good. `cargo xtask wheel` says how much of it there was.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use crate::shell::{self, Done, Failure, announce, checkout, command, target_dir};
use crate::trace::{self, Functions};
use crate::{guided, python};

/// Builds the module as it is shipped, and as it is measured; has both walk through `benches/python/walk.py`; writes
/// down what they called.
///
/// # Errors
/// It does not build, the walk fails, or this system lets nobody watch a process of his own.
pub fn run() -> Done {
    let python = python::with_group("peers")?;
    let mut walks = Vec::new();
    for features in [python::SHIPPED, python::MEASURED] {
        let module = guided::module(features)?;
        let module = python::package_with(&module, &target_dir().join("order/southbridge"))?;
        announce("walk");
        walks.push(walk(&python, &module).map_err(|failure| {
            failure.remedy("ptrace must be allowed (kernel.yama.ptrace_scope below 2), and nginx installed")
        })?);
    }
    let order = merged(&walks);
    let file = checkout().join(FILE);
    let text = format!("# Written by `cargo xtask order`.\n{}\n", order.join("\n"));
    fs::write(&file, text).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    println!("{FILE}: {} functions", order.len());
    Ok(())
}

/// How many of the functions that `cargo xtask order` wrote down are in `module`, and of how many.
///
/// # Errors
/// One of the two cannot be read.
pub fn found(module: &Path) -> Result<(usize, usize), Failure> {
    let file = checkout().join(FILE);
    let listed =
        fs::read_to_string(&file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let there = functions(module)?;
    let there: HashSet<&str> = there.iter().map(|(_, name)| name.as_str()).collect();
    let listed: Vec<&str> = listed.lines().filter(|line| !line.starts_with('#')).collect();
    Ok((listed.iter().filter(|name| there.contains(*name)).count(), listed.len()))
}

/// What is called on the way, each function once, in the order of the first calls.
fn walk(python: &Path, module: &Path) -> Result<Vec<String>, Failure> {
    let functions = functions(module)?;
    let failed = |what: &str| Failure::new(format!("the walk {what}"));
    let mut walker = guided::walk(python, module)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&format!("cannot be started: {error}")))?;
    // It says so when the module is mapped, and goes on when its standard input ends.
    let mut told = String::new();
    let out = walker.stdout.take().ok_or_else(|| failed("says nothing"))?;
    BufReader::new(out).read_line(&mut told).map_err(|error| failed(&error.to_string()))?;
    if told.trim() != "mapped" {
        return Err(failed("ended before it began, see above"));
    }
    let go = walker.stdin.take();
    trace::first_calls(walker.id(), module, functions, || drop(go))
        .map_err(|error| failed(&format!("cannot be watched: {error}")))
}

/// Where the functions of `module` begin, and their names.
fn functions(module: &Path) -> Result<Functions, Failure> {
    let listing = shell::output(command("nm").arg(module))?;
    let function = |line: &str| {
        let mut words = line.split(' ');
        let at = u64::from_str_radix(words.next()?, 16).ok()?;
        let kind = words.next()?;
        (kind == "t" || kind == "T").then(|| words.next().map(|name| (at, name.to_owned())))?
    };
    Ok(listing.lines().filter_map(function).collect())
}

/// One order of several: by the place that each has in the list where it comes first.
fn merged(walks: &[Vec<String>]) -> Vec<String> {
    let longest = walks.iter().map(Vec::len).max().unwrap_or(0);
    let mut listed = HashSet::new();
    let in_turn = (0..longest).flat_map(|at| walks.iter().filter_map(move |walk| walk.get(at)));
    in_turn.filter(|name| listed.insert(name.as_str())).cloned().collect()
}

const FILE: &str = "crates/doors/python/order.txt";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_orders_become_one() {
        let walk = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(merged(&[walk("a b1 c d"), walk("a b2 c")]), walk("a b1 b2 c d"));
        assert_eq!(merged(&[]), Vec::<String>::new());
    }
}
