//! What becomes of a transaction, and when the next attempt may be made.

use std::time::Duration;

use southbridge_words::{Instant, Mark};

use super::health::asked_for;
use super::verdict::Verdict;
use super::{FederationQueue, Phase, Scene};
use crate::externaliser::{Action, Answer, Event, Failure, GivenUp, Hold};
use crate::outgoing::FederationTransactionResponse;

impl FederationQueue {
    /// The destination has answered.
    pub(crate) fn handle_answer(&mut self, answer: &Answer, scene: &mut Scene<'_>) {
        if self.phase != Phase::Flying {
            return;
        }
        let limits = scene.limits;
        let verdict = Verdict::of(answer, scene.at.wall);
        if let (Some(open), true) = (&mut self.open, verdict.leaves_doubt()) {
            open.is_exposed = true;
        }
        match verdict {
            Verdict::Done(response) => self.on_done(response, scene),
            Verdict::TooLarge { status, surely } => self.on_too_large(status, surely, scene),
            Verdict::Rejected { status } => {
                self.on_rejected(Hold::Rejected(status), GivenUp::Rejected(status), scene);
            }
            Verdict::RateLimited { retry_after } => self.on_later(Hold::RateLimited, retry_after, scene),
            Verdict::Unknown { status, retry_after } => {
                self.on_later(Hold::Failing(status), retry_after, scene);
            }
            Verdict::Gone => {
                self.health.fail(Hold::Gone, scene.at.now);
                let wait = asked_for(limits.gone, Duration::ZERO, limits.gone, scene.seeded);
                self.wait(wait, scene);
            }
            Verdict::Unwelcome { status } => {
                self.health.fail(Hold::Unwelcome(status), scene.at.now);
                let (first, most) = (limits.unwelcome_first, limits.unwelcome_max);
                let wait = self.health.doubled(first, most, scene.seeded);
                self.wait(wait, scene);
            }
        }
    }

    /// No answer came.
    pub(crate) fn handle_failed(&mut self, failure: &Failure, scene: &mut Scene<'_>) {
        if !matches!(self.phase, Phase::Asked | Phase::Beginning | Phase::Flying) {
            return;
        }
        if let Some(open) = &mut self.open {
            open.is_exposed |= !failure.is_unsent();
        }
        let now = scene.at.now;
        match failure {
            Failure::Down { retry_in } => {
                self.health.hold(Hold::Down, now);
                let (least, most) = (scene.limits.failure_first, scene.limits.retry_after_max);
                let wait = asked_for(*retry_in, least, most, scene.seeded);
                self.wait(wait, scene);
            }
            Failure::Overloaded { .. } => {
                self.health.hold(Hold::Overloaded, now);
                let wait = scene.limits.failure_first.mul_f64(scene.seeded.factor(1.0, 3.0));
                self.wait(wait, scene);
            }
            Failure::Unfit { .. } => self.on_rejected(Hold::Unfit, GivenUp::Unfit, scene),
            Failure::NotSent { .. } | Failure::PerhapsSent { .. } => self.fail(Hold::Unreachable, scene),
        }
    }

