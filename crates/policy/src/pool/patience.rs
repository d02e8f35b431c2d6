//! Attempts that take long while somebody waits for what they hold: dials and TLS handshakes.
//!
//! A host that swallows every SYN holds its dial until the kernel's timeout, and one that accepts TCP and
//! says nothing holds a TLS slot. While there is room, that is nobody's loss. When somebody waits for the
//! place, an attempt that has lasted for [`PoolLimits::dial_patience`](super::PoolLimits::dial_patience), or
//! [`handshake_patience`](super::PoolLimits::handshake_patience), is given up: those of the limited lane
//! before those of the open one, and of each the longest first. No more is given up than is needed.
//!
//! # Source
//! F5 and F12; faults row 1: a thousand black holes must not keep healthy hosts waiting.

use std::collections::BTreeSet;
use std::ops::BitOr;
use std::time::Duration;

use southbridge_words::{ConnId, Instant};

use super::Pool;
use super::connection::Conn;
use super::peer::LANES;
use super::terms::Action;
use super::turns::Way;
use crate::lane::Lane;

/// What somebody waits for, or something holds: places of several kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places(u8);

impl Places {
    /// Among all connections.
    pub(super) const CONNECTION: Self = Self(1);
    /// Among those of the limited lane.
    pub(super) const LIMITED_CONNECTION: Self = Self(1 << 1);
    /// Among all dials.
    pub(super) const DIAL: Self = Self(1 << 2);
    /// Among those of the limited lane.
    pub(super) const LIMITED_DIAL: Self = Self(1 << 3);
    /// Among all TLS handshakes.
    pub(super) const HANDSHAKE: Self = Self(1 << 4);
    /// Among those of the limited lane.
    pub(super) const LIMITED_HANDSHAKE: Self = Self(1 << 5);

    /// These, if `lacking`; else none.
    pub(super) fn when(self, lacking: bool) -> Self {
        if lacking { self } else { Self::default() }
    }

    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }

    fn are_all_in(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }
}

impl BitOr for Places {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a connection on its way is kept waiting by, and what it holds meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// By the peer's TCP.
    Dial,
    /// By the peer's TLS.
    Handshake,
}

impl Effort {
    const fn holds(self, lane: Lane) -> Places {
        let (all, limited) = match self {
            Self::Dial => (Places::DIAL.0, Places::LIMITED_DIAL.0),
            Self::Handshake => (Places::HANDSHAKE.0, Places::LIMITED_HANDSHAKE.0),
        };
        match lane {
            Lane::Open => Places(all | Places::CONNECTION.0),
            Lane::Limited => Places(all | limited | Places::CONNECTION.0 | Places::LIMITED_CONNECTION.0),
        }
    }
}

/// Where an effort stands: its kind, its lane, and since when it lasts.
pub(super) type Standing = (Effort, Lane, Instant);

/// All efforts by kind and lane, the longest first.
#[derive(Debug, Default)]
pub(super) struct Efforts {
    standing: [[BTreeSet<(Instant, ConnId)>; LANES.len()]; 2],
}

impl Efforts {
    /// Moves `conn` from where it stood to where it stands now.
    pub(super) fn replace(&mut self, conn: ConnId, before: Option<Standing>, after: Option<Standing>) {
        if before == after {
            return;
        }
        if let Some((effort, lane, since)) = before {
            self.standing[effort as usize][lane as usize].remove(&(since, conn));
        }
        if let Some((effort, lane, since)) = after {
            self.standing[effort as usize][lane as usize].insert((since, conn));
        }
    }

    fn of(&self, effort: Effort, lane: Lane) -> impl Iterator<Item = (Instant, ConnId)> {
        self.standing[effort as usize][lane as usize].iter().copied()
    }

    #[cfg(test)]
    pub(super) fn holds(&self, conn: ConnId, (effort, lane, since): Standing) -> bool {
        self.standing[effort as usize][lane as usize].contains(&(since, conn))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.standing.as_flattened().iter().map(BTreeSet::len).sum()
    }
}

