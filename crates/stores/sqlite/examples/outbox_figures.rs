//! What an outbox costs on this machine's disk: accepting, marking, starting.
//!
//! `cargo run --release -p southbridge-store-sqlite --example outbox_figures [DIRECTORY]`
//!
//! # Units
//! Milliseconds of wall time; the disk is the one of DIRECTORY (default: where temporary files go).

#![allow(clippy::unwrap_used, reason = "whoever runs this reads the panic")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_words::{
    Append, Appended, ItemKind, Mark, OpenTransaction, Outbox, Seq, ServerName, WallTime,
};

fn main() {
    let directory = match std::env::args().nth(1) {
        Some(parent) => tempfile::tempdir_in(parent).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let path = directory.path().join("southbridge.db");
    to_many(&path.with_extension("many"));
    sustained(&path.with_extension("sustained"));
    restart(&path.with_extension("restart"));
    catch_up(&path.with_extension("catch-up"));
}

/// One message to ten thousand destinations, and what is remembered of each.
fn to_many(path: &Path) {
    let (mut outbox, all) = (open(path), names(0..10_000));
    let first = time(|| write(&mut outbox, &all));
    let mut again: Vec<_> = (0..100).map(|_| time(|| write(&mut outbox, &all))).collect();
    again.sort();
    println!(
        "one message to 10,000: the first {first:.1?}, then {:.1?} (median), {:.1?} (worst)",
        again[50], again[99]
    );
    let mut fresh: Vec<_> = (0..50)
        .map(|_| all.iter().cloned().collect::<Arc<[_]>>())
        .map(|all| time(|| write(&mut outbox, &all)))
        .collect();
    fresh.sort();
    println!("the same, each with a list of its own: {:.1?} (median)", fresh[25]);
    let upto = Seq(50);
    let begun: Vec<_> = all
        .iter()
        .map(|it| Mark::Begun {
            destination: it.clone(),
            transaction: OpenTransaction {
                id: "t1".into(),
                origin_server_ts: NOW,
                upto,
                volatile_edus: bytes::Bytes::new(),
                body_hash: 1,
            },
        })
        .collect();
    println!(
        "10,000 transactions begun in one commit: {:.1?}",
        time(|| drop(outbox.write(&[], &begun).unwrap()))
    );
    let delivered: Vec<_> = all.iter().map(|it| Mark::Delivered { destination: it.clone(), upto }).collect();
    println!("10,000 delivered in one commit: {:.1?}", time(|| drop(outbox.write(&[], &delivered).unwrap())));
    println!("upkeep after it: {:.1?}", time(|| drop(outbox.upkeep(NOW).unwrap())));
}

/// Two thousand messages to two hundred of five thousand destinations each, twenty to a commit, all delivered.
fn sustained(path: &Path) {
    let (mut outbox, all) = (open(path), names(0..5000));
    let rooms: Vec<Arc<[ServerName]>> =
        (0..300).map(|room| (0..200).map(|at| all[(room * 17 + at * 23) % 5000].clone()).collect()).collect();
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for round in 0..500_usize {
        let appends: Vec<_> = (0..20).map(|at| append(&rooms[(round * 20 + at) % 300])).collect();
        let mut upto = Seq::START;
        let took = time(|| {
            for appended in outbox.write(&appends, &[]).unwrap() {
                if let Appended::New(seq) = appended {
                    upto = seq;
                }
            }
        });
        slowest = slowest.max(took);
        if round % 5 == 4 {
            let marks: Vec<_> =
                all.iter().map(|it| Mark::Delivered { destination: it.clone(), upto }).collect();
            outbox.write(&[], &marks[..2000]).unwrap();
            outbox.write(&[], &marks).unwrap();
            outbox.upkeep(NOW).unwrap();
        }
    }
    let each = 10_000.0 / began.elapsed().as_secs_f64();
    println!("sustained, with 350 marks a message: {each:.0} messages/s, slowest commit of 20 {slowest:.1?}");
}

/// Ten thousand destinations, a hundred messages waiting for each: ones of their own, and common ones.
fn restart(path: &Path) {
    let all = names(0..10_000);
    let mut outbox = open(path);
    let sets: Vec<Arc<[ServerName]>> = all.chunks(2).map(Into::into).collect();
    for _ in 0..100 {
        let appends: Vec<_> = sets.iter().map(append).collect();
        outbox.write(&appends, &[]).unwrap();
    }
    outbox.close().unwrap();
    let began = Instant::now();
    let mut outbox = open(path);
    let opened = began.elapsed();
    let backlogs = outbox.recover().unwrap().backlogs.len();
    println!(
        "restart with {backlogs} destinations and 500,000 items: opened after {opened:.1?}, recovered after {:.1?}",
        began.elapsed()
    );
    println!(
        "a page of 100 of them: {:.2?}",
        time(|| drop(outbox.read(&all[77], Seq::START, 100, 1 << 20).unwrap()))
    );
    println!("upkeep with nothing to do: {:.2?}", time(|| drop(outbox.upkeep(NOW).unwrap())));
}

/// A server that was away for a week comes back: fifty thousand messages of a thousand rooms.
fn catch_up(path: &Path) {
    let all = names(0..1200);
    let mut outbox = open(path);
    let rooms: Vec<Arc<[ServerName]>> =
        (0..1000).map(|room| [all[0].clone(), all[room + 1].clone()].into()).collect();
    for _ in 0..50 {
        let appends: Vec<_> = rooms.iter().map(append).collect();
        outbox.write(&appends, &[]).unwrap();
    }
    let began = Instant::now();
    let (mut after, mut items) = (Seq::START, 0);
    loop {
        let page = outbox.read(&all[0], after, 100, 1 << 20).unwrap();
        items += page.items.len();
        let Some(last) = page.items.last() else { break };
        after = last.seq;
    }
    println!("{items} items of 1,000 sets read in pages of 100: {:.1?}", began.elapsed());
}

fn open(path: &Path) -> SqliteOutbox {
    SqliteOutbox::open(path, &OutboxOptions::default()).unwrap()
}

fn names(range: std::ops::Range<u32>) -> Arc<[ServerName]> {
    range.map(|number| ServerName::parse(&format!("matrix-{number}.example.org")).unwrap()).collect()
}

fn append(destinations: &Arc<[ServerName]>) -> Append {
    Append {
        kind: ItemKind::Pdu,
        bytes: vec![b'x'; 1000].into(),
        destinations: Arc::clone(destinations),
        accepted_at: NOW,
        key: None,
    }
}

fn write(outbox: &mut SqliteOutbox, destinations: &Arc<[ServerName]>) {
    outbox.write(&[append(destinations)], &[]).unwrap();
}

fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

const NOW: WallTime = WallTime::from_unix_millis(1_800_000_000_000);