    /// The time has come to try again.
    pub(crate) fn handle_due(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Waiting { until } if until <= now) {
            self.phase = Phase::Ready;
        }
    }

    /// Waits a little longer, for a reason on our side.
    pub(crate) fn postpone(&mut self, why: Hold, until: Instant) {
        self.health.hold = Some(why);
        self.phase = Phase::Waiting { until };
    }

    /// Something was heard from the host, or an operator says that it is back: a wait ends, at most once every
    /// `wake_every`.
    pub(crate) fn wake(&mut self, scene: &Scene<'_>) {
        let Phase::Waiting { until } = self.phase else { return };
        let now = scene.at.now;
        let next = self.health.woken_at.map_or(now, |at| (at + scene.limits.wake_every).max(now));
        if next > now {
            self.phase = Phase::Waiting { until: until.min(next) };
            return;
        }
        self.health.woken_at = Some(now);
        self.phase = Phase::Ready;
    }

    fn on_done(&mut self, response: FederationTransactionResponse, scene: &mut Scene<'_>) {
        let Some(open) = self.open.take() else { return };
        self.phase = Phase::Ready;
        self.health.succeed();
        self.sizing.succeed(open.bytes(), scene.limits);
        let items = open.items();
        let mut upto = open.upto();
        if let Some(upto) = &mut upto {
            self.stream.advance(*upto, items.into());
            // A retention limit may have taken the cursor further meanwhile.
            *upto = self.stream.delivered();
            let upto = *upto;
            self.mark(Mark::Delivered { destination: self.destination.clone(), upto }, scene);
        }
        let (destination, transaction) = (self.destination.clone(), open.id());
        let along = open.along();
        let event = Event::Delivered { destination, transaction, upto, items, along, response };
        scene.actions.push_back(Action::Tell(event));
    }

    /// Surely not processed: cut in two at once. Perhaps processed: the same a few times more, then cut in two all
    /// the same, for receivers know PDUs by their event ids and to-device messages by theirs.
    fn on_too_large(&mut self, status: u16, surely: bool, scene: &mut Scene<'_>) {
        let Some(open) = &self.open else { return };
        let (bytes, is_single) = (open.bytes(), open.is_single());
        if open.upto().is_none() {
            return self.drop_open(Hold::TooLarge(status), scene);
        }
        self.health.refusals += 1;
        let is_first = self.health.refusals == 1;
        let is_spent = self.health.refusals >= scene.limits.rejections_max;
        let is_small = bytes <= scene.limits.transaction_bytes_min;
        if is_first {
            self.sizing.shrink(bytes, scene.limits);
        }
        if surely && is_single {
            return self.on_poison(Hold::TooLarge(status), GivenUp::Rejected(status), scene);
        }
        if surely || (is_spent && !is_single && !is_small) {
            return self.cut(is_small, scene);
        }
        self.fail(Hold::TooLarge(status), scene);
    }

    /// It is refused as a whole: the same a few times more, then cut in two, and so on.
    fn on_rejected(&mut self, why: Hold, reason: GivenUp, scene: &mut Scene<'_>) {
        let Some(open) = &self.open else { return self.fail(why, scene) };
        if open.upto().is_none() {
            return self.drop_open(why, scene);
        }
        self.health.refusals += 1;
        let is_spent = self.health.refusals >= scene.limits.rejections_max;
        if open.is_single() {
            return self.on_poison(why, reason, scene);
        }
        if is_spent || self.sizing.is_searching() {
            return self.cut(true, scene);
        }
        self.fail(why, scene);
    }

    /// A single item is refused: it is tried a few times and then given up. If that happens to one after
    /// another, the waits between them grow, for then it is the host that refuses everything.
    fn on_poison(&mut self, why: Hold, reason: GivenUp, scene: &mut Scene<'_>) {
        if self.health.refusals >= scene.limits.rejections_max {
            self.give_up_open(reason, scene);
            self.health.given_up += 1;
            (self.health.failures, self.health.refusals) = (0, 0);
        }
        self.fail(why, scene);
    }

    /// A volatile transaction is refused: nothing in it is worth a search.
    fn drop_open(&mut self, why: Hold, scene: &mut Scene<'_>) {
        if let Some(open) = &mut self.open {
            // As good as: it is not put back.
            open.is_exposed = true;
        }
        self.undo_open(scene);
        self.fail(why, scene);
    }

    /// The open transaction is withdrawn, and smaller ones follow.
    fn cut(&mut self, by_items: bool, scene: &mut Scene<'_>) {
        if let (Some(open), true) = (&self.open, by_items) {
            self.sizing.split(open.items());
        }
        self.withdraw_open(scene);
        (self.health.failures, self.health.refusals, self.health.hold) = (0, 0, None);
        self.phase = Phase::Ready;
    }

    fn on_later(&mut self, why: Hold, retry_after: Option<Duration>, scene: &mut Scene<'_>) {
        self.health.fail(why, scene.at.now);
        match retry_after {
            Some(asked) => {
                let (least, most) = (scene.limits.failure_first, scene.limits.retry_after_max);
                let wait = asked_for(asked, least, most, scene.seeded);
                self.wait(wait, scene);
            }
            None => self.wait_doubled(scene),
        }
    }

    /// An attempt came to nothing: the next one is made after twice the time.
    pub(super) fn fail(&mut self, why: Hold, scene: &mut Scene<'_>) {
        self.health.fail(why, scene.at.now);
        self.wait_doubled(scene);
    }

    fn wait_doubled(&mut self, scene: &mut Scene<'_>) {
        let (first, most) = (scene.limits.failure_first, scene.limits.failure_max);
        let wait = self.health.doubled(first, most, scene.seeded);
        self.wait(wait, scene);
    }

    fn wait(&mut self, wait: Duration, scene: &mut Scene<'_>) {
        self.phase = Phase::Waiting { until: scene.at.now + wait };
        if let Some(why) = self.health.hold {
            let (destination, failures) = (self.destination.clone(), self.health.failures);
            scene.actions.push_back(Action::Tell(Event::Held { destination, why, wait, failures }));
        }
        self.lighten(wait, scene);
    }
}
