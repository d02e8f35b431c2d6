//! The daemon as a process: what it is started with, what it says, and how it ends.
//!
//! Each test is the service manager of its daemon: it holds the socket that `NOTIFY_SOCKET` names, so it knows when
//! the daemon is ready, hands over, or stops, without looking at a clock.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod house;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

use house::{House, PATIENCE, ask, main_pid, signal, wait_for_end};

#[test]
fn the_service_manager_is_told_and_the_doors_answer() {
    let house = House::new(CONFIG);
    let mut child = house.start();
    assert!(house.ask("admin.sock", READY).starts_with("HTTP/1.1 200"));
    assert!(house.ask("admin.sock", METRICS).contains("southbridge_synapse_connections_total 0"));
    let answer = house.ask("sb.sock", &request("wrong"));
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer = house.ask("sb.sock", &request("hunter2"));
    assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("addresses.allow"), "{answer}");
    assert_eq!(fs::metadata(house.path("sb.sock")).unwrap().permissions().mode() & 0o777, 0o660);

    signal(child.id(), Signal::TERM);
    house.wait_for("STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", house.log());
    assert!(!house.log().contains("hunter2"));
}

/// systemd holds the socket. A caller who comes before the daemon, or between two of them, waits and is answered.
#[test]
fn a_passed_socket_refuses_nobody_while_the_daemon_restarts() {
    let house = House::new(CONFIG);
    let listener = UnixListener::bind(house.path("sb.sock")).unwrap();
    for _ in 0..2 {
        let mut early = UnixStream::connect(house.path("sb.sock")).unwrap();
        early.set_read_timeout(Some(PATIENCE)).unwrap();
        early.write_all(request("wrong").as_bytes()).unwrap();
        let mut child = house.activate(listener.try_clone().unwrap());
        let mut answer = String::new();
        early.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        house.wait_for("READY=1");
        signal(child.id(), Signal::TERM);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", house.log());
    }
}

#[test]
fn a_passed_descriptor_that_does_not_listen_is_refused() {
    let house = House::new(CONFIG);
    let mut command = house.command("exec 3</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"");
    assert_eq!(command.status().unwrap().code(), Some(2));
    assert!(house.log().contains("descriptor 3 (\"\") is not a listening"), "{}", house.log());
}

/// Callers come all the time, one after the other, while the daemon takes up a new configuration. Not one of them
/// may be refused, and after it the new configuration holds.
#[test]
fn a_reload_hands_the_doors_over_and_refuses_nobody() {
    let house = House::new(CONFIG);
    let mut old = house.start();
    let stop = Arc::new(AtomicBool::new(false));
    let callers = std::thread::spawn({
        let (path, stop) = (house.path("sb.sock"), Arc::clone(&stop));
        move || {
            let mut answered = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = ask(&path, &request("wrong"));
                assert!(answer.starts_with("HTTP/1.1 401"), "{answer:?}");
                answered += 1;
            }
            answered
        }
    });
    house.configure(&CONFIG.replace("hunter2", "hunter3"));
    signal(old.id(), Signal::HUP);
    assert!(house.wait_for("RELOADING=1").contains("MONOTONIC_USEC="));
    let new = main_pid(&house.wait_for("MAINPID="));
    assert_ne!(new, old.id());
    assert_eq!(old.wait().unwrap().code(), Some(0), "{}", house.log());
    stop.store(true, Ordering::Relaxed);
    assert!(callers.join().unwrap() > 0);
    assert!(house.ask("sb.sock", &request("hunter3")).starts_with("HTTP/1.1 502"));
    assert!(house.ask("sb.sock", &request("hunter2")).starts_with("HTTP/1.1 401"));
    assert!(house.ask("admin.sock", READY).starts_with("HTTP/1.1 200"));
    signal(new, Signal::TERM);
    wait_for_end(new);
}

/// A request that has begun is finished by the process that began it, also when that process has handed over.
#[test]
fn what_is_in_flight_is_finished_after_a_hand_over() {
    let house = House::new(CONFIG);
    let mut old = house.start();
    let text = request("hunter2");
    let (first, rest) = text.split_at(40);
    let mut slow = UnixStream::connect(house.path("sb.sock")).unwrap();
    slow.write_all(first.as_bytes()).unwrap();
    // Whoever is answered came later, so the slow one has been accepted by the old process.
    assert!(house.ask("sb.sock", &request("wrong")).starts_with("HTTP/1.1 401"));
    signal(old.id(), Signal::HUP);
    let new = main_pid(&house.wait_for("MAINPID="));
    slow.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(old.wait().unwrap().code(), Some(0), "{}", house.log());
    signal(new, Signal::TERM);
    wait_for_end(new);
}

