//! What is known of all servers, within bounds.
//!
//! When there is no more room, the server is forgotten that was not asked for the longest time. Servers of which no key
//! is known, only that they failed, have a quarter of the room: a stranger who makes us ask for ten thousand made-up
//! servers does not drive out those that are.

use std::collections::BTreeMap;

use southbridge_policy::seeded::{SeededMap, SeededState};
use southbridge_words::ServerName;

use super::held::Held;

/// Servers by name, with what is known of each.
#[derive(Debug)]
pub(super) struct Shelf {
    servers: SeededMap<ServerName, Entry>,
    /// Those without keys and then those with keys; of each the one first that was not asked for the longest time.
    order: BTreeMap<Place, ServerName>,
    without_keys: usize,
    uses: u64,
    bytes: usize,
    servers_max: usize,
    bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    has_keys: bool,
    used: u64,
}

#[derive(Debug)]
struct Entry {
    held: Held,
    place: Place,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(servers_max: usize, bytes_max: usize, seed: u64) -> Self {
        let servers = SeededMap::with_hasher(SeededState::new(seed));
        Self { servers, order: BTreeMap::new(), without_keys: 0, uses: 0, bytes: 0, servers_max, bytes_max }
    }

    pub(super) fn get(&self, server: &ServerName) -> Option<&Held> {
        self.servers.get(server).map(|entry| &entry.held)
    }

    /// Notes that `server` was asked for.
    pub(super) fn touch(&mut self, server: &ServerName) {
        self.uses += 1;
        let Some(entry) = self.servers.get_mut(server) else { return };
        let place = Place { used: self.uses, ..entry.place };
        if let Some(name) = self.order.remove(&entry.place) {
            self.order.insert(place, name);
        }
        entry.place = place;
    }

    /// Changes what is known of `server`, and makes room for it.
    pub(super) fn change<T>(&mut self, server: &ServerName, change: impl FnOnce(&mut Held) -> T) -> T {
        let mut entry = self.take(server);
        let result = change(&mut entry.held);
        self.put(server, entry);
        while self.servers.len() > self.servers_max || self.bytes > self.bytes_max {
            let Some(name) = self.least().cloned() else { break };
            self.forget(&name);
        }
        result
    }

    /// Who is forgotten next.
    fn least(&self) -> Option<&ServerName> {
        let first_with_keys = Place { has_keys: true, used: 0 };
        let with_keys = self.order.range(first_with_keys..).next();
        let without_keys = self.order.first_key_value();
        let crowded = self.without_keys > self.servers_max / 4;
        let least = if crowded { without_keys } else { with_keys.or(without_keys) };
        least.map(|(_, name)| name)
    }

    /// Forgets `server`; whether anything was known of it.
    pub(super) fn forget(&mut self, server: &ServerName) -> bool {
        self.remove(server).is_some()
    }

    fn remove(&mut self, server: &ServerName) -> Option<Entry> {
        let entry = self.servers.remove(server)?;
        self.order.remove(&entry.place);
        self.without_keys -= usize::from(!entry.place.has_keys);
        self.bytes -= entry.bytes;
        Some(entry)
    }

    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn take(&mut self, server: &ServerName) -> Entry {
        if let Some(entry) = self.remove(server) {
            return entry;
        }
        self.uses += 1;
        let place = Place { has_keys: false, used: self.uses };
        Entry { held: Held::default(), place, bytes: 0 }
    }

    fn put(&mut self, server: &ServerName, mut entry: Entry) {
        entry.place.has_keys = !entry.held.is_empty();
        entry.bytes = entry.held.bytes() + server.as_str().len() + OVERHEAD;
        self.bytes += entry.bytes;
        self.without_keys += usize::from(!entry.place.has_keys);
        self.order.insert(entry.place, server.clone());
        self.servers.insert(server.clone(), entry);
    }
}

/// What the two maps take for an entry, about.
const OVERHEAD: usize = 128;
