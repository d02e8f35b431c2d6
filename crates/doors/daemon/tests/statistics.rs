//! What a daemon counts, as another process finds it: while it runs, and after it was killed.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod house;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::Signal;

use house::{House, PATIENCE, signal};

/// An operator looks at a daemon, which then is killed, and looks again. One that ends in good order leaves nothing.
#[test]
fn the_figures_of_a_daemon_can_be_read_before_and_after_it_was_killed() {
    let house = House::new(CONFIG);
    let mut child = house.start();
    let pid = child.id().to_string();
    let table = stats(&house, &[&pid]);
    assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
    let table = text(&table.stdout);
    assert!(table.contains(&format!("southbridge (pid {pid}) is alive; started")), "{table}");
    assert!(table.contains("southbridge_requests_total{class=interactive}"), "{table}");
    assert!(table.contains("southbridge_latency_seconds"), "{table}");

    signal(child.id(), Signal::KILL);
    child.wait().unwrap();
    let read: serde_json::Value = serde_json::from_slice(&stats(&house, &[&pid, "--json"]).stdout).unwrap();
    assert_eq!((&read["alive"], &read["damage"]), (&false.into(), &serde_json::Value::Null));
    let found = |name: &str| read["figures"].as_array().unwrap().iter().any(|figure| figure["name"] == name);
    assert!(found("southbridge_dials_total"));
    assert!(
        found("southbridge_synapse_connections_total"),
        "what the doors count was copied at the first beat"
    );
    let page = text(&stats(&house, &[&pid, "--prometheus"]).stdout);
    assert!(page.contains("# TYPE southbridge_latency_seconds histogram"), "{page}");

    let mut next = house.start();
    let listed = text(&stats(&house, &[]).stdout);
    let states: Vec<&str> =
        listed.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
    assert_eq!(states, ["alive", "dead"], "{listed}");
    signal(next.id(), Signal::TERM);
    assert_eq!(next.wait().unwrap().code(), Some(0), "{}", house.log());
    assert_eq!(
        fs::read_dir(house.path("southbridge")).unwrap().count(),
        1,
        "only the crash is still told of"
    );
}

/// StatsD and a file are told without anybody asking.
#[test]
fn figures_are_sent_to_those_who_were_named() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let statistics = format!(
        "[statistics]\nstatsd = \"{}\"\nstatsd_interval = \"1s\"\nstatsd_prefix = \"hs.\"\nfile = \"sb.prom\"\nfile_interval = \"1s\"\n",
        server.local_addr().unwrap()
    );
    let house = House::new(&format!("{CONFIG}{statistics}"));
    let mut child = house.start();
    let mut packet = [0; 2048];
    let mut told = String::new();
    while !told.contains("hs.southbridge_synapse_in_progress:0|g") {
        let length = server.recv(&mut packet).unwrap();
        assert!(length <= 1432);
        told.push_str(std::str::from_utf8(&packet[..length]).unwrap());
    }
    // It is written before the second interval of StatsD is over, at the latest.
    while !house.path("sb.prom").exists() {
        server.recv(&mut packet).unwrap();
    }
    let page = fs::read_to_string(house.path("sb.prom")).unwrap();
    assert!(page.contains("southbridge_hosts{state=\"healthy\"} 0") && page.ends_with('\n'), "{page}");
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", house.log());
}

/// A directory that others could have made is not used, and the daemon serves all the same.
#[test]
fn a_place_that_is_open_to_others_is_not_used() {
    let house = House::new(CONFIG);
    fs::create_dir(house.path("southbridge")).unwrap();
    open_to_all(&house.path("southbridge"));
    let mut child = house.start();
    assert!(house.log().contains("not for this user alone (its mode is 0755, not 0700)"), "{}", house.log());
    let pid = child.id().to_string();
    let output = stats(&house, &[&pid]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&format!("process {pid} has no statistics file in ")));
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", house.log());
}

#[test]
fn what_is_no_region_is_refused_with_a_reason() {
    let house = House::new(CONFIG);
    fs::write(house.path("foreign"), "PK").unwrap();
    for (of, reason) in
        [("foreign", "no statistics region"), ("none", "cannot be read"), ("4000000000", "has no statistics")]
    {
        let output = stats(&house, &[of]);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(reason), "{}", text(&output.stderr));
    }
    assert_eq!(stats(&house, &["--watch"]).status.code(), Some(2));
}

fn stats(house: &House, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_southbridge"))
        .arg("stats")
        .args(arguments)
        .env_clear()
        .env("XDG_RUNTIME_DIR", house.path(""))
        .current_dir(house.path(""))
        .output()
        .unwrap()
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const CONFIG: &str = "\
[synapse]
listen = \"unix:sb.sock\"
secret = \"hunter2\"
[admin]
listen = \"unix:admin.sock\"
";
