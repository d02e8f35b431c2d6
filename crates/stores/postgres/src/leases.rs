//! Who serves which partitions.
//!
//! Every process renews one row. Shares are equal: of N processes alive, in the order of their ids, each is
//! entitled to 256 / N partitions and the first few to one more. Who has more lets go; who has less takes what
//! is free, or belongs to the dead.

use std::time::Duration;

use southbridge_words::{Partition, Partitions};
use tokio_postgres::{Client, GenericClient, Transaction};
use tracing::{info, warn};

use crate::error::{Done, Trouble};

/// What this process holds, as far as it knows.
#[derive(Debug)]
pub(crate) struct Leases {
    pub(crate) process: i64,
    /// The epoch of each partition that is held.
    held: [Option<i64>; Partition::COUNT],
    /// What was lost and not told of yet: it is not taken again before, because what is known of it is old.
    lost: Partitions,
    /// `head.leases` when that was read.
    as_of: i64,
    /// Whether what others accepted for the partitions held, before they were held, stands in their streams. Until then what
    /// is accepted here goes the same way, behind it.
    pub(crate) caught_up: bool,
}

/// What stands in the table.
struct Row {
    number: i16,
    owner: Option<i64>,
    epoch: i64,
}

impl Leases {
    /// A process that is not known yet.
    pub(crate) const fn none() -> Self {
        Self {
            process: 0,
            held: [None; Partition::COUNT],
            lost: Partitions::NONE,
            as_of: -1,
            caught_up: true,
        }
    }

    pub(crate) const fn holds(&self, partition: Partition) -> bool {
        self.held[partition.number() as usize].is_some()
    }

    /// All that is held.
    pub(crate) fn partitions(&self) -> Partitions {
        let mut partitions = Partitions::NONE;
        for number in (0..=u8::MAX).filter(|number| self.holds(Partition::new(*number))) {
            partitions.insert(Partition::new(number));
        }
        partitions
    }

    /// What was lost has been told of.
    pub(crate) const fn forget_lost(&mut self) {
        self.lost = Partitions::NONE;
    }

    /// Makes this process known, or known anew, with nothing held.
    pub(crate) async fn register(&mut self, client: &Client, lease: Duration, channel: &str) -> Done<()> {
        let row = client.query_one(REGISTER, &[&lease.as_secs_f64()]).await?;
        *self = Self { process: row.get(0), ..Self::none() };
        self.tell_others(client, channel).await?;
        info!(process = self.process, "registered at the shared outbox");
        Ok(())
    }

    /// Tells the others that this process is alive.
    pub(crate) async fn renew(&self, client: &Client, lease: Duration) -> Done<()> {
        match client.execute(RENEW, &[&self.process, &lease.as_secs_f64()]).await? {
            0 => Err(Trouble::Expelled),
            _ => Ok(()),
        }
    }

    /// Tells the others that there is news: at the commit, or at once where there is none.
    pub(crate) async fn tell_others(&self, client: &impl GenericClient, channel: &str) -> Done<()> {
        client.execute(TELL, &[&channel, &self.process.to_string()]).await?;
        Ok(())
    }

    /// Lets go of everything, so that the others need not wait.
    pub(crate) async fn resign(&mut self, client: &mut Client, channel: &str) -> Done<()> {
        let transaction = client.transaction().await?;
        transaction.execute("SELECT FROM head FOR UPDATE", &[]).await?;
        transaction.execute("UPDATE partitions SET owner = NULL WHERE owner = $1", &[&self.process]).await?;
        transaction.execute("UPDATE head SET leases = leases + 1", &[]).await?;
        transaction.execute("DELETE FROM processes WHERE id = $1", &[&self.process]).await?;
        self.tell_others(&transaction, channel).await?;
        transaction.commit().await?;
        *self = Self::none();
        Ok(())
    }

    /// Makes sure, under the lock on `head`, that what is held is still held; a partition that was lost and
    /// came back is lost as well.
    pub(crate) async fn confirm(&mut self, transaction: &Transaction<'_>, leases: i64) -> Done<()> {
        if self.as_of == leases {
            return Ok(());
        }
        let rows = rows(transaction).await?;
        for row in &rows {
            let held = &mut self.held[index(row.number)];
            if held.is_some_and(|epoch| row.owner != Some(self.process) || row.epoch != epoch) {
                *held = None;
                self.lost.insert(partition(row.number));
            }
        }
        self.as_of = leases;
        Ok(())
    }

