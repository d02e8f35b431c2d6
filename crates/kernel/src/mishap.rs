//! A bug of ours must not become a hang: whoever waits for a task hears of it when the task panics.
//!
//! # Source
//! K14 (every submission completes); row 29 of the fault list.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;

/// Does `work`; `None` when it panicked, which the panic hook has reported by then.
///
/// What the task held is given up by its destructors. What it shares with others is machines, which are told of the
/// end like of any other and go on: one that was left in two minds panics again, in front of everybody.
pub async fn survived<T>(work: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(work).catch_unwind().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One task comes to its end, the other to a bug.
    #[tokio::test]
    async fn a_panic_is_an_end_as_well() {
        assert_eq!(survived(async { 1 }).await, Some(1));
        assert_eq!(survived::<()>(async { panic!("as the test wants it") }).await, None);
    }
}
