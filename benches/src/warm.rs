//! Requests on connections that are open, one kilobyte back.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::bare::{Bare, BareConnection, Sessions};
use crate::bridge::{Bridge, ONE_KILOBYTE};
use crate::cold::per;
use crate::peers::{Host, Peers, PeersSpec};
use crate::report::{Report, ratios};
use crate::usage::cpu;
use crate::{Done, Options};

/// Measures warm requests.
///
/// # Errors
/// A peer or a request failed.
pub async fn run(options: &Options, report: &mut Report) -> Done {
    let peers =
        Peers::start(&PeersSpec { hosts: HOSTS, explicit: 1.0, well_known: 0.0, ..Default::default() })?;
    let hosts = peers.hosts().to_vec();
    let bare = Bare::new(&peers, Sessions::Forgotten)?;
    let mut connections = try_join_all(hosts.iter().map(|host| bare.open(host))).await?;
    let bridge = Bridge::new(&peers)?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    // The first round opens what is to be warm, and is thrown away.
    for _ in 0..=options.rounds {
        theirs.push(bare_batch(&mut connections).await?);
        ours.push(bridge_batch(&bridge, &hosts).await?);
    }
    let (theirs, ours) = (&theirs[1..], &ours[1..]);
    report.add("warm", "bare client, per request", "us", None, theirs);
    report.add("warm", "Southbridge, per request", "us", Some(40.0), ours);
    report.add("warm", "Southbridge, times bare", "x", Some(2.0), &ratios(ours, theirs));
    Ok(())
}

async fn bare_batch(connections: &mut [BareConnection]) -> Done<f64> {
    let left = Cell::new(REQUESTS);
    let before = cpu();
    try_join_all(connections.iter_mut().map(|connection| async {
        while take_one(&left) {
            connection.get(ONE_KILOBYTE).await?;
        }
        Done::Ok(())
    }))
    .await?;
    Ok(per(cpu() - before, REQUESTS))
}

/// Asks all `hosts` by turns; microseconds of CPU per request.
async fn bridge_batch(bridge: &Bridge, hosts: &[Host]) -> Done<f64> {
    let spent = ask_all(bridge, hosts, REQUESTS).await?;
    Ok(per(spent, REQUESTS))
}

/// Asks `hosts`, each one question at a time, until `count` have been answered; CPU spent.
///
/// # Errors
/// A request failed.
pub async fn ask_all(bridge: &Bridge, hosts: &[Host], count: usize) -> Done<Duration> {
    let left = Cell::new(count);
    let before = cpu();
    try_join_all(hosts.iter().map(|host| async {
        while take_one(&left) {
            bridge.get(&host.name, ONE_KILOBYTE).await?;
        }
        Done::Ok(())
    }))
    .await?;
    Ok(cpu() - before)
}

fn take_one(left: &Cell<usize>) -> bool {
    let some = left.get() > 0;
    left.set(left.get().saturating_sub(1));
    some
}

const HOSTS: usize = 16;
const REQUESTS: usize = 4000;
