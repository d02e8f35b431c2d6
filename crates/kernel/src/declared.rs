//! Services that were declared: connected before the first request, and kept connected (K7).
//!
//! A declared service is visited now and then: it is discovered anew, so that a change of its endpoints
//! reaches its connections, and a connection to it is lent and given back unused. That opens one where
//! there is none, keeps it from being closed for idleness, and replaces it when it has died.

use std::rc::{Rc, Weak};
use std::time::Duration;

use southbridge_policy::lane::Lane;
use southbridge_words::{Class, ServiceName};

use crate::discovery::Discover;
use crate::kernel::Shared;
use crate::pool::Need;

/// Keeps a service connected until it is dropped.
#[must_use = "a service is kept connected only as long as this is held"]
#[derive(Debug)]
pub struct Declared {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Declared {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Declares `service`; `tell` is told what came of every visit.
pub(crate) fn declare(
    shared: &Rc<Shared>,
    service: ServiceName,
    discovery: Rc<dyn Discover>,
    tell: impl Fn(Result<(), String>) + 'static,
) -> Declared {
    let weak = Rc::downgrade(shared);
    Declared { task: tokio::task::spawn_local(keep(weak, service, discovery, tell)) }
}

async fn keep(
    shared: Weak<Shared>,
    service: ServiceName,
    discovery: Rc<dyn Discover>,
    tell: impl Fn(Result<(), String>),
) {
    let mut failures = 0_u32;
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let visited = visit(&strong, &service, &discovery).await;
        match &visited {
            Ok(()) => failures = 0,
            Err(reason) => {
                failures += 1;
                tracing::debug!(%service, reason, failures, "declared service not connected");
            }
        }
        tell(visited);
        drop(strong);
        let pause = if failures == 0 { VISIT_EVERY } else { RETRY_FIRST * (1 << failures.min(6)) };
        tokio::time::sleep(pause.min(VISIT_EVERY)).await;
    }
}

/// Sees that there is a connection to `service`.
async fn visit(
    shared: &Rc<Shared>,
    service: &ServiceName,
    discovery: &Rc<dyn Discover>,
) -> Result<(), String> {
    let now = shared.clock.now();
    let mark = shared.underway.enter(service, Class::Backfill, now);
    let deadline = now + VISIT_MAX;
    let route = discovery.discover(service, deadline).await.map_err(|error| error.to_string())?;
    let need =
        Need { ticket: mark.ticket(), class: Class::Backfill, lane: Lane::Limited, deadline, fresh: false };
    let mut lent = shared.lending.borrow(&route, need, &mark).await.map_err(|error| error.to_string())?;
    // Given back unused; a connection that has died is noticed here and replaced at the next visit.
    if lent.ready().await { Ok(()) } else { Err("its connection was gone".to_owned()) }
}

/// Well within the time after which idle connections are closed, here and at most peers.
const VISIT_EVERY: Duration = Duration::from_secs(30);
const VISIT_MAX: Duration = Duration::from_secs(20);
const RETRY_FIRST: Duration = Duration::from_millis(500);
