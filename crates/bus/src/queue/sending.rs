//! From its turn to the wire.

use southbridge_words::{Class, Mark, OutboxError, Page};

use super::{FederationQueue, Phase, Scene};
use crate::externaliser::{Action, Event, Hold, Line};

impl FederationQueue {
    /// Its turn has come: asks for a connection, or for its items first.
    pub(crate) fn start(&mut self, line: Line, scene: &mut Scene<'_>) {
        if let Some(upto) = self.open.as_ref().and_then(|open| open.unrendered()) {
            if self.stream.tail() < upto {
                return self.read(scene);
            }
            self.render_again(scene);
        }
        let is_short = self.stream.is_behind() && self.stream.held() < scene.limits.page_items;
        if self.open.is_none() && is_short && !scene.is_blocked {
            return self.read(scene);
        }
        self.ask(line, scene);
    }

    /// A page was read.
    pub(crate) fn handle_page(
        &mut self,
        result: Result<Page, OutboxError>,
        line: Line,
        scene: &mut Scene<'_>,
    ) {
        let Phase::Reading { after, last } = self.phase else { return };
        let page = match result {
            Ok(page) => page,
            Err(error) => return self.on_unreadable(error, scene),
        };
        let is_empty = page.items.is_empty();
        self.phase = Phase::Ready;
        self.stream.take_page(after, last, page, scene.meter);
        if let Some(upto) = self.open.as_ref().and_then(|open| open.unrendered()) {
            if self.stream.tail() < upto && !is_empty {
                return self.read(scene);
            }
            self.stream.release_after(upto);
            self.render_again(scene);
        }
        if self.open.is_some() || !self.edus.is_empty() || self.stream.held() > 0 {
            self.ask(line, scene);
        } else if self.stream.is_behind() {
            self.read(scene);
        }
    }

    /// The pool has lent a connection.
    pub(crate) fn handle_granted(&mut self, scene: &mut Scene<'_>) {
        match self.phase {
            // The connection broke before an answer came, and there is another one: the same again.
            Phase::Flying => {
                if let Some(open) = &mut self.open {
                    open.is_exposed = true;
                }
                self.transmit(scene);
            }
            Phase::Beginning => {}
            Phase::Asked => self.on_granted(scene),
            Phase::Ready | Phase::Waiting { .. } | Phase::Reading { .. } => self.give_back(scene),
        }
    }

    /// The transaction that was begun is on record, or could not be put there.
    pub(crate) fn handle_begun(&mut self, id: &str, on_record: bool, scene: &mut Scene<'_>) {
        if !self.open.as_ref().is_some_and(|open| open.is_begun_as(id)) {
            return;
        }
        if on_record {
            self.open.as_mut().expect("it was looked at").set_on_record();
            if self.phase == Phase::Beginning {
                self.transmit(scene);
            }
            return;
        }
        self.undo_open(scene);
        if self.phase == Phase::Beginning {
            self.give_back(scene);
            self.phase = Phase::Ready;
        }
    }

    fn on_granted(&mut self, scene: &mut Scene<'_>) {
        if self.open.is_none()
            && let Some(begun) = self.compose(scene)
        {
            let destination = self.destination.clone();
            self.mark(Mark::Begun { destination, transaction: begun }, scene);
        }
        match &self.open {
            None => {
                self.give_back(scene);
                self.phase = Phase::Ready;
            }
            Some(open) if open.is_ready() => self.transmit(scene),
            Some(_) => self.phase = Phase::Beginning,
        }
    }

    fn transmit(&mut self, scene: &mut Scene<'_>) {
        let Some(transaction) = self.open.as_ref().and_then(|open| open.transaction()) else {
            return self.give_back(scene);
        };
        self.phase = Phase::Flying;
        let (destination, transaction) = (self.destination.clone(), transaction.clone());
        scene.actions.push_back(Action::Transmit { destination, transaction });
    }

    fn give_back(&self, scene: &mut Scene<'_>) {
        scene.actions.push_back(Action::GiveBack { destination: self.destination.clone() });
    }

    fn ask(&mut self, line: Line, scene: &mut Scene<'_>) {
        self.phase = Phase::Asked;
        scene.actions.push_back(Action::Send {
            destination: self.destination.clone(),
            class: class_of(line),
            patient: false,
            deadline: scene.at.now + scene.limits.send_timeout,
        });
    }

    /// Reads on by a page. An open transaction is read by as many as it takes, and no more than a page too much.
    fn read(&mut self, scene: &mut Scene<'_>) {
        let (items_max, bytes_max) = (scene.limits.page_items, scene.limits.page_bytes);
        let after = self.stream.tail();
        self.phase = Phase::Reading { after, last: self.stream.last() };
        let destination = self.destination.clone();
        scene.actions.push_back(Action::Read { destination, after, items_max, bytes_max });
    }

    fn on_unreadable(&mut self, error: OutboxError, scene: &mut Scene<'_>) {
        if self.health.hold != Some(Hold::Outbox) {
            let destination = Some(self.destination.clone());
            scene.actions.push_back(Action::Tell(Event::OutboxTrouble { error, destination }));
        }
        self.fail(Hold::Outbox, scene);
    }
}

const fn class_of(line: Line) -> Class {
    match line {
        Line::Live | Line::Doubtful | Line::Volatile | Line::DoubtfulVolatile => Class::Live,
        Line::CatchUp | Line::DoubtfulCatchUp => Class::Backfill,
    }
}
