//! A bus that was opened at a port: what is owed, who waits for what is carried, and the ear at the results.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::time::Duration;

use rustc_hash::FxHashMap;
use southbridge_bus::edus::Along;
use southbridge_bus::externaliser::{Event, GivenUp, QueueState};
use southbridge_bus::owed::Owed;
use southbridge_kernel::Clock;
use southbridge_kernel::discovery::Discover;
use southbridge_words::{Seq, ServerName};
use tokio::sync::Notify;
use tracing::info;

use super::{BusId, BusProgress, RefusedPdu};
use crate::bus::{Delivery, Results, ResumeToken, SideBus};

/// The buses of a process.
#[derive(Default)]
pub(crate) struct Buses(RefCell<FxHashMap<u64, Rc<Post>>>);

impl Buses {
    pub(super) fn get(&self, id: BusId) -> Option<Rc<Post>> {
        self.0.borrow().get(&id.0).map(Rc::clone)
    }

    pub(super) fn insert(&self, id: BusId, post: Rc<Post>) {
        self.0.borrow_mut().insert(id.0, post);
    }

    pub(super) fn remove(&self, id: BusId) -> Option<Rc<Post>> {
        self.0.borrow_mut().remove(&id.0)
    }
}

/// One of them.
pub(crate) struct Post {
    pub(super) bus: SideBus,
    pub(super) owed: RefCell<Owed>,
    pub(super) clock: Clock,
    /// How it finds homeservers.
    pub(super) matrix: Rc<dyn Discover>,
    carried: RefCell<FxHashMap<ServerName, Vec<Rc<Carried>>>>,
    refused: RefCell<VecDeque<RefusedPdu>>,
    transactions: Cell<u64>,
    edus: Cell<Along>,
    /// The last result that was heard of.
    heard: Cell<ResumeToken>,
}

/// What is carried to one destination, and waited for.
#[derive(Default)]
pub(super) struct Carried {
    /// Where its last item stands, once all of them were accepted.
    last: Cell<Option<Seq>>,
    /// What was delivered since.
    delivered: Cell<Seq>,
    given_back: Cell<bool>,
    refused: RefCell<Vec<RefusedPdu>>,
    news: Notify,
}

impl Carried {
    /// All of it was accepted, and the last of it stands at `last`.
    pub(super) fn accepted(&self, last: Seq) {
        self.last.set(Some(last));
    }

    /// Waits until it was delivered; what the destination said against single PDUs. None when it was given back.
    pub(super) async fn ended(&self) -> Option<Vec<RefusedPdu>> {
        loop {
            let news = self.news.notified();
            if self.last.get().is_some_and(|last| last <= self.delivered.get()) {
                return Some(self.refused.take());
            }
            if self.given_back.get() {
                return None;
            }
            news.await;
        }
    }
}

impl Post {
    pub(super) fn new(bus: SideBus, matrix: Rc<dyn Discover>, owed: Owed, clock: Clock) -> Rc<Self> {
        let results = bus.results(None);
        let post = Rc::new(Self {
            heard: Cell::new(results.token()),
            owed: RefCell::new(owed),
            clock,
            matrix,
            carried: RefCell::default(),
            refused: RefCell::default(),
            transactions: Cell::new(0),
            edus: Cell::default(),
            bus,
        });
        tokio::task::spawn_local(listen(Rc::downgrade(&post), results, clock));
        post
    }

    /// A place for what is about to be carried to `destination`.
    pub(super) fn carrying(&self, destination: &ServerName) -> Rc<Carried> {
        let carried = Rc::new(Carried::default());
        self.carried.borrow_mut().entry(destination.clone()).or_default().push(Rc::clone(&carried));
        carried
    }

    /// Nobody waits for `carried` any more.
    pub(super) fn carried(&self, destination: &ServerName, carried: &Rc<Carried>) {
        let mut all = self.carried.borrow_mut();
        if let Some(of_one) = all.get_mut(destination) {
            of_one.retain(|one| !Rc::ptr_eq(one, carried));
            if of_one.is_empty() {
                all.remove(destination);
            }
        }
    }

    /// `destination` has said something.
    pub(super) fn heard(&self, destination: &ServerName) {
        if self.bus.queue(destination).is_some_and(|queue| queue.state == QueueState::Waiting) {
            self.bus.wake(destination);
        }
    }

    /// Waits for what is `carrying` something to `destination`; none when it has not come to an end. After `timeout` there is
    /// one more attempt: the destination may be back since the last, which may be minutes ago. Then it is given back.
    pub(super) async fn tried<T>(
        &self,
        destination: &ServerName,
        carrying: impl Future<Output = T>,
        timeout: Duration,
    ) -> Option<T> {
        let mut carrying = std::pin::pin!(carrying);
        let deadline = self.clock.now() + timeout;
        if !timeout.is_zero()
            && let Ok(done) = tokio::time::timeout_at(self.clock.to_tokio(deadline), &mut carrying).await
        {
            return Some(done);
        }
        tokio::select! {
            biased;
            done = &mut carrying => return Some(done),
            () = self.bus.until_in_vain(destination) => {}
            () = tokio::time::sleep_until(self.clock.to_tokio(deadline + LAST_ATTEMPT_MAX)) => {}
        }
        self.give_back(destination).await;
        None
    }

    /// Gives up whatever waits for `destination`, and stops what is under way to it.
    pub(super) async fn give_back(&self, destination: &ServerName) {
        self.owed.borrow_mut().give_back(destination);
        for carried in self.carried.borrow().get(destination).into_iter().flatten() {
            carried.given_back.set(true);
            carried.news.notify_one();
        }
        // Only a bus that is closing refuses, and then nothing is sent any more.
        let _closing = self.bus.drop_backlog(destination).await;
    }

