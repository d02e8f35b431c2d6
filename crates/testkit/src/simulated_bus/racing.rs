//! Dialling: the race between the addresses of a peer, and what is found there.

use std::time::Duration;

use southbridge_policy::pool::Capacity;
use southbridge_policy::racing::{self, Race, RaceLimits, Try};
use southbridge_words::{ConnId, PeerId, Ticket};

use super::agenda::Within;
use super::driver::Simulation;
use super::homes::Found;
use super::hosts::Reach;

/// A connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) host: usize,
    /// The addresses that are tried, until one has answered.
    race: Race,
    /// Which move of its host it leads to, once the certificate was seen to be the host's.
    pub(super) verified: Option<u32>,
    remote: Option<std::net::SocketAddr>,
    pub(super) tickets: Vec<Ticket>,
}

impl Simulation<'_> {
    pub(super) fn dial(&mut self, conn: ConnId, peer: PeerId) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let route = process.names.route(peer).clone();
        let family = process.memory.preferred(now);
        let mut addresses = racing::order_preferring(family, &route.endpoints, &mut process.seeded);
        process.memory.arrange(&mut addresses, now);
        let race = Race::new(addresses, RaceLimits::default());
        let opening = Conn { host: route.host, race, verified: None, remote: None, tickets: Vec::new() };
        process.conns.insert(conn, opening);
        self.note("dial", conn.0, route.host as u64);
        self.try_addresses(conn);
    }

    /// Tries every address whose turn has come.
    pub(super) fn try_addresses(&mut self, conn: ConnId) {
        let now = self.now;
        loop {
            let Some(process) = &mut self.process else { return };
            let Some(opening) = process.conns.get_mut(&conn).filter(|conn| conn.remote.is_none()) else {
                return;
            };
            let host = opening.host;
            let Some(Try(address)) = opening.race.poll(now) else {
                if let Some(at) = opening.race.poll_timeout() {
                    self.add(at.saturating_since(now), Within::RaceStep(conn));
                }
                return;
            };
            let there = self.hosts[host].round_trip;
            let host = &self.hosts[host];
            let is_cut = host.is_cut_out || host.is_cut_back;
            let (after, is_up) =
                match (host.home.at(address.ip()), host.reach(self.spec, now, self.is_healed)) {
                    (Found::Itself, Reach::Open) if !is_cut => (there, true),
                    (Found::Itself, Reach::Refusing) if !is_cut => (there, false),
                    (Found::Stranger, _) => (there, true),
                    (Found::Nobody, _) => (there, false),
                    _ => (CONNECT_TIMEOUT, false),
                };
            self.add(after, Within::Tried(conn, address, is_up));
        }
    }

    pub(super) fn on_tried(&mut self, conn: ConnId, address: std::net::SocketAddr, is_up: bool) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(opening) = process.conns.get_mut(&conn).filter(|conn| conn.remote.is_none()) else { return };
        if is_up {
            opening.remote = Some(address);
            process.memory.handle_connected(address, now);
            return process.pool.handle_dialled(conn, now);
        }
        opening.race.handle_failed(address, now);
        let is_over = opening.race.is_exhausted();
        process.memory.handle_failed(address, now);
        if is_over { self.lose_opening(conn) } else { self.try_addresses(conn) }
    }

    /// TLS: whoever is there shows a certificate.
    pub(super) fn on_shaken(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        let Some(opening) = process.conns.get_mut(&conn) else { return };
        let home = &self.hosts[opening.host].home;
        let found = opening.remote.map_or(Found::Nobody, |remote| home.at(remote.ip()));
        if found != Found::Itself {
            self.note("not verified", conn.0, 0);
            return self.lose_opening(conn);
        }
        opening.verified = Some(home.moves);
        let is_shared = opening.host.is_multiple_of(3);
        let capacity = if is_shared { Capacity::Shared { streams_max: 10 } } else { Capacity::Exclusive };
        process.pool.handle_connected(conn, capacity, now);
    }

    fn lose_opening(&mut self, conn: ConnId) {
        let now = self.now;
        let Some(process) = &mut self.process else { return };
        if let Some(lost) = process.conns.remove(&conn) {
            process.pool.handle_connect_failed(conn, now);
            self.distrust(lost.host);
        }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
