//! The tasks that outlive a call: the one timer, and the ear at the outbox. Neither keeps the bus alive.

use std::rc::{Rc, Weak};

use southbridge_bus::externaliser::Externaliser;
use southbridge_kernel::Clock;
use southbridge_store_thread::Replies;
use southbridge_words::Instant;
use tokio::sync::Notify;

use super::ending::LastWords;
use super::inner::Inner;

/// Wakes the Externaliser when it asked to be woken, and the outbox now and then.
pub(super) async fn run_timer(inner: Weak<Inner>, rearm: Rc<Notify>, clock: Clock) {
    let _last_words = LastWords(Weak::clone(&inner));
    let mut upkeep_at = clock.now();
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let next = strong.externaliser.borrow().poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        strong.timing.armed.set(next);
        let is_busy = !strong.unsent.borrow().is_empty();
        drop(strong);
        if is_busy {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                biased;
                () = rearm.notified() => {}
                () = tokio::time::sleep_until(clock.to_tokio(next.min(upkeep_at))) => {}
            }
        }
        let Some(strong) = inner.upgrade() else { return };
        strong.tell_of_silent();
        let now = clock.now();
        if next <= now {
            strong.tell(Externaliser::handle_timeout);
        } else {
            strong.act();
        }
        if upkeep_at <= now {
            upkeep_at = now + strong.parts.config.upkeep_every;
            strong.look_after(clock.wall());
        }
    }
}

/// Takes what the outbox replies, as much at a time as there is.
pub(super) async fn run_replies(inner: Weak<Inner>, mut replies: Replies) {
    let _last_words = LastWords(Weak::clone(&inner));
    while let Some(reply) = replies.next().await {
        // Without the bus, what is left is only waited for: the outbox closes after it.
        let Some(strong) = inner.upgrade() else { continue };
        strong.handle_reply(reply);
        while let Some(reply) = replies.try_next() {
            strong.handle_reply(reply);
        }
        strong.act();
        strong.ended.notify_waiters();
    }
    if let Some(strong) = inner.upgrade() {
        strong.handle_outbox_ended();
    }
}
