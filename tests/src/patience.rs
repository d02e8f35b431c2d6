//! A name and a deadline for everything that is waited for.

use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};

/// How long one step of a test may take unless it says otherwise: three times what a busy machine needs.
pub const STEP_MAX: Duration = Duration::from_secs(40);

/// Does one step of a scenario, and says how long it took.
///
/// # Panics
/// With the step's name, when it fails or takes longer than [`STEP_MAX`].
pub async fn step<T>(name: &str, doing: impl Future<Output = Result<T>>) -> T {
    step_within(STEP_MAX, name, doing).await
}

/// [`step`] with a limit of its own.
///
/// # Panics
/// With the step's name, when it fails or takes longer than `limit`.
pub async fn step_within<T>(limit: Duration, name: &str, doing: impl Future<Output = Result<T>>) -> T {
    let started = Instant::now();
    let done = within(limit, name, doing).await;
    let took = started.elapsed().as_secs_f64();
    match done {
        Ok(value) => {
            eprintln!("{took:6.2} s  {name}");
            value
        }
        Err(failure) => panic!("step failed after {took:.1} s: {name}: {failure}"),
    }
}

/// Waits for `doing` until `limit` has passed.
///
/// # Errors
/// Its own, or that time is up for `what`.
pub async fn within<T>(limit: Duration, what: &str, doing: impl Future<Output = Result<T>>) -> Result<T> {
    let late = |_| Failure::new(format!("not within {} s: {what}", limit.as_secs()));
    tokio::time::timeout(limit, doing).await.map_err(late)?
}

/// Asks a real process again and again until it says `Some`, for at most `limit`. For what cannot be waited on.
///
/// # Errors
/// That time is up for `what`, or the question's own error.
pub async fn eventually<T, F>(limit: Duration, what: &str, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    within(limit, what, async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(TICK).await;
        }
    })
    .await
}

/// Short beside a process's start, long beside what asking costs it.
const TICK: Duration = Duration::from_millis(50);
