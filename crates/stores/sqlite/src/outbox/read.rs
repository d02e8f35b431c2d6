//! Reading on for one destination: the items of all its sets, in one order.

use std::collections::BinaryHeap;

use rusqlite::Connection;
use rustc_hash::FxHashMap;
use southbridge_words::Page;

use super::items;
use super::live::LiveSets;
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
    live: &LiveSets,
    destination: u32,
    after: u64,
    bounds: Bounds,
) -> Done<Page> {
    let mut page = Page::default();
    let mut bytes = 0;
    // Each item names the one before it in its set, so that a lost one shows.
    let mut before: FxHashMap<u32, u64> = FxHashMap::default();
    let items_max = bounds.items_max.min(ITEMS_MAX);
    for (seq, set) in nearest(connection, live, destination, after, items_max + 1)? {
        if page.items.len() == items_max {
            page.more = true;
            break;
        }
        let stored = items::read(connection, seq, set)?;
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
    }
    Ok(page)
}

/// The first `count` positions after `after` that hold something for `destination`, each with its set.
pub(super) fn nearest(
    connection: &Connection,
    live: &LiveSets,
    destination: u32,
    after: u64,
    count: usize,
) -> Done<Vec<(u64, u32)>> {
    // The largest on top, which is what the next one found drives out.
    let mut found: BinaryHeap<(u64, u32)> = BinaryHeap::with_capacity(count.min(ITEMS_MAX) + 1);
    for (set, candidate) in live.concerning(destination, after) {
        let below = match found.peek() {
            Some((largest, _)) if found.len() >= count => *largest,
            _ => u64::MAX,
        };
        if candidate.first >= below {
            continue;
        }
        let mut taken = 0;
        items::positions(connection, set, after, below, |seq| {
            found.push((seq, set));
            if found.len() > count {
                found.pop();
            }
            taken += 1;
            taken < count
        })?;
    }
    Ok(found.into_sorted_vec())
}

// A page is held in memory at once.
const ITEMS_MAX: usize = 10_000;
