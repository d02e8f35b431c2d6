//! Sets of destinations known by a name, so that ten thousand names need not come with every message.
//!
//! A set may be forgotten at any time: at a restart, and when there is no room for all of them. Whoever names one that
//! is not known is told so, hands it in again, and loses nothing.
//!
//! # Source
//! Issue 3, item 7; K14 (every queue is bounded): the sets and the names in them are counted, the longest unused
//! gives way.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashSet;
use serde::Deserialize;
use southbridge_words::ServerName;

use super::bounded::{Bounded, Name, read};
use super::failure::{Code, Failure};
use super::submission::DESTINATIONS_MAX;

/// The sets that are known.
#[derive(Debug)]
pub struct DestinationSets {
    sets: HashMap<Arc<str>, Known>,
    /// Names in all of them.
    names: usize,
    /// Counts uses, to know which is the longest unused.
    uses: u64,
    limits: SetLimits,
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetLimits {
    /// Sets. Default 4,096: the rooms that are busy at a time.
    pub sets_max: usize,
    /// Destinations in all sets together. Default 1,000,000, at about 60 bytes each.
    pub names_max: usize,
}

impl Default for SetLimits {
    fn default() -> Self {
        Self { sets_max: 4_096, names_max: 1_000_000 }
    }
}

#[derive(Debug)]
struct Known {
    destinations: Arc<[ServerName]>,
    used: u64,
}

impl DestinationSets {
    /// No sets, and room for some.
    pub fn new(limits: SetLimits) -> Self {
        Self { sets: HashMap::new(), names: 0, uses: 0, limits }
    }

    /// Gives `destinations` the name `name`, which may have had others.
    ///
    /// # Errors
    /// [`Failure`] when the name is none, or the set larger than all sets together may be.
    pub fn put(&mut self, name: &str, destinations: Arc<[ServerName]>) -> Result<(), Failure> {
        if name.len() > NAME_BYTES_MAX {
            return Err(Failure::new(
                Code::InvalidParam,
                format!("the name of a set has {} bytes, the most is {NAME_BYTES_MAX}", name.len()),
            ));
        }
        if destinations.len() > self.limits.names_max {
            return Err(Failure::new(
                Code::TooLarge,
                format!(
                    "the set has {} destinations, all sets together may have {}; name them with the message",
                    destinations.len(),
                    self.limits.names_max
                ),
            ));
        }
        self.remove(name);
        while self.sets.len() >= self.limits.sets_max
            || self.names + destinations.len() > self.limits.names_max
        {
            let unused =
                self.sets.iter().min_by_key(|(_, known)| known.used).map(|(name, _)| Arc::clone(name));
            let Some(unused) = unused else { break };
            self.remove(&unused);
        }
        self.names += destinations.len();
        self.uses += 1;
        self.sets.insert(name.into(), Known { destinations, used: self.uses });
        Ok(())
    }

    /// The destinations called `name`.
    ///
    /// # Errors
    /// [`Failure`] when no set has that name.
    pub fn find(&mut self, name: &str) -> Result<Arc<[ServerName]>, Failure> {
        let known = self.sets.get_mut(name).ok_or_else(|| {
            let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
            Failure::new(
                Code::UnknownSet,
                format!("no destination set is called {shown:?} here; PUT /bus/v1/sets/NAME, and send again"),
            )
        })?;
        self.uses += 1;
        known.used = self.uses;
        Ok(Arc::clone(&known.destinations))
    }

    /// Forgets the set called `name`. Says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        match self.sets.remove(name) {
            Some(known) => {
                self.names -= known.destinations.len();
                true
            }
            None => false,
        }
    }

    /// The names of the sets with their sizes, sorted.
    pub fn list(&self) -> Vec<(Arc<str>, usize)> {
        let mut list: Vec<_> =
            self.sets.iter().map(|(name, known)| (Arc::clone(name), known.destinations.len())).collect();
        list.sort();
        list
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenNames {
    destinations: Bounded<Name, DESTINATIONS_MAX>,
}

/// Reads the body of a request that names destinations, each once.
///
/// # Errors
/// [`Failure`] says what is wrong with it.
pub(super) fn read_destinations(body: &[u8]) -> Result<Arc<[ServerName]>, Failure> {
    let written: WrittenNames = read(body)?;
    Ok(each_once(written.destinations.0.into_iter().map(|name| name.0).collect()))
}

/// Each destination once, in the order of their first mention.
pub(super) fn each_once(destinations: Vec<ServerName>) -> Arc<[ServerName]> {
    let mut seen = FxHashSet::with_capacity_and_hasher(destinations.len(), Default::default());
    let firsts: Vec<bool> = destinations.iter().map(|name| seen.insert(name)).collect();
    if firsts.iter().all(|first| *first) {
        return destinations.into();
    }
    destinations.into_iter().zip(firsts).filter_map(|(name, first)| first.then_some(name)).collect()
}

#[cfg(test)]
pub(super) fn fields() -> std::collections::BTreeSet<String> {
    super::bounded::fields_of::<WrittenNames>()
}

/// As long as a Matrix identifier may be.
const NAME_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Arc<[ServerName]> {
        names.iter().map(|name| ServerName::parse(name).unwrap()).collect()
    }

    #[test]
    fn a_set_is_found_until_it_is_replaced_or_removed() {
        let mut sets = DestinationSets::new(SetLimits::default());
        sets.put("!room", names(&["a.example", "b.example"])).unwrap();
        sets.put("!room", names(&["c.example"])).unwrap();
        assert_eq!(*sets.find("!room").unwrap(), *names(&["c.example"]));
        assert_eq!(sets.names, 1);
        assert!(sets.remove("!room") && !sets.remove("!room"));
        let error = sets.find("!room").unwrap_err();
        assert!(error.code == Code::UnknownSet && error.text.contains("!room"), "{error}");
    }

    /// A homeserver with more rooms than there is room for: the busy ones stay.
    #[test]
    fn the_longest_unused_set_gives_way() {
        let mut sets = DestinationSets::new(SetLimits { sets_max: 2, names_max: 3 });
        sets.put("busy", names(&["a.example"])).unwrap();
        sets.put("quiet", names(&["b.example"])).unwrap();
        sets.find("busy").unwrap();
        sets.put("new", names(&["c.example", "d.example"])).unwrap();
        let list: Vec<_> = sets.list().iter().map(|(name, count)| format!("{name} {count}")).collect();
        assert_eq!(list, ["busy 1", "new 2"]);
        assert_eq!(sets.names, 3);
    }

    #[test]
    fn a_set_that_can_never_fit_is_refused_and_costs_nobody_a_place() {
        let mut sets = DestinationSets::new(SetLimits { sets_max: 2, names_max: 1 });
        sets.put("small", names(&["a.example"])).unwrap();
        assert_eq!(sets.put("large", names(&["b.example", "c.example"])).unwrap_err().code, Code::TooLarge);
        assert_eq!(sets.put(&"n".repeat(256), names(&[])).unwrap_err().code, Code::InvalidParam);
        assert!(sets.find("small").is_ok());
    }

    #[test]
    fn a_destination_named_twice_counts_once() {
        let twice = names(&["b.example", "a.example", "b.example"]).to_vec();
        assert_eq!(*each_once(twice), *names(&["b.example", "a.example"]));
    }
}
