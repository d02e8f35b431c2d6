//! Two thousand messages a second to two hundred servers each, for a minute: what cannot be delivered as fast as it
//! comes waits on the disk, and not in memory.

use std::time::{Duration, Instant};

use southbridge_policy::pool::PoolLimits;
use tokio::time::{MissedTickBehavior, interval};

use super::rig::{Rig, pdu, to};
use crate::Done;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;
use crate::usage::resident;

/// Hands in for a minute.
///
/// # Errors
/// A peer or the disk failed, or something was refused.
pub async fn run(report: &mut Report) -> Done {
    let spec = PeersSpec { hosts: HOSTS, explicit: 1.0, well_known: 0.0, ..PeersSpec::default() };
    let peers = Peers::start(&spec)?;
    let directory = tempfile::tempdir()?;
    let rig = Rig::open(&peers, directory.path(), PoolLimits::default(), |_| ()).await?;
    let destinations = to(peers.hosts().iter().map(|host| &*host.name));
    let began = Instant::now();
    let (mut accepted, mut early, mut late, mut waits) = (0_u64, 0, 0, Vec::new());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while began.elapsed() < LASTS {
        ticks.tick().await;
        let asked = Instant::now();
        let sending = (0..PER_TICK).map(|n| rig.bus.send_pdu(pdu(accepted + n), destinations.clone(), None));
        futures_util::future::try_join_all(sending).await?;
        accepted += PER_TICK;
        waits.push(asked.elapsed().as_secs_f64() * 1e3);
        let held = resident()?;
        match began.elapsed() {
            passed if passed < LASTS / 3 => early = early.max(held),
            passed if passed > LASTS / 3 * 2 => late = late.max(held),
            _ => {}
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let delivered =
        rig.metric("southbridge_bus_items_delivered_total") as f64 / (accepted as f64 * HOSTS as f64) * 100.0;
    let missing = (2000.0 - accepted as f64 / seconds).max(0.0);
    report.add("bus", "short of 2,000 PDUs/s to 200 hosts, for 60 s", "/s", Some(20.0), &[missing]);
    let grown = late.saturating_sub(early) as f64 / 1e6;
    report.add("bus", "most memory of the last 20 s, over the first", "MB", Some(16.0), &[grown]);
    report.add("bus", "most memory in it", "MB", None, &[late.max(early) as f64 / 1e6]);
    report.add("bus", "twenty of them, durable after", "ms", None, &waits);
    report.add("bus", "delivered by the end of it", "%", None, &[delivered]);
    drop(rig);
    Ok(())
}

const HOSTS: usize = 200;
const LASTS: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(10);
const PER_TICK: u64 = 20;
