//! One Southbridge on a database: what it accepts and keeps, and what it does when the database is away.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::proxy::{Cut, Proxy};
use kit::{NOON, Server, accept, append, begun, delivered, name, names, read, texts, transaction};
use southbridge_policy::seeded::Seeded;
use southbridge_store_postgres::{PostgresError, PostgresOptions, PostgresOutbox};
use southbridge_store_thread::{Job, OutboxThread, Reply, ThreadLimits};
use southbridge_testkit::memory_outbox::{MemoryDisk, MemoryOutbox};
use southbridge_words::{Append, ItemKind, Mark, Outbox, OutboxError, Recovered, Seq, ServerName, WallTime};

const WHO: [&str; 6] = ["a.test", "b.test", "c.test:8448", "d.test", "[::1]", "f.test"];

fn some_append(chance: &mut Seeded) -> Append {
    let mut whom: Vec<ServerName> = WHO.iter().filter(|_| chance.below(2) == 0).map(|it| name(it)).collect();
    whom.push(name("always.test"));
    Append {
        kind: if chance.below(3) == 0 { ItemKind::Edu } else { ItemKind::Pdu },
        bytes: vec![b'x'; chance.below(300) as usize].into(),
        destinations: whom.into(),
        accepted_at: NOON,
        key: (chance.below(4) == 0).then(|| Arc::from(format!("key {}", chance.below(9)))),
    }
}

fn some_mark(chance: &mut Seeded) -> Mark {
    let (destination, upto) = (name(WHO[chance.below(6) as usize]), Seq(chance.below(60)));
    match chance.below(4) {
        0 => begun(&destination, &format!("t{upto}"), upto),
        1 => Mark::Withdrawn { destination },
        2 => Mark::Dropped { destination, upto },
        _ => delivered(&destination, upto),
    }
}

fn sorted(mut recovered: Recovered) -> Recovered {
    recovered.backlogs.sort_by(|a, b| a.destination.cmp(&b.destination));
    recovered
}

/// Writes, reads, upkeep and restarts in any order: what is answered is what the model answers.
#[test]
fn the_outbox_does_what_the_model_does() {
    let server = Server::start();
    let disk = MemoryDisk::default();
    let (mut outbox, mut model) = (server.start_one().0, MemoryOutbox::open(&disk));
    let mut chance = Seeded::new(7);
    for _ in 0..400 {
        match chance.below(10) {
            0..=4 => {
                let appends: Vec<_> = (0..chance.below(5)).map(|_| some_append(&mut chance)).collect();
                let marks: Vec<_> = (0..chance.below(3)).map(|_| some_mark(&mut chance)).collect();
                assert_eq!(outbox.write(&appends, &marks), model.write(&appends, &marks));
            }
            5..=7 => {
                let (who, after) = (name(WHO[chance.below(6) as usize]), Seq(chance.below(60)));
                let (items, bytes) = (chance.below(6) as usize, chance.below(800) as usize);
                assert_eq!(outbox.read(&who, after, items, bytes), model.read(&who, after, items, bytes));
            }
            8 => assert_eq!(outbox.upkeep(NOON), model.upkeep(NOON)),
            _ => {
                outbox.close().unwrap();
                (outbox, model) = (server.start_one().0, MemoryOutbox::open(&disk));
            }
        }
        assert_eq!(outbox.recover().map(sorted), model.recover().map(sorted));
    }
    let all: Vec<_> =
        WHO.iter().chain(&["always.test"]).map(|it| delivered(&name(it), Seq(1 << 40))).collect();
    outbox.write(&[], &all).unwrap();
    outbox.upkeep(NOON).unwrap();
    assert_eq!(server.sql("SELECT count(*) FROM items").unwrap(), "0");
}

/// The database is killed and comes back: what was accepted is there, what was refused is not, and the outbox
/// finds the way back by itself.
#[test]
fn a_crash_of_the_database_loses_nothing() {
    let mut server = Server::start();
    let (mut outbox, _) = server.start_one();
    let [ours, ..] = &names(1)[..] else { panic!() };
    accept(&mut outbox, "one", std::slice::from_ref(ours));
    server.crash_and_restart();
    let refused = outbox.write(&[append("two", std::slice::from_ref(ours))], &[]);
    assert!(matches!(refused, Err(OutboxError::Unavailable { .. })), "{refused:?}");
    accept(&mut outbox, "three", std::slice::from_ref(ours));
    assert_eq!(texts(&read(&mut outbox, ours, Seq::START)), ["one", "three"]);
    let upkeep = outbox.upkeep(NOON).unwrap();
    assert_eq!(upkeep.owned, None, "it is served by us as before");
}

/// Faults row 19: the wire breaks during a commit. The caller is told what is so: yes for what is there, no for
/// what is not and never will be.
#[test]
fn row_19_a_commit_whose_answer_is_lost_is_looked_up() {
    let server = Server::start();
    let proxy = Proxy::start(server.directory());
    let connection = format!("host={} user=southbridge dbname=postgres", proxy.directory().display());
    let options = PostgresOptions { connection, ..server.options() };
    let mut outbox = PostgresOutbox::open(&options).unwrap();
    outbox.recover().unwrap();
    let [ours, ..] = &names(1)[..] else { panic!() };
    accept(&mut outbox, "one", std::slice::from_ref(ours));
    proxy.cut(Cut::AfterCommit);
    assert_eq!(accept(&mut outbox, "two", std::slice::from_ref(ours)), Seq(2));
    assert!(!proxy.is_armed());
    proxy.cut(Cut::BeforeCommit);
    let lost = outbox.write(&[append("three", std::slice::from_ref(ours))], &[begun(ours, "t1", Seq(2))]);
    assert!(matches!(lost, Err(OutboxError::Unavailable { .. })), "{lost:?}");
    assert!(!proxy.is_armed());
    assert_eq!(accept(&mut outbox, "four", std::slice::from_ref(ours)), Seq(3));
    assert_eq!(texts(&read(&mut outbox, ours, Seq::START)), ["one", "two", "four"]);
    assert_eq!(outbox.recover().unwrap().backlogs[0].open, None);
}

