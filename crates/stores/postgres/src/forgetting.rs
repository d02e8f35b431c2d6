//! Deletes the names that nothing refers to any more, and the sets in which they stood.
//!
//! Rooms repeat their sets, so one without items is kept for a while. Names come from strangers: they are kept for as long
//! as a set has them, and no longer, together with how far they have come.
//!
//! Others may remember the numbers of what is deleted. Whoever uses such a number holds the lock on `head`, as does who
//! deletes; and there it stands that something was deleted.

use std::time::Duration;

use southbridge_words::WallTime;
use tokio_postgres::Client;
use tracing::debug;

use crate::error::Done;
use crate::progress::millis;
use crate::write::Head;

/// Where it goes on.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    /// When it was done last.
    at: Option<WallTime>,
    set: i32,
    name: i32,
}

impl Forgetting {
    /// Deletes a bounded part of it, now and then: others look everything up again that they had remembered.
    pub(crate) async fn perform(&mut self, client: &mut Client, now: WallTime) -> Done<()> {
        // A clock that was set back does not stop it for longer than that.
        let is_early = |at: WallTime| now >= at && now.saturating_since(at) < EVERY;
        if self.at.is_some_and(is_early) {
            return Ok(());
        }
        let sets = self.idle_sets(client, now).await?;
        let names: Vec<i32> = ids(&client.query(NAMES, &[&self.name, &ROWS_MAX]).await?);
        let deleted = delete(client, &sets, &names).await?;
        self.name = if names.len() as i64 == ROWS_MAX { names.last().copied().unwrap_or(0) } else { 0 };
        self.at = Some(now);
        if deleted != (0, 0) {
            debug!(sets = deleted.0, names = deleted.1, "names that nothing refers to were deleted");
        }
        Ok(())
    }

    /// Of some sets, those that have had no items for a while.
    async fn idle_sets(&mut self, client: &Client, now: WallTime) -> Done<Vec<i32>> {
        let seen: Vec<i32> = ids(&client.query(SETS, &[&self.set, &ROWS_MAX]).await?);
        client.execute(NOTE_BUSY, &[&seen]).await?;
        client.execute(NOTE_IDLE, &[&seen, &millis(now)]).await?;
        let bound = millis(now).saturating_sub(i64::try_from(IDLE_MAX.as_millis()).unwrap_or(i64::MAX));
        let idle = ids(&client.query(IDLE, &[&seen, &bound]).await?);
        self.set = if seen.len() as i64 == ROWS_MAX { seen.last().copied().unwrap_or(0) } else { 0 };
        Ok(idle)
    }
}

/// Deletes those of `sets` and `names` that nothing refers to; says how many.
async fn delete(client: &mut Client, sets: &[i32], names: &[i32]) -> Done<(u64, u64)> {
    let unused: Vec<i32> = ids(&client.query(UNUSED, &[&names]).await?);
    if sets.is_empty() && unused.is_empty() {
        return Ok((0, 0));
    }
    let transaction = client.transaction().await?;
    Head::lock(&transaction).await?;
    let sets = transaction.execute(DELETE_SETS, &[&sets]).await?;
    // Those of the sets just now are among them.
    let unused: Vec<i32> = ids(&transaction.query(UNUSED, &[&names]).await?);
    transaction.execute("DELETE FROM progress WHERE destination = ANY($1)", &[&unused]).await?;
    let names = transaction.execute("DELETE FROM destinations WHERE id = ANY($1)", &[&unused]).await?;
    if (sets, names) != (0, 0) {
        transaction.execute("UPDATE head SET forgotten = forgotten + 1", &[]).await?;
    }
    transaction.commit().await?;
    Ok((sets, names))
}

fn ids(rows: &[tokio_postgres::Row]) -> Vec<i32> {
    rows.iter().map(|row| row.get(0)).collect()
}

const SETS: &str = "SELECT id FROM sets WHERE id > $1 ORDER BY id LIMIT $2";
const NOTE_BUSY: &str = "
    UPDATE sets SET idle_since = NULL WHERE id = ANY($1) AND idle_since IS NOT NULL
    AND (EXISTS (SELECT FROM items WHERE set_id = sets.id) OR EXISTS (SELECT FROM inbox WHERE set_id = sets.id))";
const NOTE_IDLE: &str = "
    UPDATE sets SET idle_since = $2 WHERE id = ANY($1) AND (idle_since IS NULL OR idle_since > $2)
    AND NOT EXISTS (SELECT FROM items WHERE set_id = sets.id)
    AND NOT EXISTS (SELECT FROM inbox WHERE set_id = sets.id)";
const IDLE: &str = "SELECT id FROM sets WHERE id = ANY($1) AND idle_since <= $2";
const DELETE_SETS: &str = "
    DELETE FROM sets WHERE id = ANY($1)
    AND NOT EXISTS (SELECT FROM items WHERE set_id = sets.id)
    AND NOT EXISTS (SELECT FROM inbox WHERE set_id = sets.id)";
const NAMES: &str = "SELECT id FROM destinations WHERE id > $1 ORDER BY id LIMIT $2";
// An open transaction has items; should one ever have none, that is for a human to look at.
const UNUSED: &str = "
    SELECT id FROM destinations WHERE id = ANY($1)
    AND NOT EXISTS (SELECT FROM sets WHERE members @> ARRAY[destinations.id])
    AND NOT EXISTS (SELECT FROM progress WHERE destination = destinations.id AND open_id IS NOT NULL)";
// Each takes about a tenth of a millisecond.
const ROWS_MAX: i64 = 1000;
const EVERY: Duration = Duration::from_secs(10 * 60);
// A room that speaks every hour keeps its set.
const IDLE_MAX: Duration = Duration::from_secs(3600);
