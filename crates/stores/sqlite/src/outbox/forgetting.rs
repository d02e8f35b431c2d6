//! Deletes the names that nothing refers to any more, and the sets in which they stood.
//!
//! Rooms repeat their sets, so one without items is kept for a while. Names come from strangers: the outbox keeps one for
//! as long as a set has it, and no longer, together with how far it has come. The ranks may keep it longer, for
//! themselves.

use std::time::Duration;

use rusqlite::{Connection, params};
use rustc_hash::{FxHashMap, FxHashSet};
use southbridge_words::WallTime;
use tracing::debug;

use super::progress;
use super::sets;
use super::state::State;
use super::trouble::{Done, Trouble};

/// What is remembered of one time to the next.
#[derive(Debug, Default)]
pub(super) struct Forgetting {
    at: Option<WallTime>,
    /// Since when sets have been seen without items.
    idle: FxHashMap<u32, WallTime>,
}

impl Forgetting {
    /// Does so now and then; within the transaction of the upkeep.
    pub(super) fn perform(&mut self, connection: &Connection, state: &mut State, now: WallTime) -> Done<()> {
        // A clock that was set back does not stop it for longer than that.
        let is_early = |at: WallTime| now >= at && now.saturating_since(at) < EVERY;
        if self.at.is_some_and(is_early) {
            return Ok(());
        }
        self.at = Some(now);
        let sets = self.forget_sets(connection, state, now)?;
        let names = forget_names(connection, state)?;
        if sets + names > 0 {
            // What is remembered of them means nothing any more.
            state.names.forget();
            state.sets.forget();
            debug!(sets, names, "names that nothing refers to were deleted");
        }
        Ok(())
    }

    fn forget_sets(&mut self, connection: &Connection, state: &mut State, now: WallTime) -> Done<usize> {
        let all: Vec<u32> = ids(connection, "SELECT id FROM sets")?;
        let idle: FxHashSet<u32> = all.into_iter().filter(|id| !state.live.0.contains_key(id)).collect();
        self.idle.retain(|id, since| idle.contains(id) && *since <= now);
        let mut deleted = 0;
        for id in idle {
            let since = *self.idle.entry(id).or_insert(now);
            if now.saturating_since(since) >= IDLE_MAX && deleted < DELETED_MAX {
                connection.prepare_cached("DELETE FROM sets WHERE id = ?1")?.execute([id])?;
                self.idle.remove(&id);
                state.sets_kept = state.sets_kept.saturating_sub(1);
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

fn forget_names(connection: &Connection, state: &mut State) -> Done<usize> {
    let bytes: i64 =
        connection.query_row("SELECT coalesce(sum(length(members)), 0) FROM sets", [], |row| row.get(0))?;
    if bytes > SET_BYTES_MAX {
        return Ok(0);
    }
    let used = match named_in_sets(connection) {
        // Nothing is deleted on the word of a set that cannot be read; who needs that set will say so.
        Err(Trouble::Damaged { .. }) => return Ok(0),
        used => used?,
    };
    let known = ids(connection, "SELECT destination FROM recipients")?;
    let unused: Vec<u32> = known.into_iter().filter(|id| !used.contains(id)).take(DELETED_MAX).collect();
    let mut deleted = 0;
    for id in unused {
        // An open transaction has items; should one ever have none, that is for a human to look at.
        if progress::open(connection, id)?.is_some() {
            continue;
        }
        if progress::delete(connection, id)? {
            state.cursors.forget(id);
        }
        connection.prepare_cached("DELETE FROM recipients WHERE destination = ?1")?.execute([id])?;
        connection.prepare_cached(DELETE_NAME)?.execute(params![id])?;
        deleted += 1;
    }
    Ok(deleted)
}

fn named_in_sets(connection: &Connection) -> Done<FxHashSet<u32>> {
    let mut used = FxHashSet::default();
    for id in ids(connection, "SELECT id FROM sets")? {
        used.extend(sets::load(connection, id)?.iter().copied());
    }
    Ok(used)
}

fn ids(connection: &Connection, sql: &str) -> Done<Vec<u32>> {
    let ids: Result<Vec<u32>, _> = connection.prepare_cached(sql)?.query_map([], |row| row.get(0))?.collect();
    Ok(ids?)
}

const DELETE_NAME: &str =
    "DELETE FROM destinations WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM ranks WHERE destination = ?1)";
const EVERY: Duration = Duration::from_secs(10 * 60);
// A room that speaks every hour keeps its set.
const IDLE_MAX: Duration = Duration::from_secs(3600);
// Each takes about ten microseconds.
const DELETED_MAX: usize = 5000;
// All of them are looked through at once, at some nanoseconds a byte: thousands of the largest rooms within an hour.
const SET_BYTES_MAX: i64 = 64 * 1024 * 1024;
