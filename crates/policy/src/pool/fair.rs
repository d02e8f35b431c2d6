//! Weighted turns: who goes next among a few that compete for something scarce.
//!
//! Each has a *pass*, which grows by its *stride* whenever it is served; the least pass goes next. Who
//! has nothing to do, or may not go, does not save up turns: it comes back with the pass of the last one
//! that was served. Among those who came back together, the one that was served longest ago goes first;
//! so everybody goes who may go again and again, however much goes on in between.
//!
//! There are two levels, since those who may go at different times cannot be weighed against each other:
//! first a *group* (a lane, or a way to be served), all of which may go or may not, then a class in it.
//!
//! # Source
//! F14. Stride scheduling (Waldspurger and Weihl, 1995), with the virtual time of start-time fair queueing.

use southbridge_words::{Class, PerClass};

/// Whose turn it is among the classes of some groups.
#[derive(Debug)]
pub(super) struct Turns<const GROUPS: usize> {
    groups: Passes<GROUPS>,
    classes: [Passes<CLASSES>; GROUPS],
}

/// What a turn costs each class in each group.
pub(super) type Strides<const GROUPS: usize> = [PerClass<u64>; GROUPS];

impl<const GROUPS: usize> Turns<GROUPS> {
    pub(super) const fn new() -> Self {
        Self { groups: Passes::NEW, classes: [Passes::NEW; GROUPS] }
    }

    /// The group and class that go next among those that are `ready`; they are charged for it.
    pub(super) fn next(
        &mut self,
        strides: &Strides<GROUPS>,
        ready: impl Fn(usize, Class) -> bool,
    ) -> Option<(usize, Class)> {
        let is_ready = |group: usize| Class::ALL.into_iter().any(|class| ready(group, class));
        let group = self.groups.least(is_ready)?;
        let number = self.classes[group].least(|number| ready(group, Class::ALL[number]))?;
        let class = Class::ALL[number];
        let stride = strides[group][class];
        self.groups.charge(group, stride);
        self.classes[group].charge(number, stride);
        Some((group, class))
    }
}

/// The strides of classes with `weights`, in groups whose turns cost `costs` times those of others.
pub(super) fn strides<const GROUPS: usize>(weights: &PerClass<u32>, costs: [u64; GROUPS]) -> Strides<GROUPS> {
    costs.map(|cost| PerClass(weights.0.map(|weight| (STRIDE_UNIT * cost / u64::from(weight.max(1))).max(1))))
}

/// The passes of some who compete.
#[derive(Debug)]
struct Passes<const N: usize> {
    passes: [u64; N],
    time: u64,
}

impl<const N: usize> Passes<N> {
    const NEW: Self = Self { passes: [0; N], time: 0 };

    fn least(&self, ready: impl Fn(usize) -> bool) -> Option<usize> {
        let pass = |who: &usize| (self.passes[*who].max(self.time), self.passes[*who]);
        (0..N).filter(|who| ready(*who)).min_by_key(pass)
    }

    fn charge(&mut self, who: usize, stride: u64) {
        self.time = self.time.max(self.passes[who]);
        self.passes[who] = self.time + stride;
    }
}

const CLASSES: usize = Class::ALL.len();
// The greatest stride is 32 units, or 2^21: a million turns a second of nothing else last for a hundred days.
const STRIDE_UNIT: u64 = super::limits::WEIGHT_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: PerClass<u32> = PerClass([16, 12, 8, 6, 3, 1]);

    fn count(turns: &[(usize, Class)], which: (usize, Class)) -> usize {
        turns.iter().filter(|turn| **turn == which).count()
    }

    /// Two classes that always want: turns are shared as the weights are, and the lighter one goes too.
    #[test]
    fn turns_are_shared_by_weight() {
        let strides = strides(&WEIGHTS, [1]);
        let mut turns = Turns::new();
        let wants = |_: usize, class| class == Class::Media || class == Class::Backfill;
        let order: Vec<(usize, Class)> = (0..40).filter_map(|_| turns.next(&strides, wants)).collect();
        assert_eq!((count(&order, (0, Class::Media)), count(&order, (0, Class::Backfill))), (30, 10));
    }

    /// One class sleeps for a thousand turns. When it wakes, it gets its share and no more.
    #[test]
    fn turns_are_not_saved_up() {
        let strides = strides(&PerClass([1; 6]), [1]);
        let mut turns = Turns::new();
        for _ in 0..1000 {
            turns.next(&strides, |_, class| class == Class::Live);
        }
        let wants = |_: usize, class| class == Class::Live || class == Class::Backfill;
        let order: Vec<(usize, Class)> = (0..10).filter_map(|_| turns.next(&strides, wants)).collect();
        assert_eq!(count(&order, (0, Class::Backfill)), 5);
    }

    /// Two groups may go only seldom, while a third goes all the time. Neither of the two keeps the other
    /// out, and the classes of one keep their weights.
    #[test]
    fn who_may_seldom_go_goes_at_last() {
        let strides = strides(&WEIGHTS, [1, 4, 32]);
        let mut turns = Turns::new();
        let mut order = Vec::new();
        for _ in 0..68 {
            for _ in 0..1000 {
                turns.next(&strides, |group, class| group == 0 && class == Class::Interactive);
            }
            let wants = |group: usize, class| group > 0 && class != Class::Live;
            order.extend(turns.next(&strides, wants));
        }
        let of_group = |group: usize| order.iter().filter(|turn| turn.0 == group).count();
        assert_eq!((of_group(1), of_group(2)), (34, 34));
        assert!(count(&order, (2, Class::Interactive)) > 3 * count(&order, (2, Class::Media)), "{order:?}");
        assert!(count(&order, (1, Class::Backfill)) > 0);
    }

    #[test]
    fn nobody_ready_means_nobody_next() {
        assert_eq!(Turns::<3>::new().next(&strides(&WEIGHTS, [1; 3]), |_, _| false), None);
    }
}
