//! One message to a room of 5,000 servers costs a hundred times one to a room of 50, and no more (F19).
//!
//! Each fan-out is handed in at once, by a kernel that knows nobody yet, to hosts of every kind on eight addresses.

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::Done;
use crate::bridge::{Bridge, Question};
use crate::cold::per;
use crate::peers::{Host, Peers, PeersSpec};
use crate::report::{Report, ratios};
use crate::usage::{cpu, descriptors};

/// Measures both fan-outs.
///
/// # Errors
/// A peer or a request failed.
pub async fn run(report: &mut Report) -> Done {
    let peers = Peers::start(&PeersSpec::of_all_kinds(MANY))?;
    // Makes the peers' certificates and warms our allocator; not counted.
    fan_out(&peers, peers.hosts()).await?;
    let (mut few, mut many) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let mut sum = 0.0;
        for hosts in peers.hosts().chunks(FEW).take(FANS) {
            sum += fan_out(&peers, hosts).await?;
        }
        few.push(sum / FANS as f64);
        many.push(fan_out(&peers, peers.hosts()).await?);
    }
    report.add("linear", "per destination, 50 at once", "us", None, &few);
    report.add("linear", "per destination, 5,000 at once", "us", None, &many);
    report.add("linear", "5,000 at once, times 50 at once", "x", Some(1.15), &ratios(&many, &few));
    Ok(())
}

/// Sends one transaction to all `hosts` at once; microseconds of CPU each, the closing of connections included.
async fn fan_out(peers: &Peers, hosts: &[Host]) -> Done<f64> {
    let open = descriptors();
    let bridge = Bridge::new(peers)?;
    let before = cpu();
    try_join_all(hosts.iter().map(|host| bridge.ask(&host.name, Question::transaction(1)))).await?;
    drop(bridge);
    // A kernel that nobody holds closes its connections. They must be gone: the next fan-out is to pay for its own
    // and nothing else.
    while descriptors() > open {
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(per(cpu() - before, hosts.len()))
}

const FEW: usize = 50;
const FANS: usize = 20;
const MANY: usize = 5000;
const PAIRS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(10);
