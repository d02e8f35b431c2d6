//! What became of what was sent, for whoever wants to know: a bounded ring of the latest results.
//!
//! A reader that stops reading costs nothing, and is told that there is a gap when it comes back too late. What
//! it missed is not lost to the homeserver: the queues say what is still to be delivered.
//!
//! # Units
//! Positions count results from 1 since the start of the process.
//!
//! # Source
//! Issue 3, items 1 and 7 ("a stream of delivery results with a resume token").

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::{Rc, Weak};
use std::str::FromStr;

use southbridge_bus::externaliser::Event;
use tokio::sync::Notify;

use super::ResultLimits;

/// Where a reader of results stands: after the result it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    /// Which start of the process.
    boot: u64,
    position: u64,
}

impl fmt::Display for ResumeToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.boot, self.position)
    }
}

/// A text that is not a resume token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a resume token: it is sixteen hexadecimal digits, a dash, and a number")]
pub struct InvalidResumeToken;

impl FromStr for ResumeToken {
    type Err = InvalidResumeToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (boot, position) = text.split_once('-').ok_or(InvalidResumeToken)?;
        let hexadecimal = boot.len() == 16 && boot.bytes().all(|byte| byte.is_ascii_hexdigit());
        let decimal = !position.is_empty() && position.bytes().all(|byte| byte.is_ascii_digit());
        if !hexadecimal || !decimal {
            return Err(InvalidResumeToken);
        }
        let boot = u64::from_str_radix(boot, 16).map_err(|_| InvalidResumeToken)?;
        Ok(Self { boot, position: position.parse().map_err(|_| InvalidResumeToken)? })
    }
}

/// What a reader of results is given.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// [`Event::Delivered`], [`Event::GivenUp`] or [`Event::Diverged`].
    Event {
        /// What happened.
        event: Rc<Event>,
        /// Where to go on after it.
        token: ResumeToken,
    },
    /// Results were missed: more came than are kept, or the process was started anew.
    Gap {
        /// Where to go on after it: at the oldest result that is kept.
        token: ResumeToken,
    },
}

/// The ring that results are written to.
pub(super) struct Ring {
    boot: u64,
    limits: ResultLimits,
    kept: RefCell<Kept>,
    arrival: Rc<Notify>,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<(Rc<Event>, usize)>,
    bytes: usize,
    /// How many were written in all, and so the position of the last.
    written: u64,
}

impl Kept {
    /// How many are not kept any more.
    fn gone(&self) -> u64 {
        self.written - self.events.len() as u64
    }
}

impl Ring {
    pub(super) fn new(limits: ResultLimits, boot: u64) -> Rc<Self> {
        Rc::new(Self { boot, limits, kept: RefCell::default(), arrival: Rc::default() })
    }

    pub(super) fn write(&self, event: Rc<Event>) {
        let bytes = said_bytes(&event);
        let mut kept = self.kept.borrow_mut();
        kept.events.push_back((event, bytes));
        kept.bytes += bytes;
        kept.written += 1;
        while kept.events.len() > self.limits.results_max.max(1) || kept.bytes > self.limits.bytes_max {
            let Some((_, bytes)) = kept.events.pop_front() else { break };
            kept.bytes -= bytes;
        }
        drop(kept);
        self.arrival.notify_waiters();
    }

    /// Lets go of everything up to `token`: its only reader has read it.
    pub(super) fn forget(&self, token: ResumeToken) {
        if token.boot != self.boot {
            return;
        }
        let mut kept = self.kept.borrow_mut();
        while kept.gone() < token.position {
            let Some((_, bytes)) = kept.events.pop_front() else { break };
            kept.bytes -= bytes;
        }
    }

    /// How many results were written.
    pub(super) fn written(&self) -> u64 {
        self.kept.borrow().written
    }

    /// A reader that goes on after `from`, or with what comes from now on.
    pub(super) fn read(self: &Rc<Self>, from: Option<ResumeToken>) -> Results {
        let written = self.kept.borrow().written;
        let token = from.unwrap_or(ResumeToken { boot: self.boot, position: written });
        // A position that was never given out is nobody's.
        let missed = token.boot != self.boot || token.position > written;
        Results {
            ring: Rc::downgrade(self),
            boot: self.boot,
            arrival: Rc::clone(&self.arrival),
            position: token.position,
            missed,
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.arrival.notify_waiters();
    }
}

/// About how much memory the words of a peer in `event` take, in bytes.
fn said_bytes(event: &Event) -> usize {
    match event {
        Event::Delivered { response, .. } => {
            response.errors.iter().map(|(id, error)| id.len() + error.len()).sum()
        }
        _ => 0,
    }
}

/// A reader of results.
pub struct Results {
    ring: Weak<Ring>,
    boot: u64,
    arrival: Rc<Notify>,
    position: u64,
    missed: bool,
}

impl Results {
    /// Where it stands: to go on from there with another reader.
    pub fn token(&self) -> ResumeToken {
        ResumeToken { boot: self.boot, position: self.position }
    }

    /// Waits for the next result; none when the bus is gone. Nothing is lost when the waiting is given up.
    pub async fn next(&mut self) -> Option<Delivery> {
        let arrival = Rc::clone(&self.arrival);
        loop {
            // What arrives from here on is noticed; nothing can between here and the look, on one thread.
            let arrived = arrival.notified();
            let ring = self.ring.upgrade()?;
            if let Some(delivery) = self.take(&ring) {
                return Some(delivery);
            }
            drop(ring);
            arrived.await;
        }
    }

    /// The next result, if there is one.
    pub fn try_next(&mut self) -> Option<Delivery> {
        let ring = self.ring.upgrade()?;
        self.take(&ring)
    }

    fn take(&mut self, ring: &Ring) -> Option<Delivery> {
        let kept = ring.kept.borrow();
        let gone = kept.gone();
        if self.missed || self.position < gone {
            (self.missed, self.position) = (false, gone);
            let token = ResumeToken { boot: ring.boot, position: gone };
            return Some(Delivery::Gap { token });
        }
        let at = usize::try_from(self.position - gone).ok()?;
        let (event, _) = kept.events.get(at)?;
        self.position += 1;
        let token = ResumeToken { boot: ring.boot, position: self.position };
        Some(Delivery::Event { event: Rc::clone(event), token })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use southbridge_words::ServerName;

    use super::*;

    /// One reader reads two of three, and these are let go of: the third still comes to it, and a reader from the beginning
    /// is told of a gap.
    #[test]
    fn what_was_read_is_let_go_of() {
        let ring = Ring::new(ResultLimits::default(), 7);
        let mut reader = ring.read(None);
        let begin = reader.token();
        let destination = ServerName::parse("a.test").unwrap();
        for number in 0..3 {
            let transaction = Arc::from(number.to_string());
            ring.write(Rc::new(Event::Diverged { destination: destination.clone(), transaction }));
        }
        assert!(reader.try_next().is_some() && reader.try_next().is_some());
        ring.forget(reader.token());
        assert_eq!((ring.kept.borrow().events.len(), ring.written()), (1, 3));
        assert!(matches!(reader.try_next(), Some(Delivery::Event { .. })));
        assert!(reader.try_next().is_none());
        assert!(matches!(ring.read(Some(begin)).try_next(), Some(Delivery::Gap { .. })));
    }
}
