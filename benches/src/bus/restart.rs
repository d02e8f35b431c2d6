//! A start with a backlog for ten thousand servers.

use std::time::{Duration, Instant};

use southbridge_policy::pool::PoolLimits;
use southbridge_store_sqlite::{OutboxOptions, SqliteOutbox};
use southbridge_words::{Append, ItemKind, Outbox, WallTime};

use super::rig::{Rig, delivered, pdu, to};
use crate::Done;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;

/// Measures how soon the first healthy server has something, and how many connections are open meanwhile.
///
/// # Errors
/// A peer or the disk failed.
pub async fn run(report: &mut Report) -> Done {
    let spec =
        PeersSpec { hosts: HOSTS, explicit: 1.0, well_known: 0.0, addresses: 8, ..PeersSpec::default() };
    let peers = Peers::start(&spec)?;
    let directory = tempfile::tempdir()?;
    let destinations = to(peers.hosts().iter().map(|host| &*host.name));
    let mut outbox = SqliteOutbox::open(&directory.path().join("outbox.db"), &OutboxOptions::default())?;
    outbox.recover()?;
    let appends: Vec<Append> = (0..BACKLOG)
        .map(|number| Append {
            kind: ItemKind::Pdu,
            bytes: pdu(number).bytes().clone(),
            destinations: destinations.clone(),
            accepted_at: WallTime::from_unix_millis(1_700_000_000_000 + number),
            key: None,
        })
        .collect();
    outbox.write(&appends, &[])?;
    outbox.close()?;
    let pool = PoolLimits {
        connections_max: CONNECTIONS_MAX,
        dials_max: 256,
        limited_dials_max: 128,
        limited_connections_max: 512,
        ..PoolLimits::default()
    };
    let began = Instant::now();
    let rig =
        Rig::open(&peers, directory.path(), pool, |config| config.results.results_max = 100_000).await?;
    let mut results = rig.bus.results(None);
    let first = delivered(&mut results, 1, 1, Duration::from_secs(60)).await?;
    let first_at = first.first_at.unwrap_or(began).duration_since(began).as_secs_f64();
    report.add("bus", "10,000 backlogs at a start: first delivery", "s", Some(1.0), &[first_at]);
    let mut most = 0;
    let watching = Instant::now();
    while watching.elapsed() < WATCHED {
        most = most.max(rig.bridge.kernel.pool_usage().connections);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    report.add(
        "bus",
        "the same: connections at most",
        "",
        Some(f64::from(CONNECTIONS_MAX)),
        &[f64::from(most)],
    );
    drop(rig);
    Ok(())
}

const HOSTS: usize = 10_000;
const BACKLOG: u64 = 100;
const CONNECTIONS_MAX: u32 = 1_000;
const WATCHED: Duration = Duration::from_secs(10);
