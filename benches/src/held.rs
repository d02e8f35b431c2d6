//! Holds what is to be weighed, in a process of its own: one that has done nothing else before.

use clap::{Args, ValueEnum};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use southbridge_policy::pool::PoolLimits;

use crate::Done;
use crate::bare::{Bare, Sessions};
use crate::bridge::{Bridge, ONE_KILOBYTE};
use crate::cold::meet_barely;
use crate::peers::{Host, Peers, PeersSpec};
use crate::usage::resident;
use crate::warm::ask_all;

/// What a process is asked to hold.
#[derive(Clone, Debug, Args)]
pub struct Holder {
    /// What.
    what: What,
}

/// Each prints one number: bytes for each, or bytes in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Connections of the bare client; bytes each.
    BareConnections,
    /// Connections in the pool; bytes each, what is remembered of their hosts included.
    Connections,
    /// Nothing more after the last 100,000 requests than before them; bytes in all.
    Requests,
    /// Hosts that were asked once and have no connection any more; bytes each.
    Hosts,
    /// A bus that knows 100,000 destinations and has nothing to do; bytes in all, the whole process.
    Destinations,
}

/// Holds it, and prints what it weighs.
///
/// # Errors
/// A peer or a request failed.
pub async fn serve(holder: &Holder) -> Done {
    let bytes = match holder.what {
        What::BareConnections => bare_connections().await?,
        What::Connections => connections().await?,
        What::Requests => requests().await?,
        What::Hosts => hosts().await?,
        What::Destinations => crate::bus::known_destinations().await?,
    };
    println!("{bytes}");
    Ok(())
}

async fn bare_connections() -> Done<f64> {
    let peers = explicit_hosts(FIRST + CONNECTIONS)?;
    let bare = Bare::new(&peers, Sessions::Kept)?;
    let mut open = Vec::new();
    let mut before = 0;
    for part in [&peers.hosts()[..FIRST], &peers.hosts()[FIRST..]] {
        before = resident()?;
        open.extend(meet_barely(&bare, part).await?);
    }
    Ok(each(before, resident()?, CONNECTIONS))
}

async fn connections() -> Done<f64> {
    let peers = explicit_hosts(FIRST + CONNECTIONS)?;
    let bridge = Bridge::new(&peers)?;
    meet(&bridge, &peers.hosts()[..FIRST]).await?;
    let before = resident()?;
    meet(&bridge, &peers.hosts()[FIRST..]).await?;
    let after = resident()?;
    let open = bridge.kernel.pool_usage().connections as usize;
    if open < FIRST + CONNECTIONS {
        return Err(format!("{open} connections are open, not {}", FIRST + CONNECTIONS).into());
    }
    Ok(each(before, after, CONNECTIONS))
}

async fn requests() -> Done<f64> {
    let peers = explicit_hosts(REQUEST_HOSTS)?;
    let bridge = Bridge::new(&peers)?;
    ask_all(&bridge, peers.hosts(), REQUESTS / 5).await?;
    let before = resident()?;
    ask_all(&bridge, peers.hosts(), REQUESTS).await?;
    Ok(each(before, resident()?, 1))
}

/// The slope between many hosts and very many, so that what is bounded whatever the number (sessions, room
/// that the allocator keeps for the next burst) is not counted for each.
async fn hosts() -> Done<f64> {
    let peers = Peers::start(&PeersSpec::of_all_kinds(2 * HOSTS))?;
    let keeps_nothing = PoolLimits { idle_per_peer_max: 0, ..PoolLimits::default() };
    let bridge = Bridge::with(&peers, keeps_nothing, 1024)?;
    meet(&bridge, &peers.hosts()[..HOSTS]).await?;
    let before = resident()?;
    meet(&bridge, &peers.hosts()[HOSTS..]).await?;
    Ok(each(before, resident()?, HOSTS))
}

async fn meet(bridge: &Bridge, hosts: &[Host]) -> Done {
    stream::iter(hosts)
        .map(|host| bridge.get(&host.name, ONE_KILOBYTE))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_length| std::future::ready(Ok(())))
        .await?;
    Ok(())
}

fn explicit_hosts(hosts: usize) -> Done<Peers> {
    Peers::start(&PeersSpec { hosts, explicit: 1.0, well_known: 0.0, ..PeersSpec::default() })
}

fn each(before: u64, after: u64, count: usize) -> f64 {
    (after as f64 - before as f64) / count as f64
}

const FIRST: usize = 100;
const CONNECTIONS: usize = 1000;
const REQUEST_HOSTS: usize = 16;
const REQUESTS: usize = 100_000;
const HOSTS: usize = 3500;
const IN_FLIGHT: usize = 16;