/// Somebody who waits for places that an effort may hold.
#[derive(Clone, Copy, Debug)]
struct Lack {
    places: Places,
    /// In which way they would be served; `None` for a connection that waits for its TLS slot.
    way: Option<Way>,
}

impl Pool {
    /// Gives up one effort that has lasted for too long, if somebody waits for what it holds. Whether there
    /// was one.
    pub(super) fn give_up(&mut self) -> bool {
        if self.nobody_lacks() {
            return false;
        }
        let due = self.impatience().find(|(at, _)| *at <= self.now);
        let Some((_, conn)) = due else { return false };
        self.actions.push_back(Action::GiveUp { conn });
        self.fail(conn);
        true
    }

    /// When the next effort is given up, if nothing happens before.
    pub(super) fn next_given_up_at(&self) -> Option<Instant> {
        if self.nobody_lacks() { None } else { self.impatience().map(|(at, _)| at).min() }
    }

    /// Which efforts are to be given up, and when: for everyone who waits the first of each kind and lane
    /// that would help, in the order in which they are to go.
    fn impatience(&self) -> impl Iterator<Item = (Instant, ConnId)> {
        self.lacks().flat_map(move |lack| {
            let helps = move |(effort, lane): &(Effort, Lane)| lack.places.are_all_in(effort.holds(*lane));
            ORDER.into_iter().filter(helps).filter_map(move |(effort, lane)| {
                // Only those of a peer that waits alone are passed over, and a peer has few.
                let (since, conn) = self
                    .efforts
                    .of(effort, lane)
                    .find(|(_, conn)| self.is_for_another(self.conn(*conn), lack.way))?;
                Some((since + self.patience(effort), conn))
            })
        })
    }

    /// Whether it can be seen at a glance that nobody waits for what efforts may hold.
    fn nobody_lacks(&self) -> bool {
        self.seats.are_empty() && self.dialled.are_empty()
    }

    /// Who waits for what efforts may hold.
    fn lacks(&self) -> impl Iterator<Item = Lack> {
        let ways = [Way::Dial, Way::DialLimited, Way::WarmLimited, Way::Promise];
        let for_turns = ways.into_iter().filter_map(|way| {
            let is_waiting = self.seated(way) > 0 && !self.is_held_up(way);
            is_waiting.then(|| Lack { places: self.lacking(way), way: Some(way) })
        });
        let for_tls = LANES.into_iter().filter_map(|lane| {
            let is_waiting = !self.dialled.is_empty(lane as usize);
            is_waiting.then(|| Lack { places: self.lacking_for_handshake(lane), way: None })
        });
        for_turns.chain(for_tls).filter(|lack| !lack.places.is_none())
    }

    /// What is lacking to start a handshake of `lane`.
    pub(super) fn lacking_for_handshake(&self, lane: Lane) -> Places {
        let (usage, limits) = (&self.usage, &self.limits);
        let limited = lane == Lane::Limited && usage.limited_handshakes >= limits.limited_handshakes_max;
        Places::HANDSHAKE.when(usage.handshakes >= limits.handshakes_max)
            | Places::LIMITED_HANDSHAKE.when(limited)
    }

    /// Whether somebody waits to go `way` who is not of the peer of `conn`: an attempt is not given up to try the
    /// same again.
    fn is_for_another(&self, conn: &Conn, way: Option<Way>) -> bool {
        let Some(way) = way else { return true };
        let room = self.peers.get(&conn.peer).and_then(|peer| peer.room.as_ref());
        self.seated(way) > room.map_or(0, |room| room.seats(way))
    }

    fn patience(&self, effort: Effort) -> Duration {
        match effort {
            Effort::Dial => self.limits.dial_patience,
            Effort::Handshake => self.limits.handshake_patience,
        }
    }
}

/// Who is given up first.
const ORDER: [(Effort, Lane); 4] = [
    (Effort::Dial, Lane::Limited),
    (Effort::Handshake, Lane::Limited),
    (Effort::Dial, Lane::Open),
    (Effort::Handshake, Lane::Open),
];
