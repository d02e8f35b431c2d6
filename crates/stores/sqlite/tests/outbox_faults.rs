//! Faults row 20: the disk is full, read-only, broken, or lies. Each has its outcome, and none of them is that
//! something accepted is silently lost or something else is delivered.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use kit::{
    NOON, accept, append, delivered, file, name, names, open, options, read, refused, tamper, transaction,
};
use southbridge_store_sqlite::{RankStore, RankStoreOptions, SqliteOutbox, StoreError};
use southbridge_words::{Append, Backlog, Item, Mark, Outbox, OutboxError, Seq};

/// Runs `inside` in a process of its own, which is this `test` once more, within `script`, which gets it as `"$@"`.
/// Where this system lets nobody have a namespace of their own it is not run, and says so.
fn within(script: &str, test: &str, inside: fn()) {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let unshare = |arguments: &[&str]| {
        Command::new("unshare").args(["-Urm", "sh", "-euc"]).args(arguments).env(INSIDE, "yes").output()
    };
    let possible = unshare(&["mount -t tmpfs none /mnt"]).is_ok_and(|output| output.status.success());
    if !possible {
        println!("not run: there is no unshare(1), or it may not make namespaces");
        return;
    }
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let output = unshare(&[script, "sh", this, "--exact", test, "--nocapture"]).unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
}

/// Set in the process within.
const INSIDE: &str = "OUTBOX_FAULT";

/// A disk of 12 MB fills up: what is new is refused with a typed error, what was accepted can be read and
/// delivered, and when somebody makes room it goes on by itself.
#[test]
fn row_20_a_full_disk_refuses_what_is_new_and_goes_on_when_there_is_room() {
    within(
        "mount -t tmpfs -o size=12m none /mnt; exec \"$@\"",
        "row_20_a_full_disk_refuses_what_is_new_and_goes_on_when_there_is_room",
        on_a_disk_of_twelve_megabytes,
    );
}

fn on_a_disk_of_twelve_megabytes() {
    let (path, other) = (Path::new("/mnt/southbridge.db"), Path::new("/mnt/photographs"));
    fs::write(other, vec![1; 1_000_000]).unwrap();
    let mut outbox = open(path);
    let (item, accepted) = fill(&mut outbox);
    let many: Vec<_> = (0..10).map(|_| item.clone()).collect();
    assert!(matches!(outbox.write(&many, &[]), Err(OutboxError::Full { .. })));
    assert_eq!(read(&mut outbox, "s1.example.org", Seq::START).items.len(), accepted);
    fs::remove_file(other).unwrap();
    outbox.write(&[item], &[]).unwrap();
    drop(outbox);
    let page = read(&mut open(path), "s2.example.org", Seq::START);
    assert_eq!(page.items.len(), accepted + 1, "nothing of what was refused turned up");
}

/// Nobody makes room: what was accepted is delivered all the same, which needs to be written down, and the room
/// that this frees is used for what is new.
#[test]
fn row_20_a_full_disk_is_emptied_by_delivering() {
    within(
        "mount -t tmpfs -o size=12m none /mnt; exec \"$@\"",
        "row_20_a_full_disk_is_emptied_by_delivering",
        on_a_disk_that_stays_full,
    );
}

fn on_a_disk_that_stays_full() {
    let mut outbox = open(Path::new("/mnt/southbridge.db"));
    let (item, accepted) = fill(&mut outbox);
    // The last bytes go to somebody else.
    let mut others = fs::File::create("/mnt/log").unwrap();
    while others.write(&[1; 4096]).is_ok() {}
    for seq in 1..=accepted as u64 {
        for name in names(3).iter() {
            let begun = Mark::Begun { destination: name.clone(), transaction: transaction("t", Seq(seq)) };
            outbox.write(&[], &[begun]).unwrap();
            outbox.write(&[], &[delivered(name.as_str(), Seq(seq))]).unwrap();
        }
        if seq == 1 {
            let refused = outbox.write(std::slice::from_ref(&item), &[]);
            assert!(matches!(refused, Err(OutboxError::Full { .. })), "{refused:?}");
        }
        outbox.upkeep(NOON).unwrap();
    }
    outbox.write(&[item], &[]).unwrap();
}

