//! Faults row 20: the disk takes what is written, and fails when it is asked to keep it.
//!
//! A filter of the system (seccomp) answers every fsync and fdatasync of this thread with EIO, as a disk does that could not write
//! its cache out. What was written may be there, or not: nobody knows, and asking again would be told a lie, because the
//! system counts a failed page as clean from then on. So the outbox must not be used again by this process.
#![cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::collections::BTreeMap;

use kit::{accept, append, file, name, open, read};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use southbridge_words::{Mark, Outbox, OutboxError, Seq};

/// From now on no sync of this thread succeeds.
fn fail_syncs() {
    let rules = BTreeMap::from([(libc::SYS_fsync, Vec::new()), (libc::SYS_fdatasync, Vec::new())]);
    let eio = SeccompAction::Errno(u32::try_from(libc::EIO).unwrap());
    let here = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eio, here).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

/// One write is accepted, and the sync of the next one fails. It is an error and no acceptance, nothing is accepted after it, not
/// even what would need no room, and after a restart everything accepted is there.
#[test]
fn row_20_a_failed_fsync_is_the_end_until_a_restart() {
    let (_directory, path) = file();
    let place = path.clone();
    let until_the_end = std::thread::spawn(move || {
        let mut outbox = open(&place);
        let accepted = accept(&mut outbox, "kept", &["a.example.org"]);
        fail_syncs();
        let to = [name("a.example.org")].into();
        for text in ["perhaps", "surely not"] {
            let failed = outbox.write(&[append(text, &to)], &[]);
            assert!(matches!(failed, Err(OutboxError::Failed { .. })), "{text}: {failed:?}");
        }
        let mark = Mark::Delivered { destination: name("a.example.org"), upto: accepted };
        assert!(matches!(outbox.write(&[], &[mark]), Err(OutboxError::Failed { .. })));
        assert!(matches!(outbox.recover(), Err(OutboxError::Failed { .. })));
    });
    until_the_end.join().unwrap();
    let mut outbox = open(&path);
    let held: Vec<_> = read(&mut outbox, "a.example.org", Seq::START).items;
    assert_eq!(held[0].bytes, "kept");
    assert!(held.len() <= 2 && held.get(1).is_none_or(|item| item.bytes == "perhaps"), "{held:?}");
    accept(&mut outbox, "and on it goes", &["a.example.org"]);
}
