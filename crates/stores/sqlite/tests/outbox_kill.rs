//! Faults row 19: the process is killed at any instant, again and again.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use kit::{append, file, name, open};
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_words::{Append, Appended, Mark, OpenTransaction, Outbox, Seq};

/// Thirty times a process that writes as fast as it can is killed, a little later each time. What it was told
/// to be accepted is there, nothing is there in part, and no position stands for two things.
#[test]
fn row_19_a_kill_at_any_instant_loses_nothing_that_was_accepted() {
    if let Some(path) = std::env::var_os(WRITER) {
        write_until_killed(Path::new(&path));
    }
    let (_directory, path) = file();
    let mut told = 0;
    for round in 0..30_u64 {
        told = told.max(killed_after(&path, 1 + round * round % 40));
        let mut outbox = open(&path);
        let page = outbox.read(&name("a.test"), Seq::START, 10_000, usize::MAX).unwrap();
        let seqs: Vec<_> = page.items.iter().map(|item| item.seq.0).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        assert!(seqs.len() as u64 >= told, "{told} were accepted, {} are there", seqs.len());
        for item in &page.items {
            assert_eq!(item.bytes, text(item.seq.0), "its own bytes, all of them");
        }
        let backlogs = outbox.recover().unwrap().backlogs;
        let open = backlogs[0].open.clone().unwrap();
        assert_eq!((open.body_hash, open.id.to_string()), (open.upto.0 * 7, format!("t{}", open.upto.0)));
        assert!(seqs.len() % 3 == 0, "three were written at a time: all of them or none");
    }
    assert!(told > 100, "{told}");
}

/// Runs the writer below, which is the test once more, kills it `answers` answers later, and says how many items it was told to have.
fn killed_after(path: &Path, answers: u64) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "row_19_a_kill_at_any_instant_loses_nothing_that_was_accepted", "--nocapture"])
        .env(WRITER, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut told = lines.filter_map(|line| line.strip_prefix("accepted ")?.parse().ok());
    let mut last = told.by_ref().take(answers as usize).last().unwrap_or(0);
    writer.kill().unwrap();
    // Answers that were under way when it was killed count as well.
    last = told.last().unwrap_or(last);
    writer.wait().unwrap();
    last
}

/// The process that is killed.
fn write_until_killed(path: &Path) -> ! {
    let options = OutboxOptions { lock_wait: Duration::from_secs(60), ..OutboxOptions::default() };
    let mut outbox = SqliteOutbox::open(path, &options).unwrap();
    let backlogs = outbox.recover().unwrap().backlogs;
    let mut last = backlogs.first().map_or(0, |backlog| backlog.last.0);
    let mut out = std::io::stdout();
    loop {
        let upto = last + 3;
        let appends: Vec<Append> =
            (last + 1..=upto).map(|seq| append(text(seq), &[name("a.test")].into())).collect();
        let begun = Mark::Begun {
            destination: name("a.test"),
            transaction: OpenTransaction {
                id: format!("t{upto}").into(),
                body_hash: upto * 7,
                ..kit::transaction("", Seq(upto))
            },
        };
        let appended = outbox.write(&appends, &[begun]).unwrap();
        assert_eq!(appended[2], Appended::New(Seq(upto)));
        last = upto;
        writeln!(out, "accepted {last}").unwrap();
        out.flush().unwrap();
    }
}

/// In the process that is killed: the file it writes to.
const WRITER: &str = "OUTBOX_WRITER";

/// The bytes of item `seq`: some fit into a page, some do not.
fn text(seq: u64) -> Vec<u8> {
    format!("{seq};").repeat(1 + seq as usize * 37 % 2000).into_bytes()
}
