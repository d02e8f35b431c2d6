//! The outbox, as the rest of the house sees it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use southbridge_words::{
    Append, Appended, Mark, Outbox, OutboxError, Page, Partition, Partitions, Recovered, Secret, Seq,
    ServerName, Upkeep, WallTime,
};
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::Client;
use tracing::{error, warn};

use crate::adopt::{Adopted, adopt};
use crate::call::{Line, of_commit};
use crate::ear::{Ear, Ourselves};
use crate::error::{Done, Trouble};
use crate::upkeep::{Tidied, expire, held, tidy};
use crate::way::Way;
use crate::write::{Books, write};
use crate::{PostgresError, TlsOptions, backlogs, read};

/// How the database is used.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Where it is: a URL (`postgresql://user@host/database`) or `key=value` pairs, as libpq has them. What it says of
    /// `sslmode` does not count.
    pub connection: String,
    /// The password, where it does not stand in `connection`.
    pub password: Option<Secret>,
    /// How the wire is kept private.
    pub tls: TlsOptions,
    /// The schema for our tables, made if need be. Default `southbridge`.
    pub schema: String,
    /// How long a Southbridge that is silent keeps its share. Default 30 s; upkeep renews it, and is to come
    /// at least three times as often.
    pub lease: Duration,
    /// How long a call may take. Default 10 s, after which the outbox counts as out of reach.
    pub call_max: Duration,
    /// How long an item waits for a destination before it is given up. Default four weeks; none is for ever.
    pub age_max: Option<Duration>,
    /// How long the key of an item is remembered. Default one day.
    pub key_age_max: Duration,
}

impl PostgresOptions {
    /// The defaults, for the database that `connection` names.
    pub fn new(connection: &str) -> Self {
        Self {
            connection: connection.to_owned(),
            password: None,
            tls: TlsOptions::default(),
            schema: "southbridge".to_owned(),
            lease: Duration::from_secs(30),
            call_max: Duration::from_secs(10),
            age_max: Some(Duration::from_secs(28 * 24 * 3600)),
            key_age_max: Duration::from_secs(24 * 3600),
        }
    }
}

impl PostgresOptions {
    /// Checks them without connecting, and says where they lead to.
    ///
    /// # Errors
    /// [`PostgresError`]: what cannot be meant.
    pub fn check(&self) -> Result<Whereabouts, PostgresError> {
        let way = Way::new(self)?;
        let (user, database) = (way.user().to_owned(), way.database().to_owned());
        Ok(Whereabouts { place: way.place(), user, database, has_password: way.has_password() })
    }
}

/// Where a database is, without anything that is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The host, or the directory of its socket; or several.
    pub place: String,
    /// As whom we connect.
    pub user: String,
    /// The database.
    pub database: String,
    /// Whether a password is known.
    pub has_password: bool,
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection string has a password in it.
        f.debug_struct("PostgresOptions")
            .field("schema", &self.schema)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// One Southbridge's share of an outbox in PostgreSQL.
///
/// Dropped without [`Outbox::close`], it counts as dead after its lease.
pub struct PostgresOutbox {
    runtime: Runtime,
    line: Line,
    books: Books,
    options: PostgresOptions,
    /// What the user of this outbox believes to own.
    told: Option<Partitions>,
    /// Where tidying goes on.
    tidied: Tidied,
    failed: Option<OutboxError>,
    ourselves: Ourselves,
    ear: Option<Ear>,
}

impl PostgresOutbox {
    /// Connects, and makes the tables if need be. Blocks, for up to `call_max`; not to be called within
    /// a runtime.
    ///
    /// # Errors
    /// [`PostgresError`] when the database cannot be used.
    pub fn open(options: &PostgresOptions) -> Result<Self, PostgresError> {
        let way = Way::new(options)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let line = runtime.block_on(Line::open(way))?;
        let (books, options) = (Books::new(&options.schema), options.clone());
        let (tidied, ourselves) = (Tidied::default(), Arc::new(AtomicI64::new(0)));
        Ok(Self { runtime, line, books, options, told: None, tidied, failed: None, ourselves, ear: None })
    }

