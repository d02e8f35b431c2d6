//! The doorstep of a kernel: where ports call that have something for it.
//!
//! A program may have a port for each of a hundred threads. The kernel looks at those that called, and at no others.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_queue::SegQueue;
use tokio::sync::Notify;

/// One for all ports of a kernel.
#[derive(Default)]
pub(super) struct Doorstep {
    /// The numbers of ports. Each stands here once at the most: [`Caller`] sees to it, and so it has a bound.
    callers: SegQueue<u64>,
    bell: Notify,
    stopped: AtomicBool,
    ports: AtomicU64,
}

/// One port, as far as it calls.
pub(super) struct Caller {
    /// Its number, which no other port of this kernel has had.
    pub(super) number: u64,
    stands_there: AtomicBool,
}

impl Doorstep {
    /// A new port.
    pub(super) fn caller(&self) -> Caller {
        let number = self.ports.fetch_add(1, Ordering::Relaxed);
        Caller { number, stands_there: AtomicBool::new(false) }
    }

    /// `caller` has something for the kernel.
    pub(super) fn call(&self, caller: &Caller) {
        if !caller.stands_there.swap(true, Ordering::SeqCst) {
            self.callers.push(caller.number);
        }
        self.bell.notify_one();
    }

    /// Has the kernel look, for another reason.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Kernel side: waits until somebody rings. Looks from before the last call do not count.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// Kernel side: the number of the next port that called.
    pub(super) fn next(&self) -> Option<u64> {
        self.callers.pop()
    }

    /// There will be no kernel behind it.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

impl Caller {
    /// Kernel side: it is looked at now, and what comes later is called for anew.
    pub(super) fn is_seen(&self) {
        // The swap, and not a store, sees whatever was handed in before the call that found it standing there.
        self.stands_there.swap(false, Ordering::SeqCst);
    }
}
