use std::future::{pending, ready};
use std::pin::pin;

use tokio::task::LocalSet;

use super::*;

/// On a clock that a test moves, everybody is told at the time itself, and no descriptor is asked for.
#[tokio::test(start_paused = true)]
async fn a_clock_that_is_moved_is_followed() {
    let clock = Clock::start();
    let alarm = Alarm::of_tokio(clock);
    let at = clock.now() + Duration::from_millis(1_500);
    assert_eq!(alarm.bound(at, pin!(pending::<()>())).await, Err(TooLate));
    assert_eq!(clock.now(), at);
    assert_eq!(alarm.bound(at, ready(7)).await, Ok(7), "what is there is taken, however late");
    assert!(alarm.system.is_none());
}

/// A clock that is stopped, with a timer of the system beside it, as in tests that have sockets: tokio's timers do.
#[tokio::test(start_paused = true)]
async fn a_stopped_clock_does_not_stop_who_waits() {
    let story = async {
        let clock = Clock::start();
        let alarm = Alarm::new(clock);
        let at = clock.now() + Duration::from_secs(60);
        assert_eq!(alarm.bound(at, pin!(pending::<()>())).await, Err(TooLate));
        assert!(clock.now() >= at);
    };
    LocalSet::new().run_until(story).await;
}

/// Nobody is told before the time; whoever is answered in the last stretch leaves no trace in the queue.
#[tokio::test]
async fn nobody_is_told_early() {
    let story = async {
        let clock = Clock::start();
        let alarm = Alarm::new(clock);
        for micros in [0, 700, 3_300, 5_100] {
            let at = clock.now() + Duration::from_micros(micros);
            alarm.until(at).await;
            assert!(clock.now() >= at, "{micros} µs");
        }
        let at = clock.now() + Duration::from_secs(60);
        let soon = pin!(tokio::time::sleep(Duration::from_millis(1)));
        assert_eq!(alarm.bound(at, soon).await, Ok(()));
        let one_turn = pin!(tokio::task::yield_now());
        assert_eq!(alarm.bound(clock.now() + STRETCH, one_turn).await, Ok(()));
        let face = watched_face(&alarm);
        assert!(face.queue.borrow_mut().poll(Instant::FAR_FUTURE).is_none());
    };
    LocalSet::new().run_until(story).await;
}

/// The alarm goes, and its task with it: the descriptor is closed.
#[tokio::test]
async fn an_alarm_takes_its_descriptor_with_it() {
    let story = async {
        let clock = Clock::start();
        let alarm = Alarm::new(clock);
        alarm.until(clock.now()).await;
        let face = Rc::downgrade(watched_face(&alarm));
        drop(alarm);
        while face.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
    };
    LocalSet::new().run_until(story).await;
}

fn watched_face(alarm: &Alarm) -> &Rc<Face> {
    let watched = alarm.system.as_ref().and_then(|system| system.get());
    &watched.expect("there was a descriptor to be had").face
}
