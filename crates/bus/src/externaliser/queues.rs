//! All the queues there are: by name, by whose turn it is, by when they want to try again.
//!
//! One lookup finds a queue, or what is remembered of one that is gone. What is remembered is bounded: the names that
//! were met first are forgotten first, unless they have a queue.

use std::collections::{BTreeSet, VecDeque};

use slab::Slab;
use southbridge_policy::seeded::{SeededMap, SeededState};
use southbridge_words::{Instant, ServerName};

use super::limits::ExternaliserLimits;
use super::lines::{Line, Lines};
use super::moment::Moment;
use crate::queue::{FederationQueue, Phase, Sizing};

/// Names a queue. A queue that is gone and came back has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// A queue, and where it stands.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) queue: FederationQueue,
    /// The line of the send that it holds.
    pub(crate) sends: Option<Line>,
    generation: u32,
    /// The line that it stands in.
    lined: Option<Line>,
    /// The lines that name it still; it has left all of them but one.
    named: u8,
    timer: Option<Instant>,
}

/// What is known of a name.
#[derive(Debug)]
struct Known {
    place: Option<u32>,
    sizing: Sizing,
    is_good: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Queues {
    known: SeededMap<ServerName, Known>,
    /// Every known name once; the next to be forgotten in front.
    names: VecDeque<ServerName>,
    places: Slab<Place>,
    generation: u32,
    timers: BTreeSet<(Instant, QueueKey)>,
    pub(crate) lines: Lines,
}

impl Queues {
    /// None yet. `seed` keys the hash of the names.
    pub(crate) fn new(seed: u64, limits: &ExternaliserLimits) -> Self {
        Self {
            known: SeededMap::with_hasher(SeededState::new(seed)),
            names: VecDeque::new(),
            places: Slab::new(),
            generation: 0,
            timers: BTreeSet::new(),
            lines: Lines::new(limits),
        }
    }

    /// The queue of `destination`, if it has one.
    pub(crate) fn find(&self, destination: &ServerName) -> Option<QueueKey> {
        let index = self.known.get(destination)?.place?;
        Some(QueueKey { index, generation: self.places[index as usize].generation })
    }

    /// The queue of `destination`, which is added if it has none.
    pub(crate) fn find_or_add(&mut self, destination: &ServerName, limits: &ExternaliserLimits) -> QueueKey {
        if let Some(known) = self.known.get_mut(destination) {
            let index = match known.place {
                Some(index) => index,
                None => {
                    let queue = FederationQueue::new(destination.clone(), known.sizing, known.is_good);
                    self.generation = self.generation.wrapping_add(1);
                    *known.place.insert(add(&mut self.places, queue, self.generation))
                }
            };
            return QueueKey { index, generation: self.places[index as usize].generation };
        }
        self.forget_surplus(limits);
        let sizing = Sizing::new(&limits.queue);
        let queue = FederationQueue::new(destination.clone(), sizing, false);
        self.generation = self.generation.wrapping_add(1);
        let index = add(&mut self.places, queue, self.generation);
        let known = Known { place: Some(index), sizing, is_good: false };
        self.known.insert(destination.clone(), known);
        self.names.push_back(destination.clone());
        QueueKey { index, generation: self.generation }
    }

    /// The queue with this key, if it is still there.
    pub(crate) fn get_mut(&mut self, key: QueueKey) -> Option<&mut Place> {
        self.places.get_mut(key.index as usize).filter(|place| place.generation == key.generation)
    }

    /// The queue with this key, if it is still there.
    pub(crate) fn get(&self, key: QueueKey) -> Option<&Place> {
        self.places.get(key.index as usize).filter(|place| place.generation == key.generation)
    }

    /// All queues, always in the same order after the same story.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &FederationQueue> {
        self.places.iter().map(|(_, place)| &place.queue)
    }

    /// The keys of all queues.
    pub(crate) fn keys(&self) -> Vec<QueueKey> {
        let key =
            |(index, place): (usize, &Place)| QueueKey { index: index as u32, generation: place.generation };
        self.places.iter().map(key).collect()
    }

    /// The keys of the queues of those destinations.
    pub(crate) fn keys_where(&self, mut is_one: impl FnMut(&ServerName) -> bool) -> Vec<QueueKey> {
        let mut keys = self.keys();
        keys.retain(|key| self.get(*key).is_some_and(|place| is_one(place.queue.destination())));
        keys
    }

