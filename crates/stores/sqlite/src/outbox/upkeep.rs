//! Letting go: of items that everybody has, of names and sets that nobody needs. A bounded part at a time.

use rusqlite::{Connection, params};
use southbridge_words::{Upkeep, WallTime};

use super::forgetting::Forgetting;
use super::live::Cut;
use super::retention::Retention;
use super::state::{State, Totals};
use super::trouble::Done;
use super::{OutboxOptions, items, progress};
use crate::ledger::to_sql;

/// What goes on from one upkeep to the next.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    retention: Retention,
    /// The set that was looked at last, when there was more to do than may be done at once.
    set: u32,
    /// The same of sets without items.
    idle_set: u32,
    forgetting: Forgetting,
}

impl Housekeeping {
    /// Does a bounded part of what is to be done, within one transaction.
    pub(super) fn perform(
        &mut self,
        connection: &Connection,
        state: &mut State,
        options: &OutboxOptions,
        now: WallTime,
    ) -> Done<Upkeep> {
        self.delete_delivered(connection, state)?;
        let settled = self.retention.settled(now);
        let expired = self.retention.enforce(connection, state, &options.retention, settled)?;
        forget_keys(connection, state, options, settled)?;
        self.forget_sets(connection, state)?;
        forget_progress(connection, state)?;
        self.forgetting.perform(connection, state, now)?;
        Ok(Upkeep { expired, ..Upkeep::default() })
    }

    /// Deletes items that all of their set have.
    fn delete_delivered(&mut self, connection: &Connection, state: &mut State) -> Done<()> {
        let (mut items_left, mut members_left) = (ITEMS_PER_UPKEEP, MEMBERS_PER_UPKEEP);
        let order: Vec<u32> = {
            let sets = &state.live.0;
            sets.range(self.set + 1..).chain(sets.range(..=self.set)).map(|(id, _)| *id).collect()
        };
        for id in order {
            let Some(live) = state.live.0.get_mut(&id) else { continue };
            let members = live.members.len();
            self.set = id;
            if let Cut::At(cut) = live.cut(&state.cursors) {
                members_left = members_left.saturating_sub(members);
                if cut >= live.first {
                    items_left -= items::delete(connection, id, cut, items_left)?;
                    if items_left == 0 {
                        // The rest of them comes first the next time.
                        live.look_again();
                        self.set = id.saturating_sub(1);
                        break;
                    }
                    live.first = cut + 1;
                }
                if live.first > live.last {
                    state.live.0.remove(&id);
                }
            }
            if members_left == 0 {
                break;
            }
        }
        let deleted = (ITEMS_PER_UPKEEP - items_left) as u64;
        if deleted > 0 {
            state.items -= deleted;
            Totals { last: state.last, items: state.items }.save(connection)?;
        }
        Ok(())
    }

    /// Deletes sets without items when there are many, beginning with the oldest.
    fn forget_sets(&mut self, connection: &Connection, state: &mut State) -> Done<()> {
        if state.sets_kept <= (state.live.0.len() + IDLE_SETS_MAX) as u64 {
            return Ok(());
        }
        let ids: Result<Vec<u32>, _> = connection
            .prepare_cached("SELECT id FROM sets WHERE id > ?1 ORDER BY id LIMIT ?2")?
            .query_map(params![self.idle_set, SETS_PER_UPKEEP], |row| row.get(0))?
            .collect();
        let ids = ids?;
        self.idle_set = ids.last().copied().unwrap_or(0);
        for id in ids.into_iter().filter(|id| !state.live.0.contains_key(id)) {
            connection.prepare_cached("DELETE FROM sets WHERE id = ?1")?.execute([id])?;
            state.sets_kept -= 1;
        }
        state.sets.forget();
        Ok(())
    }
}

/// Deletes keys beyond their number or age, the oldest first.
fn forget_keys(
    connection: &Connection,
    state: &mut State,
    options: &OutboxOptions,
    settled: Option<WallTime>,
) -> Done<()> {
    let over = state.keys.saturating_sub(options.keys_max).min(KEYS_PER_UPKEEP);
    let mut deleted = 0;
    if over > 0 {
        deleted += connection.prepare_cached(DELETE_KEYS)?.execute(params![over.cast_signed(), i64::MAX])?;
    }
    if let Some(now) = settled {
        let age_max = i64::try_from(options.key_age_max.as_millis()).unwrap_or(i64::MAX);
        let bound = to_sql(now).saturating_sub(age_max);
        deleted +=
            connection.prepare_cached(DELETE_KEYS)?.execute(params![KEYS_PER_UPKEEP.cast_signed(), bound])?;
    }
    state.keys = state.keys.saturating_sub(deleted as u64);
    Ok(())
}

/// Deletes progress before which there is nothing, when there is much of it.
fn forget_progress(connection: &Connection, state: &mut State) -> Done<()> {
    if state.cursors.len() <= PROGRESS_MAX {
        return Ok(());
    }
    let oldest = state.live.oldest().unwrap_or(state.last + 1);
    for destination in state.cursors.before(oldest, PROGRESS_PER_UPKEEP) {
        if progress::delete(connection, destination)? {
            state.cursors.forget(destination);
        }
    }
    Ok(())
}

const DELETE_KEYS: &str = "
    DELETE FROM keys WHERE accepted_at < ?2
    AND key IN (SELECT key FROM keys ORDER BY seq LIMIT ?1)";
// Each takes about ten microseconds.
const ITEMS_PER_UPKEEP: usize = 5000;
// Each takes some ten nanoseconds.
const MEMBERS_PER_UPKEEP: usize = 2_000_000;
const SETS_PER_UPKEEP: u32 = 500;
const KEYS_PER_UPKEEP: u64 = 5000;
const PROGRESS_PER_UPKEEP: usize = 1000;
// A few megabytes each, which saves writing them anew with every message.
const IDLE_SETS_MAX: usize = 10_000;
const PROGRESS_MAX: usize = 20_000;
