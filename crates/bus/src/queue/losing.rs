//! What a queue lets go of: memory while it waits, what is given up, what is not ours any more.

use std::time::Duration;

use southbridge_words::{Mark, Seq};

use super::stream::Stream;
use super::{FederationQueue, Phase, Scene};
use crate::externaliser::{Action, Errand, Event, GivenUp, Lost, ShedReason};

impl FederationQueue {
    /// For a wait of this length: what can be read back is let go of, what will be stale is dropped.
    pub(super) fn lighten(&mut self, wait: Duration, scene: &mut Scene<'_>) {
        let is_long = wait >= scene.limits.hold_max;
        if let Some(open) = &mut self.open {
            let is_volatile = open.upto().is_none();
            open.volatile_tries += u32::from(is_volatile);
            let is_spent = open.volatile_tries >= scene.limits.rejections_max;
            if (is_volatile && (is_long || is_spent)) || (is_long && !open.is_exposed) {
                self.withdraw_open(scene);
            } else if is_long {
                open.forget_body();
            }
        }
        if is_long {
            self.stream.release();
        }
        let patience = scene.limits.volatile_patience;
        if self.health.failing_for(scene.at.now).is_some_and(|failing| failing + wait >= patience) {
            self.shed_all(ShedReason::Unreachable, scene);
        }
    }

    /// The open transaction is taken back; if it was on record, its end is, too.
    pub(super) fn withdraw_open(&mut self, scene: &mut Scene<'_>) {
        if self.open.as_ref().is_some_and(|open| open.upto().is_some()) {
            self.mark(Mark::Withdrawn { destination: self.destination.clone() }, scene);
        }
        self.undo_open(scene);
    }

    /// The items of the open transaction are given up.
    pub(super) fn give_up_open(&mut self, reason: GivenUp, scene: &mut Scene<'_>) {
        let Some((upto, items)) = self.open.as_ref().and_then(|open| Some((open.upto()?, open.items())))
        else {
            return self.undo_open(scene);
        };
        self.undo_open(scene);
        self.stream.advance(upto, items.into());
        let destination = self.destination.clone();
        self.mark(Mark::Dropped { destination: destination.clone(), upto }, scene);
        let event = Event::GivenUp { destination, upto, items: items.into(), reason };
        scene.actions.push_back(Action::Tell(event));
    }

    /// The outbox has given up everything up to `upto`, which were so many items.
    pub(crate) fn handle_expired(&mut self, upto: Seq, items: u64, scene: &mut Scene<'_>) {
        let is_gone = self.open.as_ref().is_some_and(|open| open.upto().is_some_and(|last| last <= upto));
        if is_gone && !matches!(self.phase, Phase::Flying | Phase::Beginning) {
            self.withdraw_open(scene);
        }
        self.stream.advance(upto, items);
    }

    /// Everything is given up, by order; what is under way is stopped. The queue is empty afterwards.
    pub(crate) fn drop_backlog(&mut self, scene: &mut Scene<'_>) -> Lost {
        let (items, at_least) = self.stream.known();
        let upto = (!self.stream.is_empty()).then(|| self.stream.last());
        let volatile = self.edus.len() as u64;
        self.stop(scene);
        self.undo_open(scene);
        self.shed_all(ShedReason::Abandoned, scene);
        if let Some(upto) = upto {
            self.stream.advance(upto, u64::MAX);
            let destination = self.destination.clone();
            self.mark(Mark::Dropped { destination: destination.clone(), upto }, scene);
            let reason = GivenUp::Ordered;
            scene.actions.push_back(Action::Tell(Event::GivenUp { destination, upto, items, reason }));
        }
        Lost { items, at_least, upto, volatile }
    }

    /// The destination is another process's: its durable items are none of our business any more. Volatile EDUs
    /// that we were given are still sent by us, for nobody else has them.
    pub(crate) fn disown(&mut self, scene: &mut Scene<'_>) {
        if self.open.as_ref().is_some_and(|open| open.upto().is_some()) {
            self.stop(scene);
            self.undo_open(scene);
        } else if matches!(self.phase, Phase::Reading { .. }) {
            self.phase = Phase::Ready;
        }
        self.stream = Stream::unknown();
        self.unwritten = 0;
    }

    fn stop(&mut self, scene: &mut Scene<'_>) {
        if matches!(self.phase, Phase::Asked | Phase::Beginning | Phase::Flying) {
            let errand = Errand::Transaction(self.destination.clone());
            scene.actions.push_back(Action::Withdraw(errand));
        }
        self.phase = Phase::Ready;
    }

    fn shed_all(&mut self, why: ShedReason, scene: &mut Scene<'_>) {
        if !self.edus.is_empty() {
            let shed = self.edus.clear();
            self.tell_shed(shed, why, scene);
        }
    }

    pub(super) fn tell_shed(&self, shed: crate::edus::Shed, why: ShedReason, scene: &mut Scene<'_>) {
        let destination = self.destination.clone();
        scene.actions.push_back(Action::Tell(Event::Shed { destination, shed, why }));
    }
}
