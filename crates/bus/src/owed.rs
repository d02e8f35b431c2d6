//! What is owed to whom, where a homeserver keeps the truth itself: how far each destination has come in *its* order.
//!
//! A homeserver such as Synapse numbers its events (stream orderings) and remembers for each destination up to where
//! everything was sent. It may hand in 105 before 103, because rooms go side by side; what it can be told after 105 was
//! delivered is then 102, and not 105. And a destination that takes nothing for too long is given back: the homeserver
//! hears from where on it has to catch up, and nothing of it is held any more.
//!
//! # Units
//! Positions are the homeserver's. The *floor* is the position up to which it has handed in everything that there was to
//! hand in; a place above it is not told before, for something below it may still come.
//!
//! # Source
//! F7, F15, F21 (b); decision 0016.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};
use southbridge_words::{Instant, Seq, ServerName};

/// When a destination is given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwedLimits {
    /// How long the first item in its line may wait. Default 20 min: about what Synapse itself tries before it calls a
    /// destination down for the first time.
    pub age_max: Duration,
    /// How many items may wait for it. Default 5,000.
    pub items_max: usize,
    /// Bytes of all items that wait, each counted once. Default 64 MiB; beyond that, those who have waited longest are
    /// given back until three quarters are left.
    pub bytes_max: usize,
}

