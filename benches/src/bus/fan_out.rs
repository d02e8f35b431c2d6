//! One message to every server there is a descriptor for.

use std::time::{Duration, Instant};

use southbridge_policy::pool::PoolLimits;
use southbridge_words::ServerName;

use super::rig::{Rig, delivered, pdu, to};
use crate::Done;
use crate::cold::per;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;
use crate::usage::{cpu, resident};

/// Measures single messages, a burst of ten, and how soon acceptance is acknowledged.
///
/// # Errors
/// A peer or the disk failed.
pub async fn run(report: &mut Report) -> Done {
    let spec =
        PeersSpec { hosts: HOSTS, explicit: 1.0, well_known: 0.0, addresses: 8, ..PeersSpec::default() };
    let peers = Peers::start(&spec)?;
    let directory = tempfile::tempdir()?;
    let pool = PoolLimits {
        connections_max: CONNECTIONS_MAX,
        idle_max: Duration::from_secs(600),
        ..PoolLimits::default()
    };
    let rig = Rig::open(&peers, directory.path(), pool, |config| {
        config.limits.sends_max = HOSTS;
        config.limits.first_contacts_per_second = 100_000;
        config.results.results_max = 200_000;
    })
    .await?;
    let destinations = to(peers.hosts().iter().map(|host| &*host.name));
    let mut results = rig.bus.results(None);
    // Opens the connections, and makes the memory that is used again and again; not counted.
    for number in 0..2 {
        rig.bus.send_pdu(pdu(number), destinations.clone(), None).await?;
        delivered(&mut results, HOSTS, 1, LIMIT).await?;
    }
    let (mut costs, mut acknowledged, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let idle = resident()?;
    let watch = Peak::watch();
    for number in 2..2 + ROUNDS {
        let (spent, began) = (cpu(), Instant::now());
        rig.bus.send_pdu(pdu(number), destinations.clone(), None).await?;
        acknowledged.push(began.elapsed().as_secs_f64() * 1e3);
        delivered(&mut results, HOSTS, 1, LIMIT).await?;
        times.push(began.elapsed().as_secs_f64() * 1e3);
        costs.push(per(cpu() - spent, HOSTS));
    }
    report.add("bus", "one PDU to 9,000 warm hosts, per destination", "us", Some(60.0), &costs);
    report.add("bus", "the same, until the last has it", "ms", None, &times);
    report.add("bus", "one PDU for 9,000 hosts, durable after", "ms", Some(15.0), &acknowledged);
    let seen = burst(&rig, &destinations, &mut results).await?;
    report.add("bus", "transactions per host for a burst of ten", "", Some(1.5), &[seen]);
    let grown = watch.bytes().saturating_sub(idle);
    report.add("bus", "memory over idle, at most", "MB", Some(150.0), &[grown as f64 / 1e6]);
    rig.bus.close().await;
    Ok(())
}

/// Ten messages at once; transactions of each destination.
async fn burst(
    rig: &Rig,
    destinations: &std::sync::Arc<[ServerName]>,
    results: &mut southbridge::bus::Results,
) -> Done<f64> {
    let sending = (0..BURST).map(|number| rig.bus.send_pdu(pdu(100 + number), destinations.clone(), None));
    futures_util::future::try_join_all(sending).await?;
    let seen = delivered(results, HOSTS, BURST, LIMIT).await?;
    Ok(seen.transactions as f64 / HOSTS as f64)
}

/// The most memory that was held while somebody watched.
struct Peak {
    most: std::rc::Rc<std::cell::Cell<u64>>,
    watching: tokio::task::AbortHandle,
}

impl Peak {
    fn watch() -> Self {
        let most = std::rc::Rc::<std::cell::Cell<u64>>::default();
        let seen = std::rc::Rc::clone(&most);
        let watching = tokio::task::spawn_local(async move {
            loop {
                seen.set(seen.get().max(resident().unwrap_or(0)));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        Self { most, watching: watching.abort_handle() }
    }

    fn bytes(&self) -> u64 {
        self.most.get()
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

const HOSTS: usize = 9_000;
const CONNECTIONS_MAX: u32 = 9_500;
const ROUNDS: u64 = 9;
const BURST: u64 = 10;
const LIMIT: Duration = Duration::from_secs(120);
