//! A rehearsal on a thread of its own, for whoever holds it from several.

use std::fmt;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::rehearsal::{Rehearsal, RehearsalConfig, RehearsalError};

/// A rehearsal on a thread of its own, and `S`, which lives beside it: peers, for example. What is handed in happens there,
/// one thing after the other; nothing happens between. Dropped, it waits for the thread to end.
pub struct RehearsalThread<S = ()> {
    jobs: Option<mpsc::SyncSender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

type Job<S> = Box<dyn FnOnce(&mut Rehearsal, &mut S) + Send>;

/// The thread has ended: something it was handed has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rehearsal has ended by a panic, which was reported when it happened")]
pub struct Ended;

impl RehearsalThread {
    /// Starts one.
    ///
    /// # Errors
    /// As [`Rehearsal::new`].
    pub fn start(config: RehearsalConfig) -> Result<Self, RehearsalError> {
        Self::start_with(config, |_| ())
    }

    /// Has `work` done there, and waits for it.
    ///
    /// # Errors
    /// [`Ended`] when it, or something before it, has panicked.
    pub fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Rehearsal) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        self.with_both(|rehearsal, ()| work(rehearsal))
    }
}

impl<S: 'static> RehearsalThread<S> {
    /// Starts one; `make` makes what lives beside the rehearsal.
    ///
    /// # Errors
    /// As [`Rehearsal::new`].
    pub fn start_with(
        config: RehearsalConfig,
        make: impl FnOnce(&mut Rehearsal) -> S + Send + 'static,
    ) -> Result<Self, RehearsalError> {
        let (jobs, queue) = mpsc::sync_channel::<Job<S>>(JOBS_MAX);
        let (report, started) = mpsc::sync_channel(1);
        let thread =
            std::thread::Builder::new().name("southbridge-rehearsal".to_owned()).spawn(move || {
                match Rehearsal::new(config) {
                    Ok(mut rehearsal) => {
                        let mut beside = make(&mut rehearsal);
                        let _starter_gone = report.send(Ok(()));
                        queue.iter().for_each(|job| job(&mut rehearsal, &mut beside));
                    }
                    Err(error) => drop(report.send(Err(error))),
                }
            })?;
        let died = || std::io::Error::other("the thread died at its start");
        started.recv().unwrap_or_else(|_| Err(died().into()))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `work` done there, and waits for it.
    ///
    /// # Errors
    /// [`Ended`] when it, or something before it, has panicked.
    pub fn with_both<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Rehearsal, &mut S) -> T + Send + 'static,
    ) -> Result<T, Ended> {
        let (answer, answered) = mpsc::sync_channel(1);
        let job: Job<S> = Box::new(move |rehearsal, beside| {
            let _asker_gone = answer.send(work(rehearsal, beside));
        });
        self.jobs.as_ref().ok_or(Ended)?.send(job).map_err(|_| Ended)?;
        answered.recv().map_err(|_| Ended)
    }
}

impl<S> Drop for RehearsalThread<S> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was reported by its hook already.
            let _joined = thread.join();
        }
    }
}

impl<S> fmt::Debug for RehearsalThread<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RehearsalThread")
    }
}

const JOBS_MAX: usize = 64;
