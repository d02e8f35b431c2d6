//! Whoever waits to hear that an attempt came to nothing.
//!
//! # Source
//! F15: between two attempts there are minutes, and nobody is given up who has been back for half of them.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use southbridge_bus::externaliser::Hold;
use southbridge_words::ServerName;
use tokio::sync::Notify;

/// Those who wait, by destination.
#[derive(Default)]
pub(super) struct Attempts(RefCell<FxHashMap<ServerName, Rc<Notify>>>);

impl Attempts {
    /// Hears of the attempts for `destination` from now on.
    pub(super) fn watch(&self, destination: &ServerName) -> Watch<'_> {
        let news = Rc::clone(self.0.borrow_mut().entry(destination.clone()).or_default());
        Watch { attempts: self, destination: destination.clone(), news }
    }

    /// A queue waits. Whether an attempt was made is seen by why.
    pub(super) fn held(&self, destination: &ServerName, why: Hold) {
        // Of these, the host has heard nothing.
        if matches!(why, Hold::Overloaded | Hold::Outbox | Hold::Budget | Hold::Start) {
            return;
        }
        if let Some(news) = self.0.borrow().get(destination) {
            news.notify_waiters();
        }
    }
}

/// A place among those who wait.
pub(super) struct Watch<'a> {
    attempts: &'a Attempts,
    destination: ServerName,
    pub(super) news: Rc<Notify>,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // The table's, and this one's: nobody else waits.
        if Rc::strong_count(&self.news) == 2 {
            self.attempts.0.borrow_mut().remove(&self.destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Two wait for one host and one for another. An attempt ends the waiting of the two; what was no attempt ends nothing,
    /// and nobody who has left is remembered.
    #[test]
    fn who_waits_hears_of_attempts() {
        let (a, b) = (ServerName::parse("a.test").unwrap(), ServerName::parse("b.test").unwrap());
        let attempts = Attempts::default();
        let places = [attempts.watch(&a), attempts.watch(&a), attempts.watch(&b)];
        let mut news: Vec<_> = places.iter().map(|place| Box::pin(place.news.notified())).collect();
        attempts.held(&a, Hold::Overloaded);
        assert!(news.iter_mut().all(|news| news.as_mut().now_or_never().is_none()));
        attempts.held(&a, Hold::Unreachable);
        let heard: Vec<bool> = news.iter_mut().map(|news| news.as_mut().now_or_never().is_some()).collect();
        assert_eq!(heard, [true, true, false]);
        drop(news);
        drop(places);
        assert!(attempts.0.borrow().is_empty());
    }
}
