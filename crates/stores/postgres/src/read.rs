//! Reading on for one destination.

use southbridge_words::{Item, Page, Seq, ServerName};
use tokio_postgres::{Client, Row};

use crate::error::{Done, Trouble};
use crate::progress::wall;
use crate::write::{crc, kind_of};

/// The items for `destination` after `after` and after what it has.
pub(crate) async fn page(
    client: &Client,
    destination: &ServerName,
    after: i64,
    items_max: usize,
    bytes_max: usize,
) -> Done<Page> {
    let items_max = items_max.min(ITEMS_MAX);
    let limit = i64::try_from(items_max + 1).unwrap_or(i64::MAX);
    let places = client.query(PLACES, &[&destination.as_str(), &after, &limit]).await?;
    let mut bytes = 0;
    let fits = |(at, row): &(usize, &Row)| {
        bytes += usize::try_from(row.get::<_, i32>(1)).unwrap_or(0);
        *at < items_max && (*at == 0 || bytes <= bytes_max)
    };
    let seqs: Vec<i64> = places.iter().enumerate().take_while(fits).map(|(_, row)| row.get(0)).collect();
    let mut page = Page { items: Vec::with_capacity(seqs.len()), more: seqs.len() < places.len() };
    let rows = client.query(ITEMS, &[&seqs]).await?;
    for (row, seq) in rows.iter().zip(&seqs) {
        match item(row, *seq) {
            Ok(item) => page.items.push(item),
            // What is before it is good: the damage is told of when it is asked for.
            Err(_) if !page.items.is_empty() => return Ok(Page { more: true, ..page }),
            Err(damage) => return Err(damage),
        }
    }
    Ok(page)
}

/// The item in a row of `seq, set_id, kind, accepted_at, crc, bytes`, which should be that of `seq`.
pub(crate) fn item(row: &Row, seq: i64) -> Done<Item> {
    let damaged = |reason| Trouble::damaged(format!("item s{seq}"), reason);
    let (found, kind, accepted_at): (i64, i16, i64) = (row.get(0), row.get(2), row.get(3));
    if found != seq {
        return Err(damaged("it is missing"));
    }
    let bytes: Vec<u8> = row.get(5);
    if crc(seq, row.get(1), kind, accepted_at, &bytes) != row.get::<_, i64>(4) {
        return Err(damaged("its checksum does not match"));
    }
    let kind = kind_of(kind).ok_or_else(|| damaged("its kind is not known"))?;
    let seq = Seq(seq.cast_unsigned());
    Ok(Item { seq, kind, bytes: bytes.into(), accepted_at: wall(Some(accepted_at)) })
}

const PLACES: &str = "
    WITH whose AS MATERIALIZED (
        SELECT id, coalesce(delivered, 0) AS delivered
        FROM destinations LEFT JOIN progress ON destination = id WHERE name = $1
    )
    SELECT seq, octet_length(bytes) FROM items
    WHERE set_id IN (SELECT id FROM sets WHERE members @> ARRAY[(SELECT id FROM whose)])
      AND seq > greatest($2, (SELECT delivered FROM whose))
    ORDER BY seq LIMIT $3";
const ITEMS: &str = "
    SELECT seq, set_id, kind, accepted_at, crc, bytes FROM items WHERE seq = ANY($1) ORDER BY seq";
// A page is held in memory at once.
const ITEMS_MAX: usize = 10_000;
