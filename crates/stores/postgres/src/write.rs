//! Accepting items and remembering progress, within one transaction.

use std::collections::HashMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use southbridge_words::{Append, Appended, ItemKind, Mark, Partition, Partitions, Seq, ServerName};
use tokio_postgres::{GenericClient, Transaction};

use crate::error::{Done, Trouble};
use crate::leases::Leases;
use crate::names::Names;
use crate::progress::{self, millis};
use crate::sets::Sets;

/// What this process knows without asking.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) leases: Leases,
    pub(crate) names: Names,
    pub(crate) sets: Sets,
    lists: Lists,
    /// The number of the last write.
    pub(crate) batch: i64,
    /// What that write answers if it turns out to be committed.
    pub(crate) pending: Vec<Appended>,
    /// Where the others listen.
    channel: String,
    /// `head.forgotten` when names and sets were looked up.
    forgotten: i64,
}

impl Books {
    /// The books of a process that tells the others its news on `channel`.
    pub(crate) fn new(channel: &str) -> Self {
        Self {
            leases: Leases::none(),
            names: Names::default(),
            sets: Sets::default(),
            lists: Lists::default(),
            batch: 0,
            pending: Vec::new(),
            channel: channel.to_owned(),
            forgotten: -1,
        }
    }

    /// Under the lock on `head`: makes sure that what is held is still held, and forgets numbers that may mean nothing
    /// any more.
    pub(crate) async fn confirm(&mut self, transaction: &Transaction<'_>, head: &Head) -> Done<()> {
        if head.forgotten != self.forgotten {
            self.forget();
            self.forgotten = head.forgotten;
        }
        self.leases.confirm(transaction, head.leases).await
    }

    /// Tells the others, when this transaction is committed, that there is news for them.
    pub(crate) async fn tell_others(&self, client: &impl GenericClient) -> Done<()> {
        self.leases.tell_others(client, &self.channel).await
    }

    /// Forgets what a transaction brought that came to nothing.
    pub(crate) fn forget(&mut self) {
        self.names.forget();
        self.sets.forget();
        self.lists = Lists::default();
    }
}

/// What `head` says, which is locked from here to the end of the transaction.
pub(crate) struct Head {
    pub(crate) last: i64,
    pub(crate) leases: i64,
    pub(crate) forgotten: i64,
}

impl Head {
    /// Locks it to add items or to change leases: for one at a time.
    pub(crate) async fn lock(transaction: &Transaction<'_>) -> Done<Self> {
        Self::of(transaction, "SELECT last_seq, leases, forgotten FROM head FOR UPDATE").await
    }

    /// Locks it to keep leases as they are.
    pub(crate) async fn hold(transaction: &Transaction<'_>) -> Done<Self> {
        Self::of(transaction, "SELECT last_seq, leases, forgotten FROM head FOR SHARE").await
    }

    async fn of(transaction: &Transaction<'_>, sql: &str) -> Done<Self> {
        let row = transaction.query_one(sql, &[]).await?;
        Ok(Self { last: row.get(0), leases: row.get(1), forgotten: row.get(2) })
    }

    pub(crate) async fn save(&self, transaction: &Transaction<'_>) -> Done<()> {
        transaction.execute("UPDATE head SET last_seq = $1", &[&self.last]).await?;
        Ok(())
    }
}

/// Does all of a write but the commit; `books.pending` is its answer.
pub(crate) async fn write(
    transaction: &Transaction<'_>,
    books: &mut Books,
    appends: &[Append],
    marks: &[Mark],
) -> Done<()> {
    let mut head = match appends {
        [] => Head::hold(transaction).await?,
        _ => Head::lock(transaction).await?,
    };
    books.confirm(transaction, &head).await?;
    fence(&books.leases, marks)?;
    if !appends.is_empty() {
        books.pending = append(transaction, books, &mut head, appends).await?;
        head.save(transaction).await?;
    }
    if !marks.is_empty() {
        progress::remember(transaction, &mut books.names, marks, head.last.cast_unsigned()).await?;
    }
    books.batch += 1;
    // Also how the outcome is looked up when the connection breaks during the commit.
    let noted = transaction
        .execute("UPDATE processes SET batch = $2 WHERE id = $1", &[&books.leases.process, &books.batch])
        .await?;
    if noted == 0 { Err(Trouble::Expelled) } else { Ok(()) }
}

/// Refuses progress of destinations that are others' to serve.
fn fence(leases: &Leases, marks: &[Mark]) -> Done<()> {
    let mut lost: Vec<u8> = marks
        .iter()
        .map(|mark| Partition::of(mark.destination()))
        .filter(|partition| !leases.holds(*partition))
        .map(Partition::number)
        .collect();
    lost.sort_unstable();
    lost.dedup();
    match u32::try_from(lost.len()).unwrap_or(u32::MAX) {
        0 => Ok(()),
        partitions => Err(Trouble::Fenced { partitions }),
    }
}

