//! Whatever is done to it, the outbox on a disk is the one in the books: the model of the testkit.

#![allow(clippy::unwrap_used, reason = "these are tests, their helpers included")]

mod kit;

use std::sync::Arc;

use kit::{NOON, file, name, open, rows, transaction};
use proptest::prelude::*;
use southbridge_store_sqlite::SqliteOutbox;
use southbridge_testkit::memory_outbox::{MemoryDisk, MemoryOutbox};
use southbridge_words::{Append, ItemKind, Mark, Outbox, OutboxError, Page, Recovered, Seq, ServerName};

/// Something done to both.
#[derive(Clone, Debug)]
enum Deed {
    Write(Vec<Item>, Vec<Step>),
    Read { who: usize, after: u64, items_max: usize, bytes_max: usize },
    Upkeep,
    Reopen,
}

#[derive(Clone, Debug)]
struct Item {
    /// A bit for each of the destinations.
    whom: u8,
    size: usize,
    key: Option<u8>,
}

#[derive(Clone, Debug)]
struct Step {
    who: usize,
    kind: u8,
    upto: u64,
}

const WHO: [&str; 6] = ["a.test", "b.test", "c.test:8448", "d.test", "[::1]", "f.test"];

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let item = (1..64_u8, 0..300_usize, prop::option::weighted(0.3, 0..12_u8))
        .prop_map(|(whom, size, key)| Item { whom, size, key });
    let step = (0..6_usize, 0..4_u8, 0..60_u64).prop_map(|(who, kind, upto)| Step { who, kind, upto });
    let write = (prop::collection::vec(item, 0..5), prop::collection::vec(step, 0..3));
    let read = (0..6_usize, 0..60_u64, 0..6_usize, 0..800_usize);
    let deed = prop_oneof![
        6 => write.prop_map(|(items, steps)| Deed::Write(items, steps)),
        4 => read.prop_map(|(who, after, items_max, bytes_max)| Deed::Read { who, after, items_max, bytes_max }),
        2 => Just(Deed::Upkeep),
        1 => Just(Deed::Reopen),
    ];
    prop::collection::vec(deed, 1..40)
}

fn append(item: &Item) -> Append {
    let members = WHO.iter().enumerate().filter(|(bit, _)| item.whom >> bit & 1 == 1);
    Append {
        kind: if item.size.is_multiple_of(3) { ItemKind::Edu } else { ItemKind::Pdu },
        bytes: vec![b'x'; item.size].into(),
        destinations: members.map(|(_, it)| name(it)).collect::<Vec<ServerName>>().into(),
        accepted_at: NOON,
        key: item.key.map(|key| Arc::from(format!("key {key}"))),
    }
}

fn mark(step: &Step) -> Mark {
    let (destination, upto) = (name(WHO[step.who]), Seq(step.upto));
    match step.kind {
        0 => Mark::Begun { destination, transaction: transaction(&format!("t{upto}"), upto) },
        1 => Mark::Withdrawn { destination },
        2 => Mark::Dropped { destination, upto },
        _ => Mark::Delivered { destination, upto },
    }
}

/// What is found after a restart, in order, and for each destination what it has still to be given. How far it has come
/// counts by that alone: a name that nothing refers to is forgotten, and begins anew.
fn recovered(outbox: &mut impl Outbox) -> Result<(Recovered, Vec<Page>), OutboxError> {
    let mut recovered = outbox.recover()?;
    recovered.backlogs.sort_by(|a, b| a.destination.cmp(&b.destination));
    let left = recovered.backlogs.iter_mut().map(|backlog| {
        let delivered = std::mem::replace(&mut backlog.delivered, Seq(0));
        outbox.read(&backlog.destination, delivered, usize::MAX, usize::MAX)
    });
    let left = left.collect::<Result<_, _>>()?;
    Ok((recovered, left))
}

fn same(outbox: &mut SqliteOutbox, model: &mut MemoryOutbox, deed: &Deed) {
    match deed {
        Deed::Write(items, steps) => {
            let appends: Vec<_> = items.iter().map(append).collect();
            let marks: Vec<_> = steps.iter().map(mark).collect();
            assert_eq!(outbox.write(&appends, &marks), model.write(&appends, &marks));
        }
        Deed::Read { who, after, items_max, bytes_max } => {
            let (who, after) = (name(WHO[*who]), Seq(*after));
            let page = outbox.read(&who, after, *items_max, *bytes_max);
            assert_eq!(page, model.read(&who, after, *items_max, *bytes_max));
        }
        Deed::Upkeep => assert_eq!(outbox.upkeep(NOON), model.upkeep(NOON)),
        Deed::Reopen => {}
    }
    assert_eq!(recovered(outbox), recovered(model));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Writes, reads, upkeep and restarts in any order: what is answered is what the model answers, and when
    /// everybody has everything, nothing is kept.
    #[test]
    fn the_outbox_does_what_the_model_does(deeds in deeds()) {
        let (_directory, path) = file();
        let disk = MemoryDisk::default();
        let (mut outbox, mut model) = (open(&path), MemoryOutbox::open(&disk));
        for deed in &deeds {
            if matches!(deed, Deed::Reopen) {
                outbox.close().unwrap();
                (outbox, model) = (open(&path), MemoryOutbox::open(&disk));
            }
            same(&mut outbox, &mut model, deed);
        }
        let all: Vec<_> = WHO.iter().map(|it| kit::delivered(it, Seq(u64::MAX >> 1))).collect();
        same(&mut outbox, &mut model, &Deed::Upkeep);
        outbox.write(&[], &all).unwrap();
        outbox.upkeep(NOON).unwrap();
        outbox.close().unwrap();
        prop_assert_eq!(rows(&path, "items"), 0);
    }
}