/// Faults row 20: what is read is not what was written.
#[test]
fn row_20_a_checksum_finds_what_changed() {
    let server = Server::start();
    let (mut outbox, _) = server.start_one();
    let [ours, ..] = &names(1)[..] else { panic!() };
    for text in ["one", "two", "three"] {
        accept(&mut outbox, text, std::slice::from_ref(ours));
    }
    server.sql("UPDATE items SET bytes = 'evil' WHERE seq = 2");
    let page = outbox.read(ours, Seq::START, 10, 1000).unwrap();
    assert_eq!((texts(&page), page.more), (vec!["one"], true), "what is before it is good");
    let damaged = outbox.read(ours, Seq(1), 10, 1000);
    assert!(matches!(damaged, Err(OutboxError::Damaged { .. })), "{damaged:?}");
}

/// A server that is gone for good: its messages are given up by age, whole transactions only, and its alone.
#[test]
fn what_waited_too_long_is_given_up() {
    let server = Server::start();
    server.start_one().0.close().unwrap();
    let clock = server.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint").unwrap();
    let now = WallTime::from_unix_millis(clock.parse().unwrap());
    let options = PostgresOptions { age_max: Some(Duration::from_secs(24 * 3600)), ..server.options() };
    let mut outbox = PostgresOutbox::open(&options).unwrap();
    outbox.recover().unwrap();
    let (dead, alive) = (name("dead.test"), name("alive.test"));
    let old = now.unix_millis() - 48 * 3600 * 1000;
    for (text, at) in [("1", old), ("2", old + 1), ("3", now.unix_millis()), ("4", now.unix_millis())] {
        let accepted_at = WallTime::from_unix_millis(at);
        let append = Append { accepted_at, ..append(text, &[dead.clone(), alive.clone()]) };
        outbox.write(&[append], &[]).unwrap();
    }
    outbox.write(&[], &[delivered(&alive, Seq(2)), begun(&dead, "t1", Seq(3))]).unwrap();
    assert_eq!(outbox.upkeep(NOON).unwrap().expired, [], "a clock that is years off is not believed");
    let expired = outbox.upkeep(now).unwrap().expired;
    let told: Vec<_> = expired.iter().map(|it| (&it.destination, it.upto, it.items)).collect();
    assert_eq!(told, [(&dead, Seq(3), 3)]);
    assert_eq!(texts(&read(&mut outbox, &dead, Seq::START)), ["4"]);
    assert_eq!(texts(&read(&mut outbox, &alive, Seq::START)), ["3", "4"]);
}

/// It runs on the thread that any outbox runs on.
#[test]
fn it_runs_on_the_thread_of_outboxes() {
    let server = Server::start();
    let (thread, mut replies) =
        OutboxThread::start(Box::new(server.open()), ThreadLimits::default()).unwrap();
    thread.submit(Job::Recover).unwrap();
    let Some(Reply::Recovered(Ok(_))) = replies.next_blocking() else { panic!() };
    for id in 0..50 {
        let appends = vec![append("text", &names(200))];
        thread.submit(Job::Write { id, appends, marks: Vec::new() }).unwrap();
    }
    for expected in 0..50 {
        let Some(Reply::Written { id, result: Ok(_) }) = replies.next_blocking() else { panic!() };
        assert_eq!(id, expected);
    }
}

/// An open transaction comes back field by field.
#[test]
fn an_open_transaction_survives_a_restart_as_it_was() {
    let server = Server::start();
    let (mut outbox, _) = server.start_one();
    let [ours, ..] = &names(1)[..] else { panic!() };
    let seq = accept(&mut outbox, "one", std::slice::from_ref(ours));
    outbox.write(&[], &[begun(ours, "t1", seq)]).unwrap();
    outbox.close().unwrap();
    let (_outbox, recovered) = server.start_one();
    assert_eq!(recovered.backlogs[0].open, Some(transaction("t1", seq)));
}

/// What is wrong with the options is said, without the password.
#[test]
fn a_bad_option_is_named() {
    let opened = |options: &PostgresOptions| PostgresOutbox::open(options).map(|_| ()).unwrap_err();
    let error = opened(&PostgresOptions::new("host=/nowhere user=a password=secret dbname=b"));
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the database of the outbox cannot be reached at /nowhere");
    assert!(error.is_passing(), "it may be there in a while");
    let error = opened(&PostgresOptions::new("user=a dbname=b"));
    assert!(matches!(error, PostgresError::NoHost), "{error:?}");
    let error =
        opened(&PostgresOptions { schema: "a\"; DROP".to_owned(), ..PostgresOptions::new("host=/nowhere") });
    assert!(matches!(error, PostgresError::Schema { .. }), "{error:?}");
    let options = PostgresOptions::new("postgresql://a:secret@b/c");
    assert!(!format!("{options:?}").contains("secret"));
}
