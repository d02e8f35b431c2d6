//! How far each destination has come, on the disk: one row, whatever happens to it.

use rusqlite::{Connection, OptionalExtension, Row, params};
use southbridge_words::{OpenTransaction, Seq};

use super::checksum::Checksum;
use super::live::Cursors;
use super::trouble::{Done, Trouble};
use crate::ledger::{from_sql, to_sql};

/// Writes where `destination` stands.
pub(super) fn write(
    connection: &Connection,
    destination: u32,
    delivered: u64,
    open: Option<&OpenTransaction>,
) -> Done<()> {
    let delivered = delivered.cast_signed();
    let crc = crc(destination, delivered, open);
    connection.prepare_cached(UPSERT)?.execute(params![
        destination,
        delivered,
        open.map(|open| &*open.id),
        open.map(|open| to_sql(open.origin_server_ts)),
        open.map(|open| open.upto.0.cast_signed()),
        open.map(|open| &*open.volatile_edus),
        open.map(|open| open.body_hash.cast_signed()),
        crc,
    ])?;
    Ok(())
}

/// The open transaction of `destination`.
pub(super) fn open(connection: &Connection, destination: u32) -> Done<Option<OpenTransaction>> {
    let mut statement = connection.prepare_cached(SELECT)?;
    let row = statement.query_row([destination], |row| Ok(read(row))).optional()?;
    Ok(row.transpose()?.and_then(|(_, _, open)| open))
}

/// Reads where everybody stands.
pub(super) fn load(connection: &Connection) -> Done<Cursors> {
    let mut cursors = Cursors::default();
    let mut statement = connection.prepare(SELECT_ALL)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (destination, delivered, _) = read(row)?;
        cursors.set(destination, delivered);
    }
    cursors.keep();
    Ok(cursors)
}

/// Deletes the row of `destination`, before whose cursor there is nothing.
pub(super) fn delete(connection: &Connection, destination: u32) -> Done<bool> {
    let mut statement = connection.prepare_cached(DELETE)?;
    Ok(statement.execute([destination])? > 0)
}

fn read(row: &Row<'_>) -> Done<(u32, u64, Option<OpenTransaction>)> {
    let destination: u32 = row.get(0)?;
    let delivered: i64 = row.get(1)?;
    let open = match row.get::<_, Option<String>>(2)? {
        None => None,
        Some(id) => Some(OpenTransaction {
            id: id.into(),
            origin_server_ts: from_sql(row.get(3)?),
            upto: Seq(row.get::<_, i64>(4)?.cast_unsigned()),
            volatile_edus: row.get::<_, Vec<u8>>(5)?.into(),
            body_hash: row.get::<_, i64>(6)?.cast_unsigned(),
        }),
    };
    if row.get::<_, i64>(7)? != crc(destination, delivered, open.as_ref()) {
        let place = format!("progress of destination number {destination}");
        return Err(Trouble::damaged(place, "its checksum does not match"));
    }
    Ok((destination, delivered.cast_unsigned(), open))
}

fn crc(destination: u32, delivered: i64, open: Option<&OpenTransaction>) -> i64 {
    let crc = Checksum::of("progress").number(destination.into()).number(delivered);
    let Some(open) = open else { return crc.finish() };
    crc.bytes(open.id.as_bytes())
        .number(to_sql(open.origin_server_ts))
        .number(open.upto.0.cast_signed())
        .bytes(&open.volatile_edus)
        .number(open.body_hash.cast_signed())
        .finish()
}

const UPSERT: &str = "
    INSERT OR REPLACE INTO progress
    (destination, delivered, open_id, open_at, open_upto, open_edus, open_hash, crc)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const SELECT: &str = "
    SELECT destination, delivered, open_id, open_at, open_upto, open_edus, open_hash, crc
    FROM progress WHERE destination = ?1";
const SELECT_ALL: &str = "
    SELECT destination, delivered, open_id, open_at, open_upto, open_edus, open_hash, crc FROM progress";
const DELETE: &str = "DELETE FROM progress WHERE destination = ?1 AND open_id IS NULL";
