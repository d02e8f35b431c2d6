//! Reading on for one destination.

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use southbridge_words::Page;

use super::items;
use super::live::LiveSets;
use super::merge::Merge;
use super::state::State;
use super::trouble::{Done, Trouble};

/// What bounds a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) items_max: usize,
    pub(super) bytes_max: usize,
}

/// The items for `destination` after `after`.
pub(super) fn page(
    connection: &Connection,
    state: &mut State,
    destination: u32,
    after: u64,
    bounds: Bounds,
) -> Done<Page> {
    let mut merge = state.merges.take(destination, after);
    merge.take_up(connection, &state.live, destination)?;
    let page = fill(connection, &state.live, &mut merge, after, bounds)?;
    state.merges.keep(destination, merge);
    Ok(page)
}

fn fill(
    connection: &Connection,
    live: &LiveSets,
    merge: &mut Merge,
    after: u64,
    bounds: Bounds,
) -> Done<Page> {
    let mut page = Page::default();
    let mut bytes = 0;
    // Each item names the one before it in its set, so that a lost one shows.
    let mut before: FxHashMap<u32, u64> = FxHashMap::default();
    while let Some((seq, set)) = merge.peek() {
        if page.items.len() == bounds.items_max.min(ITEMS_MAX) {
            page.more = true;
            break;
        }
        let stored = match items::read(connection, seq, set) {
            // What is before it is good: the damage is told of when it is asked for.
            Err(Trouble::Damaged { .. }) if !page.items.is_empty() => {
                page.more = true;
                break;
            }
            read => read?,
        };
        bytes += stored.item.bytes.len();
        if bytes > bounds.bytes_max && !page.items.is_empty() {
            page.more = true;
            break;
        }
        if stored.prev > after && before.get(&set) != Some(&stored.prev) {
            return Err(Trouble::damaged(format!("item s{}", stored.prev), "it is missing"));
        }
        before.insert(set, seq);
        page.items.push(stored.item);
        merge.advance(connection, live)?;
    }
    Ok(page)
}

// A page is held in memory at once.
const ITEMS_MAX: usize = 10_000;
