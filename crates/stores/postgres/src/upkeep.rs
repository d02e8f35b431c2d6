//! Letting go: of items that everybody has, of the inbox, of keys, and of what waited too long.

use std::collections::BTreeMap;
use std::time::Duration;

use southbridge_words::{Expired, Seq, WallTime};
use tokio_postgres::Client;
use tracing::warn;

use crate::PostgresOptions;
use crate::error::Done;
use crate::forgetting::Forgetting;
use crate::names::parse;
use crate::progress::{self, Progress, millis};
use crate::write::{Books, Head};

/// Where tidying goes on the next time.
#[derive(Debug, Default)]
pub(crate) struct Tidied {
    /// The last set whose items were looked at.
    set: i32,
    pub(crate) forgetting: Forgetting,
}

/// Deletes a bounded part of what nobody needs. One process does so at a time.
pub(crate) async fn tidy(
    client: &mut Client,
    options: &PostgresOptions,
    now: WallTime,
    tidied: &mut Tidied,
) -> Done<()> {
    let transaction = client.transaction().await?;
    if !transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await?.get::<_, bool>(0) {
        transaction.rollback().await?;
        return Ok(());
    }
    let from = tidied.set;
    let sets: Vec<i32> =
        transaction.query(SETS_WITH_ITEMS, &[&from, &SETS_MAX]).await?.iter().map(|row| row.get(0)).collect();
    transaction.execute(DELETE_ITEMS, &[&sets, &ROWS_MAX]).await?;
    transaction.execute(DELETE_INBOX, &[&ROWS_MAX]).await?;
    let bound =
        millis(now).saturating_sub(i64::try_from(options.key_age_max.as_millis()).unwrap_or(i64::MAX));
    transaction.execute(DELETE_KEYS, &[&ROWS_MAX, &bound]).await?;
    transaction.execute(DELETE_PROCESSES, &[]).await?;
    transaction.commit().await?;
    // After the last set comes the first.
    tidied.set = if sets.len() as i64 == SETS_MAX { sets.last().copied().unwrap_or(0) } else { 0 };
    tidied.forgetting.perform(client, now).await
}

/// Gives up items older than `age_max` for some of our destinations that lack them still.
pub(crate) async fn expire(
    client: &mut Client,
    books: &mut Books,
    age_max: Duration,
    now: WallTime,
) -> Done<Vec<Expired>> {
    let clock: i64 = client.query_one(CLOCK, &[]).await?.get(0);
    if millis(now).abs_diff(clock) > CLOCKS_APART_MAX_MS {
        warn!("our clock and the database's are more than an hour apart: nothing is given up by age");
        return Ok(Vec::new());
    }
    let bound = millis(now).saturating_sub(i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX));
    let cut: Option<i64> = client.query_one(CUT, &[&bound]).await?.get(0);
    let Some(cut) = cut else { return Ok(Vec::new()) };
    let transaction = client.transaction().await?;
    let head = Head::hold(&transaction).await?;
    books.confirm(&transaction, &head).await?;
    let partitions = held(books);
    let mut rows = BTreeMap::new();
    let mut expired = Vec::new();
    for row in transaction.query(LAGGING, &[&cut, &partitions, &EXPIRED_MAX]).await? {
        let (id, name): (i32, &str) = (row.get(0), row.get(1));
        let before = Progress::of(&row, 2);
        // Never a part of a transaction that was begun: its rest could not be sent under the same id.
        let upto = before.open.map_or(0, |open| open.upto.0.cast_signed()).max(cut).min(head.last);
        let items: i64 =
            transaction.query_one(COUNT, &[&id, &before.delivered.cast_signed(), &upto]).await?.get(0);
        if items > 0 {
            warn!(
                destination = name,
                items, upto, "accepted messages are given up: older than the outbox keeps"
            );
            let upto = upto.cast_unsigned();
            rows.insert(id, Progress { delivered: upto, open: None });
            expired.push(Expired {
                destination: parse(name)?,
                upto: Seq(upto),
                items: items.cast_unsigned(),
            });
        }
    }
    progress::save(&transaction, &rows).await?;
    transaction.commit().await?;
    Ok(expired)
}

/// The numbers of the partitions that are held.
pub(crate) fn held(books: &Books) -> Vec<i16> {
    let held = books.leases.partitions();
    (0..=u8::MAX).filter(|it| held.contains(southbridge_words::Partition::new(*it))).map(i16::from).collect()
}

// Each step finds the next set by the index, instead of walking through all its items.
const SETS_WITH_ITEMS: &str = "
    WITH RECURSIVE found AS (
        SELECT (SELECT min(set_id) FROM items WHERE set_id > $1) AS id, 1::bigint AS number
        UNION ALL
        SELECT (SELECT min(set_id) FROM items WHERE set_id > found.id), number + 1
        FROM found WHERE found.id IS NOT NULL AND number < $2
    ) SELECT id FROM found WHERE id IS NOT NULL";
const DELETE_ITEMS: &str = "
    WITH cuts AS (
        SELECT sets.id, (SELECT min(coalesce(delivered, 0)) FROM unnest(members) AS m (id)
                         LEFT JOIN progress ON destination = m.id) AS upto
        FROM sets WHERE sets.id = ANY($1)
    ) DELETE FROM items WHERE seq IN (
        SELECT seq FROM cuts JOIN items ON set_id = cuts.id AND seq <= upto LIMIT $2)";
const DELETE_INBOX: &str = "
    DELETE FROM inbox WHERE seq IN (
        SELECT seq FROM inbox WHERE seq <= (SELECT min(adopted) FROM partitions) ORDER BY seq LIMIT $1)";
const DELETE_KEYS: &str = "
    DELETE FROM keys WHERE accepted_at < $2 AND key IN (SELECT key FROM keys ORDER BY seq LIMIT $1)";
const DELETE_PROCESSES: &str =
    "DELETE FROM processes WHERE expires_at < clock_timestamp() - interval '1 day'";
const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
// The last of the oldest items before the first young one.
const CUT: &str = "
    WITH oldest AS (SELECT seq, accepted_at FROM items ORDER BY seq LIMIT 2000)
    SELECT max(seq) FROM oldest
    WHERE seq < coalesce((SELECT min(seq) FROM oldest WHERE accepted_at >= $1), 9223372036854775807)";
const LAGGING: &str = "
    SELECT DISTINCT destinations.id, name, delivered, open_id, open_at, open_upto, open_edus, open_hash
    FROM (SELECT set_id, max(seq) AS last FROM items WHERE seq <= $1 GROUP BY set_id) AS old
    JOIN sets ON sets.id = set_id CROSS JOIN LATERAL unnest(members) AS m (id)
    JOIN destinations ON destinations.id = m.id LEFT JOIN progress ON destination = m.id
    WHERE coalesce(delivered, 0) < last AND partition = ANY($2) LIMIT $3";
const COUNT: &str = "
    SELECT count(*) FROM items WHERE seq > $2 AND seq <= $3
    AND set_id IN (SELECT id FROM sets WHERE members @> ARRAY[$1::integer])";
// Taken by who tidies; "SBdg" and a two.
const LOCK: i64 = 0x5342_6467_0000_0002;
const SETS_MAX: i64 = 100;
const ROWS_MAX: i64 = 5000;
const EXPIRED_MAX: i64 = 100;
const CLOCKS_APART_MAX_MS: u64 = 3_600_000;
