//! The demo as a person meets it, in small.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

use std::process::Command;

/// Ten homeservers and a short storm: every part has its line, the homeservers have seen all of it, and it says so.
#[test]
fn the_demo_shows_all_of_its_course() {
    let demo = Command::new(env!("CARGO_BIN_EXE_southbridge"))
        .args(["demo", "--hosts", "10", "--storm-seconds", "1"])
        .env_remove("SOUTHBRIDGE_CONFIG")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&demo.stdout), String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{out}{err}");
    for title in ["cold", "warm", "burst", "presence", "calm", "storm", "catch-up", "kill -9", "cost"] {
        assert!(out.lines().any(|line| line.starts_with(title)), "{title} is missing:\n{out}");
    }
    for seen in
        ["1 message to 10 homeservers", "100 deliveries", "2 hang, 1 are slow", "none is lost or comes twice"]
    {
        assert!(out.contains(seen), "{seen}:\n{out}");
    }
}
