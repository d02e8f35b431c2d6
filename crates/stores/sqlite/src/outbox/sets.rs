//! Sets of destinations, each kept once.
//!
//! Rooms repeat their sets, and callers often hand in the very same list again; so a set is looked for by
//! the address of the list, then by its hash in memory, then on the disk.

use std::fmt;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use rustc_hash::FxHashMap;
use southbridge_words::ServerName;

use super::checksum::Checksum;
use super::members;
use super::names::Names;
use super::trouble::{Done, Trouble};

/// A set that is on the disk.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) id: u32,
    /// The numbers of its destinations, ascending.
    pub(super) members: Arc<[u32]>,
}

/// The sets used lately.
#[derive(Default)]
pub(super) struct Sets {
    /// By the hash of their members. Numbers are ours, so nobody else chooses hashes.
    recent: FxHashMap<u64, Set>,
    recent_members: usize,
    /// By the address of the list that was handed in, which is held so that the address stays its own.
    lists: FxHashMap<usize, (Arc<[ServerName]>, Set)>,
    listed_names: usize,
    /// How many were written by the transaction under way.
    inserted: u64,
}

impl Sets {
    /// How many were written since this was asked last.
    pub(super) fn take_inserted(&mut self) -> u64 {
        std::mem::take(&mut self.inserted)
    }

    /// The set of `destinations`, written if need be.
    pub(super) fn of(
        &mut self,
        connection: &Connection,
        names: &mut Names,
        destinations: &Arc<[ServerName]>,
    ) -> Done<Set> {
        let address = destinations.as_ptr() as usize;
        if let Some((list, set)) = self.lists.get(&address)
            && list.len() == destinations.len()
        {
            return Ok(set.clone());
        }
        let ids: Done<Vec<_>> = destinations.iter().map(|name| names.id(connection, name)).collect();
        let mut ids = ids?;
        ids.sort_unstable();
        ids.dedup();
        let set = self.of_ids(connection, ids)?;
        self.remember_list(address, destinations, &set);
        Ok(set)
    }

    /// Forgets what a write brought that came to nothing, or what was deleted.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn of_ids(&mut self, connection: &Connection, ids: Vec<u32>) -> Done<Set> {
        let encoded = members::encode(&ids);
        let hash = members::hash(&encoded);
        if let Some(set) = self.recent.get(&hash)
            && *set.members == *ids
        {
            return Ok(set.clone());
        }
        let id = match find(connection, hash, &encoded)? {
            Some(id) => id,
            None => {
                self.inserted += 1;
                insert(connection, hash, &encoded)?
            }
        };
        let set = Set { id, members: ids.into() };
        self.remember(hash, &set);
        Ok(set)
    }

    fn remember(&mut self, hash: u64, set: &Set) {
        if self.recent_members > MEMBERS_MAX || self.recent.len() > SETS_MAX {
            self.recent.clear();
            self.recent_members = 0;
        }
        self.recent_members += set.members.len();
        self.recent.insert(hash, set.clone());
    }

    fn remember_list(&mut self, address: usize, list: &Arc<[ServerName]>, set: &Set) {
        if list.is_empty() {
            return;
        }
        if self.listed_names > NAMES_MAX || self.lists.len() > SETS_MAX {
            self.lists.clear();
            self.listed_names = 0;
        }
        self.listed_names += list.len();
        self.lists.insert(address, (Arc::clone(list), set.clone()));
    }
}

impl fmt::Debug for Sets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sets").field("recent", &self.recent.len()).field("lists", &self.lists.len()).finish()
    }
}

/// The members of set `id`.
pub(super) fn load(connection: &Connection, id: u32) -> Done<Arc<[u32]>> {
    let row = connection
        .prepare_cached("SELECT members, crc FROM sets WHERE id = ?1")?
        .query_row([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let damaged = |reason| Trouble::damaged(format!("set {id}"), reason);
    let (encoded, sum) = row.ok_or_else(|| damaged("it is missing"))?;
    if sum != crc(id.into(), &encoded) {
        return Err(damaged("its checksum does not match"));
    }
    Ok(members::decode(&encoded).ok_or_else(|| damaged("its members cannot be read"))?.into())
}

fn find(connection: &Connection, hash: u64, encoded: &[u8]) -> Done<Option<u32>> {
    let mut statement = connection.prepare_cached("SELECT id FROM sets WHERE hash = ?1 AND members = ?2")?;
    let id = statement.query_row(params![hash.cast_signed(), encoded], |row| row.get(0)).optional()?;
    Ok(id)
}

fn insert(connection: &Connection, hash: u64, encoded: &[u8]) -> Done<u32> {
    // The checksum covers the number, which is therefore chosen before the row is written.
    let last: Option<i64> =
        connection.prepare_cached("SELECT max(id) FROM sets")?.query_row([], |row| row.get(0))?;
    let id = last.unwrap_or(0) + 1;
    connection
        .prepare_cached("INSERT INTO sets (id, hash, members, crc) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![id, hash.cast_signed(), encoded, crc(id, encoded)])?;
    u32::try_from(id).map_err(|_| Trouble::damaged(format!("set {id}"), "its number is out of range"))
}

fn crc(id: i64, encoded: &[u8]) -> i64 {
    Checksum::of("sets").number(id).bytes(encoded).finish()
}

// About 8 MB: the sets of a thousand large rooms.
const MEMBERS_MAX: usize = 2_000_000;
// About 16 MB of pointers; the names themselves belong to the caller.
const NAMES_MAX: usize = 1_000_000;
const SETS_MAX: usize = 20_000;
