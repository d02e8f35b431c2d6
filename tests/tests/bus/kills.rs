//! The process is killed, again and again, in the midst of its work.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use southbridge_testkit::certificates::Authority;
use southbridge_testkit::homeserver::{Homeservers, OnSend, SentTransaction};
use southbridge_tests::bus::{BusProcess, accepted};
use southbridge_tests::failure::Result;
use southbridge_tests::patience::{eventually, step_within};
use southbridge_tests::southbridge::daemon;

use super::numbers;

/// What callers were told is accepted: for each destination the numbers of its messages, by where they stand.
type Ledger = BTreeMap<usize, BTreeMap<u64, u64>>;

/// Two callers hand in messages for five servers, to one, some or all of them; some answers are lost on the way. All
/// the while the process is killed and started anew. Whatever was acknowledged arrives, in the order in which it was
/// accepted; and a transaction that comes twice is the same transaction.
async fn killed(kills: u32) {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.write_ca(&directory.path().join("ca.pem")).unwrap();
    let servers = Homeservers::start(Arc::clone(&authority)).await.unwrap();
    servers.record_sends();
    let dns = southbridge_testkit::dns::DnsServer::start().await.unwrap();
    for number in 0..SERVERS {
        let name = format!("hs{number}.test");
        dns.host(&name, &[std::net::Ipv4Addr::LOCALHOST.into()], 600);
        // Now and then an answer is lost: the server has the transaction and we do not know.
        let lossy = (0..kills).map(|n| match (n as usize + number) % 7 {
            3 => OnSend::ProcessAndCut,
            5 => OnSend::Cut,
            _ => OnSend::Process,
        });
        servers.on_send(&name, lossy);
    }
    let tables = json!({
        "dns": {"servers": [dns.address()]},
        "tls": {"ca_files": ["ca.pem"], "system_roots": false},
        "addresses": {"allow": ["127.0.0.0/8"]},
        "log": {"level": "warn"},
    });
    let mut bus = BusProcess::prepare(directory.path(), &daemon().unwrap(), &tables).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| tokio::spawn(call(caller, bus.door(), servers.port(), Arc::clone(&done))))
        .collect();
    for kill in 0..kills {
        bus.start().await.unwrap();
        // From before the first answer to some dozen messages later.
        tokio::time::sleep(Duration::from_millis(u64::from(kill * 37 % 90))).await;
        bus.kill().unwrap();
    }
    bus.start().await.unwrap();
    done.store(true, Ordering::Relaxed);
    let mut ledger = Ledger::new();
    for caller in callers {
        for (server, told) in caller.await.unwrap().unwrap() {
            ledger.entry(server).or_default().extend(told);
        }
    }
    assert_eq!(ledger.len(), SERVERS);
    for (server, told) in &ledger {
        let name = format!("hs{server}.test");
        let last = *told.values().next_back().unwrap();
        let arrives = eventually(Duration::from_secs(60), "the last message arrives", || async {
            let all = numbers(&servers.sent_to(&name));
            Ok(all.contains(&last).then_some(()))
        });
        step_within(Duration::from_secs(61), &format!("{name} has everything"), arrives).await;
        check(&name, told, &servers.sent_to(&name));
    }
}

/// Hands in one message after the other until told to stop; says where each stands, for each server.
async fn call(caller: u64, door: PathBuf, port: u16, done: Arc<AtomicBool>) -> Result<Ledger> {
    let mut ledger = Ledger::new();
    let mut count = 0_u64;
    while !done.load(Ordering::Relaxed) || count < 100 {
        let number = count * CALLERS + caller;
        count += 1;
        let to: Vec<usize> = (0..SERVERS).filter(|server| is_for(number, *server)).collect();
        let names: Vec<String> = to.iter().map(|server| format!("hs{server}.test:{port}")).collect();
        let submission = json!({
            "pdu": {"type": "m.room.message", "content": {"number": number}},
            "destinations": names,
            "key": format!("message {number}"),
        });
        let seq = accepted(&door, &submission, Duration::from_secs(60)).await?;
        for server in to {
            ledger.entry(server).or_default().insert(seq, number);
        }
    }
    Ok(ledger)
}

/// Every third message is for all, the others for two.
fn is_for(number: u64, server: usize) -> bool {
    let first = number as usize % SERVERS;
    number.is_multiple_of(3) || server == first || server == (first + 2) % SERVERS
}

fn check(name: &str, told: &BTreeMap<u64, u64>, came: &[SentTransaction]) {
    let mut bodies: HashMap<&str, &[u8]> = HashMap::new();
    for transaction in came {
        let before = bodies.entry(&transaction.id).or_insert(&transaction.body);
        assert_eq!(*before, &transaction.body[..], "{name}: {} came with other bytes", transaction.id);
    }
    let mut processed: Vec<SentTransaction> = came.to_vec();
    processed.retain(|transaction| transaction.processed);
    let mut first_seen = Vec::new();
    for number in numbers(&processed) {
        if !first_seen.contains(&number) {
            first_seen.push(number);
        }
    }
    let in_order: Vec<u64> = told.values().copied().collect();
    assert_eq!(first_seen, in_order, "{name} was sent what was accepted, in that order");
    eprintln!(
        "{name}: {} messages in {} transactions, {} of them repeated",
        in_order.len(),
        bodies.len(),
        came.len() - bodies.len()
    );
}

/// Faults row 19, rig P, as often as every run of the tests can afford.
#[tokio::test]
async fn row_19_what_was_accepted_survives_being_killed() {
    killed(15).await;
}

/// The same two hundred times over.
#[tokio::test]
#[ignore = "a minute of killing; `cargo xtask test` runs it with the other real processes"]
async fn row_19_two_hundred_kills_lose_nothing() {
    killed(200).await;
}

const SERVERS: usize = 5;
const CALLERS: u64 = 2;
