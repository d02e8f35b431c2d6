//! A port as people see it who ask what the program is doing.
//!
//! # Source
//! K13.

use serde::Serialize;

use super::desk::Desk;
use super::queue::Shared;

/// One port: an event loop, or a thread that waits.
#[derive(Clone, Debug, Serialize)]
pub struct PortView {
    /// How is waited there: `asyncio`, `threads` and so on.
    pub frontend: &'static str,
    /// The number of the thread that attached it.
    pub thread: u32,
    /// Places taken: submissions that have not been answered, and streams that are held.
    pub waiting: usize,
}

/// What is told of a port, whatever is behind it.
pub(crate) trait PortFacts: Send + Sync {
    /// What it looks like; none once the application has let go of it.
    fn view(&self) -> Option<PortView>;
}

impl<D: Desk> PortFacts for Shared<D> {
    fn view(&self) -> Option<PortView> {
        let view = || PortView { frontend: self.frontend, thread: self.thread, waiting: self.held() };
        (!self.is_detached()).then(view)
    }
}
