//! What the way to an address is like.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::pipe::Pipe;

/// What the way to one address is like. The default is a good one that takes no time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// How long everything travels, one way.
    pub latency: Duration,
    /// At most so much is added to each trip by chance. Bytes of a stream keep their order all the same, datagrams do not.
    pub jitter: Duration,
    /// What becomes of a SYN.
    pub syn: Syn,
    /// Nothing reaches the address, until this is false again.
    pub is_cut_out: bool,
    /// Nothing comes back from it, until this is false again.
    pub is_cut_back: bool,
    /// How many of a thousand datagrams are lost, each way.
    pub lost_permille: u32,
    /// How many of a thousand datagrams come twice.
    pub twice_permille: u32,
}

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Syn {
    /// It is answered if somebody listens, and refused if nobody does.
    #[default]
    Answered,
    /// It is refused, whoever listens.
    Refused,
    /// It is never heard of again: a black hole.
    Lost,
}

/// A path, and whoever must know when it changes.
#[derive(Default)]
pub(super) struct Link {
    path: Cell<Path>,
    pipes: RefCell<Vec<Weak<RefCell<Pipe>>>>,
    changed: Notify,
}

impl Link {
    pub(super) fn path(&self) -> Path {
        self.path.get()
    }

    pub(super) fn set(&self, path: Path) {
        self.path.set(path);
        let mut pipes = self.pipes.borrow_mut();
        pipes.retain(|pipe| pipe.strong_count() > 0);
        pipes.iter().filter_map(Weak::upgrade).for_each(|pipe| pipe.borrow_mut().wake());
        drop(pipes);
        self.changed.notify_waiters();
    }

    pub(super) fn add(&self, pipe: &Rc<RefCell<Pipe>>) {
        let mut pipes = self.pipes.borrow_mut();
        if pipes.len() == pipes.capacity() {
            pipes.retain(|pipe| pipe.strong_count() > 0);
        }
        pipes.push(Rc::downgrade(pipe));
    }

    /// Waits until nothing is cut.
    pub(super) async fn open(&self) {
        loop {
            let changed = self.changed.notified();
            let path = self.path();
            if !path.is_cut_out && !path.is_cut_back {
                return;
            }
            changed.await;
        }
    }
}
