//! The outbox from the outside: what it accepts, keeps, repeats, forgets and gives up.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::sync::Arc;
use std::time::Duration;

use kit::{
    NOON, accept, append, delivered, file, name, names, open, options, read, refused, rows, texts,
    transaction,
};
use southbridge_store_sqlite::{
    AtLimit, OutboxOptions, RankStore, RankStoreOptions, RetentionLimits, SqliteOutbox, StoreError,
};
use southbridge_words::{
    Append, Appended, HostRecord, HostState, Mark, Outbox, OutboxError, Seq, ServiceName, WallTime,
};

/// The process is gone between a transaction's first byte and its answer: the next one must send the very
/// same again.
#[test]
fn an_open_transaction_survives_a_restart_as_it_was() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    let first = accept(&mut outbox, "one", &["a.test", "b.test"]);
    let last = accept(&mut outbox, "two", &["a.test"]);
    let begun = Mark::Begun { destination: name("a.test"), transaction: transaction("t1", last) };
    outbox.write(&[], &[begun, delivered("b.test", first)]).unwrap();
    drop(outbox);
    let mut outbox = open(&path);
    let recovered = outbox.recover().unwrap();
    let [backlog] = &*recovered.backlogs else { panic!("b.test has everything: {recovered:?}") };
    assert_eq!((&backlog.destination, backlog.delivered, backlog.last), (&name("a.test"), Seq::START, last));
    assert_eq!(backlog.open, Some(transaction("t1", last)));
    let page = read(&mut outbox, "a.test", Seq::START);
    assert_eq!(texts(&page), ["one", "two"]);
    assert_eq!(page.items[0].accepted_at, NOON);
}

/// A position names one item for ever, also when that was delivered and deleted long ago.
#[test]
fn a_position_is_never_given_out_twice() {
    let (_directory, path) = file();
    for round in 1..4 {
        let mut outbox = open(&path);
        let seq = accept(&mut outbox, "text", &["a.test"]);
        assert_eq!(seq, Seq(round));
        outbox.write(&[], &[delivered("a.test", seq)]).unwrap();
        outbox.upkeep(NOON).unwrap();
        outbox.close().unwrap();
        assert_eq!(rows(&path, "items"), 0);
    }
}

/// A room of two thousand servers is one row, however often somebody speaks in it, and in whichever order
/// its servers are named.
#[test]
fn a_set_is_kept_once() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    let room = names(2000);
    let reversed: Arc<[_]> = room.iter().rev().cloned().collect();
    for destinations in [&room, &room, &reversed, &room.iter().cloned().collect()] {
        outbox.write(&[append("text", destinations)], &[]).unwrap();
    }
    outbox.close().unwrap();
    let mut outbox = open(&path);
    outbox.write(&[append("text", &names(2000))], &[]).unwrap();
    assert_eq!(outbox.recover().unwrap().backlogs.len(), 2000);
    outbox.close().unwrap();
    assert_eq!((rows(&path, "sets"), rows(&path, "items"), rows(&path, "destinations")), (1, 5, 2000));
}

/// Faults row 24: the caller crashed before it saw the answer, and hands the same in again.
#[test]
fn a_key_is_known_after_a_restart_until_it_is_old() {
    let (_directory, path) = file();
    let keyed = |text: &'static str| Append { key: Some("key".into()), ..append(text, &names(1)) };
    let mut outbox = open(&path);
    let twice = outbox.write(&[keyed("one"), keyed("other")], &[]).unwrap();
    assert_eq!(twice, [Appended::New(Seq(1)), Appended::Known(Seq(1))]);
    drop(outbox);
    let mut outbox = open(&path);
    assert_eq!(outbox.write(&[keyed("one")], &[]).unwrap(), [Appended::Known(Seq(1))]);
    day_after(&mut outbox);
    assert_eq!(outbox.write(&[keyed("one")], &[]).unwrap(), [Appended::New(Seq(2))]);
}

/// Two days of upkeep, often enough for the clock to be believed.
fn day_after(outbox: &mut SqliteOutbox) -> Vec<(String, u64)> {
    let quarters = (0..200).map(|quarter| NOON + Duration::from_secs(900) * quarter);
    let upkeeps = quarters.map(|now| outbox.upkeep(now).unwrap());
    let expired = upkeeps.flat_map(|upkeep| upkeep.expired);
    expired.map(|it| (it.destination.as_str().to_owned(), it.items)).collect()
}

