//! One connection to the database, set up for us.

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;
use tracing::debug;

use crate::PostgresError;
use crate::schema::migrate;
use crate::way::Way;

/// A connection, and the task that it lives in.
pub(crate) struct Session {
    pub(crate) client: Client,
    task: JoinHandle<()>,
}

impl Session {
    /// Closes the connection at once: whatever it had locked is free.
    pub(crate) async fn close(self) {
        self.task.abort();
        // It was cancelled, or had ended.
        let _ = self.task.await;
    }
}

/// Opens a connection and makes what is missing.
///
/// A process that stops within a transaction must not hold the lock that everybody needs: the database ends
/// such a transaction after `call_max`.
pub(crate) async fn open(way: &Way) -> Result<Session, PostgresError> {
    let Way { schema, call_max, .. } = way;
    let opened = timeout(*call_max, async {
        let (mut client, connection) = way.connect().await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to the outbox has ended");
            }
        });
        let millis = call_max.as_millis().clamp(1, i32::MAX as u128);
        client
            .batch_execute(&format!(
                "SET lock_timeout = {millis}; SET statement_timeout = {millis};
                 SET idle_in_transaction_session_timeout = {millis}; SET client_min_messages = warning;
                 SELECT set_config('synchronous_commit', 'on', false)
                 WHERE current_setting('synchronous_commit') IN ('off', 'local')"
            ))
            .await?;
        migrate(&mut client, schema).await?;
        client.batch_execute(&format!("SET search_path TO \"{schema}\"")).await?;
        Ok(Session { client, task })
    });
    opened.await.unwrap_or_else(|_| Err(PostgresError::Silent { place: way.place(), waited: *call_max }))
}
