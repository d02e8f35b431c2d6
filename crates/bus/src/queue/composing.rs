//! What goes into a transaction, and the one that is open.

use std::sync::Arc;

use southbridge_words::{Item, OpenTransaction, Seq, ServerName, WallTime};

use super::{FederationQueue, Scene};
use crate::edus::{Along, Batch, Shed, VolatileEdu, WaitingEdus};
use crate::externaliser::{Action, Event, ShedReason};
use crate::transaction::{EDUS_MAX, PDUS_MAX, Prefix, Transaction, TransactionLimits, body_hash, render};

/// The transaction that is open: begun, and not known to be taken. Immutable but for what we know of it.
#[derive(Debug)]
pub(super) struct Open {
    record: OpenTransaction,
    standing: Standing,
    items: u32,
    bytes: usize,
    /// What is volatile in it, to be put back if it was surely not processed; nothing after a restart.
    batch: Batch,
    along: Along,
    /// None when it was let go of, and is to be rendered again.
    transaction: Option<Transaction>,
    /// Whether its destination may have processed it.
    pub(super) is_exposed: bool,
    /// Attempts without success, of a volatile one.
    pub(super) volatile_tries: u32,
}

/// Whether a transaction is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Nothing in it is durable, so it never will be.
    Volatile,
    /// Not yet.
    Begun,
    /// It is.
    OnRecord,
}

impl Open {
    /// What another process has begun: it may have sent it.
    pub(super) fn recovered(record: &OpenTransaction) -> Self {
        Self {
            record: record.clone(),
            standing: Standing::OnRecord,
            items: 0,
            bytes: 0,
            batch: Batch::default(),
            along: Along::default(),
            transaction: None,
            is_exposed: true,
            volatile_tries: 0,
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> Arc<str> {
        Arc::clone(&self.record.id)
    }

    /// Its last durable item, if it has any.
    pub(super) fn upto(&self) -> Option<Seq> {
        (self.standing != Standing::Volatile).then_some(self.record.upto)
    }

    /// Its last item, if it is to be rendered again.
    pub(super) fn unrendered(&self) -> Option<Seq> {
        if self.transaction.is_none() { self.upto() } else { None }
    }

    /// How many durable items it has; zero before it was rendered in this process.
    pub(super) const fn items(&self) -> u32 {
        self.items
    }

    /// The volatile EDUs in it; none when another process began it.
    pub(super) const fn along(&self) -> Along {
        self.along
    }

    /// How many bytes its body has; zero before it was rendered in this process.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it cannot be cut any more.
    pub(super) fn is_single(&self) -> bool {
        self.items == 1 && self.record.volatile_edus.is_empty()
    }

    /// Whether it can be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.standing != Standing::Begun
    }

    /// Whether it is the one with this `id`, and waits to be on record.
    pub(super) fn is_begun_as(&self, id: &str) -> bool {
        self.standing == Standing::Begun && *self.record.id == *id
    }

    /// It is on record.
    pub(super) fn set_on_record(&mut self) {
        self.standing = Standing::OnRecord;
    }

    /// What is to be sent.
    pub(super) const fn transaction(&self) -> Option<&Transaction> {
        self.transaction.as_ref()
    }

    /// Renders it again from its `items`. Says whether it came out as it was.
    fn is_rendered_of<'a>(
        &mut self,
        items: impl Iterator<Item = &'a Item> + Clone,
        origin: &ServerName,
    ) -> bool {
        let OpenTransaction { origin_server_ts, volatile_edus, .. } = &self.record;
        let body = render(origin, *origin_server_ts, items.clone(), volatile_edus);
        if body_hash(&body) != self.record.body_hash {
            return false;
        }
        self.items = u32::try_from(items.count()).unwrap_or(u32::MAX);
        self.bytes = body.len();
        self.transaction = Some(Transaction { id: self.id(), origin_server_ts: *origin_server_ts, body });
        true
    }

    /// Lets go of what can be rendered again. What is volatile in it cannot be put back any more.
    pub(super) fn forget_body(&mut self) {
        if self.standing != Standing::Volatile {
            self.transaction = None;
            self.batch = Batch::default();
        }
    }
}

