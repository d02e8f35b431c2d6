//! How much is kept for those who do not come, and what gives way at the limit. Never silently.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::Connection;
use southbridge_words::{Append, Expired, Seq, WallTime};
use tracing::warn;

use super::merge::Merge;
use super::names::Names;
use super::reserve::RESERVE_BYTES;
use super::state::State;
use super::trouble::{Done, Trouble};
use super::{items, progress};
use crate::ledger::to_sql;

/// How much an outbox keeps, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetentionLimits {
    /// The room that all of it may take on the disk, in bytes. Default 4 GiB: a week of a busy homeserver
    /// whose neighbours are all down.
    pub bytes_max: u64,
    /// What happens when that is reached. Default: nothing more is accepted.
    pub at_limit: AtLimit,
    /// How long an item waits for a destination before it is given up. Default four weeks, after which a
    /// homeserver is better off asking for what it missed; none is for ever.
    pub age_max: Option<Duration>,
    /// How many items wait for one destination before its oldest are given up. Default none, which is no limit.
    pub items_per_destination_max: Option<u64>,
}

/// What happens when the room is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLimit {
    /// Nothing durable is accepted until there is room again. Nothing that was accepted is lost.
    Refuse,
    /// From nine tenths of the room on, the oldest items are given up for those who lack them still: the
    /// destinations that could not be reached for the longest time. Each is told of and logged.
    GiveUpOldest,
}

impl Default for RetentionLimits {
    fn default() -> Self {
        Self {
            bytes_max: 4 * 1024 * 1024 * 1024,
            at_limit: AtLimit::Refuse,
            age_max: Some(Duration::from_secs(28 * 24 * 3600)),
            items_per_destination_max: None,
        }
    }
}

/// Refuses `appends` when there is no room for them: within the limit, or on a disk that was full a short
/// while ago.
pub(super) fn check_room(
    connection: &Connection,
    limits: &RetentionLimits,
    appends: &[Append],
    reserve_is_held: bool,
) -> Done<()> {
    if appends.is_empty() {
        return Ok(());
    }
    let wanted: u64 = appends.iter().map(|append| append.bytes.len() as u64).sum();
    let room = Room::of(connection)?;
    if room.used.saturating_add(wanted) > limits.bytes_max {
        let (used, bytes_max) = (room.used, limits.bytes_max);
        return Err(Trouble::Full {
            reason: format!(
                "{used} of {bytes_max} bytes that the outbox may take are used, {wanted} more are wanted"
            ),
        });
    }
    // Pages that are free within the file need no room on the disk.
    if !reserve_is_held && room.free < wanted.saturating_add(RESERVE_BYTES) {
        let reason =
            "the disk is full: what is accepted is delivered first; make room, and it goes on by itself";
        return Err(Trouble::Full { reason: reason.to_owned() });
    }
    Ok(())
}

/// How much of the file is in use, and how much is not; in bytes.
struct Room {
    used: u64,
    free: u64,
}

impl Room {
    fn of(connection: &Connection) -> Done<Self> {
        let number = |sql| -> Done<u64> {
            let number: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
            Ok(number.cast_unsigned())
        };
        let (pages, free) = (number("PRAGMA page_count")?, number("PRAGMA freelist_count")?);
        let page_bytes = number("PRAGMA page_size")?;
        Ok(Self { used: pages.saturating_sub(free) * page_bytes, free: free * page_bytes })
    }
}

/// What of retention goes on from one upkeep to the next.
#[derive(Debug, Default)]
pub(super) struct Retention {
    clock: SettledClock,
    /// Destinations whose items are still to be counted in this round.
    to_count: BTreeSet<u32>,
}

impl Retention {
    /// The time, unless the clock was set a short while ago.
    pub(super) fn settled(&mut self, now: WallTime) -> Option<WallTime> {
        self.clock.settled(now)
    }

    /// Gives up what is beyond the limits, a bounded part of it; `settled` is the time if it can be trusted.
    pub(super) fn enforce(
        &mut self,
        connection: &Connection,
        state: &mut State,
        limits: &RetentionLimits,
        settled: Option<WallTime>,
    ) -> Done<Vec<Expired>> {
        let mut expired = Vec::new();
        if let (Some(age_max), Some(now)) = (limits.age_max, settled) {
            let bound = to_sql(now).saturating_sub(i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX));
            let cut = oldest_while(connection, |accepted_at, _| accepted_at < bound)?;
            give_up(connection, state, cut, "older than the outbox keeps", &mut expired)?;
        }
        if limits.at_limit == AtLimit::GiveUpOldest {
            let high_water = limits.bytes_max / 10 * 9;
            let mut over =
                usize::try_from(Room::of(connection)?.used.saturating_sub(high_water)).unwrap_or(0);
            let cut = oldest_while(connection, |_, bytes| {
                let more = over > 0;
                over = over.saturating_sub(bytes);
                more
            })?;
            give_up(connection, state, cut, "the outbox is full", &mut expired)?;
        }
        if let Some(items_max) = limits.items_per_destination_max {
            self.shorten(connection, state, items_max, &mut expired)?;
        }
        Ok(expired)
    }

    /// Gives up the oldest items of some destinations for which more than `items_max` wait.
    fn shorten(
        &mut self,
        connection: &Connection,
        state: &mut State,
        items_max: u64,
        expired: &mut Vec<Expired>,
    ) -> Done<()> {
        if self.to_count.is_empty() {
            let members = state.live.0.values().flat_map(|live| live.members.iter().copied());
            self.to_count = members.collect();
        }
        for _ in 0..COUNTED_PER_UPKEEP {
            let Some(destination) = self.to_count.pop_first() else { break };
            let delivered = state.cursors.of(destination);
            let waiting = waiting(connection, state, destination, delivered, u64::MAX)?;
            let over = waiting.saturating_sub(items_max);
            if let Some(cut) = nth(connection, state, destination, delivered, over)? {
                let why = "more waits for one destination than the outbox keeps";
                expired.extend(drop_for(connection, state, destination, cut, why)?);
            }
        }
        Ok(())
    }
}

