//! Weighted turns: who goes next among a few flows that compete for something scarce.
//!
//! Each flow has a *pass*, which grows by its *stride* whenever it is served; the least pass goes
//! next. A flow that had nothing to do, or was not allowed to go, does not save up turns.
//!
//! # Source
//! F14. Stride scheduling (Waldspurger and Weihl, 1995), with the virtual time of start-time fair queueing.

/// Whose turn it is among `N` flows.
#[derive(Debug)]
pub(super) struct Fair<const N: usize> {
    passes: [u64; N],
    time: u64,
}

impl<const N: usize> Fair<N> {
    pub(super) const fn new() -> Self {
        Self { passes: [0; N], time: 0 }
    }

    /// The flow that goes next among those that are `ready`; it is charged its stride.
    pub(super) fn next(&mut self, strides: &[u64; N], ready: impl Fn(usize) -> bool) -> Option<usize> {
        let pass = |flow: &usize| self.passes[*flow].max(self.time);
        let flow = (0..N).filter(|flow| ready(*flow)).min_by_key(pass)?;
        self.time = pass(&flow);
        self.passes[flow] = self.time + strides[flow];
        Some(flow)
    }
}

/// The stride of a flow with `weight`, whose turns cost `cost` times those of others.
pub(super) fn stride(weight: u32, cost: u64) -> u64 {
    // The greatest stride is 2^21 in 2^64: at a million turns a second that lasts for a hundred days of nothing else.
    (STRIDE_UNIT * cost / u64::from(weight.max(1))).max(1)
}

const STRIDE_UNIT: u64 = super::limits::WEIGHT_MAX as u64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two flows that always want: turns are shared as the weights are, and the lighter one goes too.
    #[test]
    fn turns_are_shared_by_weight() {
        let strides = [stride(3, 1), stride(1, 1)];
        let mut fair = Fair::new();
        let turns: Vec<usize> = (0..8).filter_map(|_| fair.next(&strides, |_| true)).collect();
        assert_eq!(turns.iter().filter(|flow| **flow == 1).count(), 2, "{turns:?}");
    }

    /// One flow sleeps for a thousand turns. When it wakes, it gets its share and no more.
    #[test]
    fn turns_are_not_saved_up() {
        let strides = [stride(1, 1); 2];
        let mut fair = Fair::new();
        for _ in 0..1000 {
            assert_eq!(fair.next(&strides, |flow| flow == 0), Some(0));
        }
        let turns: Vec<usize> = (0..10).filter_map(|_| fair.next(&strides, |_| true)).collect();
        assert_eq!(turns.iter().filter(|flow| **flow == 1).count(), 5, "{turns:?}");
    }

    #[test]
    fn nobody_ready_means_nobody_next() {
        assert_eq!(Fair::<3>::new().next(&[1; 3], |_| false), None);
    }
}
