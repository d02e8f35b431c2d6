//! What an operator gets for it: a Synapse that works less.

use std::process::Command;

/// Two unpatched Synapses send the same traffic, one by itself, one through Southbridge: `cargo xtask bench --synapse` in
/// small. It fails when the second Synapse did not use less CPU, and so does this (M2).
#[test]
#[ignore = "needs an unpatched Synapse and namespaces: `cargo xtask test` puts them in place"]
fn a_synapse_uses_less_cpu_with_southbridge() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_synapse-cost"));
    let measured = bench.args(["--hosts", "40", "--rounds", "1"]).output().expect("the program was built");
    let said = String::from_utf8_lossy(&measured.stdout);
    let complaints = String::from_utf8_lossy(&measured.stderr);
    assert!(measured.status.success(), "{said}\n{complaints}");
    assert!(said.contains("The CPU use of Synapse went down"), "{said}");
}
