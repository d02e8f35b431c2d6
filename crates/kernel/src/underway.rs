//! The requests that are under way, each with where it is and since when (K13).

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use slab::Slab;
use southbridge_words::{Class, Instant, PeerId, ServiceName, Step, Ticket};

use crate::exchange::About;

/// All requests under way.
#[derive(Default)]
pub(crate) struct Underway {
    entries: RefCell<Slab<Rc<Entry>>>,
    ticket_next: Cell<u64>,
}

/// One request under way.
pub(crate) struct Entry {
    ticket: Ticket,
    service: ServiceName,
    class: Class,
    started_at: Instant,
    step: Cell<Step>,
    remote: Cell<Option<SocketAddr>>,
    peer: Cell<Option<PeerId>>,
    deadline: Cell<Option<Instant>>,
    about: OnceCell<Rc<About>>,
}

/// Keeps a request in the list until it is dropped.
pub(crate) struct Mark {
    underway: Rc<Underway>,
    key: usize,
    entry: Rc<Entry>,
}

/// One request, as `/debug/requests` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct RequestView {
    /// Its number.
    pub ticket: String,
    /// For whom it is.
    pub service: String,
    /// How urgent it is.
    pub class: &'static str,
    /// Where it is: what it is doing or waiting for.
    pub step: &'static str,
    /// Milliseconds since it came in.
    pub age_ms: u64,
    /// The address it was sent to, once it was.
    pub endpoint: Option<String>,
    /// Milliseconds until its time is up; zero when it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_in_ms: Option<u64>,
    /// What is asked, where whoever asks has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Of what, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The mark under which it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
}

impl Underway {
    /// A request for `service` comes in.
    pub(crate) fn enter(self: &Rc<Self>, service: &ServiceName, class: Class, now: Instant) -> Mark {
        let number = self.ticket_next.get();
        self.ticket_next.set(number + 1);
        let entry = Rc::new(Entry {
            ticket: Ticket(number),
            service: service.clone(),
            class,
            started_at: now,
            step: Cell::new(Step::Admission),
            remote: Cell::new(None),
            peer: Cell::new(None),
            deadline: Cell::new(None),
            about: OnceCell::new(),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Mark { underway: Rc::clone(self), key, entry }
    }

    /// A number for something that is not listed: one more attempt of a listed request.
    pub(crate) fn next_ticket(&self) -> Ticket {
        let number = self.ticket_next.get();
        self.ticket_next.set(number + 1);
        Ticket(number)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.borrow().len()
    }

    /// The oldest `views_max` of them, oldest first.
    pub(crate) fn views(&self, views_max: usize, now: Instant) -> Vec<RequestView> {
        let entries = self.entries.borrow();
        let mut sorted: Vec<&Rc<Entry>> = entries.iter().map(|(_, entry)| entry).collect();
        sorted.sort_by_key(|entry| (entry.started_at, entry.ticket));
        sorted.into_iter().take(views_max).map(|entry| entry.view(now)).collect()
    }
}

impl Entry {
    fn view(&self, now: Instant) -> RequestView {
        let about = self.about.get();
        let deadline = self.deadline.get().map(|deadline| millis(deadline.saturating_since(now)));
        RequestView {
            ticket: self.ticket.to_string(),
            service: self.service.to_string(),
            class: self.class.name(),
            step: self.step.get().name(),
            age_ms: millis(now.saturating_since(self.started_at)),
            endpoint: self.remote.get().map(|remote| remote.to_string()),
            deadline_in_ms: deadline.filter(|millis| *millis < FAR_MS),
            method: about.map(|about| about.method.to_string()),
            url: about.map(|about| about.url.clone()),
            mark: about.and_then(|about| about.mark.as_deref().map(str::to_owned)),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Mark {
    /// The request has to be answered by `deadline`, and is about `about`.
    pub(crate) fn describe(&self, deadline: Instant, about: Option<&Rc<About>>) {
        self.entry.deadline.set(Some(deadline));
        if let Some(about) = about {
            let _first_word_holds = self.entry.about.set(Rc::clone(about));
        }
    }

    /// How far the request has come.
    pub(crate) fn step(&self) -> Step {
        self.entry.step.get()
    }

    /// The request has come to `step`.
    pub(crate) fn reach(&self, step: Step) {
        self.entry.step.set(step);
    }

    /// The request went to `remote`.
    pub(crate) fn sent_to(&self, remote: SocketAddr) {
        self.entry.remote.set(Some(remote));
    }

    /// Where it was last sent, once it was.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.entry.remote.get()
    }

    /// The request waits for a connection to `peer`.
    pub(crate) fn waits_for(&self, peer: PeerId) {
        self.entry.peer.set(Some(peer));
    }

    /// The peer it last waited for.
    pub(crate) fn peer(&self) -> Option<PeerId> {
        self.entry.peer.get()
    }

    /// The number it came in under.
    pub(crate) fn ticket(&self) -> Ticket {
        self.entry.ticket
    }

    /// When it came in.
    pub(crate) fn started_at(&self) -> Instant {
        self.entry.started_at
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.underway.entries.borrow_mut().remove(self.key);
    }
}

/// A deadline that is further away than this is none.
const FAR_MS: u64 = 30 * 24 * 3600 * 1000;