impl Default for OwedLimits {
    fn default() -> Self {
        Self { age_max: Duration::from_secs(20 * 60), items_max: 5_000, bytes_max: 64 << 20 }
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Owed {
    limits: OwedLimits,
    lines: FxHashMap<ServerName, Line>,
    /// Those of which something may be told.
    changed: FxHashSet<ServerName>,
    bytes: Rc<Cell<usize>>,
}

/// One item that was handed in, shared by all who wait for it.
#[derive(Clone, Debug)]
pub struct Handed(Rc<Item>);

#[derive(Debug)]
struct Item {
    position: u64,
    since: Instant,
    bytes: usize,
    /// Where it stands in the outbox, once it was accepted.
    seq: Cell<Option<Seq>>,
    all_bytes: Rc<Cell<usize>>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Handed>,
    /// The highest position that was delivered.
    delivered: Option<u64>,
    /// From where on it must catch up, if it was given back.
    given_back: Option<u64>,
}

/// What there is to be told of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who.
    pub destination: ServerName,
    /// Everything up to here that was for it was delivered.
    pub position: u64,
    /// Whether what comes after that is the homeserver's business again.
    pub is_given_back: bool,
}

impl Handed {
    /// It was accepted, and stands here.
    pub fn accepted(&self, seq: Seq) {
        self.0.seq.set(Some(seq));
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.all_bytes.set(self.all_bytes.get() - self.bytes);
    }
}

impl Owed {
    /// Nothing is owed to anybody.
    pub fn new(limits: OwedLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// An item of `bytes` bytes at `position` is handed in for `destinations`; gives those that it is really for. Whoever
    /// was given back and not told of yet catches up on this one as well.
    pub fn hand_in(
        &mut self,
        position: u64,
        bytes: usize,
        destinations: impl IntoIterator<Item = ServerName>,
        now: Instant,
    ) -> (Handed, Vec<ServerName>) {
        let (seq, all_bytes) = (Cell::new(None), Rc::clone(&self.bytes));
        self.bytes.set(self.bytes.get() + bytes);
        let handed = Handed(Rc::new(Item { position, since: now, bytes, seq, all_bytes }));
        let mut taken = Vec::new();
        for destination in destinations {
            let line = self.lines.entry(destination.clone()).or_default();
            if let Some(from) = &mut line.given_back {
                *from = (*from).min(position.saturating_sub(1));
                continue;
            }
            line.waiting.push_back(handed.clone());
            // What was told may not hold any more.
            if line.delivered.is_some_and(|delivered| delivered >= position) {
                self.changed.insert(destination.clone());
            }
            taken.push(destination);
        }
        (handed, taken)
    }

    /// `destination` has everything up to `upto`.
    pub fn handle_delivered(&mut self, destination: &ServerName, upto: Seq) {
        let Some(line) = self.lines.get_mut(destination) else { return };
        let has_come = |handed: &Handed| handed.0.seq.get().is_some_and(|seq| seq <= upto);
        let come = line.waiting.iter().take_while(|handed| has_come(handed)).count();
        for handed in line.waiting.drain(..come) {
            line.delivered = line.delivered.max(Some(handed.0.position));
        }
        if !self.changed.contains(destination) {
            self.changed.insert(destination.clone());
        }
    }

    /// `destination` gets no more of what waits for it.
    pub fn give_back(&mut self, destination: &ServerName) {
        let Some(line) = self.lines.get_mut(destination) else { return };
        let Some(from) = line.place() else { return };
        line.given_back = line.given_back.map_or(Some(from), |before| Some(before.min(from)));
        line.waiting.clear();
        self.changed.insert(destination.clone());
    }

    /// Who is to be given back now: has waited too long, or for too much. Whoever `is_spared` may wait longer, but not for
    /// more.
    pub fn overdue(&self, now: Instant, is_spared: impl Fn(&ServerName) -> bool) -> Vec<ServerName> {
        let OwedLimits { age_max, items_max, bytes_max } = self.limits;
        let mut waiting: Vec<(Instant, &ServerName, &Line)> = self
            .lines
            .iter()
            .filter_map(|(name, line)| Some((line.waiting.front()?.0.since, name, line)))
            .collect();
        if self.bytes.get() > bytes_max {
            // Those who have waited longest hold the oldest items, and most of them.
            waiting.sort_unstable_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
            let quarter = waiting.len().div_ceil(4);
            waiting.truncate(quarter);
            return waiting.into_iter().map(|(_, name, _)| name.clone()).collect();
        }
        waiting.retain(|(since, name, line)| {
            let is_late = now.saturating_since(*since) >= age_max && !is_spared(name);
            is_late || line.waiting.len() > items_max
        });
        waiting.into_iter().map(|(_, name, _)| name.clone()).collect()
    }

    /// Everybody for whom something waits.
    pub fn everybody(&self) -> Vec<ServerName> {
        self.lines.iter().filter(|(_, line)| !line.waiting.is_empty()).map(|(name, _)| name.clone()).collect()
    }

    /// What there is to be told, now that everything up to `floor` has been handed in. Told once.
    pub fn take(&mut self, floor: u64) -> Vec<Told> {
        let mut told = Vec::new();
        let lines = &mut self.lines;
        self.changed.retain(|destination| {
            let Some(line) = lines.get_mut(destination) else { return false };
            let is_given_back = line.given_back.is_some();
            let Some(place) = line.given_back.or_else(|| line.place()) else { return false };
            if place > floor && !is_given_back {
                return true;
            }
            let position = place.min(floor);
            told.push(Told { destination: destination.clone(), position, is_given_back });
            if line.waiting.is_empty() {
                lines.remove(destination);
            }
            false
        });
        told
    }

    /// Items that wait, counted for each destination.
    pub fn waiting(&self) -> usize {
        self.lines.values().map(|line| line.waiting.len()).sum()
    }

    /// Destinations for which something waits.
    pub fn destinations(&self) -> usize {
        self.lines.values().filter(|line| !line.waiting.is_empty()).count()
    }

    /// Bytes of the items that wait.
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }
}

impl Line {
    /// Up to where nothing is missing.
    fn place(&self) -> Option<u64> {
        let missing = self.waiting.iter().map(|handed| handed.0.position).min();
        let before = missing.map(|position| position.saturating_sub(1));
        match (self.delivered, before) {
            (Some(delivered), Some(before)) => Some(delivered.min(before)),
            (one, other) => one.or(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServerName {
        ServerName::parse(text).unwrap()
    }

    /// Hands in, and has it accepted at `seq`.
    fn hand_in(owed: &mut Owed, position: u64, seq: u64, to: &[&str], now: Instant) -> usize {
        let (handed, taken) = owed.hand_in(position, 100, to.iter().map(|it| name(it)), now);
        handed.accepted(Seq(seq));
        taken.len()
    }

    fn told(destination: &str, position: u64) -> Told {
        Told { destination: name(destination), position, is_given_back: false }
    }

    const T0: Instant = Instant::ZERO;

    /// Rooms go side by side: 105 comes before 103. What was delivered is told as far as nothing is missing.
    #[test]
    fn a_place_is_told_up_to_the_first_gap() {
        let mut owed = Owed::new(OwedLimits::default());
        hand_in(&mut owed, 105, 1, &["a.test"], T0);
        hand_in(&mut owed, 103, 2, &["a.test"], T0);
        owed.handle_delivered(&name("a.test"), Seq(1));
        assert_eq!(owed.take(200), [told("a.test", 102)]);
        owed.handle_delivered(&name("a.test"), Seq(2));
        assert_eq!(owed.take(200), [told("a.test", 105)]);
        assert_eq!((owed.take(200), owed.waiting(), owed.bytes()), (vec![], 0, 0));
    }

    /// As long as something may still come below it, a place is not told.
    #[test]
    fn nothing_above_the_floor_is_told() {
        let mut owed = Owed::new(OwedLimits::default());
        hand_in(&mut owed, 105, 1, &["a.test"], T0);
        owed.handle_delivered(&name("a.test"), Seq(1));
        assert_eq!(owed.take(101), []);
        hand_in(&mut owed, 103, 2, &["a.test"], T0);
        assert_eq!(owed.take(105), [told("a.test", 102)]);
        owed.handle_delivered(&name("a.test"), Seq(2));
        assert_eq!(owed.take(105), [told("a.test", 105)]);
    }

    /// Nobody answers for twenty minutes: the homeserver hears from where on to catch up, and what comes before it has
    /// heard is its business as well.
    #[test]
    fn who_takes_nothing_is_given_back() {
        let mut owed = Owed::new(OwedLimits::default());
        hand_in(&mut owed, 10, 1, &["a.test", "b.test"], T0);
        hand_in(&mut owed, 11, 2, &["a.test", "b.test"], T0);
        owed.handle_delivered(&name("a.test"), Seq(1));
        owed.handle_delivered(&name("b.test"), Seq(2));
        let late = T0 + OwedLimits::default().age_max;
        assert_eq!(owed.overdue(late, |one| *one == name("a.test")), [], "it is spared");
        assert_eq!(owed.overdue(late, |_| false), [name("a.test")]);
        owed.give_back(&name("a.test"));
        assert_eq!(hand_in(&mut owed, 12, 3, &["a.test", "b.test"], late), 1);
        let mut all = owed.take(12);
        all.sort_unstable_by(|one, other| one.destination.cmp(&other.destination));
        assert_eq!(all, [Told { is_given_back: true, ..told("a.test", 10) }, told("b.test", 11)]);
        assert_eq!(hand_in(&mut owed, 13, 4, &["a.test"], late), 1, "it has been told");
    }

    /// Too many bytes: those who have waited longest go first, and what nobody waits for any more is not counted.
    #[test]
    fn under_pressure_the_slowest_are_given_back() {
        let mut owed = Owed::new(OwedLimits { bytes_max: 250, ..OwedLimits::default() });
        let at = |seconds| T0 + Duration::from_secs(seconds);
        hand_in(&mut owed, 1, 1, &["a.test", "b.test"], at(0));
        hand_in(&mut owed, 2, 2, &["b.test", "c.test"], at(1));
        assert_eq!(owed.overdue(at(2), |_| false), []);
        hand_in(&mut owed, 3, 3, &["d.test"], at(2));
        assert_eq!((owed.bytes(), owed.overdue(at(2), |_| false)), (300, vec![name("a.test")]));
        owed.give_back(&name("a.test"));
        owed.give_back(&name("b.test"));
        assert_eq!((owed.bytes(), owed.destinations()), (200, 2));
    }

    /// A line that only grows ends at its bound.
    #[test]
    fn a_line_has_a_bound() {
        let mut owed = Owed::new(OwedLimits { items_max: 3, ..OwedLimits::default() });
        (1..=4).for_each(|at| assert_eq!(hand_in(&mut owed, at, at, &["a.test"], T0), 1));
        assert_eq!(owed.overdue(T0, |_| true), [name("a.test")], "nobody is spared from it");
    }
}
