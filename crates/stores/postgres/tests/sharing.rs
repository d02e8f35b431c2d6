//! Several Southbridges on one database: they share the destinations, take over from the dead, and never mix
//! up a stream.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use kit::{
    NOON, Server, accept, append, begun, delivered, mine_and_theirs, name, names, read, texts, transaction,
};
use southbridge_store_postgres::PostgresOutbox;
use southbridge_words::{Appended, Backlog, Outbox, OutboxError, Partitions, Seq, ServerName};

/// Alone it serves everybody; with two others each serves a third, and all of it is served by exactly one.
#[test]
fn partitions_are_shared_equally() {
    let server = Server::start();
    let (mut first, recovered) = server.start_one();
    assert_eq!(recovered.owned, Partitions::ALL);
    let (mut second, nothing) = server.start_one();
    assert_eq!(nothing.owned.count(), 0, "the first has not let go yet");
    let (mut third, _) = server.start_one();
    let mut owned = [Partitions::ALL, Partitions::NONE, Partitions::NONE];
    for _ in 0..2 {
        for (owned, outbox) in owned.iter_mut().zip([&mut first, &mut second, &mut third]) {
            *owned = outbox.upkeep(NOON).unwrap().owned.unwrap_or(*owned);
        }
    }
    assert_eq!(owned.map(|it| it.count()), [86, 85, 85]);
    let everybody = names(2000);
    assert!(everybody.iter().all(|name| owned.iter().filter(|it| it.own(name)).count() == 1));
    // One of them says goodbye; the others have its share with their next upkeep.
    second.close().unwrap();
    let shares =
        [first.upkeep(NOON), third.upkeep(NOON)].map(|upkeep| upkeep.unwrap().owned.unwrap().count());
    assert_eq!(shares, [128, 128]);
}

/// A Southbridge is killed in the middle of a transaction. Another finds it, with what was delivered and what
/// was not, and sends the same again; nothing is lost and nothing stands elsewhere.
#[test]
fn a_killed_process_is_succeeded_without_loss_or_reorder() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let everybody = names(40);
    let mut expected: BTreeMap<ServerName, Vec<String>> = BTreeMap::new();
    for number in 0..30 {
        let room: Vec<_> = everybody.iter().skip(number % 7).step_by(1 + number % 3).cloned().collect();
        accept(&mut first, &format!("{number}"), &room);
        room.iter().for_each(|it| expected.entry(it.clone()).or_default().push(number.to_string()));
    }
    let one = &everybody[0];
    let page = read(&mut first, one, Seq::START);
    first.write(&[], &[delivered(one, page.items[1].seq)]).unwrap();
    first.write(&[], &[begun(one, "t2", page.items[4].seq)]).unwrap();
    // Killed: nothing is closed, and its lease ends.
    let process = first.process();
    std::mem::forget(first);
    server.expire(process);
    let (mut second, recovered) = server.start_one();
    assert_eq!(recovered.owned, Partitions::ALL);
    assert_eq!(recovered.backlogs.len(), expected.len());
    for Backlog { destination, delivered, open, .. } in recovered.backlogs {
        let page = read(&mut second, &destination, delivered);
        let done = if destination == *one { 2 } else { 0 };
        assert_eq!(texts(&page), expected[&destination][done..]);
        assert_eq!(open, (destination == *one).then(|| transaction("t2", page.items[2].seq)));
    }
}

