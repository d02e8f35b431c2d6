//! Wakes whoever waits for a deadline on time, to a fraction of a millisecond.
//!
//! tokio's timers count whole milliseconds and round up, and so does its wait for the sockets: by them alone a deadline
//! comes one to two milliseconds late, and sometimes three. They are left all of the way but the last stretch, which is
//! slept through on one timer of the system for all who wait. So a request that is answered in time, as nearly all are,
//! costs what a timer of tokio costs, and no call of the system.
//!
//! Where a test moves the clock there is no timer of the system, and tokio's are exact.
//!
//! # Units
//! Instants of the kernel's clock.
//!
//! # Source
//! K1; `timerfd_create(2)`.

mod queue;

use std::cell::{OnceCell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use southbridge_words::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::clock::Clock;
use queue::{Place, Queue};

/// Wakes whoever waits for a time. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Alarm {
    clock: Clock,
    /// None where a test moves the clock.
    system: Option<Rc<OnceCell<Watched>>>,
}

/// A time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLate;

impl Alarm {
    /// The alarm of a clock that goes by itself.
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, system: Some(Rc::default()) }
    }

    /// That of a clock which a test moves.
    pub(crate) fn of_tokio(clock: Clock) -> Self {
        Self { clock, system: None }
    }

    /// Waits until `at`.
    pub async fn until(&self, at: Instant) {
        let Some(system) = &self.system else {
            return tokio::time::sleep_until(self.clock.to_tokio(at)).await;
        };
        // A time that is over is over at the first look, with no timer made.
        tokio::time::sleep_until(self.clock.to_tokio(at.saturating_sub(STRETCH))).await;
        // Boxed: thousands wait, and few of them so long that they need room for this.
        Box::pin(self.last_stretch(system, at)).await;
    }

    async fn last_stretch(&self, system: &OnceCell<Watched>, at: Instant) {
        let tokios = tokio::time::sleep_until(self.clock.to_tokio(at));
        match self.face(system) {
            // Whichever is first: a test may have stopped tokio's clock.
            Some(face) => tokio::select! {
                biased;
                () = LastStretch { face, at, place: None } => {}
                () = tokios => {}
            },
            None => tokios.await,
        }
    }

    /// Does `work`, until `at` at most. It is looked at where it is, and can go on afterwards.
    ///
    /// # Errors
    /// [`TooLate`] when it was not done by then.
    pub async fn bound<T>(&self, at: Instant, work: impl Future<Output = T> + Unpin) -> Result<T, TooLate> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.until(at) => Err(TooLate),
        }
    }

    /// The system's timer; none when it has none for us. One that cannot be had now may be had later.
    fn face<'a>(&self, system: &'a OnceCell<Watched>) -> Option<&'a Face> {
        if let Some(watched) = system.get() {
            return Some(&watched.face);
        }
        let watched = Watched::new(self.clock).ok()?;
        Some(&system.get_or_init(|| watched).face)
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// The system's timer, and who waits for it.
struct Face {
    clock: Clock,
    timer: AsyncFd<OwnedFd>,
    queue: RefCell<Queue<Waker>>,
}

/// A face, and the task that looks at it.
struct Watched {
    face: Rc<Face>,
    watching: AbortHandle,
}

impl Watched {
    fn new(clock: Clock) -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        let timer = watched(timer)?;
        let face = Rc::new(Face { clock, timer, queue: RefCell::default() });
        let watching = tokio::task::spawn_local(Rc::clone(&face).watch()).abort_handle();
        Ok(Self { face, watching })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Face {
    async fn watch(self: Rc<Self>) {
        // An error means that the runtime ends.
        while let Ok(mut rung) = self.timer.readable().await {
            let mut times = [0_u8; 8];
            // Nothing to read means that it has been set anew since.
            let _rung = rung.try_io(|timer| Ok(rustix::io::read(timer, &mut times)?));
            self.queue.borrow_mut().handle_rung();
            let now = self.clock.now();
            loop {
                // Whoever is woken may look at the queue at once.
                let due = self.queue.borrow_mut().poll(now);
                let Some(due) = due else { break };
                due.wake();
            }
            self.set();
        }
    }

    fn set(&self) {
        let Some(at) = self.queue.borrow_mut().poll_setting() else { return };
        // Zero would unset it.
        let after = at.saturating_since(self.clock.now()).max(Duration::from_nanos(1));
        let setting = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: after.as_secs().cast_signed(),
                tv_nsec: after.subsec_nanos().into(),
            },
        };
        // It can fail for a time that is none only; and then there is tokio's.
        let _set = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting);
    }
}

#[expect(
    deprecated,
    reason = "what took its place is unsafe, for the sake of descriptors that are not owned"
)]
fn watched(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

/// Waits in the queue.
struct LastStretch<'a> {
    face: &'a Face,
    at: Instant,
    place: Option<Place>,
}

impl Future for LastStretch<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.face.queue.borrow_mut();
        let Some(place) = self.place else {
            let place = queue.handle_entered(self.at, cx.waker().clone());
            drop(queue);
            self.place = Some(place);
            self.face.set();
            return Poll::Pending;
        };
        match queue.at(place) {
            Some(waker) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }
}

impl Drop for LastStretch<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.face.queue.borrow_mut().handle_left(place);
        }
    }
}

/// How long before its time somebody goes over to the system's timer. tokio is up to two milliseconds late, and what has a
/// millisecond left then is on time; a longer one would make more calls of the system for those who are answered late.
const STRETCH: Duration = Duration::from_millis(3);

#[cfg(test)]
mod tests;
