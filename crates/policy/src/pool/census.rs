//! The connections of one peer, counted: what it has is asked for at every turn, and changes seldom.

use super::connection::{Conn, Stage};
use super::peer::LANES;

/// The connections of one peer, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    /// All.
    pub(super) total: u32,
    /// From dial to the end of the handshake.
    pub(super) connecting: u32,
    /// Of those, how many wait for a handshake slot of ours.
    pub(super) queued: u32,
    /// Open, one request at a time.
    pub(super) exclusive: u32,
    /// Open, and to give back the slot it holds.
    pub(super) resting: u32,
    /// Open and taking no new requests.
    pub(super) draining: u32,
}

impl Census {
    /// Connections that serve waiting requests, or will.
    pub(super) fn serving(&self) -> u32 {
        self.total - self.draining
    }

    /// Counts `after` in the place of `before`.
    pub(super) fn replace(&mut self, before: &Self, after: &Self) {
        let swap = |count: &mut u32, before: u32, after: u32| *count = *count - before + after;
        swap(&mut self.total, before.total, after.total);
        swap(&mut self.connecting, before.connecting, after.connecting);
        swap(&mut self.queued, before.queued, after.queued);
        swap(&mut self.exclusive, before.exclusive, after.exclusive);
        swap(&mut self.resting, before.resting, after.resting);
        swap(&mut self.draining, before.draining, after.draining);
    }
}

impl Conn {
    /// What it adds to the census of its peer.
    pub(super) fn counted(&self) -> Census {
        Census {
            total: 1,
            connecting: u32::from(!self.is_open()),
            queued: u32::from(matches!(self.stage, Stage::Queued(_))),
            exclusive: u32::from(self.is_open() && !self.shared),
            resting: u32::from(LANES.into_iter().any(|lane| self.rests(lane))),
            draining: u32::from(self.draining),
        }
    }
}