#[test]
fn a_reload_with_mistakes_changes_nothing() {
    let house = House::new(CONFIG);
    let mut child = house.start();
    house.configure(&CONFIG.replace("listen", "lisen"));
    signal(child.id(), Signal::HUP);
    let status = house.wait_for("the last reload failed");
    assert!(status.contains("READY=1") && status.contains("did you mean `listen`?"), "{status}");
    assert!(house.ask("sb.sock", &request("hunter2")).starts_with("HTTP/1.1 502"));
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The new configuration reads well, but its port is taken: the successor ends, the predecessor goes on.
#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let house = House::new(CONFIG);
    let mut child = house.start();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    house.configure(&CONFIG.replace("\"unix:sb.sock\"", &format!("[\"unix:sb.sock\", \"{taken}\"]")));
    signal(child.id(), Signal::HUP);
    house.wait_for("the last reload failed");
    assert!(house.log().contains(&format!("cannot listen on {taken}")), "{}", house.log());
    assert!(house.ask("sb.sock", &request("hunter2")).starts_with("HTTP/1.1 502"));
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A caller that never finishes its request would hold the daemon for the whole drain time.
#[test]
fn told_to_stop_twice_it_stops_at_once() {
    let house = House::new(CONFIG);
    let mut child = house.start();
    let mut slow = UnixStream::connect(house.path("sb.sock")).unwrap();
    slow.write_all(b"PUT ").unwrap();
    assert!(house.ask("sb.sock", &request("wrong")).starts_with("HTTP/1.1 401"));
    signal(child.id(), Signal::INT);
    house.wait_for("STOPPING=1");
    // The admin socket answers to the end, and says that nobody else should come.
    assert!(house.ask("admin.sock", READY).starts_with("HTTP/1.1 503"));
    let late = UnixStream::connect(house.path("sb.sock"));
    assert_eq!(late.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    signal(child.id(), Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(house.log().contains("told to stop again"), "{}", house.log());
}

#[test]
fn an_occupied_port_is_refused_with_the_name_of_its_occupant() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let house = House::new(&CONFIG.replace("unix:sb.sock", &taken));
    assert_eq!(house.command(r#"exec "$@""#).status().unwrap().code(), Some(1));
    let expected = format!("synapse.listen: cannot listen on {taken}: ");
    assert!(house.log().contains(&expected) && house.log().contains("stop it, or choose"), "{}", house.log());
}

/// Ranks are worth little against a federation that stands still: a disk that takes nothing is said and survived.
#[test]
fn a_full_disk_is_said_and_survived() {
    let house = House::new(CONFIG);
    // No file may grow: what the kernel says then is "file too large", and for the daemon it is the same.
    let mut child = house
        .command(r#"trap '' XFSZ; ulimit -f 0; exec "$@" 2>&1 | cat > /dev/null"#)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    house.wait_for("READY=1");
    assert!(house.ask("sb.sock", &request("hunter2")).starts_with("HTTP/1.1 502"));
    let metrics = house.ask("admin.sock", METRICS);
    assert!(metrics.contains("southbridge_store_failing 1"), "{metrics}");
    let pid = pid_of_listener(&house.path("sb.sock"));
    signal(pid, Signal::TERM);
    child.wait().unwrap();
}

fn pid_of_listener(path: &Path) -> u32 {
    let stream = UnixStream::connect(path).unwrap();
    let credentials = rustix::net::sockopt::socket_peercred(&stream).unwrap();
    u32::try_from(credentials.pid.as_raw_nonzero().get()).unwrap()
}

#[test]
fn storage_that_nobody_could_have_meant_is_refused() {
    let house = House::new(&CONFIG.replace("sb.db", "southbridge.toml"));
    assert_eq!(house.command(r#"exec "$@""#).status().unwrap().code(), Some(2));
    assert!(
        house.log().contains("storage.path: ") && house.log().contains("is not a database"),
        "{}",
        house.log()
    );
}

#[test]
fn a_secret_is_made_where_nobody_gave_one() {
    let house = House::new(&CONFIG.replace("secret = \"hunter2\"\n", ""));
    let mut child = house.start();
    let path = house.path("state/proxy.secret");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&path).unwrap();
    assert!(house.ask("sb.sock", &request(secret.trim())).starts_with("HTTP/1.1 502"));
    assert!(house.log().contains("worker_replication_secret_path") && !house.log().contains(secret.trim()));
    signal(child.id(), Signal::TERM);
    child.wait().unwrap();
}

/// A machine without certificates still has those built in, and says so.
#[test]
fn a_missing_ca_store_is_said() {
    let house = House::new(CONFIG);
    let mut child =
        house.start_by(r#"SSL_CERT_FILE=/nonexistent/ca.pem SSL_CERT_DIR=/nonexistent exec "$@""#);
    assert!(house.log().contains("WARN") && house.log().contains("built in"), "{}", house.log());
    signal(child.id(), Signal::TERM);
    child.wait().unwrap();
}

#[test]
fn few_descriptors_lower_the_bounds_instead_of_breaking_them() {
    let house = House::new(CONFIG);
    let mut child = house.start_by(r#"ulimit -n 256; exec "$@""#);
    assert!(house.log().contains("may hold 256 descriptors only"), "{}", house.log());
    assert!(house.ask("sb.sock", &request("hunter2")).starts_with("HTTP/1.1 502"));
    signal(child.id(), Signal::TERM);
    child.wait().unwrap();
}

#[test]
fn an_admin_socket_with_a_secret_asks_for_it() {
    let house = House::new(&CONFIG.replace("[admin]\n", "[admin]\nsecret = \"sesame\"\n"));
    let mut child = house.start();
    assert!(house.ask("admin.sock", READY).starts_with("HTTP/1.1 401"));
    let shown = READY.replace("Host: x", "Host: x\r\nAuthorization: Bearer sesame");
    assert!(house.ask("admin.sock", &shown).starts_with("HTTP/1.1 200"));
    let wrong = READY.replace("Host: x", "Host: x\r\nAuthorization: Bearer sesamo");
    assert!(house.ask("admin.sock", &wrong).starts_with("HTTP/1.1 401"));
    signal(child.id(), Signal::TERM);
    child.wait().unwrap();
}

#[test]
fn the_log_can_be_json() {
    let house = House::new(&format!("{CONFIG}[log]\nformat = \"json\"\n"));
    let mut child = house.start();
    let log = house.log();
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log}");
    signal(child.id(), Signal::TERM);
    child.wait().unwrap();
}

/// Nobody would notice for weeks that the line meant to show more shows nothing at all.
#[test]
fn a_filter_in_the_environment_that_cannot_be_read_is_refused() {
    let house = House::new(CONFIG);
    let status = house.command(r#"SOUTHBRIDGE_LOG=southbridge=lots exec "$@""#).status().unwrap();
    assert_eq!(status.code(), Some(2));
    let log = house.log();
    assert!(log.contains(r#"SOUTHBRIDGE_LOG="southbridge=lots" is not a filter: "#), "{log}");
    assert!(log.contains("such as info,southbridge_kernel=debug"), "{log}");
    assert!(!house.path("sb.sock").exists(), "nothing was touched");
}

/// The configuration is a pipe, so the test knows that the daemon has begun, and that it has come no further. It is
/// told to reload just then, and does so when it can.
#[test]
fn a_reload_during_the_start_does_not_end_the_daemon() {
    let house = House::new(CONFIG);
    let config = house.path("southbridge.toml");
    let text = fs::read(&config).unwrap();
    let (pipe, file) = (house.path("pipe"), house.path("file"));
    fs::rename(&config, &file).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    fs::rename(&pipe, &config).unwrap();
    let mut old = house.command(r#"exec "$@""#).spawn().unwrap();
    let mut writer = fs::File::options().write(true).open(&config).unwrap();
    signal(old.id(), Signal::HUP);
    fs::rename(&file, &config).unwrap();
    writer.write_all(&text).unwrap();
    drop(writer);
    house.wait_for("READY=1");
    let new = main_pid(&house.wait_for("MAINPID="));
    assert_eq!(old.wait().unwrap().code(), Some(0), "{}", house.log());
    assert!(house.ask("admin.sock", READY).starts_with("HTTP/1.1 200"));
    signal(new, Signal::TERM);
    wait_for_end(new);
}

/// A request to a place that the address policy denies: it goes through the whole door and never leaves the machine.
fn request(secret: &str) -> String {
    format!(
        "GET matrix-federation://127.0.0.1:1/_matrix/federation/v1/version HTTP/1.1\r\n\
         Host: 127.0.0.1:1\r\nProxy-Authorization: Bearer {secret}\r\nConnection: close\r\n\r\n"
    )
}

const CONFIG: &str = "\
[synapse]
listen = \"unix:sb.sock\"
secret = \"hunter2\"
[admin]
listen = \"unix:admin.sock\"
[dns]
servers = [\"127.0.0.1:9\"]
[storage]
path = \"sb.db\"
";
const READY: &str = "GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
