//! What an outbox keeps in memory: numbers, not items.

use rusqlite::{Connection, OptionalExtension, Row};
use rustc_hash::FxHashMap;
use southbridge_words::{Backlog, Recovered, Seq};

use super::checksum::Checksum;
use super::items;
use super::live::{Cursors, Live, LiveSets};
use super::merge::Merges;
use super::names::Names;
use super::progress;
use super::sets::{self, Set, Sets};
use super::trouble::{Done, Trouble};

/// What is known without looking.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) sets: Sets,
    pub(super) live: LiveSets,
    pub(super) cursors: Cursors,
    pub(super) merges: Merges,
    /// The last position given out.
    pub(super) last: u64,
    /// How many items are on the disk.
    pub(super) items: u64,
    /// How many sets are on the disk, with items or without.
    pub(super) sets_kept: u64,
    /// How many keys are.
    pub(super) keys: u64,
}

/// What a write adds, until it is durable.
#[derive(Debug, Default)]
pub(super) struct Added {
    pub(super) items: Vec<(Set, u64)>,
    /// The last item added for a set.
    pub(super) last_of: FxHashMap<u32, u64>,
    /// How many keys were added.
    pub(super) keys: u64,
}

impl State {
    /// Reads what an outbox held when it was closed, or killed.
    pub(super) fn load(connection: &Connection) -> Done<Self> {
        let mut state = Self { cursors: progress::load(connection)?, ..Self::default() };
        let (listed, items) = items::list(connection)?;
        for (id, first, last) in listed {
            state.live.0.insert(id, Live::new(sets::load(connection, id)?, first, last));
            state.last = state.last.max(last);
        }
        let number = |sql| -> Done<u64> {
            let number: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(number.cast_unsigned())
        };
        let totals = Totals::load(connection)?;
        if totals.items != items || totals.last < state.last {
            return Err(Trouble::damaged("the list of items", "some are missing, or there are too many"));
        }
        (state.last, state.items) = (totals.last, totals.items);
        state.sets_kept = number("SELECT count(*) FROM sets")?;
        state.keys = number("SELECT count(*) FROM keys")?;
        Ok(state)
    }

    /// Who lacks something.
    pub(super) fn recovered(&self, connection: &Connection) -> Done<Recovered> {
        let mut lasts: FxHashMap<u32, u64> = FxHashMap::default();
        for live in self.live.0.values() {
            for member in live.members.iter().filter(|member| self.cursors.of(**member) < live.last) {
                let last = lasts.entry(*member).or_default();
                *last = live.last.max(*last);
            }
        }
        let backlog = |(id, last): (u32, u64)| -> Done<Backlog> {
            Ok(Backlog {
                destination: Names::name(connection, id)?,
                delivered: Seq(self.cursors.of(id)),
                last: Seq(last),
                open: progress::open(connection, id)?,
            })
        };
        let backlogs: Done<Vec<_>> = lasts.into_iter().map(backlog).collect();
        Ok(Recovered { backlogs: backlogs?, ..Recovered::default() })
    }

    /// A transaction is durable.
    pub(super) fn keep(&mut self, added: Added) {
        let added_items = added.items.len() as u64;
        for (set, seq) in added.items {
            self.live.add(&set, seq);
        }
        self.items += added_items;
        self.keys += added.keys;
        self.sets_kept += self.sets.take_inserted();
        self.cursors.keep();
    }

    /// A transaction came to nothing, and `last` is the last position again.
    pub(super) fn undo(&mut self, last: u64) {
        self.last = last;
        self.cursors.undo();
        // Their numbers may be given to others now.
        self.names.forget();
        self.sets.forget();
    }
}

/// What is written with every transaction that adds or deletes items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) last: u64,
    pub(super) items: u64,
}

impl Totals {
    /// Writes them.
    pub(super) fn save(self, connection: &Connection) -> Done<()> {
        let [last, items] = [self.last, self.items].map(u64::cast_signed);
        connection.prepare_cached(UPSERT_TOTALS)?.execute([last, items, totals_crc(last, items)])?;
        Ok(())
    }

    fn load(connection: &Connection) -> Done<Self> {
        let columns = |row: &Row<'_>| Ok::<[i64; 3], _>([row.get(0)?, row.get(1)?, row.get(2)?]);
        let row = connection.query_row(SELECT_TOTALS, [], columns).optional()?;
        let Some([last, items, crc]) = row else { return Ok(Self::default()) };
        if crc != totals_crc(last, items) {
            return Err(Trouble::damaged("the totals", "their checksum does not match"));
        }
        Ok(Self { last: last.cast_unsigned(), items: items.cast_unsigned() })
    }
}

fn totals_crc(last: i64, items: i64) -> i64 {
    Checksum::of("outbox").number(last).number(items).finish()
}

const SELECT_TOTALS: &str = "SELECT last_seq, items, crc FROM outbox";
const UPSERT_TOTALS: &str =
    "INSERT OR REPLACE INTO outbox (one, last_seq, items, crc) VALUES (1, ?1, ?2, ?3)";
