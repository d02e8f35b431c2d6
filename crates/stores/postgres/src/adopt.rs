//! Taking over what others accepted for our destinations.
//!
//! A stream has one writer, its owner. What another process accepts for it waits in the inbox; here the owner
//! adds it to the stream at a position of its own, in the order it was accepted. Each partition remembers how
//! far the inbox was gone through for it, so a new owner goes on where the last one stopped.

use std::collections::BTreeMap;

use southbridge_words::Partition;
use tokio_postgres::{Client, Transaction};

use crate::error::Done;
use crate::progress::millis;
use crate::read::item;
use crate::write::{Books, Head, Rows};

/// The last new item of each destination that got one.
pub(crate) type Adopted = BTreeMap<i32, i64>;

/// Takes over what waits, or a large part of it; says for whom.
pub(crate) async fn adopt(client: &mut Client, books: &mut Books) -> Done<Adopted> {
    let mut adopted = adopt_some(client, books).await?;
    for _ in 1..ROUNDS_MAX {
        if books.leases.caught_up {
            break;
        }
        adopted.extend(adopt_some(client, books).await?);
    }
    Ok(adopted)
}

async fn adopt_some(client: &mut Client, books: &mut Books) -> Done<Adopted> {
    let process = books.leases.process;
    if !client.query_one(WAITING, &[&process]).await?.get::<_, bool>(0) {
        books.leases.caught_up = true;
        return Ok(Adopted::new());
    }
    let transaction = client.transaction().await?;
    let mut head = Head::lock(&transaction).await?;
    books.confirm(&transaction, &head).await?;
    let cursors = cursors(&transaction, books).await?;
    let from = cursors.values().copied().min().unwrap_or(i64::MAX);
    let rows = transaction.query(INBOX, &[&from, &ROWS_MAX]).await?;
    let sets: Vec<i32> = rows.iter().map(|row| row.get(1)).collect();
    let members = members(&transaction, &sets).await?;
    // All of the inbox was seen, unless there was more than fits.
    let upto = match rows.last() {
        Some(row) if rows.len() as i64 == ROWS_MAX => row.get(0),
        _ => head.last,
    };
    let mut adopted = Adopted::new();
    let items: Result<Vec<_>, _> = rows.iter().map(|row| item(row, row.get(0))).collect();
    let items = items?;
    let mut added = Rows::default();
    for (item, set) in items.iter().zip(sets) {
        let seq = item.seq.0.cast_signed();
        let is_ours = |partition: &i16| cursors.get(partition).is_some_and(|cursor| *cursor < seq);
        let all = members.get(&set).map(Vec::as_slice).unwrap_or_default();
        let ours: Vec<i32> = all.iter().filter(|(_, it)| is_ours(it)).map(|(id, _)| *id).collect();
        if ours.is_empty() {
            continue;
        }
        head.last += 1;
        adopted.extend(ours.iter().map(|id| (*id, head.last)));
        let set = books.sets.id(&transaction, ours).await?;
        added.push(head.last, set, item.kind, millis(item.accepted_at), &item.bytes);
    }
    added.insert(&transaction, "items").await?;
    head.save(&transaction).await?;
    let held: Vec<i16> = cursors.into_keys().collect();
    transaction.execute(ADVANCE, &[&held, &upto]).await?;
    transaction.commit().await?;
    books.leases.caught_up |= (rows.len() as i64) < ROWS_MAX;
    Ok(adopted)
}

/// How far the inbox was gone through for each partition that is held.
async fn cursors(transaction: &Transaction<'_>, books: &Books) -> Done<BTreeMap<i16, i64>> {
    let rows = transaction
        .query("SELECT number, adopted FROM partitions WHERE owner = $1", &[&books.leases.process])
        .await?;
    let cursors = rows.iter().map(|row| (row.get::<_, i16>(0), row.get(1)));
    let holds =
        |number: &i16| u8::try_from(*number).is_ok_and(|number| books.leases.holds(Partition::new(number)));
    Ok(cursors.filter(|(number, _)| holds(number)).collect())
}

/// The destinations of `sets`, with their partitions.
async fn members(transaction: &Transaction<'_>, sets: &[i32]) -> Done<BTreeMap<i32, Vec<(i32, i16)>>> {
    let mut members: BTreeMap<i32, Vec<(i32, i16)>> = BTreeMap::new();
    for row in transaction.query(MEMBERS, &[&sets]).await? {
        members.entry(row.get(0)).or_default().push((row.get(1), row.get(2)));
    }
    Ok(members)
}

const WAITING: &str = "
    SELECT EXISTS (SELECT FROM inbox WHERE seq > (SELECT min(adopted) FROM partitions WHERE owner = $1))";
const INBOX: &str = "
    SELECT seq, set_id, kind, accepted_at, crc, bytes FROM inbox WHERE seq > $1 ORDER BY seq LIMIT $2";
const MEMBERS: &str = "
    SELECT sets.id, destinations.id, partition FROM sets CROSS JOIN LATERAL unnest(members) AS m (id)
    JOIN destinations ON destinations.id = m.id WHERE sets.id = ANY($1)";
const ADVANCE: &str = "UPDATE partitions SET adopted = $2 WHERE number = ANY($1) AND adopted < $2";
// With the largest PDUs, 32 MB.
const ROWS_MAX: i64 = 500;
// A fraction of a second; the rest comes with the next call.
const ROUNDS_MAX: usize = 10;