impl FederationQueue {
    /// Makes a transaction of what is queued. Hands out what is to be put on record first, if anything durable is in
    /// it; nothing is open afterwards when nothing was queued.
    pub(super) fn compose(&mut self, scene: &mut Scene<'_>) -> Option<OpenTransaction> {
        let limits = TransactionLimits {
            pdus_max: PDUS_MAX,
            edus_max: EDUS_MAX,
            items_max: self.sizing.items_max(),
            bytes_max: self.sizing.bytes_max(),
        };
        let available = if scene.is_blocked { 0 } else { self.stream.held() };
        let mut prefix = Prefix::of(self.stream.items().take(available), &limits);
        if prefix.items < available || self.stream.is_behind() {
            prefix = prefix.to_end_of_block(self.stream.items().take(available), &limits);
        }
        let batch = if prefix.items > 0 && (self.sizing.is_searching() || self.do_edus_wait(scene)) {
            Batch::default()
        } else {
            let (edus_max, bytes_max) = prefix.room(&limits);
            self.edus.take(edus_max, bytes_max, &scene.limits.edus, scene.at.wall)
        };
        *scene.shed += batch.expired();
        if prefix.items == 0 && batch.is_empty() {
            return None;
        }
        let open = self.render(prefix, batch, scene);
        let record = open.upto().is_some().then(|| open.record.clone());
        self.open = Some(Box::new(open));
        record
    }

    /// Whether there are too many volatile EDUs to go along with items; every other time they do all the same.
    fn do_edus_wait(&mut self, scene: &Scene<'_>) -> bool {
        let are_many = self.edus.bytes() > scene.limits.along_bytes_max;
        self.are_edus_due = are_many && !self.are_edus_due;
        self.are_edus_due
    }

    fn render(&self, prefix: Prefix, batch: Batch, scene: &mut Scene<'_>) -> Open {
        let items = self.stream.items().take(prefix.items);
        let upto = items.clone().last().map(|item| item.seq);
        let id: Arc<str> = scene.ids.next().into();
        // By the second, so that all destinations of one message share one body.
        let origin_server_ts = WallTime::from_unix_millis(scene.at.wall.unix_millis() / 1000 * 1000);
        let rendering = scene.press.render(scene.origin, origin_server_ts, items, batch.json());
        let transaction = Transaction { id: Arc::clone(&id), origin_server_ts, body: rendering.body };
        Open {
            record: OpenTransaction {
                id,
                origin_server_ts,
                upto: upto.unwrap_or_default(),
                volatile_edus: batch.json().clone(),
                body_hash: rendering.hash,
            },
            standing: if upto.is_some() { Standing::Begun } else { Standing::Volatile },
            items: u32::try_from(prefix.items).expect("a transaction has some hundred items"),
            bytes: transaction.body.len(),
            along: batch.along(),
            batch,
            transaction: Some(transaction),
            is_exposed: false,
            volatile_tries: 0,
        }
    }

    /// Renders the open transaction again from its items, which are in memory. If it does not come out as it was, it is
    /// given up, for an id must never have two bodies (I2); its items go out under a new one.
    pub(super) fn render_again(&mut self, scene: &mut Scene<'_>) {
        let Some(open) = &mut self.open else { return };
        let upto = open.record.upto;
        let items = self.stream.items().take_while(move |item| item.seq <= upto);
        if open.is_rendered_of(items, scene.origin) {
            return;
        }
        let (destination, transaction) = (self.destination.clone(), open.id());
        self.withdraw_open(scene);
        scene.actions.push_back(Action::Tell(Event::Diverged { destination, transaction }));
    }

    /// The open transaction is no more. What is volatile in it is put back if its destination surely has not got it.
    pub(super) fn undo_open(&mut self, scene: &mut Scene<'_>) {
        let Some(open) = self.open.take() else { return };
        if !open.is_exposed {
            *scene.shed += self.edus.restore(open.batch, &scene.limits.edus, scene.at.wall).shed;
        } else if !open.batch.is_empty() {
            self.tell_shed(open.batch.contents(), ShedReason::Abandoned, scene);
        }
    }

    /// A volatile EDU is to be sent. It is dropped at once when the host has been out of reach for too long. Says
    /// what was dropped and is told in no event.
    pub(crate) fn push_volatile(&mut self, edu: &VolatileEdu, scene: &mut Scene<'_>) -> Shed {
        let failing_for = self.health.failing_for(scene.at.now);
        let pushed = self.edus.push(edu, &scene.limits.edus, scene.at.wall);
        if failing_for.is_some_and(|failing| failing >= scene.limits.volatile_patience) {
            let mut shed = self.edus.clear();
            shed += pushed.shed;
            return shed;
        }
        pushed.shed
    }

    /// Bytes of volatile EDUs that wait.
    pub(crate) fn volatile_bytes(&self) -> usize {
        self.edus.bytes()
    }

    /// How many parts of volatile EDUs wait.
    pub(crate) fn volatile_parts(&self) -> usize {
        self.edus.len()
    }

    /// When the oldest volatile EDU that waits was made.
    pub(crate) fn oldest_volatile(&self) -> Option<WallTime> {
        self.edus.oldest()
    }

    /// Drops volatile EDUs that wait.
    pub(crate) fn shed(&mut self, drop: impl FnOnce(&mut WaitingEdus) -> Shed) -> Shed {
        drop(&mut self.edus)
    }
}