/// It was not dead, only asleep. What it has begun may be repeated by its successor; it can begin nothing new
/// and move no cursor, and learns why.
#[test]
fn a_process_that_slept_through_its_lease_is_fenced() {
    let server = Server::start();
    let (mut sleeper, _) = server.start_one();
    let [ours, ..] = &names(1)[..] else { panic!() };
    let seq = accept(&mut sleeper, "one", std::slice::from_ref(ours));
    sleeper.write(&[], &[begun(ours, "t1", seq)]).unwrap();
    server.expire(sleeper.process());
    let (mut successor, recovered) = server.start_one();
    assert_eq!(recovered.backlogs[0].open, Some(transaction("t1", seq)));
    for mark in [delivered(ours, seq), begun(ours, "t2", seq)] {
        assert_eq!(sleeper.write(&[], &[mark]), Err(OutboxError::Fenced { partitions: 1 }));
    }
    // What it accepts is good: it goes to whose destination it is, after what that has accepted itself.
    accept(&mut successor, "two", std::slice::from_ref(ours));
    accept(&mut sleeper, "three", std::slice::from_ref(ours));
    successor.write(&[], &[delivered(ours, seq)]).unwrap();
    let news = successor.upkeep(NOON).unwrap().backlogs;
    assert_eq!(news.len(), 1);
    assert_eq!(texts(&read(&mut successor, ours, seq)), ["two", "three"]);
    // With its next upkeep it learns of its loss, and gets no share before the other lets go.
    assert_eq!(sleeper.upkeep(NOON).unwrap().owned, Some(Partitions::NONE));
}

/// Two accept for the same room at once. Each destination is told to one of them, in an order that does not
/// change any more once it was told.
#[test]
fn what_others_accept_never_stands_before_what_was_told() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let (mut second, _) = server.start_one();
    first.upkeep(NOON).unwrap();
    let mut owned = second.upkeep(NOON).unwrap();
    let room = names(50);
    let recovered = southbridge_words::Recovered {
        backlogs: std::mem::take(&mut owned.backlogs),
        owned: owned.owned.unwrap(),
    };
    let (seconds, firsts) = mine_and_theirs(&recovered, &room);
    let mut told: Vec<Seq> = Vec::new();
    for round in 0..20 {
        accept(&mut first, &format!("first {round}"), &room);
        let own = accept(&mut second, &format!("second {round}"), &room);
        // The owner appends to its stream itself, so nothing it does not know of stands before this.
        let unknown = read(&mut second, &seconds, told.last().copied().unwrap_or_default());
        assert_eq!(unknown.items.iter().map(|item| item.seq).collect::<Vec<_>>(), [own]);
        told.push(own);
        let news = second.upkeep(NOON).unwrap().backlogs;
        let of_seconds: Vec<_> = news.iter().filter(|backlog| backlog.destination == seconds).collect();
        assert_eq!(of_seconds.len(), 1, "the first one's item was taken over");
        assert!(of_seconds[0].last > own);
        told.push(of_seconds[0].last);
    }
    let all = read(&mut second, &seconds, Seq::START);
    assert_eq!(all.items.iter().map(|item| item.seq).collect::<Vec<_>>(), told);
    let of = |who: &str| {
        texts(&all).iter().filter(|it| it.starts_with(who)).map(|it| (*it).to_owned()).collect::<Vec<_>>()
    };
    for who in ["first", "second"] {
        assert_eq!(of(who), (0..20).map(|round| format!("{who} {round}")).collect::<Vec<_>>());
    }
    // And the other way round.
    first.upkeep(NOON).unwrap();
    assert_eq!(read(&mut first, &firsts, Seq::START).items.len(), 40);
    deliver_all(&mut first, &room);
    deliver_all(&mut second, &room);
    for _ in 0..3 {
        first.upkeep(NOON).unwrap();
        second.upkeep(NOON).unwrap();
    }
    for table in ["items", "inbox"] {
        let left = server.sql(&format!("SELECT count(*) FROM {table}")).unwrap();
        assert_eq!(left, "0", "{table}");
    }
}