/// Accepts until there is no room; the item that does not fit, and how many did.
fn fill(outbox: &mut SqliteOutbox) -> (Append, usize) {
    let item = append(vec![b'x'; 50_000], &names(3));
    let mut accepted = 0;
    loop {
        match outbox.write(std::slice::from_ref(&item), &[]) {
            Ok(_) => accepted += 1,
            Err(OutboxError::Full { .. }) => break,
            Err(other) => panic!("{other}"),
        }
        assert!(accepted < 300);
    }
    assert!(accepted > 20, "{accepted}");
    (item, accepted)
}

/// A write is refused by the system in the middle (here: the file may not grow beyond 300 kB). What is on
/// the disk is not known then: the outbox never says yes again, and a restart finds all that was accepted.
#[test]
fn row_20_a_failed_write_is_the_end_until_a_restart() {
    let script = "mount -t tmpfs none /mnt; trap '' XFSZ; ulimit -f 600; exec \"$@\"";
    within(script, "row_20_a_failed_write_is_the_end_until_a_restart", with_files_that_may_not_grow);
}

fn with_files_that_may_not_grow() {
    let path = Path::new("/mnt/southbridge.db");
    let mut outbox = open(path);
    let item = append(vec![b'x'; 20_000], &names(3));
    let accepted = (0..100).take_while(|_| outbox.write(std::slice::from_ref(&item), &[]).is_ok()).count();
    assert!((2..99).contains(&accepted), "{accepted}");
    let small = append("small", &names(1));
    let again = outbox.write(&[small], &[]);
    assert!(matches!(again, Err(OutboxError::Failed { .. })), "{again:?}");
    assert!(matches!(outbox.recover(), Err(OutboxError::Failed { .. })));
    assert!(matches!(outbox.upkeep(NOON), Err(OutboxError::Failed { .. })));
    drop(outbox);
    assert_eq!(read(&mut open(path), "s0.example.org", Seq::START).items.len(), accepted);
}

/// The file system was mounted read-only, after an error, say: the start says so.
#[test]
fn row_20_a_read_only_disk_is_named_at_the_start() {
    let script = "mount -t tmpfs none /mnt; \"$@\"; mount -o remount,ro /mnt; exec \"$@\"";
    within(script, "row_20_a_read_only_disk_is_named_at_the_start", on_a_disk_that_became_read_only);
}

fn on_a_disk_that_became_read_only() {
    let path = Path::new("/mnt/southbridge.db");
    match SqliteOutbox::open(path, &options()) {
        Ok(mut outbox) => drop(accept(&mut outbox, "one", &["a.test"])),
        Err(error) => assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}"),
    }
}

/// A damaged file holds promises: it is never begun anew, neither by the outbox nor by the ranks alone, and
/// the error says what can be done.
#[test]
fn row_20_a_damaged_outbox_is_left_as_it_is() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    outbox.write(&vec![append(vec![b'x'; 1000], &names(200)); 100], &[]).unwrap();
    outbox.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..12288].fill(0xa5);
    fs::write(&path, &bytes).unwrap();
    let error = refused(&path);
    assert!(matches!(error, StoreError::DamagedOutbox { .. }), "{error:?}");
    assert!(error.to_string().contains("restore it"), "{error}");
    let ranks = RankStore::open(&path, &RankStoreOptions::default(), NOON).map(|_| ()).unwrap_err();
    assert!(matches!(ranks, StoreError::DamagedOutbox { .. }), "{ranks:?}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let aside = SqliteOutbox::set_aside(&path, NOON).unwrap();
    assert_eq!(fs::read(&aside).unwrap(), bytes, "an operator may decide so");
    assert_eq!(open(&path).recover().unwrap().backlogs, []);
}

