//! Destinations by name and by number.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, params};
use southbridge_words::ServerName;

use super::checksum::Checksum;
use super::trouble::{Done, Trouble};

/// The numbers of destinations, the recently used ones in memory.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Names are chosen by strangers, so the hash is seeded.
    ids: HashMap<ServerName, u32>,
}

impl Names {
    /// The number of `name`, a new one if need be.
    pub(super) fn id(&mut self, connection: &Connection, name: &ServerName) -> Done<u32> {
        if let Some(id) = self.known(connection, name)? {
            return Ok(id);
        }
        connection.prepare_cached(INSERT_NAME)?.execute([name.as_str()])?;
        let id: i64 = connection.prepare_cached(SELECT_ID)?.query_row([name.as_str()], |row| row.get(0))?;
        connection.prepare_cached(INSERT_RECIPIENT)?.execute(params![id, crc(id, name.as_str())])?;
        self.remember(name, id)
    }

    /// The number of `name`, if the outbox ever had something for it.
    pub(super) fn known(&mut self, connection: &Connection, name: &ServerName) -> Done<Option<u32>> {
        if let Some(id) = self.ids.get(name) {
            return Ok(Some(*id));
        }
        let row = connection
            .prepare_cached(SELECT_RECIPIENT)?
            .query_row([name.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        match row {
            None => Ok(None),
            Some((id, sum)) if sum == crc(id, name.as_str()) => self.remember(name, id).map(Some),
            Some(_) => Err(Trouble::damaged(format!("destination {name}"), CHECKSUM)),
        }
    }

    /// The name of destination `id`.
    pub(super) fn name(connection: &Connection, id: u32) -> Done<ServerName> {
        let row = connection
            .prepare_cached(SELECT_NAME)?
            .query_row([id], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        let place = || format!("destination number {id}");
        let (name, sum) = row.ok_or_else(|| Trouble::damaged(place(), "its name is missing"))?;
        if sum != crc(id.into(), &name) {
            return Err(Trouble::damaged(place(), CHECKSUM));
        }
        ServerName::parse(&name).map_err(|_| Trouble::damaged(place(), "its name is no server name"))
    }

    /// Forgets what a write brought that came to nothing.
    pub(super) fn forget(&mut self) {
        self.ids.clear();
    }

    fn remember(&mut self, name: &ServerName, id: i64) -> Done<u32> {
        let id = u32::try_from(id)
            .map_err(|_| Trouble::damaged(format!("destination {name}"), "its number is out of range"))?;
        if self.ids.len() >= NAMES_MAX {
            self.ids.clear();
        }
        self.ids.insert(name.clone(), id);
        Ok(id)
    }
}

fn crc(id: i64, name: &str) -> i64 {
    Checksum::of("recipients").number(id).bytes(name.as_bytes()).finish()
}

const INSERT_NAME: &str = "INSERT INTO destinations (name) VALUES (?1) ON CONFLICT DO NOTHING";
const INSERT_RECIPIENT: &str = "INSERT INTO recipients (destination, crc) VALUES (?1, ?2)";
const SELECT_ID: &str = "SELECT id FROM destinations WHERE name = ?1";
const SELECT_RECIPIENT: &str =
    "SELECT id, crc FROM destinations JOIN recipients ON destination = id WHERE name = ?1";
const SELECT_NAME: &str =
    "SELECT name, crc FROM destinations JOIN recipients ON destination = id WHERE id = ?1";
const CHECKSUM: &str = "its checksum does not match";
// Twenty thousand servers are a large federation; looking one up again costs a few microseconds.
const NAMES_MAX: usize = 50_000;
