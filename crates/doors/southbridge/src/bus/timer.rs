//! The tasks that outlive a call: the one timer, and the ear at the outbox. Neither keeps the bus alive.

use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use southbridge_bus::externaliser::Externaliser;
use southbridge_kernel::Clock;
use southbridge_store_thread::Replies;
use southbridge_words::Instant;
use tokio::sync::Notify;

use super::ending::LastWords;
use super::inner::Inner;

/// Wakes the Externaliser when it asked to be woken, and the outbox now and then.
pub(super) async fn run_timer(inner: Weak<Inner>, clock: Clock) {
    let _last_words = LastWords(Weak::clone(&inner));
    let mut upkeep_at = clock.now();
    let mut bell =
        Bell { news: inner.upgrade().and_then(|it| it.parts.config.news.clone()), ..Bell::default() };
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let next = strong.externaliser.borrow().poll_timeout().unwrap_or(Instant::FAR_FUTURE);
        let rearm = strong.timing.sleeps_until(next);
        let wake_at = next.min(upkeep_at).min(bell.due());
        let is_busy = !strong.unsent.borrow().is_empty();
        drop(strong);
        if is_busy {
            tokio::task::yield_now().await;
        } else {
            tokio::select! {
                biased;
                () = rearm.notified() => {}
                () = bell.rings() => {}
                () = tokio::time::sleep_until(clock.to_tokio(wake_at)) => {}
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
        if bell.due() <= now && strong.ask_for_news() {
            bell.answered(now);
        } else if bell.due() <= now {
            bell.later(now);
        }
    }
}

/// What other processes do is looked at when they ring, and not more often than it is worth.
#[derive(Default)]
struct Bell {
    news: Option<Arc<Notify>>,
    has_rung: bool,
    not_before: Instant,
}

impl Bell {
    /// Waits until it rings.
    async fn rings(&mut self) {
        match &self.news {
            Some(news) if !self.has_rung => news.notified().await,
            _ => std::future::pending().await,
        }
        self.has_rung = true;
    }

    /// When it is to be answered.
    fn due(&self) -> Instant {
        if self.has_rung { self.not_before } else { Instant::FAR_FUTURE }
    }

    fn answered(&mut self, now: Instant) {
        self.has_rung = false;
        self.later(now);
    }

    fn later(&mut self, now: Instant) {
        self.not_before = now + NEWS_EVERY;
    }
}

/// What others accept for our destinations waits for as long as this, and costs as little as that.
const NEWS_EVERY: Duration = Duration::from_millis(50);

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