    /// How many names are known.
    pub(crate) fn names(&self) -> usize {
        self.known.len()
    }

    /// Puts a queue where it belongs after something has changed: into a line, to sleep, or out of the house.
    pub(crate) fn settle(
        &mut self,
        key: QueueKey,
        is_blocked: bool,
        is_memory_short: bool,
        limits: &ExternaliserLimits,
        at: Moment,
    ) {
        let Some(place) = self.places.get_mut(key.index as usize) else { return };
        let phase = place.queue.phase();
        if !matches!(phase, Phase::Ready | Phase::Waiting { .. }) {
            return;
        }
        if let Some(line) = place.sends.take() {
            self.lines.end(line);
            place.queue.release_surplus(is_memory_short);
        }
        let timer = match phase {
            Phase::Waiting { until } => Some(until),
            _ => None,
        };
        if timer != place.timer {
            place.timer.take().map(|old| self.timers.remove(&(old, key)));
            place.timer = timer.inspect(|new| {
                self.timers.insert((*new, key));
            });
        }
        if phase != Phase::Ready {
            return;
        }
        if place.queue.has_work(is_blocked) {
            // What has come may be more urgent than what it stands in line for.
            let line = place.queue.line(&limits.queue, is_memory_short, at);
            place.lined = Some(line);
            if place.named & line.bit() == 0 {
                place.named |= line.bit();
                self.lines.push(line, key);
            }
        } else if place.lined.is_none() && place.queue.is_over() {
            self.remove(key);
        }
    }

    /// Whose turn it is, with a place in its line; none when nobody waits or there is no room.
    pub(crate) fn next(
        &mut self,
        is_blocked: bool,
        is_memory_short: bool,
        limits: &ExternaliserLimits,
        at: Moment,
    ) -> Option<(Line, QueueKey)> {
        while let Some((line, key)) = self.lines.pop(limits, at.now) {
            let Some(place) = self.get_mut(key) else { continue };
            place.named &= !line.bit();
            if place.lined.take_if(|lined| *lined == line).is_none() {
                continue;
            }
            let is_ready = place.queue.phase() == Phase::Ready && place.queue.has_work(is_blocked);
            if !is_ready || place.queue.line(&limits.queue, is_memory_short, at) != line {
                self.settle(key, is_blocked, is_memory_short, limits, at);
                continue;
            }
            place.sends = Some(line);
            self.lines.begin(line, at.now);
            return Some((line, key));
        }
        None
    }

    /// The next queue whose wait is over.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<QueueKey> {
        if self.timers.first()?.0 > now {
            return None;
        }
        let (_, key) = self.timers.pop_first()?;
        let place = self.get_mut(key).expect("a queue takes its timer along");
        place.timer = None;
        Some(key)
    }

    /// When the next wait is over, or somebody's turn comes by the time.
    pub(crate) fn poll_timeout(&self, limits: &ExternaliserLimits) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.lines.poll_timeout(limits)).min()
    }

    fn remove(&mut self, key: QueueKey) {
        let place = self.places.remove(key.index as usize);
        place.timer.map(|timer| self.timers.remove(&(timer, key)));
        if let Some(known) = self.known.get_mut(place.queue.destination()) {
            known.place = None;
            (known.sizing, known.is_good) = place.queue.remembered();
        }
    }

    fn forget_surplus(&mut self, limits: &ExternaliserLimits) {
        // A queue's name gets another chance; with so many chances in a row most names have queues.
        for _ in 0..CHANCES {
            if self.known.len() < self.places.len() + limits.remembered_max {
                return;
            }
            let Some(name) = self.names.pop_front() else { return };
            if self.known.get(&name).is_some_and(|known| known.place.is_some()) {
                self.names.push_back(name);
            } else {
                self.known.remove(&name);
            }
        }
    }
}

fn add(places: &mut Slab<Place>, queue: FederationQueue, generation: u32) -> u32 {
    let place = Place { queue, sends: None, generation, lined: None, named: 0, timer: None };
    u32::try_from(places.insert(place)).expect("fewer than four thousand million queues fit into memory")
}

const CHANCES: usize = 64;