#[test]
fn the_latest_keys_are_kept_and_the_oldest_forgotten() {
    let (_directory, path) = file();
    let options = OutboxOptions { keys_max: 10, ..options() };
    let mut outbox = SqliteOutbox::open(&path, &options).unwrap();
    let keyed = |number| Append { key: Some(format!("k{number}").into()), ..append("text", &names(1)) };
    outbox.write(&(0..30).map(keyed).collect::<Vec<_>>(), &[]).unwrap();
    outbox.upkeep(NOON).unwrap();
    let answers = outbox.write(&[keyed(29), keyed(20), keyed(19)], &[]).unwrap();
    assert_eq!(answers, [Appended::Known(Seq(30)), Appended::Known(Seq(21)), Appended::New(Seq(31))]);
}

fn rank(host: &str) -> HostRecord {
    HostRecord {
        host: ServiceName::new(host),
        state: HostState::Failing,
        latency: Duration::from_millis(20),
        failures: 1,
        failing_since: None,
        retry_at: None,
        seen_at: NOON,
    }
}

/// Ranks and messages lie in one file, which one process holds; neither harms the other.
#[test]
fn ranks_lie_beside_the_outbox() {
    let (_directory, path) = file();
    let few = RankStoreOptions { records_max: 2, lock_wait: Duration::ZERO, ..RankStoreOptions::default() };
    let mut outbox = open(&path);
    let (ranks, _) = RankStore::beside(&outbox, &few).unwrap();
    accept(&mut outbox, "one", &["s0.example.org", "unranked.test"]);
    let seen = |number: u64| WallTime::from_unix_millis(number);
    ranks
        .save(
            (0..9)
                .map(|it| HostRecord { seen_at: seen(it), ..rank(&format!("s{it}.example.org")) })
                .collect(),
        )
        .unwrap();
    ranks.close(Duration::from_secs(60)).unwrap();
    assert!(matches!(refused(&path), StoreError::Locked { .. }), "the outbox is open still");
    outbox.close().unwrap();
    let mut outbox = open(&path);
    let (_ranks, records) = RankStore::beside(&outbox, &few).unwrap();
    assert_eq!(records.len(), 2);
    let backlogs = outbox.recover().unwrap().backlogs;
    assert_eq!(backlogs.len(), 2, "the names of forgotten ranks are in use by the outbox");
    assert_eq!(texts(&read(&mut outbox, "s0.example.org", Seq::START)), ["one"]);
}

/// A foundation without a bus wrote this file; its ranks are still there when the bus moves in.
#[test]
fn an_outbox_moves_in_with_older_ranks() {
    let (_directory, path) = file();
    let options = RankStoreOptions { lock_wait: Duration::ZERO, ..RankStoreOptions::default() };
    let (ranks, _) = RankStore::open(&path, &options, NOON).unwrap();
    ranks.save(vec![rank("a.test")]).unwrap();
    ranks.close(Duration::from_secs(60)).unwrap();
    let mut outbox = open(&path);
    let (ranks, records) = RankStore::beside(&outbox, &options).unwrap();
    assert_eq!(records, [rank("a.test")]);
    accept(&mut outbox, "one", &["a.test"]);
    drop((outbox, ranks));
    let (_ranks, records) = RankStore::open(&path, &RankStoreOptions::default(), NOON).unwrap();
    assert_eq!(records, [rank("a.test")], "and without it again");
}

fn limited(path: &std::path::Path, retention: RetentionLimits) -> SqliteOutbox {
    SqliteOutbox::open(path, &OutboxOptions { retention, ..options() }).unwrap()
}