/// The position of item number `count` after `after` for `destination`, or of the last that may be given up
/// at once; none when `count` is zero.
fn nth(
    connection: &Connection,
    state: &State,
    destination: u32,
    after: u64,
    count: u64,
) -> Done<Option<u64>> {
    let mut merge = Merge::new(after);
    if count > 0 {
        merge.take_up(connection, &state.live, destination)?;
    }
    let mut cut = None;
    for _ in 0..count.min(ITEMS_PER_UPKEEP as u64) {
        let Some((seq, _)) = merge.peek() else { break };
        cut = Some(seq);
        merge.advance(connection, &state.live)?;
    }
    Ok(cut)
}

/// The last of the oldest items for which `which` holds of acceptance and size, at most so many.
fn oldest_while(connection: &Connection, mut which: impl FnMut(i64, usize) -> bool) -> Done<u64> {
    let mut cut = 0;
    for _ in 0..ITEMS_PER_UPKEEP {
        match items::first_from(connection, cut + 1)? {
            Some((seq, accepted_at, bytes)) if which(accepted_at, bytes) => cut = seq,
            _ => break,
        }
    }
    Ok(cut)
}

/// Gives up everything up to `cut` for some of those who lack it.
fn give_up(
    connection: &Connection,
    state: &mut State,
    cut: u64,
    why: &'static str,
    expired: &mut Vec<Expired>,
) -> Done<()> {
    let mut lagging = BTreeSet::new();
    for live in state.live.0.values().filter(|live| live.first <= cut) {
        let upto = cut.min(live.last);
        lagging.extend(live.members.iter().filter(|member| state.cursors.of(**member) < upto));
        if lagging.len() > GIVEN_UP_PER_UPKEEP {
            break;
        }
    }
    for destination in lagging.into_iter().take(GIVEN_UP_PER_UPKEEP) {
        expired.extend(drop_for(connection, state, destination, cut, why)?);
    }
    Ok(())
}

/// Gives up everything up to `cut` for `destination`; never a part of a transaction that was begun, because
/// its rest could not be sent under the same id any more.
fn drop_for(
    connection: &Connection,
    state: &mut State,
    destination: u32,
    cut: u64,
    why: &'static str,
) -> Done<Option<Expired>> {
    let delivered = state.cursors.of(destination);
    let open = progress::open(connection, destination)?;
    let upto = cut.max(open.map_or(0, |open| open.upto.0)).min(state.last);
    let items = waiting(connection, state, destination, delivered, upto)?;
    if upto <= delivered || items == 0 {
        return Ok(None);
    }
    progress::write(connection, destination, upto, None)?;
    state.cursors.set(destination, upto);
    let destination = Names::name(connection, destination)?;
    warn!(%destination, items, upto, why, "accepted messages are given up");
    Ok(Some(Expired { destination, upto: Seq(upto), items }))
}

/// How many items wait for `destination` after `after` and up to `upto`.
fn waiting(connection: &Connection, state: &State, destination: u32, after: u64, upto: u64) -> Done<u64> {
    let sets = state.live.concerning(destination, after);
    sets.map(|(set, _)| items::count(connection, set, after, upto)).sum()
}

/// A wall clock that is believed when it has gone evenly for a while: one that jumps ahead by a year, and
/// back a minute later, must not cost a year's worth of messages (faults row 21).
#[derive(Debug, Default)]
struct SettledClock {
    seen: Option<WallTime>,
    settled_at: WallTime,
}

impl SettledClock {
    fn settled(&mut self, now: WallTime) -> Option<WallTime> {
        let even = self.seen.is_some_and(|seen| now >= seen && now.saturating_since(seen) <= STEP_MAX);
        self.seen = Some(now);
        if !even {
            self.settled_at = now + SETTLING;
        }
        (now >= self.settled_at).then_some(now)
    }
}

// Upkeep comes every few seconds; a machine that slept for an hour may have a new clock.
const STEP_MAX: Duration = Duration::from_secs(3600);
const SETTLING: Duration = Duration::from_secs(600);
// Each takes some microseconds: together a fraction of a second.
const ITEMS_PER_UPKEEP: usize = 2000;
const GIVEN_UP_PER_UPKEEP: usize = 100;
const COUNTED_PER_UPKEEP: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    /// Faults row 21: the clock jumps ahead a year and is set right again.
    #[test]
    fn a_clock_that_jumps_is_not_believed() {
        let mut clock = SettledClock::default();
        let at = |seconds: u64| WallTime::from_unix_millis(1_800_000_000_000 + seconds * 1000);
        assert_eq!(clock.settled(at(0)), None, "a machine that has just started may be off");
        assert_eq!(clock.settled(at(599)), None);
        assert_eq!(clock.settled(at(601)), Some(at(601)));
        assert_eq!(clock.settled(at(31_536_000)), None);
        assert_eq!(clock.settled(at(602)), None);
        assert_eq!(clock.settled(at(1202)), Some(at(1202)));
    }
}
