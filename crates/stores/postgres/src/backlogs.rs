//! Who lacks something.

use southbridge_words::{Backlog, Seq};
use tokio_postgres::{Client, Row};

use crate::error::Done;
use crate::names::parse;
use crate::progress::Progress;

/// The backlogs of all destinations of `partitions`.
pub(crate) async fn of_partitions(client: &Client, partitions: &[i16]) -> Done<Vec<Backlog>> {
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(OF_PARTITIONS, &[&partitions]).await?;
    rows.iter().map(backlog).collect()
}

/// The backlogs of `destinations`, whose last items are `lasts`.
pub(crate) async fn of_destinations(
    client: &Client,
    destinations: &[i32],
    lasts: &[i64],
) -> Done<Vec<Backlog>> {
    if destinations.is_empty() {
        return Ok(Vec::new());
    }
    let rows = client.query(OF_DESTINATIONS, &[&destinations, &lasts]).await?;
    rows.iter().map(backlog).collect()
}

fn backlog(row: &Row) -> Done<Backlog> {
    let progress = Progress::of(row, 2);
    Ok(Backlog {
        destination: parse(row.get(0))?,
        last: Seq(row.get::<_, i64>(1).cast_unsigned()),
        delivered: Seq(progress.delivered),
        open: progress.open,
    })
}

const OF_PARTITIONS: &str = "
    SELECT name, last, delivered, open_id, open_at, open_upto, open_edus, open_hash FROM (
        SELECT m.id, max(i.last) AS last
        FROM (SELECT set_id, max(seq) AS last FROM items GROUP BY set_id) i
        JOIN sets ON sets.id = i.set_id CROSS JOIN LATERAL unnest(members) AS m (id)
        GROUP BY m.id
    ) AS lasts
    JOIN destinations USING (id) LEFT JOIN progress ON destination = id
    WHERE partition = ANY($1) AND last > coalesce(delivered, 0)";
const OF_DESTINATIONS: &str = "
    SELECT name, last, delivered, open_id, open_at, open_upto, open_edus, open_hash
    FROM unnest($1::integer[], $2::bigint[]) AS lasts (id, last)
    JOIN destinations USING (id) LEFT JOIN progress ON destination = id
    WHERE last > coalesce(delivered, 0)";