/// The operator's limit is met: what is new is refused with the numbers, what was accepted is delivered, and
/// then there is room again.
#[test]
fn a_full_outbox_refuses_and_recovers() {
    let (_directory, path) = file();
    let retention = RetentionLimits { bytes_max: 1_000_000, ..RetentionLimits::default() };
    let mut outbox = limited(&path, retention);
    let big = append(vec![b'x'; 60_000], &names(1));
    let accepted = (0..100).take_while(|_| outbox.write(std::slice::from_ref(&big), &[]).is_ok()).count();
    assert!((10..17).contains(&accepted), "{accepted}");
    let Err(OutboxError::Full { reason }) = outbox.write(std::slice::from_ref(&big), &[]) else { panic!() };
    assert!(reason.contains("of 1000000 bytes"), "{reason}");
    assert_eq!(read(&mut outbox, "s0.example.org", Seq::START).items.len(), accepted);
    outbox.write(&[], &[delivered("s0.example.org", Seq(accepted as u64))]).unwrap();
    outbox.upkeep(NOON).unwrap();
    outbox.write(&[big], &[]).unwrap();
}

/// The operator would rather lose what a dead server lacks than refuse what all others could have.
#[test]
fn the_oldest_are_given_up_for_who_lacks_them_if_that_is_wanted() {
    let (_directory, path) = file();
    let retention = RetentionLimits {
        bytes_max: 1_000_000,
        at_limit: AtLimit::GiveUpOldest,
        ..RetentionLimits::default()
    };
    let mut outbox = limited(&path, retention);
    let mut given_up = Vec::new();
    for round in 1..60 {
        let destinations = [name("alive.test"), name("dead.test")].into();
        outbox.write(&[append(vec![b'x'; 60_000], &destinations)], &[]).unwrap();
        outbox.write(&[], &[delivered("alive.test", Seq(round))]).unwrap();
        given_up.extend(outbox.upkeep(NOON).unwrap().expired);
    }
    assert!(given_up.iter().all(|it| it.destination == name("dead.test")));
    let items: u64 = given_up.iter().map(|it| it.items).sum();
    let left = read(&mut outbox, "dead.test", Seq::START).items.len() as u64;
    assert_eq!(items + left, 59, "each is told of or still there");
    assert!(left >= 10, "{left}");
}

/// A server that is gone for good: after four weeks its messages are given up, and only its.
#[test]
fn what_waited_too_long_is_given_up() {
    let (_directory, path) = file();
    let retention =
        RetentionLimits { age_max: Some(Duration::from_secs(24 * 3600)), ..RetentionLimits::default() };
    let mut outbox = limited(&path, retention);
    accept(&mut outbox, "old", &["dead.test", "alive.test"]);
    outbox.write(&[], &[delivered("alive.test", Seq(1))]).unwrap();
    let young = Append {
        accepted_at: NOON + Duration::from_secs(36 * 3600),
        ..append("young", &[name("dead.test")].into())
    };
    outbox.write(&[young], &[]).unwrap();
    assert_eq!(day_after(&mut outbox), [("dead.test".to_owned(), 1)]);
    assert_eq!(texts(&read(&mut outbox, "dead.test", Seq::START)), ["young"]);
    drop(outbox);
    assert_eq!(open(&path).recover().unwrap().backlogs[0].delivered, Seq(1), "and stays given up");
}

/// A transaction was begun, so perhaps it was processed: it goes as a whole or not at all, because the rest
/// of it under the same id would be another transaction.
#[test]
fn a_limit_never_cuts_through_an_open_transaction() {
    let (_directory, path) = file();
    let retention = RetentionLimits { items_per_destination_max: Some(6), ..RetentionLimits::default() };
    let mut outbox = limited(&path, retention);
    for _ in 0..10 {
        accept(&mut outbox, "text", &["a.test", "b.test"]);
    }
    let begun = Mark::Begun { destination: name("a.test"), transaction: transaction("t1", Seq(8)) };
    outbox.write(&[], &[begun]).unwrap();
    let mut expired = outbox.upkeep(NOON).unwrap().expired;
    expired.sort_by(|a, b| a.destination.cmp(&b.destination));
    let told: Vec<_> = expired.iter().map(|it| (it.destination.as_str(), it.upto, it.items)).collect();
    assert_eq!(told, [("a.test", Seq(8), 8), ("b.test", Seq(4), 4)]);
    let backlogs = outbox.recover().unwrap().backlogs;
    assert!(backlogs.iter().all(|backlog| backlog.open.is_none()));
}