    /// From now on calls `ring`, on a thread of its own, when another process has done something that
    /// [`Outbox::news`] would tell of. It may ring in vain, and it may miss something: upkeep finds the rest.
    ///
    /// # Errors
    /// [`PostgresError::System`] when there is no thread for it.
    pub fn listen(&mut self, ring: impl Fn() + Send + 'static) -> Result<(), PostgresError> {
        self.ear = Some(Ear::start(self.line.way().clone(), Arc::clone(&self.ourselves), ring)?);
        Ok(())
    }

    /// The number by which the others know this process; zero before [`Outbox::recover`] and after [`Outbox::close`].
    pub const fn process(&self) -> i64 {
        self.books.leases.process
    }

    fn call<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Client, &mut Share<'_>) -> Done<T>,
    ) -> Result<T, OutboxError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let Self { runtime, line, books, options, tidied, .. } = self;
        let mut share = Share { books, options, tidied };
        let done = runtime.block_on(line.call(async |client| work(client, &mut share).await));
        done.map_err(|trouble| {
            self.books.forget();
            trouble.explain()
        })
    }

    /// What is to be done, given what was done for the leases: the backlogs of what is new to our user.
    fn tell(&mut self, occasion: Occasion) -> Result<Upkeep, OutboxError> {
        let told = self.told.unwrap_or(Partitions::NONE);
        let upkeep = self.call(async |client, share| share.perform(client, told, occasion).await);
        self.ourselves.store(self.process(), Ordering::Relaxed);
        match upkeep {
            Ok((mut upkeep, owned)) => {
                upkeep.owned = (self.told != Some(owned)).then_some(owned);
                self.told = Some(owned);
                self.books.leases.forget_lost();
                Ok(upkeep)
            }
            Err(failure) => {
                // Something may have been done that could not be told: all is told anew the next time.
                self.told = None;
                Err(failure)
            }
        }
    }
}

impl Outbox for PostgresOutbox {
    fn recover(&mut self) -> Result<Recovered, OutboxError> {
        self.told = None;
        let upkeep = self.tell(Occasion::Start)?;
        Ok(Recovered { backlogs: upkeep.backlogs, owned: self.told.unwrap_or(Partitions::NONE) })
    }

    fn write(&mut self, appends: &[Append], marks: &[Mark]) -> Result<Vec<Appended>, OutboxError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        if appends.is_empty() && marks.is_empty() {
            return Ok(Vec::new());
        }
        self.books.pending.clear();
        let Self { runtime, line, books, .. } = self;
        let before = books.batch;
        let done = runtime.block_on(async {
            let done = line.call(async |client| {
                let transaction = client.transaction().await?;
                write(&transaction, books, appends, marks).await?;
                transaction.commit().await.map_err(of_commit)
            });
            match done.await {
                Err(trouble) if books.batch > before && trouble.is_of_the_connection() => {
                    match line.was_committed(books.leases.process, books.batch).await {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(trouble_of_the_connection(trouble)),
                        Err(unknown) => Err(unknown),
                    }
                }
                done => done,
            }
        });
        match done {
            Ok(()) => Ok(std::mem::take(&mut self.books.pending)),
            Err(trouble) => {
                self.books.forget();
                let explained = trouble.explain();
                if let OutboxError::Failed { reason } = &explained {
                    error!(reason, "the outbox has failed: nothing durable is accepted until a restart");
                    self.failed = Some(explained.clone());
                }
                Err(explained)
            }
        }
    }

    fn read(
        &mut self,
        destination: &ServerName,
        after: Seq,
        items_max: usize,
        bytes_max: usize,
    ) -> Result<Page, OutboxError> {
        self.call(async |client, _| {
            let after = i64::try_from(after.0).unwrap_or(i64::MAX);
            read::page(client, destination, after, items_max, bytes_max).await
        })
    }

    fn upkeep(&mut self, now: WallTime) -> Result<Upkeep, OutboxError> {
        self.tell(Occasion::Upkeep(now))
    }

    fn news(&mut self) -> Result<Upkeep, OutboxError> {
        self.tell(Occasion::News)
    }

    /// Hands the destinations back at once, so that the others need not wait for the lease to end.
    fn close(&mut self) -> Result<(), OutboxError> {
        self.ear = None;
        if self.process() == 0 {
            return Ok(());
        }
        let channel = self.line.way().schema.clone();
        let closed = self.call(async |client, share| share.books.leases.resign(client, &channel).await);
        self.failed = Some(OutboxError::Failed { reason: "it is closed".to_owned() });
        closed
    }
}

