use std::collections::VecDeque;
use std::time::Duration;

use tokio::task::{JoinHandle, LocalSet, spawn_local, yield_now};

use super::*;

/// A machine that answers whoever asked at its next time, `EVERY` after it was asked.
struct Toy {
    desk: Desk<oneshot::Sender<u64>>,
    clock: Clock,
    asked: RefCell<Vec<Ticket>>,
    actions: RefCell<VecDeque<Ticket>>,
    due: Cell<Option<Instant>>,
    woken: Cell<u32>,
    left: RefCell<Vec<Ticket>>,
}

impl Toy {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            desk: Desk::default(),
            clock: Clock::start(),
            asked: RefCell::default(),
            actions: RefCell::default(),
            due: Cell::new(None),
            woken: Cell::new(0),
            left: RefCell::default(),
        })
    }

    async fn ask(self: &Rc<Self>, after: Duration) -> Result<u64, RecvError> {
        let (told, tell) = oneshot::channel();
        self.wait(told, tell, |ticket| {
            self.asked.borrow_mut().push(ticket);
            let at = self.clock.now() + after;
            self.due.set(Some(self.due.get().map_or(at, |due| due.min(at))));
        })
        .await
    }
}

impl Driver for Toy {
    type Waiter = oneshot::Sender<u64>;
    type Action = Ticket;

    fn desk(&self) -> &Desk<Self::Waiter> {
        &self.desk
    }

    fn clock(&self) -> Clock {
        self.clock
    }

    fn poll(&self) -> Option<Ticket> {
        self.actions.borrow_mut().pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due.get()
    }

    fn handle_timeout(&self) {
        self.woken.set(self.woken.get() + 1);
        self.due.set(None);
        self.actions.borrow_mut().extend(self.asked.take());
    }

    fn perform(self: &Rc<Self>, ticket: Ticket) {
        if let Some(told) = self.desk.take(ticket) {
            told.send(ticket.0).expect("he waits");
        }
    }

    fn handle_left(self: &Rc<Self>, ticket: Ticket) {
        self.left.borrow_mut().push(ticket);
    }
}

/// Tells a story of one of them, and of its timer.
async fn on_toy(story: impl AsyncFnOnce(Rc<Toy>, JoinHandle<()>)) {
    let telling = async {
        let toy = Toy::new();
        let timer = spawn_local(run_timer(Rc::downgrade(&toy)));
        story(toy, timer).await;
    };
    LocalSet::new().run_until(telling).await;
}

const HOUR: Duration = Duration::from_secs(3600);

/// The first asks for an hour hence, the second for a second hence: the timer, which slept for the hour, wakes earlier.
#[tokio::test(start_paused = true)]
async fn the_machine_is_woken_when_it_wants_and_not_before() {
    on_toy(async |toy, _timer| {
        let began = tokio::time::Instant::now();
        let first = Rc::clone(&toy);
        let first = spawn_local(async move { first.ask(HOUR).await });
        yield_now().await;
        assert_eq!(toy.ask(Duration::from_secs(1)).await, Ok(1));
        assert_eq!(first.await.unwrap(), Ok(0));
        let took = began.elapsed();
        assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&took), "{took:?}");
        assert_eq!(toy.woken.get(), 1);
        assert!(toy.desk.is_empty());
    })
    .await;
}

/// Whoever gives up leaves no place behind, and the machine hears of it; who had an answer has not left.
#[tokio::test(start_paused = true)]
async fn whoever_leaves_early_is_told_of_once() {
    on_toy(async |toy, _timer| {
        let late = tokio::time::timeout(Duration::from_secs(1), toy.ask(HOUR)).await;
        assert!(late.is_err());
        assert_eq!(*toy.left.borrow(), [Ticket(0)]);
        assert!(toy.desk.is_empty());
        assert_eq!(toy.ask(HOUR).await, Ok(1));
        assert_eq!(*toy.left.borrow(), [Ticket(0)]);
    })
    .await;
}

/// All are dropped because everything ends: whoever waits is told, and nobody has left.
#[tokio::test(start_paused = true)]
async fn when_everything_ends_whoever_waits_is_told() {
    on_toy(async |toy, _timer| {
        let waiting = Rc::clone(&toy);
        let waiting = spawn_local(async move { waiting.ask(HOUR).await });
        yield_now().await;
        toy.desk.clear();
        assert!(waiting.await.unwrap().is_err());
        assert!(toy.left.borrow().is_empty());
    })
    .await;
}

/// The timer sleeps without end, and must not be what keeps the machine, nor outlive it.
#[tokio::test(start_paused = true)]
async fn a_machine_that_nobody_holds_is_gone_and_its_timer_with_it() {
    on_toy(async |toy, timer| {
        yield_now().await;
        let gone = Rc::downgrade(&toy);
        drop(toy);
        assert!(gone.upgrade().is_none());
        tokio::time::timeout(HOUR, timer).await.expect("it ended").unwrap();
    })
    .await;
}
