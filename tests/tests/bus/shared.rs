//! Three processes, one database: they share the destinations, and what was accepted survives any of them, and the
//! database's own restarts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use southbridge_testkit::certificates::{Authority, CertificateKind};
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::{Homeservers, OnSend, SentTransaction};
use southbridge_testkit::postgres::{PostgresServer, Tcp};
use southbridge_tests::bus::{BusProcess, ask, page};
use southbridge_tests::failure::{Failure, Result};
use southbridge_tests::patience::{eventually, step_within};
use southbridge_tests::southbridge::daemon;
use tempfile::TempDir;

use super::numbers;

/// The world around the processes: peers who write down what they get, names, and the port of a database behind TLS.
struct Rig {
    directory: TempDir,
    authority: Arc<Authority>,
    servers: Homeservers,
    dns: DnsServer,
    port: u16,
}

impl Rig {
    async fn build() -> (Self, PostgresServer) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let servers = Homeservers::start(Arc::clone(&authority)).await.unwrap();
        servers.record_sends();
        let dns = DnsServer::start().await.unwrap();
        for number in 0..SERVERS {
            let name = format!("hs{number}.test");
            dns.host(&name, &[std::net::Ipv4Addr::LOCALHOST.into()], 600);
            // Now and then an answer is lost: the server has the transaction and we do not know.
            servers.on_send(
                &name,
                (0..200).map(|n| match (n + number) % 17 {
                    3 => OnSend::ProcessAndCut,
                    7 => OnSend::Cut,
                    _ => OnSend::Process,
                }),
            );
        }
        let identity = Some(authority.pem_pair("127.0.0.1", CertificateKind::Good));
        let database = PostgresServer::start_on_tcp(Tcp { password: PASSWORD.to_owned(), identity });
        let port = database.port();
        (Self { directory, authority, servers, dns, port }, database)
    }

    /// A Southbridge of this rig, whose configuration has `tables` as well; not started.
    fn bus(&self, number: usize, tables: &Value) -> BusProcess {
        let dir = self.directory.path().join(format!("sb{number}"));
        std::fs::create_dir_all(&dir).unwrap();
        self.authority.write_ca(&dir.join("ca.pem")).unwrap();
        Authority::new().write_ca(&dir.join("stranger.pem")).unwrap();
        write_private(&dir.join("password"), PASSWORD);
        write_private(&dir.join("wrong"), "another password");
        let port = self.port;
        let mut all = json!({
            "dns": {"servers": [self.dns.address()]},
            "tls": {"ca_files": ["ca.pem"], "system_roots": false},
            "addresses": {"allow": ["127.0.0.0/8"]},
            "log": {"level": "info"},
            "bus": {"accepting_patience": "1s"},
            "outbox": {
                "postgres": format!("postgresql://southbridge@127.0.0.1:{port}/postgres"),
                "password_file": "password",
                "ca_file": "ca.pem",
                "lease": "3s",
                "call_max": "3s",
            },
        });
        for (table, values) in tables.as_object().into_iter().flatten() {
            for (key, value) in values.as_object().unwrap() {
                all[table][key] = value.clone();
            }
        }
        BusProcess::prepare(&dir, &daemon().unwrap(), &all).unwrap()
    }

    fn destinations(&self, number: u64) -> Vec<String> {
        let to = (0..SERVERS).filter(|server| is_for(number, *server));
        to.map(|server| format!("hs{server}.test:{}", self.servers.port())).collect()
    }
}

fn write_private(path: &Path, content: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.unwrap(), content.as_bytes()).unwrap();
}

/// How many of the 256 shares a process has.
async fn partitions(door: &Path) -> Result<u64> {
    let text = page(&door.with_file_name("admin.sock"), "/metrics").await?;
    let value = text.lines().find_map(|line| line.strip_prefix("southbridge_outbox_partitions "));
    value.and_then(|value| value.parse().ok()).ok_or_else(|| Failure::new("no such number on the page"))
}

async fn shares(doors: &[PathBuf], wanted: &[u64]) {
    let asked = eventually(LONG, "the shares are equal", || async {
        let mut found = Vec::new();
        for door in doors {
            found.push(partitions(door).await?);
        }
        found.sort_unstable();
        Ok((found == wanted).then_some(()))
    });
    step_within(LONG * 2, &format!("shares of {wanted:?}"), asked).await;
}

/// What one caller was told.
#[derive(Debug, Default)]
struct Told {
    /// Each message that somebody has accepted.
    accepted: BTreeSet<u64>,
    /// Of these, those that the first door that was asked has accepted, by door: their order there is their order.
    by_door: BTreeMap<usize, Vec<u64>>,
}