    /// What there is to be told, now that everything up to `floor` was handed in.
    pub(super) fn progress(&self, floor: u64) -> BusProgress {
        let mut owed = self.owed.borrow_mut();
        let told = owed.take(floor);
        let counts = self.bus.counts();
        BusProgress {
            told,
            refused: self.refused.borrow_mut().drain(..).collect(),
            transactions: self.transactions.take(),
            edus: self.edus.take(),
            traffic: self.bus.take_traffic(),
            waiting: owed.waiting(),
            edus_waiting: counts.volatile_parts,
            destinations: counts.with_work,
        }
    }

    /// Waits until the ear has heard of all results that there are.
    pub(super) async fn all_heard(&self) {
        while self.heard.get() != self.bus.results(None).token() {
            tokio::task::yield_now().await;
        }
    }

    async fn hear(&self, delivery: Delivery) {
        let token = match delivery {
            Delivery::Event { event, token } => {
                self.handle(&event);
                token
            }
            Delivery::Gap { token } => {
                self.start_over().await;
                token
            }
        };
        self.heard.set(token);
        // A hundred thousand of them, each some 300 bytes, would otherwise be kept for nobody.
        self.bus.forget_results(token);
    }

    fn handle(&self, event: &Event) {
        match event {
            Event::Delivered { destination, upto, along, response, .. } => {
                let is_counted = upto.is_some_and(|upto| self.ends_with(destination, upto));
                self.transactions.set(self.transactions.get() + u64::from(!is_counted));
                let mut edus = self.edus.get();
                edus += *along;
                self.edus.set(edus);
                let refused = response.errors.iter().map(|(event_id, error)| RefusedPdu {
                    destination: destination.clone(),
                    event_id: event_id.clone(),
                    error: error.clone(),
                });
                self.handle_delivered(destination, *upto, refused);
            }
            // An operator, or we ourselves: what there is to be done has been done.
            Event::GivenUp { reason: GivenUp::Ordered, .. } => {}
            // One item that the destination refuses whatever comes of it; those behind it go on.
            Event::GivenUp { destination, upto, reason, .. } => {
                let (event_id, error) = (String::new(), format!("given up: {reason:?}"));
                let refused = RefusedPdu { destination: destination.clone(), event_id, error };
                self.handle_delivered(destination, Some(*upto), std::iter::once(refused));
            }
            _ => {}
        }
    }

    /// Whether something that is carried to `destination` ends with what is delivered up to here. Whoever waits for it
    /// counts it.
    fn ends_with(&self, destination: &ServerName, upto: Seq) -> bool {
        let carried = self.carried.borrow();
        let mut waiting = carried.get(destination).into_iter().flatten();
        waiting.any(|one| one.last.get().is_some_and(|last| one.delivered.get() < last && last <= upto))
    }

    fn handle_delivered(
        &self,
        destination: &ServerName,
        upto: Option<Seq>,
        refused: impl Iterator<Item = RefusedPdu>,
    ) {
        let carried = self.carried.borrow();
        let waiting = carried.get(destination).into_iter().flatten();
        let first = waiting.clone().next();
        for one in refused {
            match first {
                Some(first) => first.refused.borrow_mut().push(one),
                None => self.refuse(one),
            }
        }
        let Some(upto) = upto else { return };
        self.owed.borrow_mut().handle_delivered(destination, upto);
        for one in waiting {
            one.delivered.set(one.delivered.get().max(upto));
            one.news.notify_one();
        }
    }

    fn refuse(&self, refused: RefusedPdu) {
        let mut all = self.refused.borrow_mut();
        if all.len() >= REFUSED_MAX {
            all.pop_front();
        }
        all.push_back(refused);
    }

    /// Gives back whoever has taken nothing for too long.
    async fn look_after(&self) {
        // Of those whose turn in Synapse's database it is: that has a deadline of its own.
        let is_carried = |destination: &ServerName| self.carried.borrow().contains_key(destination);
        let overdue = self.owed.borrow().overdue(self.clock.now(), is_carried);
        for destination in overdue {
            info!(%destination, "destination given back to the homeserver");
            self.give_back(&destination).await;
        }
    }

    /// Results were missed: nobody knows any more who has what.
    async fn start_over(&self) {
        let all = self.owed.borrow().everybody();
        for destination in all {
            self.give_back(&destination).await;
        }
    }
}

/// Hears of results, and looks after those who take nothing. Does not keep the bus alive.
async fn listen(post: Weak<Post>, mut results: Results, clock: Clock) {
    let mut look_at = clock.now() + LOOK_EVERY;
    loop {
        let delivery = tokio::select! {
            delivery = results.next() => match delivery {
                Some(delivery) => Some(delivery),
                None => return,
            },
            () = tokio::time::sleep_until(clock.to_tokio(look_at)) => None,
        };
        let Some(post) = post.upgrade() else { return };
        if let Some(delivery) = delivery {
            post.hear(delivery).await;
        }
        if look_at <= clock.now() {
            look_at = clock.now() + LOOK_EVERY;
            post.look_after().await;
        }
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);
// As long as an attempt may take, and the five seconds that lie between two times that a host is woken.
const LAST_ATTEMPT_MAX: Duration = Duration::from_secs(75);
/// What is refused beyond that since it was asked for last is only counted.
const REFUSED_MAX: usize = 1000;