/// Why it is looked what there is to be done.
#[derive(Clone, Copy, Debug)]
enum Occasion {
    /// Somebody begins to use it.
    Start,
    /// Another process has done something.
    News,
    /// Some time has passed.
    Upkeep(WallTime),
}

/// What a call works with.
struct Share<'a> {
    books: &'a mut Books,
    options: &'a PostgresOptions,
    tidied: &'a mut Tidied,
}

impl Share<'_> {
    /// Renews, balances, adopts and, now and then, tidies; `told` is what our user believes to own.
    async fn perform(
        &mut self,
        client: &mut Client,
        mut told: Partitions,
        occasion: Occasion,
    ) -> Done<(Upkeep, Partitions)> {
        let is_known = match occasion {
            // The lease is good for some time yet, unless balancing finds that it is not.
            Occasion::News if self.books.leases.process != 0 => {
                match self.books.leases.balance(client, &self.options.schema).await {
                    Err(Trouble::Expelled) => self.renew(client).await?,
                    balanced => balanced.map(|()| true)?,
                }
            }
            _ => self.renew(client).await?,
        };
        if !is_known {
            told = Partitions::NONE;
        }
        let Self { books, options, tidied } = self;
        let adopted = adopt(client, books).await?;
        let owned = books.leases.partitions();
        let mut upkeep = Upkeep { backlogs: gained(client, books, told).await?, ..Upkeep::default() };
        upkeep.backlogs.extend(news(client, adopted, &upkeep).await?);
        if let Occasion::Upkeep(now) = occasion {
            tidy(client, options, now, tidied).await?;
            // Last, because it is told once.
            if let Some(age_max) = options.age_max {
                upkeep.expired = expire(client, books, age_max, now).await?;
            }
        }
        Ok((upkeep, owned))
    }

    /// Tells the others that this process is alive, and takes its share. Says whether they still knew it.
    async fn renew(&mut self, client: &mut Client) -> Done<bool> {
        let Self { books, options, .. } = self;
        let (lease, channel) = (options.lease, &options.schema);
        let mut is_known = books.leases.process != 0;
        if is_known && let Err(trouble) = books.leases.renew(client, lease).await {
            let Trouble::Expelled = trouble else { return Err(trouble) };
            warn!("the others took this process for dead: it begins anew");
            is_known = false;
        }
        if !is_known {
            books.leases.register(client, lease, channel).await?;
            books.batch = 0;
        }
        books.leases.balance(client, channel).await?;
        Ok(is_known)
    }
}

/// The backlogs of the partitions that our user does not know to be ours.
async fn gained(client: &Client, books: &Books, told: Partitions) -> Done<Vec<southbridge_words::Backlog>> {
    let is_new = |number: &i16| {
        u8::try_from(*number)
            .is_ok_and(|number| told == Partitions::NONE || !told.contains(Partition::new(number)))
    };
    let new: Vec<i16> = held(books).into_iter().filter(is_new).collect();
    backlogs::of_partitions(client, &new).await
}

/// The backlogs of those for whom others accepted something, but for those that are told of already.
async fn news(client: &Client, adopted: Adopted, upkeep: &Upkeep) -> Done<Vec<southbridge_words::Backlog>> {
    let (ids, lasts): (Vec<i32>, Vec<i64>) = adopted.into_iter().unzip();
    let mut news = backlogs::of_destinations(client, &ids, &lasts).await?;
    let told: std::collections::HashSet<&ServerName> =
        upkeep.backlogs.iter().map(|backlog| &backlog.destination).collect();
    news.retain(|backlog| !told.contains(&backlog.destination));
    Ok(news)
}

/// The outcome is known now: nothing was done.
fn trouble_of_the_connection(trouble: Trouble) -> Trouble {
    match trouble {
        Trouble::Unknown => Trouble::Silent,
        other => other,
    }
}

impl fmt::Debug for PostgresOutbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOutbox")
            .field("process", &self.process())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
