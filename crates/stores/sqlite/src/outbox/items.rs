//! Items on the disk.

use rusqlite::{Connection, OptionalExtension, params};
use southbridge_words::{Append, Item, ItemKind, Seq};

use super::checksum::Checksum;
use super::trouble::{Done, Trouble};
use crate::ledger::{from_sql, to_sql};

/// An item and what ties it to its place.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) item: Item,
    /// The item before it for the same set; zero when there was none any more.
    pub(super) prev: u64,
}

/// Writes an item for `set`, after `prev`.
pub(super) fn insert(connection: &Connection, seq: u64, set: u32, prev: u64, append: &Append) -> Done<()> {
    let (kind, accepted_at) = (code(append.kind), to_sql(append.accepted_at));
    let [seq, prev] = [seq, prev].map(u64::cast_signed);
    let crc = crc([seq, set.into(), prev, kind, accepted_at], &append.bytes);
    let mut statement = connection.prepare_cached(INSERT)?;
    statement.execute(params![seq, set, prev, kind, accepted_at, crc, &*append.bytes])?;
    Ok(())
}

/// Reads item `seq`, which is one of `set`.
pub(super) fn read(connection: &Connection, seq: u64, set: u32) -> Done<Stored> {
    let row = connection
        .prepare_cached(SELECT)?
        .query_row([seq.cast_signed()], |row| {
            let numbers: [i64; 4] = [row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?];
            Ok((numbers, row.get::<_, i64>(4)?, row.get::<_, Vec<u8>>(5)?))
        })
        .optional()?;
    let damaged = |reason| Trouble::damaged(format!("item s{seq}"), reason);
    let ([found, prev, kind, accepted_at], sum, bytes) = row.ok_or_else(|| damaged("it is missing"))?;
    if sum != crc([seq.cast_signed(), found, prev, kind, accepted_at], &bytes) {
        return Err(damaged("its checksum does not match"));
    }
    if found != i64::from(set) {
        return Err(damaged("the index names it for others than it is for"));
    }
    let kind = kind_of(kind).ok_or_else(|| damaged("its kind is not known"))?;
    let accepted_at = from_sql(accepted_at);
    let item = Item { seq: Seq(seq), kind, bytes: bytes.into(), accepted_at };
    Ok(Stored { item, prev: prev.cast_unsigned() })
}

/// The first item of `set` after `after`.
pub(super) fn next(connection: &Connection, set: u32, after: u64) -> Done<Option<u64>> {
    let mut statement = connection.prepare_cached(NEXT)?;
    let seq: Option<i64> = statement.query_row(params![set, after.cast_signed()], |row| row.get(0))?;
    Ok(seq.map(i64::cast_unsigned))
}

/// How many items of `set` stand after `after` and up to `upto`.
pub(super) fn count(connection: &Connection, set: u32, after: u64, upto: u64) -> Done<u64> {
    let mut statement = connection.prepare_cached(COUNT)?;
    let parameters = params![set, after.cast_signed(), i64::try_from(upto).unwrap_or(i64::MAX)];
    let count: i64 = statement.query_row(parameters, |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Deletes the items of `set` up to `upto`, the first `count_max` of them; says how many those were.
pub(super) fn delete(connection: &Connection, set: u32, upto: u64, count_max: usize) -> Done<usize> {
    let mut statement = connection.prepare_cached(DELETE)?;
    let count_max = i64::try_from(count_max).unwrap_or(i64::MAX);
    Ok(statement.execute(params![set, upto.cast_signed(), count_max])?)
}

/// The sets that have items, each with its first and its last; and how many items there are in all.
pub(super) type List = (Vec<(u32, u64, u64)>, u64);

/// The list of all items by set. It must ascend, because whatever looks something up in it trusts that.
pub(super) fn list(connection: &Connection) -> Done<List> {
    let mut statement = connection.prepare(LIST)?;
    let mut rows = statement.query([])?;
    let mut sets: Vec<(u32, u64, u64)> = Vec::new();
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let (set, seq) = (row.get::<_, u32>(0)?, row.get::<_, i64>(1)?.cast_unsigned());
        count += 1;
        match sets.last_mut() {
            Some((current, _, last)) if *current == set && *last < seq => *last = seq,
            Some((current, ..)) if *current >= set => {
                return Err(Trouble::damaged("the list of items", "it is out of order"));
            }
            _ => sets.push((set, seq, seq)),
        }
    }
    Ok((sets, count))
}

/// The first item of all from `from` on: its position, when it was accepted, its size in bytes.
pub(super) fn first_from(connection: &Connection, from: u64) -> Done<Option<(u64, i64, usize)>> {
    let mut statement = connection.prepare_cached(FIRST_FROM)?;
    let row = statement
        .query_row([from.cast_signed()], |row| {
            Ok((row.get::<_, i64>(0)?, row.get(1)?, row.get::<_, i64>(2)?))
        })
        .optional()?;
    Ok(row.map(|(seq, accepted_at, bytes)| {
        (seq.cast_unsigned(), accepted_at, usize::try_from(bytes).unwrap_or(0))
    }))
}

fn crc(numbers: [i64; 5], bytes: &[u8]) -> i64 {
    numbers.into_iter().fold(Checksum::of("items"), Checksum::number).bytes(bytes).finish()
}

const fn code(kind: ItemKind) -> i64 {
    match kind {
        ItemKind::Pdu => 1,
        ItemKind::Edu => 2,
    }
}

const fn kind_of(code: i64) -> Option<ItemKind> {
    match code {
        1 => Some(ItemKind::Pdu),
        2 => Some(ItemKind::Edu),
        _ => None,
    }
}

const INSERT: &str = "
    INSERT INTO items (seq, set_id, prev, kind, accepted_at, crc, bytes)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const SELECT: &str = "SELECT set_id, prev, kind, accepted_at, crc, bytes FROM items WHERE seq = ?1";
const LIST: &str = "SELECT set_id, seq FROM items INDEXED BY items_by_set ORDER BY set_id, seq";
const NEXT: &str = "SELECT min(seq) FROM items WHERE set_id = ?1 AND seq > ?2";
const COUNT: &str = "SELECT count(*) FROM items WHERE set_id = ?1 AND seq > ?2 AND seq <= ?3";
const DELETE: &str = "
    DELETE FROM items WHERE seq IN
    (SELECT seq FROM items WHERE set_id = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)";
const FIRST_FROM: &str =
    "SELECT seq, accepted_at, length(bytes) FROM items WHERE seq >= ?1 ORDER BY seq LIMIT 1";
