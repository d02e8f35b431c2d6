//! Calling the database: connecting when need be, never waiting for ever, and finding out what became of a
//! commit.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;
use tracing::{debug, info, warn};

use crate::error::{Done, Trouble};
use crate::session::Session;
use crate::way::Way;
use crate::{PostgresError, session};

/// The connection to the database, opened anew when need be.
pub(crate) struct Line {
    way: Way,
    session: Option<Session>,
}

impl Line {
    pub(crate) async fn open(way: Way) -> Result<Self, PostgresError> {
        let session = session::open(&way).await?;
        Ok(Self { way, session: Some(session) })
    }

    pub(crate) const fn way(&self) -> &Way {
        &self.way
    }

    /// Does `work` within the time of a call; a connection that failed is given up.
    pub(crate) async fn call<T>(&mut self, work: impl AsyncFnOnce(&mut Client) -> Done<T>) -> Done<T> {
        let call_max = self.way.call_max;
        let called = timeout(call_max, async {
            let client = self.client().await?;
            work(client).await
        });
        let done = called.await.unwrap_or(Err(Trouble::Silent));
        if let Err(trouble) = &done {
            self.let_go(trouble).await;
        }
        done
    }

    /// Ends what a call left unfinished. A transaction that was dropped is rolled back when the connection is
    /// driven next, which may be long after; until then it would hold its locks.
    async fn let_go(&mut self, trouble: &Trouble) {
        let Some(session) = &self.session else { return };
        let rolled_back = !trouble.is_of_the_connection()
            && matches!(
                timeout(self.way.call_max, session.client.batch_execute("ROLLBACK")).await,
                Ok(Ok(()))
            );
        if !rolled_back && let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    /// Whether write number `batch` of `process` was committed. Asks until there is an answer, for a while.
    ///
    /// The write had updated the row that is locked here before its commit was sent. So whatever the old
    /// connection still does, the lock is given only when it has ended one way or the other.
    pub(crate) async fn was_committed(&mut self, process: i64, batch: i64) -> Done<bool> {
        let began = Instant::now();
        warn!(
            "the connection to the outbox broke during a commit: its outcome is looked up before anything else"
        );
        while began.elapsed() < ASK_FOR {
            let asked = self.call(async |client| {
                let row = client.query_opt(SELECT_BATCH, &[&process]).await?;
                Ok(row.map(|row| row.get::<_, i64>(0)))
            });
            match asked.await {
                Ok(Some(last)) => {
                    info!(committed = last == batch, "the outcome of an interrupted commit was found out");
                    return Ok(last == batch);
                }
                Ok(None) => break,
                Err(trouble) => debug!(?trouble, "the outcome of an interrupted commit is not known yet"),
            }
            sleep(ASK_EVERY).await;
        }
        Err(Trouble::Unknown)
    }

    async fn client(&mut self) -> Done<&mut Client> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            let opened = session::open(&self.way).await;
            self.session = Some(opened.map_err(|error| match error {
                PostgresError::Database { source } => Trouble::Database(source),
                other => Trouble::Unreachable(Box::new(other)),
            })?);
            info!("connected to the shared outbox again");
        }
        Ok(&mut self.session.as_mut().expect("it was opened a line above").client)
    }
}

/// What an error of a commit means: said by the database, it was not done; otherwise nobody knows.
pub(crate) fn of_commit(error: tokio_postgres::Error) -> Trouble {
    if error.as_db_error().is_some() { Trouble::Database(error) } else { Trouble::Unknown }
}

const SELECT_BATCH: &str = "SELECT batch FROM processes WHERE id = $1 FOR UPDATE";
// A database that is restarted, fails over or is upgraded is back by then. Whoever waits for the answer is told as soon as
// it is known, and nobody is told anything else.
const ASK_FOR: Duration = Duration::from_secs(15 * 60);
const ASK_EVERY: Duration = Duration::from_millis(250);