/// Hands in one message after the other at its own door, and elsewhere when nobody is there, until told to stop.
async fn call(caller: u64, doors: Vec<PathBuf>, rig: Arc<Rig>, done: Arc<AtomicBool>) -> Result<Told> {
    let mut told = Told::default();
    let mut door = caller as usize;
    for count in 0_u64.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let number = count * CALLERS + caller;
        let submission = json!({
            "pdu": {"type": "m.room.message", "content": {"number": number}},
            "destinations": rig.destinations(number),
            "key": format!("message {number}"),
        });
        let mut is_first = true;
        let began = Instant::now();
        while !hand_in(&doors[door], &submission).await? {
            is_first = false;
            door = (door + 1) % doors.len();
            if began.elapsed() > LONG {
                return Err(Failure::new(format!("nobody accepts message {number}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        told.accepted.insert(number);
        if is_first {
            told.by_door.entry(door).or_default().push(number);
        }
    }
    Ok(told)
}

/// Whether `submission` was accepted for good; not when nobody is there, or the outbox is out of reach.
async fn hand_in(door: &Path, submission: &Value) -> Result<bool> {
    let body = json!({ "submissions": [submission] });
    let asked = tokio::time::timeout(LONG, ask(door, Method::POST, "/bus/v1/send", &body)).await;
    let Ok(Ok(reply)) = asked else { return Ok(false) };
    if reply.status == StatusCode::SERVICE_UNAVAILABLE {
        return Ok(false);
    }
    let told = reply.json()?;
    let result = &told["results"][0];
    match result["errcode"].as_str().or_else(|| result["error"]["errcode"].as_str()) {
        None if result["acknowledgement"] == "durable" => Ok(true),
        Some("ORG.SOUTHBRIDGE.OUTBOX_FAILED" | "ORG.SOUTHBRIDGE.CLOSING" | "M_LIMIT_EXCEEDED") => Ok(false),
        _ => Err(Failure::new(format!("refused: {told}"))),
    }
}

/// Every third message is for all, the others for two.
fn is_for(number: u64, server: usize) -> bool {
    let first = number as usize % SERVERS;
    number.is_multiple_of(3) || server == first || server == (first + 2) % SERVERS
}

/// Three Southbridges share the destinations over one database, which they reach by TLS only. One is killed, the database
/// crashes and comes back, and stays away for a while. All that was acknowledged arrives, once; a transaction that
/// comes twice is the same; and what one door has accepted comes in that order.
#[tokio::test]
async fn row_19_several_share_a_database_and_nothing_is_lost() {
    let (rig, mut database) = Rig::build().await;
    let rig = Arc::new(rig);
    let mut buses: Vec<BusProcess> = (0..3).map(|number| rig.bus(number, &json!({}))).collect();
    for bus in &mut buses {
        bus.start().await.unwrap();
    }
    let doors: Vec<PathBuf> = buses.iter().map(BusProcess::door).collect();
    shares(&doors, &[85, 85, 86]).await;
    assert_eq!(encrypted(&database), "6 of 6", "each has two connections");
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(call(caller, doors.clone(), Arc::clone(&rig), Arc::clone(&done))))
        .collect();

    tokio::time::sleep(LOAD).await;
    buses[0].kill().unwrap();
    let killed = Instant::now();
    shares(&doors[1..], &[128, 128]).await;
    let taken_over = killed.elapsed();
    eprintln!("taken over {taken_over:?} after the kill; the lease is 3 s");
    assert!(taken_over < Duration::from_secs(6), "{taken_over:?}");

    tokio::time::sleep(LOAD).await;
    database.crash_and_restart();
    tokio::time::sleep(LOAD).await;
    database.stop();
    let away = Instant::now();
    while_the_database_is_away(&rig, &doors[1]).await;
    eprintln!("the database was away for {:?}", away.elapsed());
    database.restart();
    tokio::time::sleep(LOAD).await;
    buses[0].start().await.unwrap();
    shares(&doors, &[85, 85, 86]).await;
    tokio::time::sleep(LOAD).await;
    done.store(true, Ordering::Relaxed);

    let mut all = Vec::new();
    for caller in callers {
        all.push(caller.await.unwrap().unwrap());
    }
    for server in 0..SERVERS {
        arrives(&rig, server, &all).await;
    }
    for bus in &mut buses[1..] {
        bus.process().unwrap().check_alive().unwrap();
    }
}

/// Durable items are refused with their typed error, in time; typing goes on.
async fn while_the_database_is_away(rig: &Rig, door: &Path) {
    let refused = eventually(LONG, "a durable item is refused", || async {
        let submission = json!({
            "pdu": {"type": "m.room.message", "content": {}},
            "destinations": [format!("hs0.test:{}", rig.servers.port())],
        });
        let body = json!({ "submissions": [submission] });
        let reply = ask(door, Method::POST, "/bus/v1/send", &body).await?;
        let told = String::from_utf8_lossy(&reply.body).into_owned();
        Ok(told.contains("ORG.SOUTHBRIDGE.OUTBOX_FAILED").then_some(()))
    });
    step_within(LONG * 2, "durable items are refused", refused).await;
    let content = json!({"room_id": "!away:origin.test", "user_id": "@u:origin.test", "typing": true});
    let typing = json!({"submissions": [{
        "edu": {"edu_type": "m.typing", "content": content},
        "destinations": [format!("quiet.test:{}", rig.servers.port())],
    }]});
    rig.dns.host("quiet.test", &[std::net::Ipv4Addr::LOCALHOST.into()], 600);
    let reply = ask(door, Method::POST, "/bus/v1/send", &typing).await.unwrap();
    assert_eq!(reply.json().unwrap()["results"][0]["acknowledgement"], "volatile");
    let arrives = eventually(LONG, "typing arrives", || async {
        Ok((!rig.servers.sent_to("quiet.test").is_empty()).then_some(()))
    });
    step_within(LONG * 2, "volatile traffic goes on", arrives).await;
}

/// How many of the connections over TCP are encrypted.
fn encrypted(database: &PostgresServer) -> String {
    let sql = "SELECT sum(ssl::int) || ' of ' || count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
               WHERE client_addr IS NOT NULL";
    database.sql("public", sql).unwrap()
}

async fn arrives(rig: &Rig, server: usize, all: &[Told]) {
    let name = format!("hs{server}.test");
    let accepted = all.iter().flat_map(|told| &told.accepted).copied();
    let wanted: BTreeSet<u64> = accepted.filter(|number| is_for(*number, server)).collect();
    let arrived = eventually(LONG, "all messages arrive", || async {
        let came: BTreeSet<u64> = numbers(&processed(&rig.servers.sent_to(&name))).into_iter().collect();
        let missing: Vec<_> = wanted.difference(&came).take(5).collect();
        if !missing.is_empty() {
            return Ok(None);
        }
        Ok(Some(()))
    });
    step_within(LONG * 2, &format!("{name} has everything"), arrived).await;
    let came = rig.servers.sent_to(&name);
    let mut bodies: HashMap<&str, &[u8]> = HashMap::new();
    for transaction in &came {
        let before = bodies.entry(&transaction.id).or_insert(&transaction.body);
        assert_eq!(*before, &transaction.body[..], "{name}: {} came with other bytes", transaction.id);
    }
    let order = numbers(&processed(&came));
    let once: BTreeSet<u64> = order.iter().copied().collect();
    assert_eq!(once.len(), order.len(), "{name} has processed something twice, under two ids");
    for (caller, told) in all.iter().enumerate() {
        for (door, accepted) in &told.by_door {
            let wanted: Vec<u64> = accepted.iter().copied().filter(|it| is_for(*it, server)).collect();
            let found: Vec<u64> =
                order.iter().copied().filter(|it| wanted.binary_search(it).is_ok()).collect();
            assert_eq!(found, wanted, "{name}: what door {door} accepted of caller {caller}, in that order");
        }
    }
    eprintln!(
        "{name}: {} messages in {} transactions, {} of them repeated",
        order.len(),
        bodies.len(),
        came.len() - bodies.len()
    );
}

/// Each transaction once, as a homeserver that knows their ids takes them.
fn processed(came: &[SentTransaction]) -> Vec<SentTransaction> {
    let mut seen = BTreeSet::new();
    let processed = came.iter().filter(|transaction| transaction.processed);
    processed.filter(|transaction| seen.insert(transaction.id.clone())).cloned().collect()
}

/// What keeps a Southbridge from its database is said before it ends: the key, what is wrong, what to do; and never the
/// password. What may pass ends with another code than what will not, so that a service manager tries again.
#[tokio::test]
async fn a_database_that_cannot_be_used_is_told_apart() {
    let (mut rig, mut database) = Rig::build().await;
    let port = rig.port;
    let absent = format!("postgresql://southbridge@127.0.0.1:{port}/absent");
    let by_name = format!("postgresql://southbridge@localhost:{port}/postgres");
    let stories = [
        (json!({"outbox": {"password_file": "wrong"}}), 2, "refuses user \"southbridge\""),
        (json!({"outbox": {"postgres": absent}}), 2, "has no database \"absent\""),
        (json!({"outbox": {"ca_file": "stranger.pem"}}), 2, "no private connection"),
        (json!({"outbox": {"postgres": by_name}}), 2, "not valid for name"),
    ];
    for (number, (tables, code, said)) in stories.into_iter().enumerate() {
        refused(&rig.bus(number, &tables), code, said).await;
    }
    database.stop();
    refused(&rig.bus(9, &json!({})), 1, "cannot be reached at 127.0.0.1").await;
    let in_clear = PostgresServer::start_on_tcp(Tcp { password: PASSWORD.to_owned(), identity: None });
    rig.port = in_clear.port();
    refused(&rig.bus(10, &json!({})), 2, "server does not support TLS").await;
}

async fn refused(bus: &BusProcess, code: i32, said: &str) {
    let (found, stderr) = bus.fails().await.unwrap();
    assert_eq!(found, Some(code), "{stderr}");
    assert!(stderr.contains("southbridge.toml: outbox.postgres: "), "{stderr}");
    assert!(stderr.contains(said), "{said:?} is not in {stderr}");
    assert!(!stderr.contains(PASSWORD) && !stderr.contains("another password"), "{stderr}");
}

const SERVERS: usize = 7;
const CALLERS: u64 = 3;
const PASSWORD: &str = "the password of this test";
const LOAD: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_secs(40);
