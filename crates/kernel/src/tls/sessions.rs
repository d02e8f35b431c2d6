//! Remembers TLS sessions, so that meeting a peer again costs no certificate check.
//!
//! rustls's own store keeps up to eight tickets a host, each with the peer's whole chain reachable from it. Here it
//! is the newest two, for as many hosts as the limit says; the host that came first is forgotten first.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::NamedGroup;
use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls_pki_types::ServerName;

/// A bounded store of sessions.
///
/// rustls wants to share it between threads, hence the lock; only the I/O thread ever takes it.
pub(super) struct SessionStore {
    hosts_max: usize,
    hosts: Mutex<Hosts>,
}

#[derive(Default)]
struct Hosts {
    sessions: HashMap<ServerName<'static>, Sessions>,
    /// Exactly the keys of `sessions`, the oldest first.
    order: VecDeque<ServerName<'static>>,
}

/// What is known of one host. Two tickets, because two connections may be opened at the same time, and each ticket
/// is used once (RFC 8446 appendix C.4).
#[derive(Default)]
struct Sessions {
    group: Option<NamedGroup>,
    // Boxed: a map is half empty most of the time, and each of these is 200 bytes.
    tls12: Option<Box<Tls12ClientSessionValue>>,
    newest: Option<Box<Tls13ClientSessionValue>>,
    older: Option<Box<Tls13ClientSessionValue>>,
}

impl SessionStore {
    /// A store for at most `hosts_max` hosts.
    pub(super) fn new(hosts_max: usize) -> Self {
        Self { hosts_max, hosts: Mutex::default() }
    }

    fn hosts(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, name: ServerName<'static>, change: impl FnOnce(&mut Sessions)) {
        if self.hosts_max == 0 {
            return;
        }
        let mut hosts = self.hosts();
        if let Some(sessions) = hosts.sessions.get_mut(&name) {
            change(sessions);
            return;
        }
        if hosts.sessions.len() >= self.hosts_max
            && let Some(oldest) = hosts.order.pop_front()
        {
            hosts.sessions.remove(&oldest);
        }
        hosts.order.push_back(name.clone());
        change(hosts.sessions.entry(name).or_default());
    }

    fn look<T>(&self, name: &ServerName<'_>, take: impl FnOnce(&mut Sessions) -> Option<T>) -> Option<T> {
        // The name is only borrowed for the call; the map's key type wants it for ever.
        self.hosts().sessions.get_mut(&name.to_owned()).and_then(take)
    }
}

impl ClientSessionStore for SessionStore {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.edit(server_name, |sessions| sessions.group = Some(group));
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.look(server_name, |sessions| sessions.group)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.edit(server_name, |sessions| sessions.tls12 = Some(Box::new(value)));
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.look(server_name, |sessions| sessions.tls12.as_deref().cloned())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.look(server_name, |sessions| sessions.tls12.take());
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.edit(server_name, |sessions| {
            sessions.older = sessions.newest.replace(Box::new(value));
        });
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.look(server_name, |sessions| {
            sessions.newest.take().or_else(|| sessions.older.take()).map(|value| *value)
        })
    }
}

impl fmt::Debug for SessionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore").field("hosts_max", &self.hosts_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> ServerName<'static> {
        ServerName::try_from(format!("host{number}.example")).unwrap()
    }

    #[test]
    fn the_host_that_came_first_is_forgotten_first() {
        let store = SessionStore::new(3);
        for number in 0..5 {
            store.set_kx_hint(name(number), NamedGroup::X25519);
            store.set_kx_hint(name(number), NamedGroup::secp256r1);
        }
        let known: Vec<_> = (0..5).map(|number| store.kx_hint(&name(number)).is_some()).collect();
        assert_eq!(known, [false, false, true, true, true]);
        assert_eq!(store.hosts().order.len(), 3);
    }

    #[test]
    fn a_store_for_nobody_remembers_nobody() {
        let store = SessionStore::new(0);
        store.set_kx_hint(name(1), NamedGroup::X25519);
        assert_eq!(store.kx_hint(&name(1)), None);
    }
}