/// An item's bytes, its destination's name, the list of its set or a cursor changed on the disk.
#[test]
fn row_20_a_checksum_finds_what_changed() {
    for change in [
        "UPDATE items SET bytes = CAST('y' AS BLOB)",
        "UPDATE items SET kind = 2",
        "UPDATE items SET accepted_at = accepted_at + 1",
        "UPDATE items SET seq = seq + 10",
        "UPDATE destinations SET name = 'evil.test'",
        "UPDATE sets SET members = x'05'",
        "UPDATE progress SET delivered = 1",
        "UPDATE progress SET open_id = 't2'",
        "UPDATE outbox SET last_seq = 0",
        "DELETE FROM items WHERE seq = 1",
        "DELETE FROM items WHERE seq = 2",
        "PRAGMA foreign_keys = off; DELETE FROM sets",
    ] {
        let (_directory, path) = file();
        let mut outbox = open(&path);
        accept(&mut outbox, "x", &["a.test"]);
        accept(&mut outbox, "x", &["a.test"]);
        let begun = Mark::Begun { destination: name("a.test"), transaction: transaction("t1", Seq(1)) };
        outbox.write(&[], &[begun]).unwrap();
        outbox.close().unwrap();
        tamper(&path, change);
        let outcome = everything(&path);
        assert!(outcome.is_err(), "{change}: {outcome:?}");
    }
}

/// A block was written to another's place, as a broken controller does it.
#[test]
fn row_20_a_block_in_the_wrong_place_is_found() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    for number in 0..60 {
        accept(&mut outbox, &format!("{number:04}").repeat(400), &["a.test"]);
    }
    outbox.close().unwrap();
    let before = everything(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let pages = good.len() / 4096;
    for (from, to) in (1..pages).map(|page| (page, 1 + page % (pages - 1))).filter(|(from, to)| from != to) {
        let mut bytes = good.clone();
        bytes.copy_within(from * 4096..(from + 1) * 4096, to * 4096);
        fs::write(&path, &bytes).unwrap();
        if let Ok(after) = everything(&path) {
            assert!(after == before, "page {from} over page {to}: {after:?}");
        }
    }
}

/// Any one bit of the file flips. Either everything is as it was, or there is an error; never is something
/// missing or different without a word.
#[test]
fn row_20_no_flipped_bit_goes_unnoticed() {
    let (_directory, path) = file();
    let mut outbox = open(&path);
    for number in 0..40 {
        let room = format!("r{}.test", number % 5);
        accept(&mut outbox, &format!("message {number}"), &["a.test", "b.test", &room]);
    }
    let begun = Mark::Begun { destination: name("a.test"), transaction: transaction("t1", Seq(9)) };
    outbox.write(&[], &[delivered("b.test", Seq(20)), begun]).unwrap();
    outbox.close().unwrap();
    let before = everything(&path).unwrap();
    let good = fs::read(&path).unwrap();
    let mut noticed = 0;
    for step in 0..1200_usize {
        // A fixed walk over the bits; prime, so that it visits all pages and columns.
        let bit = (step * 104_729 + step * step * 31) % (good.len() * 8);
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        match everything(&path) {
            Ok(after) if after != before => {
                let odd: Vec<_> = after.iter().zip(&before).filter(|(a, b)| a != b).collect();
                panic!("bit {} of byte {}: {odd:?}", bit % 8, bit / 8)
            }
            Ok(_) => {}
            Err(_) => noticed += 1,
        }
    }
    assert!(noticed > 50, "{noticed}");
}

/// What there is for everybody, or what is wrong.
fn everything(path: &Path) -> Result<Vec<(Backlog, Vec<Item>)>, String> {
    for log in ["-wal", "-journal"] {
        let _ = fs::remove_file(format!("{}{log}", path.display()));
    }
    let mut outbox = SqliteOutbox::open(path, &options()).map_err(|error| error.to_string())?;
    let mut backlogs = outbox.recover().map_err(|error| error.to_string())?.backlogs;
    backlogs.sort_by(|a, b| a.destination.cmp(&b.destination));
    let mut all = Vec::new();
    for backlog in backlogs {
        let page = outbox.read(&backlog.destination, backlog.delivered, 1000, usize::MAX);
        let page = page.map_err(|error| error.to_string())?;
        if page.more {
            return Err("the rest is damaged".to_owned());
        }
        all.push((backlog, page.items));
    }
    Ok(all)
}
