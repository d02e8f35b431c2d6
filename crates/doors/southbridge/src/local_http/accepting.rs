//! Accepts connections, so many at once as there are slots.

use std::convert::Infallible;
use std::future::Future;
use std::rc::Rc;

use southbridge_kernel::net::{Listener, LocalStream};
use tokio::task::spawn_local;

use super::Slots;

/// Accepts connections for ever, and runs what `serve` makes of each beside it; the connection holds one of `slots` until
/// that has ended. Dropping it (or its task) ends accepting, and nothing else.
///
/// It never fails: what keeps a connection from being accepted is the business of [`Listener::accept`].
pub async fn accept_each<F>(
    listener: &Listener,
    slots: &Rc<Slots>,
    serve: impl Fn(LocalStream) -> F,
) -> Infallible
where
    F: Future<Output = ()> + 'static,
{
    loop {
        // Whoever is above the bound waits in the system's queue, and not in ours.
        slots.any_free().await;
        let stream = listener.accept().await;
        let slot = slots.enter();
        let served = serve(stream);
        spawn_local(async move {
            served.await;
            drop(slot);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::future::poll_fn;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::pin::pin;
    use std::time::Duration;

    use southbridge_kernel::net::{ListenAddress, ListenOptions};
    use tempfile::TempDir;
    use tokio::task::{LocalSet, yield_now};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::local_http::Gate;

    /// A door that serves each connection until it is told to leave.
    #[derive(Default)]
    struct Patient {
        served: Cell<u32>,
        most: Cell<u32>,
        leave: Gate,
    }

    impl Patient {
        async fn serve(self: Rc<Self>, slots: Rc<Slots>, _stream: LocalStream) {
            self.served.set(self.served.get() + 1);
            self.most.set(self.most.get().max(slots.held()));
            self.leave.pass().await;
        }
    }

    fn listening(dir: &TempDir) -> (Listener, PathBuf) {
        let path = dir.path().join("door.sock");
        let listener = Listener::bind(&ListenAddress::Unix(path.clone()), &ListenOptions::default());
        (listener.unwrap(), path)
    }

    /// Until everything has been done that can be: each round lets the tasks run, and the reactor look.
    async fn settled() {
        for _ in 0..100 {
            yield_now().await;
        }
    }

    /// Five come to a door for two. Three wait in the system's queue, and are served once the two have left; whoever is in
    /// when accepting ends is served on.
    #[tokio::test]
    async fn no_more_are_served_than_there_are_slots_and_nobody_is_turned_away() {
        let dir = TempDir::new().unwrap();
        let (listener, path) = listening(&dir);
        let (slots, door) = (Slots::new(2), Rc::new(Patient::default()));
        LocalSet::new()
            .run_until(async {
                let (of_task, at_door) = (Rc::clone(&slots), Rc::clone(&door));
                let accepting = spawn_local(async move {
                    accept_each(&listener, &of_task, |stream| {
                        Rc::clone(&at_door).serve(Rc::clone(&of_task), stream)
                    })
                    .await
                });
                let _callers: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
                settled().await;
                assert_eq!((door.served.get(), slots.held()), (2, 2));
                door.leave.open();
                while door.served.get() < 5 {
                    yield_now().await;
                }
                slots.all_free().await;
                assert_eq!(door.most.get(), 2);
                accepting.abort();
            })
            .await;
    }

    /// The door closes while somebody is in it. He is served on, and who comes then is not accepted.
    #[tokio::test]
    async fn accepting_ends_with_its_task_and_what_is_served_does_not() {
        let dir = TempDir::new().unwrap();
        let (listener, path) = listening(&dir);
        let listener = Rc::new(listener);
        let (slots, door) = (Slots::new(9), Rc::new(Patient::default()));
        LocalSet::new()
            .run_until(async {
                let (of_task, at_door, heard_by) =
                    (Rc::clone(&slots), Rc::clone(&door), Rc::clone(&listener));
                let accepting = spawn_local(async move {
                    accept_each(&heard_by, &of_task, |stream| {
                        Rc::clone(&at_door).serve(Rc::clone(&of_task), stream)
                    })
                    .await
                });
                let _first = UnixStream::connect(&path).unwrap();
                while door.served.get() < 1 {
                    yield_now().await;
                }
                accepting.abort();
                assert!(accepting.await.unwrap_err().is_cancelled());
                let _second = UnixStream::connect(&path).unwrap();
                settled().await;
                assert_eq!((door.served.get(), slots.held()), (1, 1), "one is in, and nobody comes");
                // He was in nobody's hands, and waits for whoever accepts next.
                listener.accept().await;
                door.leave.open();
                slots.all_free().await;
            })
            .await;
    }

    /// The socket is shut from outside, so that each accept fails at once. Ten seconds of that are some hundred attempts.
    #[tokio::test(start_paused = true)]
    async fn an_accept_that_fails_is_not_tried_again_at_once() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let shut = rustix::io::fcntl_dupfd_cloexec(&socket, 0).unwrap();
        let listener = Listener::inherit(socket, &ListenOptions::default()).unwrap();
        rustix::net::shutdown(&shut, rustix::net::Shutdown::Read).unwrap();
        let slots = Slots::new(2);
        let mut accepting = pin!(accept_each(&listener, &slots, |_| async {}));
        let (looked, began) = (RefCell::new(0), Instant::now());
        let ended = timeout(
            Duration::from_secs(10),
            poll_fn(|cx| {
                *looked.borrow_mut() += 1;
                accepting.as_mut().poll(cx)
            }),
        )
        .await;
        assert!(ended.is_err(), "nobody came");
        assert_eq!(slots.held(), 0);
        assert!(began.elapsed() < Duration::from_secs(11));
        let looked = looked.into_inner();
        assert!((100..1_000).contains(&looked), "{looked} times");
    }
}
