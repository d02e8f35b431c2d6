//! Files, on a thread of their own: a slow disk must not stop a connection.
//!
//! # Source
//! K1; F17. What is done in one file is done one thing after another, and each is waited for, so that memory stays at
//! one piece a file however slow the disk.

use std::cell::RefCell;
use std::io;

use tokio::sync::{mpsc, oneshot};

/// The thread that reads and writes files. It is started when it is first needed.
#[derive(Default)]
pub(crate) struct Files {
    jobs: RefCell<Option<mpsc::Sender<Job>>>,
    at_once: bool,
}

type Job = Box<dyn FnOnce() + Send>;

impl Files {
    /// Without a thread, for a clock that is made up: it would not wait for one.
    pub(crate) fn at_once() -> Self {
        Self { jobs: RefCell::default(), at_once: true }
    }

    /// Has `job` done, and waits for it without blocking. Whoever waits no longer has it done all the same.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        if self.at_once {
            return job();
        }
        let (told, tell) = oneshot::channel();
        let job: Job = Box::new(move || {
            let _nobody_waits = told.send(job());
        });
        let jobs = self.thread()?;
        jobs.send(job).await.map_err(|_| gone())?;
        tell.await.map_err(|_| gone())?
    }

    /// Has `job` done some time, if nothing else can be waited for. Where there is no place in the queue it is done here.
    pub(crate) fn later(&self, job: impl FnOnce() + Send + 'static) {
        let job: Job = Box::new(job);
        match self.thread().map(|jobs| jobs.try_send(job)) {
            Ok(Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job))) => job(),
            Ok(Ok(())) | Err(_) => {}
        }
    }

    fn thread(&self) -> io::Result<mpsc::Sender<Job>> {
        if let Some(jobs) = &*self.jobs.borrow() {
            return Ok(jobs.clone());
        }
        let (jobs, mut waiting) = mpsc::channel::<Job>(JOBS_MAX);
        std::thread::Builder::new().name("southbridge-files".to_owned()).spawn(move || {
            while let Some(job) = waiting.blocking_recv() {
                job();
            }
        })?;
        self.jobs.replace(Some(jobs.clone()));
        Ok(jobs)
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread for files has ended")
}

/// Those above wait for their turn.
const JOBS_MAX: usize = 64;
