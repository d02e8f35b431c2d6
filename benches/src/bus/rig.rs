//! A bus on a kernel, with an outbox in a directory of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use southbridge::bus::{BusConfig, Delivery, Results, SideBus};
use southbridge_bus::externaliser::Event;
use southbridge_bus::outgoing::OutgoingPdu;
use southbridge_bus::signing::{KeyId, Signer, SigningKey, SigningKeys};
use southbridge_kernel::stats::Exposition;
use southbridge_policy::pool::PoolLimits;
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_words::ServerName;

use crate::Done;
use crate::bridge::Bridge;
use crate::peers::Peers;

/// See the [module](self).
pub struct Rig {
    pub bridge: Bridge,
    pub bus: SideBus,
}

impl Rig {
    /// Opens a bus on the outbox in `directory`; `change` is what is to be different.
    ///
    /// # Errors
    /// The outbox cannot be opened.
    pub async fn open(
        peers: &Peers,
        directory: &Path,
        pool: PoolLimits,
        change: impl FnOnce(&mut BusConfig),
    ) -> Done<Self> {
        let bridge = Bridge::with(peers, pool, 1024)?;
        let mut config = BusConfig::new(origin());
        change(&mut config);
        let outbox = SqliteOutbox::open(&directory.join("outbox.db"), &OutboxOptions::default())?;
        let outbox = Box::new(outbox);
        let bus = SideBus::open_on(&bridge.kernel, bridge.discovery(), outbox, signer(), config).await?;
        Ok(Self { bridge, bus })
    }

    /// What the metrics page of the bus says under `name`; zero when it says nothing.
    pub fn metric(&self, name: &str) -> u64 {
        let mut page = Exposition::default();
        (self.bus.metrics())(&mut page);
        let page = page.into_text();
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }
}

/// The server that the bus speaks for.
pub fn origin() -> ServerName {
    ServerName::parse("origin.test").expect("a name")
}

/// Signs for it, with one key.
pub fn signer() -> Signer {
    let id = KeyId::parse("ed25519:1").expect("a key id");
    Signer::new(origin(), SigningKeys::of(SigningKey::from_seed(id, &[7; 32])))
}

/// A PDU of a kilobyte.
pub fn pdu(number: u64) -> OutgoingPdu {
    let body = "x".repeat(1000);
    let text = format!(r#"{{"content":{{"body":"{body}"}},"depth":{number},"type":"m.room.message"}}"#);
    OutgoingPdu::new(text).expect("it is an object")
}

/// The destinations named `names`.
pub fn to<'a>(names: impl IntoIterator<Item = &'a str>) -> Arc<[ServerName]> {
    names.into_iter().map(|name| ServerName::parse(name).expect("the peers have server names")).collect()
}

/// What became of deliveries.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Transactions.
    pub transactions: u64,
    /// Items of each destination.
    pub items: HashMap<ServerName, u64>,
    /// When the first came.
    pub first_at: Option<Instant>,
}

/// Reads `results` until `items` items were delivered to each of `destinations` hosts.
///
/// # Errors
/// It takes longer than `limit`, or results were missed.
pub async fn delivered(
    results: &mut Results,
    destinations: usize,
    items: u64,
    limit: Duration,
) -> Done<Delivered> {
    let mut seen = Delivered::default();
    let mut complete = 0;
    let reading = async {
        while complete < destinations {
            match results.next().await {
                Some(Delivery::Event { event, .. }) => {
                    let Event::Delivered { destination, items: more, .. } = &*event else { continue };
                    seen.first_at.get_or_insert_with(Instant::now);
                    seen.transactions += 1;
                    let count = seen.items.entry(destination.clone()).or_default();
                    let before = *count;
                    *count += u64::from(*more);
                    complete += usize::from(before < items && *count >= items);
                }
                Some(_) => return Err("results were missed".into()),
                None => return Err("the bus has ended".into()),
            }
        }
        Done::Ok(())
    };
    let read = tokio::time::timeout(limit, reading).await;
    match read {
        Ok(read) => read?,
        Err(_) => return Err(format!("{complete} of {destinations} served within {limit:?}").into()),
    }
    Ok(seen)
}