fn deliver_all(outbox: &mut PostgresOutbox, room: &[ServerName]) {
    for name in room {
        let Some(last) = read(outbox, name, Seq::START).items.last().map(|item| item.seq) else { continue };
        match outbox.write(&[], &[delivered(name, last)]) {
            Ok(_) | Err(OutboxError::Fenced { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}

/// Accepted by one for a destination of another, which dies before it took that over: its successor does.
#[test]
fn what_waits_in_the_inbox_goes_to_the_successor() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let (mut second, _) = server.start_one();
    first.upkeep(NOON).unwrap();
    let upkeep = second.upkeep(NOON).unwrap();
    let owned = upkeep.owned.unwrap();
    let ours = names(50).into_iter().find(|name| owned.own(name)).unwrap();
    accept(&mut first, "one", std::slice::from_ref(&ours));
    accept(&mut second, "two", std::slice::from_ref(&ours));
    server.expire(second.process());
    let taken = first.upkeep(NOON).unwrap();
    assert_eq!(taken.owned, Some(Partitions::ALL));
    assert_eq!(taken.backlogs.iter().filter(|it| it.destination == ours).count(), 1);
    assert_eq!(texts(&read(&mut first, &ours, Seq::START)), ["two", "one"]);
}

/// The same handed in at two doors at once is accepted once.
#[test]
fn a_key_is_known_to_all() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let (mut second, _) = server.start_one();
    let keyed = southbridge_words::Append { key: Some("key".into()), ..append("text", &names(3)) };
    let appended = first.write(std::slice::from_ref(&keyed), &[]).unwrap();
    assert_eq!(appended, [Appended::New(Seq(1))]);
    assert_eq!(second.write(&[keyed.clone(), keyed], &[]).unwrap(), [Appended::Known(Seq(1)); 2]);
}

/// Four threads accept as fast as they can: positions are unique, and a stream has all of them in order.
#[test]
fn two_at_once_accept_without_a_gap_or_a_clash() {
    let server = Server::start();
    let (mut owner, _) = server.start_one();
    let room = names(3);
    std::thread::scope(|scope| {
        for door in 0..3 {
            let (server, room) = (&server, &room);
            scope.spawn(move || {
                let mut outbox = server.open();
                outbox.recover().unwrap();
                for number in 0..40 {
                    accept(&mut outbox, &format!("{door} {number:02}"), room);
                }
                outbox.close().unwrap();
            });
        }
        for number in 0..40 {
            accept(&mut owner, &format!("3 {number:02}"), &room);
            owner.upkeep(NOON).unwrap();
        }
    });
    owner.upkeep(NOON).unwrap();
    owner.upkeep(NOON).unwrap();
    for name in &room {
        let page = read(&mut owner, name, Seq::START);
        let all = texts(&page);
        assert_eq!(all.len(), 160);
        for door in 0..4 {
            let of_door: Vec<_> = all.iter().filter(|it| it.starts_with(&format!("{door} "))).collect();
            assert!(of_door.is_sorted(), "{of_door:?}");
            assert_eq!(of_door.len(), 40);
        }
    }
}

/// What one does for another is heard of at once, and what one does for itself rings nobody's bell but the others'.
#[test]
fn others_are_told_what_concerns_them() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let (rings, bell) = mpsc::sync_channel(100);
    first.listen(move || rings.try_send(()).unwrap()).unwrap();
    let heard = || bell.recv_timeout(Duration::from_secs(20)).unwrap();
    heard(); // It listens now.
    let (mut second, _) = server.start_one();
    heard(); // There is another: the first lets go of half.
    assert_eq!(first.news().unwrap().owned.unwrap().count(), 128);
    let owned = second.news().unwrap().owned.unwrap();
    assert_eq!(owned.count(), 128);
    heard(); // And the other has taken it.
    first.news().unwrap();
    let everybody = names(50);
    let theirs = everybody.iter().find(|name| owned.own(name)).unwrap();
    let ours = everybody.iter().find(|name| !owned.own(name)).unwrap();
    accept(&mut first, "for itself", std::slice::from_ref(ours));
    accept(&mut second, "for itself", std::slice::from_ref(theirs));
    accept(&mut second, "for the first", std::slice::from_ref(ours));
    heard();
    let news = first.news().unwrap();
    assert_eq!(news.backlogs.len(), 1);
    assert_eq!(texts(&read(&mut first, ours, Seq::START)), ["for itself", "for the first"]);
    assert!(bell.try_recv().is_err(), "it rang once for one thing");
    second.close().unwrap();
    heard();
    assert_eq!(first.news().unwrap().owned, Some(Partitions::ALL));
}

/// The ear finds its way back when the server was restarted, and says that something may have been missed.
#[test]
fn whoever_listens_listens_again_after_a_restart() {
    let mut server = Server::start();
    let (mut first, _) = server.start_one();
    let (rings, bell) = mpsc::sync_channel(100);
    first.listen(move || rings.try_send(()).unwrap()).unwrap();
    bell.recv_timeout(Duration::from_secs(20)).unwrap();
    server.crash_and_restart();
    bell.recv_timeout(Duration::from_secs(20)).unwrap();
    let _second = server.start_one();
    bell.recv_timeout(Duration::from_secs(20)).unwrap();
}

/// Strangers' names are not kept for ever: a name goes with the last set that has it, whoever remembers its number.
#[test]
fn a_name_that_nothing_refers_to_is_deleted() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let (mut second, _) = server.start_one();
    first.news().unwrap();
    second.news().unwrap();
    let hours = |hours: u64| NOON + Duration::from_secs(hours * 3600);
    let (strangers, away) = (names(20), name("away.test"));
    accept(&mut first, "one", &strangers);
    accept(&mut second, "two", &strangers);
    accept(&mut first, "kept", std::slice::from_ref(&away));
    let tidy = |first: &mut PostgresOutbox, second: &mut PostgresOutbox, at: u64| {
        first.upkeep(hours(at)).unwrap();
        second.upkeep(hours(at)).unwrap();
    };
    tidy(&mut first, &mut second, 0);
    deliver_all(&mut first, &strangers);
    deliver_all(&mut second, &strangers);
    for at in [1, 2, 3, 5, 6] {
        tidy(&mut first, &mut second, at);
    }
    assert_eq!(server.sql("SELECT name FROM destinations"), Some("away.test".to_owned()));
    assert_eq!((server.count("destinations"), server.count("progress"), server.count("sets")), (1, 0, 1));
    // Both had remembered the numbers; what they accept now is not for numbers that mean nothing.
    accept(&mut first, "three", &strangers);
    accept(&mut second, "four", &strangers);
    tidy(&mut first, &mut second, 6);
    for stranger in &strangers {
        let page = read(&mut first, stranger, Seq::START);
        let mut all = texts(&page);
        all.sort_unstable();
        assert_eq!(all, ["four", "three"], "{stranger}");
    }
}

/// A long inbox is taken over in parts. What the new owner accepts meanwhile itself does not overtake what it had accepted
/// for the dead one.
#[test]
fn what_one_has_accepted_stays_in_its_order_when_destinations_change_hands() {
    let server = Server::start();
    let (mut first, _) = server.start_one();
    let (mut second, _) = server.start_one();
    first.upkeep(NOON).unwrap();
    let owned = second.upkeep(NOON).unwrap().owned.unwrap();
    let theirs = names(50).into_iter().find(|name| owned.own(name)).unwrap();
    let one = std::slice::from_ref(&theirs);
    let many: Vec<_> = (0..5100).map(|number| append(format!("{number:04}"), one)).collect();
    first.write(&many, &[]).unwrap();
    server.expire(second.process());
    assert_eq!(first.upkeep(NOON).unwrap().owned, Some(Partitions::ALL));
    accept(&mut first, "5100", one);
    first.upkeep(NOON).unwrap();
    accept(&mut first, "5101", one);
    let page = first.read(&theirs, Seq::START, 9999, usize::MAX).unwrap();
    let all = texts(&page);
    assert_eq!(all.len(), 5102);
    assert!(all.is_sorted());
}
