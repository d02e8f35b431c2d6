//! What the Externaliser tells: to the caller, to the readers of results, to the operator.

use std::rc::Rc;

use southbridge_bus::externaliser::Event;
use tracing::{debug, error, info, warn};

use super::inner::Inner;

impl Inner {
    pub(super) fn handle_event(&self, event: Event) {
        match event {
            Event::Accepted { ticket, acknowledgement } => {
                self.waiting.tell_accepted(ticket, Ok(acknowledgement));
            }
            Event::Refused { ticket, why } => self.waiting.tell_accepted(ticket, Err(why)),
            Event::QueryDone { ticket, result } => self.waiting.tell_answered(ticket, result),
            event => {
                log(&event);
                self.counters.happened(&event);
                if let Event::Held { destination, why, .. } = &event {
                    self.attempts.held(destination, *why);
                }
                if is_result(&event) {
                    self.ring.write(Rc::new(event));
                }
            }
        }
    }
}

/// Whether `event` says what became of something that was accepted.
const fn is_result(event: &Event) -> bool {
    matches!(event, Event::Delivered { .. } | Event::GivenUp { .. } | Event::Diverged { .. })
}

fn log(event: &Event) {
    match event {
        Event::Delivered { destination, transaction, items, .. } => {
            debug!(%destination, %transaction, items, "transaction delivered");
        }
        Event::Held { destination, why, wait, failures } => {
            debug!(%destination, ?why, ?wait, failures, "queue waits");
        }
        Event::GivenUp { destination, upto, items, reason } => {
            warn!(%destination, %upto, items, ?reason, "items will not be delivered");
        }
        Event::Shed { destination, shed, why } => debug!(%destination, ?shed, ?why, "EDUs dropped"),
        Event::Diverged { destination, transaction } => {
            warn!(%destination, %transaction, "a transaction could not be rendered again and is sent anew");
        }
        Event::OutboxTrouble { error, destination: Some(destination) } => {
            error!(%destination, %error, "the outbox cannot be read for a destination");
        }
        Event::OutboxTrouble { error, destination: None } => error!(%error, "the outbox is in trouble"),
        Event::OutboxRecovered => info!("the outbox works again"),
        _ => {}
    }
}
