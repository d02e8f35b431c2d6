//! What an outbox keeps in memory: numbers, not items.

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use southbridge_words::{Backlog, Recovered, Seq};

use super::items;
use super::live::{Cursors, Live, LiveSets};
use super::names::Names;
use super::progress;
use super::sets::{self, Set, Sets};
use super::trouble::Done;

/// What is known without looking.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) names: Names,
    pub(super) sets: Sets,
    pub(super) live: LiveSets,
    pub(super) cursors: Cursors,
    /// The last position given out.
    pub(super) last: u64,
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
        let mut set = None;
        while let Some((id, first, last)) = items::next_set(connection, set)? {
            state.live.0.insert(id, Live::new(sets::load(connection, id)?, first, last));
            state.last = state.last.max(last);
            set = Some(id);
        }
        let number = |sql| -> Done<u64> {
            let number: i64 = connection.query_row(sql, [], |row| row.get(0))?;
            Ok(number.cast_unsigned())
        };
        state.last = state.last.max(number(SELECT_LAST)?);
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
        for (set, seq) in added.items {
            self.live.add(&set, seq);
        }
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

const SELECT_LAST: &str = "
    SELECT max(coalesce((SELECT last_seq FROM outbox), 0), coalesce((SELECT max(delivered) FROM progress), 0),
    coalesce((SELECT max(seq) FROM keys), 0))";