async fn append(
    transaction: &Transaction<'_>,
    books: &mut Books,
    head: &mut Head,
    appends: &[Append],
) -> Done<Vec<Appended>> {
    let mut known = known_keys(transaction, appends).await?;
    let (mut items, mut inbox) = (Rows::default(), Rows::default());
    let mut answers = Vec::with_capacity(appends.len());
    let mut keys: Vec<(&str, i64, i64)> = Vec::new();
    for append in appends {
        if let Some(seq) = append.key.as_deref().and_then(|key| known.get(key)) {
            answers.push(Appended::Known(Seq(seq.cast_unsigned())));
            continue;
        }
        head.last += 1;
        let seq = head.last;
        let split = split(transaction, books, &append.destinations).await?;
        for (rows, set) in [(&mut items, split.ours), (&mut inbox, split.theirs)] {
            if let Some(set) = set {
                rows.push(seq, set, append.kind, millis(append.accepted_at), &append.bytes);
            }
        }
        if let Some(key) = append.key.as_deref() {
            keys.push((key, seq, millis(append.accepted_at)));
            known.insert(key.to_owned(), seq);
        }
        answers.push(Appended::New(Seq(seq.cast_unsigned())));
    }
    items.insert(transaction, "items").await?;
    inbox.insert(transaction, "inbox").await?;
    if !inbox.seqs.is_empty() {
        books.tell_others(transaction).await?;
    }
    insert_keys(transaction, &keys).await?;
    Ok(answers)
}

async fn known_keys(transaction: &Transaction<'_>, appends: &[Append]) -> Done<HashMap<String, i64>> {
    let keys: Vec<&str> = appends.iter().filter_map(|append| append.key.as_deref()).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = transaction.query("SELECT key, seq FROM keys WHERE key = ANY($1)", &[&keys]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn insert_keys(transaction: &Transaction<'_>, keys: &[(&str, i64, i64)]) -> Done<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let (names, seqs): (Vec<&str>, Vec<i64>) = keys.iter().map(|(key, seq, _)| (*key, *seq)).unzip();
    let at: Vec<i64> = keys.iter().map(|(.., at)| *at).collect();
    let sql = "INSERT INTO keys (key, seq, accepted_at) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])";
    transaction.execute(sql, &[&names, &seqs, &at]).await?;
    Ok(())
}

/// The sets of a list: those of its destinations that this process serves, and the others.
#[derive(Clone, Copy, Debug, Default)]
struct Split {
    ours: Option<i32>,
    theirs: Option<i32>,
}

/// The lists that were handed in lately, by their addresses; they are held so that an address stays its own.
#[derive(Debug, Default)]
struct Lists {
    held: FxHashMap<usize, (Arc<[ServerName]>, Split)>,
    names: usize,
    /// The leases they were split by.
    owned: Option<Partitions>,
}

async fn split(
    transaction: &Transaction<'_>,
    books: &mut Books,
    destinations: &Arc<[ServerName]>,
) -> Done<Split> {
    // What was accepted by others before comes first.
    let owned = match books.leases.caught_up {
        true => books.leases.partitions(),
        false => Partitions::NONE,
    };
    if books.lists.owned != Some(owned) || books.lists.names > LISTED_NAMES_MAX {
        books.lists = Lists { owned: Some(owned), ..Lists::default() };
    }
    let address = destinations.as_ptr() as usize;
    if let Some((list, split)) = books.lists.held.get(&address)
        && list.len() == destinations.len()
    {
        return Ok(*split);
    }
    let ids = books.names.ids(transaction, destinations).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (id, name) in ids.into_iter().zip(destinations.iter()) {
        if owned.own(name) { ours.push(id) } else { theirs.push(id) }
    }
    let mut split = Split::default();
    if !ours.is_empty() {
        split.ours = Some(books.sets.id(transaction, ours).await?);
    }
    if !theirs.is_empty() {
        split.theirs = Some(books.sets.id(transaction, theirs).await?);
    }
    books.lists.names += destinations.len();
    books.lists.held.insert(address, (Arc::clone(destinations), split));
    Ok(split)
}

/// Rows of `items` or `inbox`, column by column.
#[derive(Debug, Default)]
pub(crate) struct Rows<'a> {
    seqs: Vec<i64>,
    sets: Vec<i32>,
    kinds: Vec<i16>,
    accepted_at: Vec<i64>,
    crcs: Vec<i64>,
    bytes: Vec<&'a [u8]>,
}

impl<'a> Rows<'a> {
    pub(crate) fn push(&mut self, seq: i64, set: i32, kind: ItemKind, accepted_at: i64, bytes: &'a [u8]) {
        let kind = code(kind);
        self.seqs.push(seq);
        self.sets.push(set);
        self.kinds.push(kind);
        self.accepted_at.push(accepted_at);
        self.crcs.push(crc(seq, set, kind, accepted_at, bytes));
        self.bytes.push(bytes);
    }

    pub(crate) async fn insert(&self, client: &impl GenericClient, table: &str) -> Done<()> {
        if self.seqs.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "INSERT INTO {table} (seq, set_id, kind, accepted_at, crc, bytes) SELECT * FROM unnest(
             $1::bigint[], $2::integer[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bytea[])"
        );
        let Self { seqs, sets, kinds, accepted_at, crcs, bytes } = self;
        client.execute(&sql, &[seqs, sets, kinds, accepted_at, crcs, bytes]).await?;
        Ok(())
    }
}

/// CRC-32 over all of a row, its key first.
pub(crate) fn crc(seq: i64, set: i32, kind: i16, accepted_at: i64, bytes: &[u8]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [seq, set.into(), kind.into(), accepted_at] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(bytes);
    i64::from(hasher.finalize())
}

const fn code(kind: ItemKind) -> i16 {
    match kind {
        ItemKind::Pdu => 1,
        ItemKind::Edu => 2,
    }
}

/// The kind that `code` stands for.
pub(crate) const fn kind_of(code: i16) -> Option<ItemKind> {
    match code {
        1 => Some(ItemKind::Pdu),
        2 => Some(ItemKind::Edu),
        _ => None,
    }
}

// About 16 MB of pointers; the names themselves belong to the caller.
const LISTED_NAMES_MAX: usize = 1_000_000;
