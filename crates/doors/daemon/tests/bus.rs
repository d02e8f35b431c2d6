//! The bus of the daemon, and the commands that use it, as processes.
//!
//! The destinations are places that the address policy denies: everything goes the whole way but for the wire, and
//! waits.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

mod house;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use house::{House, PATIENCE, main_pid, signal, wait_for_end};

const CONFIG: &str = "\
[synapse]
listen = []
[bus]
server_name = \"a.example\"
signing_key_file = \"signing.key\"
listen = \"unix:bus.sock\"
[admin]
listen = \"unix:admin.sock\"
[dns]
servers = [\"127.0.0.1:9\"]
[storage]
path = \"sb.db\"
";
const KEY: &str = "ed25519 a_1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n";
const METRICS: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn house(config: &str) -> House {
    let house = House::new(config);
    fs::write(house.path("signing.key"), KEY).unwrap();
    fs::set_permissions(house.path("signing.key"), fs::Permissions::from_mode(0o600)).unwrap();
    house
}

/// Runs a command beside the daemon; `input` is what it reads.
fn run(house: &House, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_southbridge"))
        .args(arguments)
        .env_clear()
        .env("STATE_DIRECTORY", house.path("state"))
        .env("SOUTHBRIDGE_CONFIG", house.path("southbridge.toml"))
        .current_dir(house.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Sends a PDU to `to`, and expects that it is accepted.
fn send(house: &House, to: &str) -> String {
    let sent = run(house, &["send", "--to", to], "{\"type\":\"m.room.message\"}\n");
    assert_eq!(sent.status.code(), Some(0), "{}{}\n{}", out(&sent), err(&sent), house.log());
    out(&sent)
}

fn queue(house: &House, name: &str) -> Value {
    let shown = run(house, &["queue", "show", name, "--json"], "");
    serde_json::from_slice(&shown.stdout).unwrap_or_else(|_| panic!("{}\n{}", err(&shown), house.log()))
}

fn end(house: &House, mut child: Child) {
    signal(child.id(), Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", house.log());
}

/// The promise of the word durable.
#[test]
fn what_was_accepted_survives_kill_9() {
    let house = house(CONFIG);
    let mut child = house.start();
    let said = send(&house, "127.0.0.1:1");
    assert!(said.contains("accepted for 1 destination, as s1: it is in the outbox"), "{said}");
    signal(child.id(), Signal::KILL);
    child.wait().unwrap();
    let child = house.start();
    assert_eq!(queue(&house, "127.0.0.1:1")["items"], 1);
    assert!(send(&house, "127.0.0.1:1").contains("as s2"));
    end(&house, child);
}

/// A program hands in messages, one after the other, while the daemon takes up a new configuration. Each is accepted,
/// and the new process has them all.
#[test]
fn a_hand_over_passes_the_bus_on_and_loses_nothing() {
    let house = Arc::new(house(CONFIG));
    let mut old = house.start();
    let stop = Arc::new(AtomicBool::new(false));
    let caller = std::thread::spawn({
        let (house, stop) = (Arc::clone(&house), Arc::clone(&stop));
        move || {
            let mut accepted = 0;
            while !stop.load(Ordering::Relaxed) {
                send(&house, "127.0.0.1:1");
                accepted += 1;
            }
            accepted
        }
    });
    signal(old.id(), Signal::HUP);
    let new = main_pid(&house.wait_for("MAINPID="));
    assert_eq!(old.wait().unwrap().code(), Some(0), "{}", house.log());
    stop.store(true, Ordering::Relaxed);
    let accepted: u64 = caller.join().unwrap();
    assert_eq!(queue(&house, "127.0.0.1:1")["items"], accepted, "{}", house.log());
    signal(new, Signal::TERM);
    wait_for_end(new);
}

/// The successor finds its socket's directory gone; the old process goes on, its bus included.
#[test]
fn a_hand_over_that_fails_opens_the_bus_again() {
    let house = house(CONFIG);
    let child = house.start();
    send(&house, "127.0.0.1:1");
    house
        .configure(&CONFIG.replace("[admin]\n", "[forward_proxy]\nlisten = \"unix:none/p.sock\"\n[admin]\n"));
    signal(child.id(), Signal::HUP);
    house.wait_for("the last reload failed");
    house.configure(CONFIG);
    send(&house, "127.0.0.1:1");
    assert_eq!(queue(&house, "127.0.0.1:1")["items"], 2, "{}", house.log());
    end(&house, child);
}

/// What is lost is said; nobody is asked where nobody is, and nothing is dropped then.
#[test]
fn a_queue_is_listed_woken_and_dropped() {
    let house = house(CONFIG);
    let child = house.start();
    send(&house, "127.0.0.1:1");
    send(&house, "127.0.0.1:2");
    let listed = run(&house, &["queue", "ls"], "");
    assert!(out(&listed).contains("127.0.0.1:1  ") && out(&listed).contains("WAITING"), "{}", out(&listed));
    let listed = run(&house, &["queue", "ls", "--limit", "1", "--json"], "");
    let page: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!((page["queues"].as_array().unwrap().len(), &page["more"]), (1, &json!(true)));
    let woken = run(&house, &["queue", "wake", "127.0.0.1:1"], "");
    assert!(woken.status.success() && out(&woken).starts_with("woken"), "{}", err(&woken));

    let refused = run(&house, &["queue", "drop", "127.0.0.1:1"], "");
    assert_eq!(refused.status.code(), Some(2));
    assert!(err(&refused).contains("1 message") && err(&refused).contains("--yes"), "{}", err(&refused));
    assert_eq!(queue(&house, "127.0.0.1:1")["items"], 1);
    let dropped = run(&house, &["queue", "drop", "--yes", "127.0.0.1:1"], "");
    assert_eq!(out(&dropped), "dropped for 127.0.0.1:1: 1 message\n", "{}", err(&dropped));
    assert_eq!(queue(&house, "127.0.0.1:2")["items"], 1);
    let metrics = house.ask("admin.sock", METRICS);
    let counted = "southbridge_bus_door_submissions_total{answer=\"durable\"} 2";
    assert!(metrics.contains(counted) && metrics.contains("southbridge_bus_open 1"), "{metrics}");
    end(&house, child);
}

#[test]
fn what_cannot_be_sent_is_refused_with_its_reason() {
    let house = house(CONFIG);
    let child = house.start();
    for (arguments, input, code, words) in [
        (&["send", "--to", "127.0.0.1:1"][..], "[]", 1, "not one JSON object"),
        (&["send", "--to", "127.0.0.1:1"], "{", 2, "standard input is not JSON"),
        (&["send"], "{}", 2, "no destinations"),
        (&["send", "--to", "a b"], "{}", 2, "' ' at byte 1"),
        (&["send", "none.json", "--to", "b.example"], "", 2, "none.json cannot be read"),
        (&["queue", "show", "unknown.example"], "", 1, "M_NOT_FOUND"),
        (&["queue", "ls", "--state", "asleep"], "", 1, "state is one of"),
        (&["queue", "ls", "--bus", "unix:none.sock"], "", 1, "is Southbridge running?"),
        (&["queue", "ls", "--secret-file", "other.secret"], "", 1, "M_UNKNOWN_TOKEN"),
    ] {
        fs::write(house.path("other.secret"), "other\n").unwrap();
        fs::set_permissions(house.path("other.secret"), fs::Permissions::from_mode(0o600)).unwrap();
        let done = run(&house, arguments, input);
        let said = out(&done) + &err(&done);
        assert!(done.status.code() == Some(code) && said.contains(words), "{arguments:?}: {said}");
    }
    let typing = r#"{"room_id":"!r:a","user_id":"@u:a","typing":true}"#;
    let sent = run(&house, &["send", "--edu", "m.typing", "--to", "127.0.0.1:1"], typing);
    assert!(out(&sent).contains("it is in memory"), "{}{}", out(&sent), err(&sent));
    end(&house, child);
}

/// The secret is made where nobody gave one, for its owner alone; the key is never shown.
#[test]
fn the_secret_of_the_bus_is_made() {
    let house = house(CONFIG);
    let child = house.start();
    let secret = house.path("state/bus.secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        house
            .ask("bus.sock", "GET /bus/v1/queues HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .starts_with("HTTP/1.1 401")
    );
    end(&house, child);
    let secret = fs::read_to_string(secret).unwrap();
    assert!(!house.log().contains(secret.trim()) && !house.log().contains("AAAAAAA"));
}

/// systemd holds the socket, and names it.
#[test]
fn a_passed_socket_named_bus_is_the_door_of_the_bus() {
    let house = house(&CONFIG.replace("listen = \"unix:bus.sock\"\n", ""));
    let listener = UnixListener::bind(house.path("passed.sock")).unwrap();
    let mut early = UnixStream::connect(house.path("passed.sock")).unwrap();
    early.set_read_timeout(Some(PATIENCE)).unwrap();
    early.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let socket: OwnedFd = listener.into();
    let mut command =
        house.command("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=bus exec \"$@\"");
    let child = command.stdin(Stdio::from(socket)).spawn().unwrap();
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("M_MISSING_TOKEN"), "{answer}");
    house.wait_for("READY=1");
    end(&house, child);
}

/// What was accepted lies in the file: it is not begun anew behind anybody's back.
#[test]
fn a_damaged_outbox_is_refused_and_left_as_it_is() {
    let house = house(CONFIG);
    let child = house.start();
    for _ in 0..3 {
        send(&house, "127.0.0.1:1");
    }
    end(&house, child);
    let file = fs::OpenOptions::new().read(true).write(true).open(house.path("sb.db")).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&vec![0xa5; usize::try_from(length - 4096).unwrap()], 4096).unwrap();
    let before = fs::read(house.path("sb.db")).unwrap();
    assert_eq!(house.command(r#"exec "$@""#).status().unwrap().code(), Some(2));
    assert!(house.log().contains("storage.path: ") && house.log().contains("is damaged"), "{}", house.log());
    assert_eq!(fs::read(house.path("sb.db")).unwrap(), before);
}

/// The keys of the homeserver itself are known, also to the metrics page; those of one that cannot be reached are not to
/// be had, and the command says why.
#[test]
fn keys_are_shown_on_the_command_line() {
    let house = house(CONFIG);
    let child = house.start();
    let own = run(&house, &["keys", "a.example"], "");
    assert!(
        own.status.success()
            && out(&own).contains("ed25519:a_1")
            && out(&own).contains("signs; believed for"),
        "{}{}",
        out(&own),
        err(&own)
    );
    let own = run(&house, &["keys", "a.example", "--json"], "");
    let shown: Value = serde_json::from_slice(&own.stdout).unwrap();
    assert_eq!(
        (&shown["keys"][0]["id"], &shown["keys"][0]["good_now"]),
        (&json!("ed25519:a_1"), &json!(true))
    );
    let gone = run(&house, &["keys", "127.0.0.1:1", "--forget"], "");
    assert_eq!(gone.status.code(), Some(1), "{}", out(&gone));
    let said = err(&gone);
    assert!(said.contains("ORG.SOUTHBRIDGE.NO_KEYS") && said.contains("it cannot be reached"), "{said}");
    let metrics = house.ask("admin.sock", METRICS);
    assert!(metrics.contains("southbridge_keys_fetches_total{from=\"origin\"} 1"), "{metrics}");
    end(&house, child);
}