/// Ten thousand messages of as many sets are deleted a part at a time, and all of them in the end.
#[test]
fn upkeep_is_done_in_bounded_steps() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    let pair = names(2);
    for _ in 0..12 {
        outbox.write(&vec![append("text", &pair); 1000], &[]).unwrap();
    }
    let all: Vec<_> =
        pair.iter().map(|it| Mark::Delivered { destination: it.clone(), upto: Seq(12_000) }).collect();
    outbox.write(&[], &all).unwrap();
    outbox.upkeep(NOON).unwrap();
    drop(outbox);
    assert_eq!(rows(&path, "items"), 7000);
    let mut outbox = open(&path);
    (0..2).for_each(|_| drop(outbox.upkeep(NOON).unwrap()));
    drop(outbox);
    assert_eq!(rows(&path, "items"), 0);
}

/// A long backlog is read in pages while more is accepted, by two readers in turns.
#[test]
fn pages_follow_one_another_without_gap_or_repetition() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    let mut after = [Seq::START; 2];
    let mut seen = [Vec::new(), Vec::new()];
    for round in 0..30 {
        for at in 0..4 {
            let room = format!("room-{}.test", (round * 7 + at) % 11);
            accept(&mut outbox, &format!("{round}-{at}"), &["a.test", "b.test", &room]);
        }
        for (reader, who) in ["a.test", "b.test"].into_iter().enumerate() {
            let page = outbox.read(&name(who), after[reader], 3, 1_000_000).unwrap();
            seen[reader].extend(page.items.iter().map(|item| item.seq.0));
            after[reader] = page.items.last().map_or(after[reader], |item| item.seq);
        }
    }
    for (reader, who) in ["a.test", "b.test"].into_iter().enumerate() {
        seen[reader].extend(read(&mut outbox, who, after[reader]).items.iter().map(|item| item.seq.0));
        assert_eq!(seen[reader], (1..=120).collect::<Vec<_>>());
    }
}

/// Strangers' names are not kept for ever: a name goes with the last set that has it, and its progress with it. What
/// waits for somebody keeps its name, and so do the ranks.
#[test]
fn a_name_that_nothing_refers_to_is_deleted() {
    let (_directory, path) = file();
    let hours = |hours: u64| NOON + Duration::from_secs(hours * 3600);
    let mut outbox = open(&path);
    let (ranks, _) = RankStore::beside(&outbox, &RankStoreOptions::default()).unwrap();
    ranks.save(vec![rank("ranked.test")]).unwrap();
    ranks.close(Duration::from_secs(5)).unwrap();
    let last = accept(&mut outbox, "for strangers", &["stranger.test", "ranked.test"]);
    let waits = accept(&mut outbox, "for one who is away", &["away.test", "other.test"]);
    let marks = ["stranger.test", "ranked.test"].map(|it| delivered(it, last));
    outbox.write(&[], &marks).unwrap();
    outbox.write(&[], &[delivered("other.test", waits)]).unwrap();
    outbox.upkeep(hours(0)).unwrap();
    outbox.close().unwrap();
    assert_eq!(rows(&path, "destinations"), 4, "a room that speaks again soon finds its set");
    let mut outbox = open(&path);
    outbox.upkeep(hours(0)).unwrap();
    outbox.upkeep(hours(2)).unwrap();
    // One comes back, and gets what is for it, in this process and in the next.
    accept(&mut outbox, "again", &["stranger.test", "away.test"]);
    assert_eq!(texts(&read(&mut outbox, "stranger.test", Seq::START)), ["again"]);
    outbox.close().unwrap();
    assert_eq!(rows(&path, "recipients WHERE crc = crc"), 3, "of those who wait, and share a set with them");
    assert_eq!(rows(&path, "destinations"), 4, "and the one with a rank");
    assert_eq!(rows(&path, "progress"), 1, "how far other.test is, whose set is needed");
    let mut outbox = open(&path);
    assert_eq!(texts(&read(&mut outbox, "away.test", Seq::START)), ["for one who is away", "again"]);
    assert_eq!(texts(&read(&mut outbox, "stranger.test", Seq::START)), ["again"]);
    let all = ["stranger.test", "away.test"].map(|it| delivered(it, Seq(3)));
    outbox.write(&[], &all).unwrap();
    outbox.upkeep(hours(3)).unwrap();
    outbox.upkeep(hours(5)).unwrap();
    outbox.close().unwrap();
    for (table, left) in [("destinations", 1), ("recipients", 0), ("sets", 0), ("progress", 0)] {
        assert_eq!(rows(&path, table), left, "{table}");
    }
}
