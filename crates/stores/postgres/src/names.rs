//! Destinations by name and by number.
//!
//! A number is never given to another name. A name that nothing refers to is deleted with its number, which shows in
//! `head.forgotten`; whoever uses a number that it remembers holds the lock on `head`, and has looked there.

use std::collections::HashMap;

use southbridge_words::{Partition, ServerName};
use tokio_postgres::GenericClient;

use crate::error::{Done, Trouble};

/// The numbers of destinations, the recently used ones in memory.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Names are chosen by strangers, so the hash is seeded.
    ids: HashMap<ServerName, i32>,
}

impl Names {
    /// The numbers of `names`, in their order; new ones where need be.
    pub(crate) async fn ids(&mut self, client: &impl GenericClient, names: &[ServerName]) -> Done<Vec<i32>> {
        if !self.knows(names) {
            self.look_up(client, names).await?;
        }
        if !self.knows(names) {
            let missing: Vec<&ServerName> =
                names.iter().filter(|name| !self.ids.contains_key(*name)).collect();
            let texts: Vec<&str> = missing.iter().map(|name| name.as_str()).collect();
            let partitions: Vec<i16> =
                missing.iter().map(|name| i16::from(Partition::of(name).number())).collect();
            client.execute(INSERT, &[&texts, &partitions]).await?;
            self.look_up(client, names).await?;
        }
        let id = |name| self.ids.get(name).copied();
        let ids: Option<Vec<i32>> = names.iter().map(id).collect();
        ids.ok_or_else(|| Trouble::damaged("the table of destinations", "a name that was written is missing"))
    }

    /// Forgets what a transaction brought that came to nothing, or what may have been deleted.
    pub(crate) fn forget(&mut self) {
        self.ids.clear();
    }

    fn knows(&self, names: &[ServerName]) -> bool {
        names.iter().all(|name| self.ids.contains_key(name))
    }

    async fn look_up(&mut self, client: &impl GenericClient, names: &[ServerName]) -> Done<()> {
        if self.ids.len() > NAMES_MAX {
            self.ids.clear();
        }
        let texts: Vec<&str> = names.iter().map(ServerName::as_str).collect();
        for row in client.query("SELECT name, id FROM destinations WHERE name = ANY($1)", &[&texts]).await? {
            self.ids.insert(parse(row.get(0))?, row.get(1));
        }
        Ok(())
    }
}

/// A name as it was read.
pub(crate) fn parse(name: &str) -> Done<ServerName> {
    ServerName::parse(name)
        .map_err(|_| Trouble::damaged("the table of destinations", "a name there is no server name"))
}

const INSERT: &str = "
    INSERT INTO destinations (name, partition) SELECT * FROM unnest($1::text[], $2::smallint[])
    ON CONFLICT DO NOTHING";
// Some of the largest federations; looking one up again costs a round trip for all that are missing.
const NAMES_MAX: usize = 100_000;
