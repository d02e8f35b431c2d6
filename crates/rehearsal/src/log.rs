//! What happened, a line each.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use southbridge_kernel::net::{NetworkEvent, Side};
use tokio::time::Instant;

/// What happened, in order. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Log(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    start: Instant,
    lines: RefCell<Vec<String>>,
    fingerprint: RefCell<u64>,
}

impl Log {
    pub(crate) fn new(start: Instant) -> Self {
        Self(Rc::new(Inner { start, lines: RefCell::default(), fingerprint: RefCell::new(FNV_OFFSET) }))
    }

    /// Adds a line, from within the rehearsal; from outside, [`Rehearsal::note`](crate::Rehearsal::note) does.
    pub fn note(&self, what: impl fmt::Display) {
        let at = Instant::now().saturating_duration_since(self.0.start);
        let line = format!("{:>10.3} {what}", at.as_secs_f64());
        let mut fingerprint = self.0.fingerprint.borrow_mut();
        *fingerprint =
            line.bytes().fold(*fingerprint, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME));
        let mut lines = self.0.lines.borrow_mut();
        if lines.len() < LINES_MAX {
            lines.push(line);
        }
    }

    /// The first 100 000 lines: the seconds since the start, and what happened.
    pub fn lines(&self) -> Vec<String> {
        self.0.lines.borrow().clone()
    }

    /// A hash over all lines: two stories that agree in it are one.
    pub fn fingerprint(&self) -> u64 {
        *self.0.fingerprint.borrow()
    }

    pub(crate) fn network(&self, event: NetworkEvent) {
        let side = |side| match side {
            Side::Dialler => "us",
            Side::Listener => "the peer",
        };
        match event {
            NetworkEvent::Dialled { to } => self.note(format_args!("dial {to}")),
            NetworkEvent::Refused { by } => self.note(format_args!("refused by {by}")),
            NetworkEvent::Connected { conn, to } => self.note(format_args!("connection {conn} to {to}")),
            NetworkEvent::Closed { conn, by } => {
                self.note(format_args!("connection {conn} closed by {}", side(by)));
            }
            NetworkEvent::Reset { conn, by } => {
                self.note(format_args!("connection {conn} reset by {}", side(by)));
            }
            NetworkEvent::Lost { to } => self.note(format_args!("datagram to {to} lost")),
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;
const LINES_MAX: usize = 100_000;