    /// Takes and lets go, towards an equal share.
    pub(crate) async fn balance(&mut self, client: &mut Client, channel: &str) -> Done<()> {
        // Most often there is nothing to be done, and that is seen without a lock.
        if self.as_of >= 0 && self.plan(&*client).await?.is_empty() {
            let leases: i64 = client.query_one("SELECT leases FROM head", &[]).await?.get(0);
            if leases == self.as_of {
                return Ok(());
            }
        }
        let transaction = client.transaction().await?;
        let leases: i64 = transaction.query_one("SELECT leases FROM head FOR UPDATE", &[]).await?.get(0);
        self.confirm(&transaction, leases).await?;
        let plan = self.plan(&transaction).await?;
        let mut taken = Vec::new();
        if !plan.is_empty() {
            transaction.execute(RELEASE, &[&plan.release]).await?;
            for row in transaction.query(TAKE, &[&plan.take, &self.process]).await? {
                taken.push((row.get::<_, i16>(0), row.get::<_, i64>(1)));
            }
            transaction.execute("UPDATE head SET leases = leases + 1", &[]).await?;
            self.tell_others(&transaction, channel).await?;
        }
        transaction.commit().await?;
        self.adjust(&plan, &taken, leases);
        Ok(())
    }

    fn adjust(&mut self, plan: &Plan, taken: &[(i16, i64)], leases: i64) {
        if plan.is_empty() {
            return;
        }
        self.as_of = leases + 1;
        for number in &plan.release {
            self.held[index(*number)] = None;
        }
        self.caught_up &= taken.is_empty();
        for (number, epoch) in taken {
            self.held[index(*number)] = Some(*epoch);
        }
        let (taken, released) = (taken.len(), plan.release.len());
        if plan.from_the_dead > 0 {
            warn!(
                partitions = plan.from_the_dead,
                "another Southbridge is silent: its destinations are taken over"
            );
        }
        info!(taken, released, held = self.partitions().count(), "destinations shared out anew");
    }

    async fn plan(&self, client: &impl GenericClient) -> Done<Plan> {
        let alive: Vec<i64> = client.query(ALIVE, &[]).await?.iter().map(|row| row.get(0)).collect();
        let Some(at) = alive.iter().position(|id| *id == self.process) else { return Err(Trouble::Expelled) };
        let share = Partition::COUNT / alive.len() + usize::from(at < Partition::COUNT % alive.len());
        let rows = rows(client).await?;
        let is_mine =
            |row: &&Row| row.owner == Some(self.process) && self.held[index(row.number)] == Some(row.epoch);
        let is_free =
            |row: &&Row| row.owner.is_none_or(|owner| owner == self.process || !alive.contains(&owner));
        let mine: Vec<i16> = rows.iter().filter(is_mine).map(|row| row.number).collect();
        let is_new = |row: &&Row| !is_mine(row) && !self.lost.contains(partition(row.number));
        let free = rows.iter().filter(|row| is_free(row) && is_new(row));
        let taken: Vec<&Row> = free.take(share.saturating_sub(mine.len())).collect();
        Ok(Plan {
            release: mine.into_iter().skip(share).collect(),
            from_the_dead: taken.iter().filter(|row| row.owner.is_some_and(|it| it != self.process)).count(),
            take: taken.into_iter().map(|row| row.number).collect(),
        })
    }
}

/// What changes hands.
#[derive(Debug, Default)]
struct Plan {
    release: Vec<i16>,
    take: Vec<i16>,
    from_the_dead: usize,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.release.is_empty() && self.take.is_empty()
    }
}

async fn rows(client: &impl GenericClient) -> Done<Vec<Row>> {
    let rows = client.query("SELECT number, owner, epoch FROM partitions ORDER BY number", &[]).await?;
    Ok(rows.iter().map(|row| Row { number: row.get(0), owner: row.get(1), epoch: row.get(2) }).collect())
}

fn partition(number: i16) -> Partition {
    Partition::new(u8::try_from(number).unwrap_or(u8::MAX))
}

fn index(number: i16) -> usize {
    usize::try_from(number).unwrap_or(0).min(Partition::COUNT - 1)
}

const REGISTER: &str = "
    INSERT INTO processes (expires_at) VALUES (clock_timestamp() + make_interval(secs => $1)) RETURNING id";
const TELL: &str = "SELECT pg_notify($1, $2)";
const RENEW: &str = "
    UPDATE processes SET expires_at = clock_timestamp() + make_interval(secs => $2) WHERE id = $1";
const ALIVE: &str = "SELECT id FROM processes WHERE expires_at > clock_timestamp() ORDER BY id";
const RELEASE: &str = "UPDATE partitions SET owner = NULL WHERE number = ANY($1)";
const TAKE: &str = "
    UPDATE partitions SET owner = $2, epoch = epoch + 1 WHERE number = ANY($1) RETURNING number, epoch";
