//! How far destinations have come: marks folded into one row for each.

use std::collections::BTreeMap;

use southbridge_words::{Mark, OpenTransaction, Seq, WallTime};
use tokio_postgres::{GenericClient, Row};

use crate::error::Done;
use crate::names::Names;

/// Where one destination stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) delivered: u64,
    pub(crate) open: Option<OpenTransaction>,
}

impl Progress {
    /// Reads the columns `delivered, open_id, open_at, open_upto, open_edus, open_hash` from column `at` on.
    pub(crate) fn of(row: &Row, at: usize) -> Self {
        let open = row.get::<_, Option<String>>(at + 1).map(|id| OpenTransaction {
            id: id.into(),
            origin_server_ts: wall(row.get::<_, Option<i64>>(at + 2)),
            upto: Seq(row.get::<_, Option<i64>>(at + 3).unwrap_or(0).cast_unsigned()),
            volatile_edus: row.get::<_, Option<Vec<u8>>>(at + 4).unwrap_or_default().into(),
            body_hash: row.get::<_, Option<i64>>(at + 5).unwrap_or(0).cast_unsigned(),
        });
        Self { delivered: row.get::<_, Option<i64>>(at).unwrap_or(0).cast_unsigned(), open }
    }

    fn apply(&mut self, mark: &Mark, last: u64) {
        match mark {
            Mark::Begun { transaction, .. } => {
                self.open = (transaction.upto.0 > self.delivered).then(|| transaction.clone());
            }
            Mark::Withdrawn { .. } => self.open = None,
            Mark::Delivered { upto, .. } | Mark::Dropped { upto, .. } => {
                // What nobody wrote yet cannot have been delivered.
                self.delivered = self.delivered.max(upto.0.min(last));
                self.open = None;
            }
        }
    }
}

/// Remembers `marks`; `last` is the last position given out.
pub(crate) async fn remember(
    client: &impl GenericClient,
    names: &mut Names,
    marks: &[Mark],
    last: u64,
) -> Done<()> {
    let destinations: Vec<_> = marks.iter().map(|mark| mark.destination().clone()).collect();
    let ids = names.ids(client, &destinations).await?;
    let mut rows: BTreeMap<i32, Progress> = ids.iter().map(|id| (*id, Progress::default())).collect();
    for row in client.query(SELECT, &[&ids]).await? {
        rows.insert(row.get(0), Progress::of(&row, 1));
    }
    for (id, mark) in ids.iter().zip(marks) {
        rows.entry(*id).or_default().apply(mark, last);
    }
    save(client, &rows).await
}

/// Writes `rows`.
pub(crate) async fn save(client: &impl GenericClient, rows: &BTreeMap<i32, Progress>) -> Done<()> {
    let open = || rows.values().map(|it| it.open.as_ref());
    let ids: Vec<i32> = rows.keys().copied().collect();
    let delivered: Vec<i64> = rows.values().map(|it| it.delivered.cast_signed()).collect();
    let open_ids: Vec<Option<&str>> = open().map(|it| it.map(|it| &*it.id)).collect();
    let at: Vec<Option<i64>> = open().map(|it| it.map(|it| millis(it.origin_server_ts))).collect();
    let upto: Vec<Option<i64>> = open().map(|it| it.map(|it| it.upto.0.cast_signed())).collect();
    let edus: Vec<Option<&[u8]>> = open().map(|it| it.map(|it| &*it.volatile_edus)).collect();
    let hashes: Vec<Option<i64>> = open().map(|it| it.map(|it| it.body_hash.cast_signed())).collect();
    client.execute(UPSERT, &[&ids, &delivered, &open_ids, &at, &upto, &edus, &hashes]).await?;
    Ok(())
}

/// As the tables have it.
pub(crate) fn millis(time: WallTime) -> i64 {
    i64::try_from(time.unix_millis()).unwrap_or(i64::MAX)
}

/// From what the tables have.
pub(crate) fn wall(millis: Option<i64>) -> WallTime {
    WallTime::from_unix_millis(millis.unwrap_or(0).try_into().unwrap_or(0))
}

const SELECT: &str = "
    SELECT destination, delivered, open_id, open_at, open_upto, open_edus, open_hash
    FROM progress WHERE destination = ANY($1)";
const UPSERT: &str = "
    INSERT INTO progress (destination, delivered, open_id, open_at, open_upto, open_edus, open_hash)
    SELECT * FROM unnest($1::integer[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[],
                         $7::bigint[])
    ON CONFLICT (destination) DO UPDATE SET delivered = excluded.delivered, open_id = excluded.open_id,
        open_at = excluded.open_at, open_upto = excluded.open_upto, open_edus = excluded.open_edus,
        open_hash = excluded.open_hash";
