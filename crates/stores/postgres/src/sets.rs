//! Sets of destinations, each kept once. Like names, they are never changed, and deleted when nothing refers to them.

use rustc_hash::FxHashMap;
use tokio_postgres::GenericClient;

use crate::error::Done;

/// The sets used lately, by their members.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    ids: FxHashMap<Box<[i32]>, i32>,
    members: usize,
}

impl Sets {
    /// The number of the set of `members`, which is written if need be.
    pub(crate) async fn id(&mut self, client: &impl GenericClient, mut members: Vec<i32>) -> Done<i32> {
        members.sort_unstable();
        members.dedup();
        if let Some(id) = self.ids.get(&*members) {
            return Ok(*id);
        }
        let hash = hash(&members);
        // Two processes may write the same set at once: it is kept twice then, which does no harm.
        let found = client.query_opt(SELECT, &[&hash, &members]).await?;
        let row = match found {
            Some(row) => row,
            None => client.query_one(INSERT, &[&hash, &members]).await?,
        };
        let id = row.get(0);
        if self.members > MEMBERS_MAX {
            self.forget();
        }
        self.members += members.len();
        self.ids.insert(members.into(), id);
        Ok(id)
    }

    /// Forgets what a transaction brought that came to nothing, or what may have been deleted.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// FNV-1a of 64 bits, the same for ever.
fn hash(members: &[i32]) -> i64 {
    let bytes = members.iter().flat_map(|id| id.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    hash.cast_signed()
}

const SELECT: &str = "SELECT id FROM sets WHERE hash = $1 AND members = $2 ORDER BY id LIMIT 1";
const INSERT: &str = "INSERT INTO sets (hash, members) VALUES ($1, $2) RETURNING id";
// About 16 MB.
const MEMBERS_MAX: usize = 4_000_000;
