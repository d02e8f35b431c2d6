//! Hears of what others do, on a connection and a thread of its own.
//!
//! The connection of the outbox is driven only while somebody calls; this one is always driven. What it hears is worth
//! nothing but the hurry: whoever missed it finds the same with the next upkeep.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_postgres::AsyncMessage;
use tracing::debug;

use crate::PostgresError;
use crate::way::{Way, Wire};

/// Listens until it is dropped.
#[derive(Debug)]
pub(crate) struct Ear {
    _stop: oneshot::Sender<()>,
}

/// By which number the others know this process; zero when they do not.
pub(crate) type Ourselves = Arc<AtomicI64>;

impl Ear {
    /// Calls `ring` when another process than `ourselves` has done something that concerns us.
    pub(crate) fn start(
        way: Way,
        ourselves: Ourselves,
        ring: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new().name("sb-outbox-ear".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = listen_for_ever(&way, &ourselves, &ring) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { _stop: stop })
    }
}

async fn listen_for_ever(way: &Way, ourselves: &Ourselves, ring: &impl Fn()) {
    let mut wait = WAIT_FIRST;
    loop {
        match listen(way, ourselves, ring).await {
            // It had worked until now.
            Ok(()) => wait = WAIT_FIRST,
            Err(error) => debug!(error = %error, ?wait, "nothing is heard of the others' doings"),
        }
        sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}

/// Listens until the connection breaks.
async fn listen(way: &Way, ourselves: &Ourselves, ring: &impl Fn()) -> Result<(), PostgresError> {
    let silent = || PostgresError::Silent { place: way.place(), waited: way.call_max };
    let (client, mut wire) = timeout(way.call_max, way.connect()).await.map_err(|_| silent())??;
    let asked = format!("LISTEN \"{}\"", way.schema);
    let asked = client.batch_execute(&asked);
    // Both at once: the connection must be driven for the question to go out.
    let listening = async { timeout(way.call_max, asked).await };
    tokio::pin!(listening);
    let heard = tokio::select! {
        heard = &mut listening => heard,
        () = drive(&mut wire, ourselves, ring) => return Err(silent()),
    };
    heard.map_err(|_| silent())?.map_err(|error| PostgresError::of(error, way))?;
    debug!("the others' doings are heard of");
    // What happened before was not heard.
    ring();
    drive(&mut wire, ourselves, ring).await;
    Ok(())
}

/// Drives `wire` until it breaks.
async fn drive(wire: &mut Wire, ourselves: &Ourselves, ring: &impl Fn()) {
    loop {
        match poll_fn(|context| wire.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(heard))) => {
                let by = heard.payload().parse().unwrap_or(0);
                if by == 0 || by != ourselves.load(Ordering::Relaxed) {
                    ring();
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return debug!(%error, "connection of the ear has ended"),
            None => return,
        }
    }
}

const WAIT_FIRST: Duration = Duration::from_millis(250);
// Seldom enough for a database that is down, often enough to be fast again soon after.
const WAIT_MAX: Duration = Duration::from_secs(10);
