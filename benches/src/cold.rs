//! A destination that nothing is known of: connect, TLS 1.3 handshake, one request, one kilobyte back.
//!
//! Both sides keep their connections open until the clock has stopped, and both are given sixteen to do at a time.
//! Every host is met for the first time, so that every handshake is a whole one; resumed ones are told apart.

use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use southbridge_policy::pool::PoolLimits;

use crate::bare::{Bare, BareConnection, Sessions};
use crate::bridge::{Bridge, ONE_KILOBYTE};
use crate::peers::{Host, Peers, PeersSpec};
use crate::report::{Report, ratios};
use crate::usage::cpu;
use crate::{Done, Options};

/// Measures cold destinations.
///
/// # Errors
/// A peer or a request failed.
pub async fn run(options: &Options, report: &mut Report) -> Done {
    // The first round warms caches and certificates on both sides, and is thrown away.
    let rounds = options.rounds + 1;
    let hosts = 2 * HOSTS * rounds;
    let peers = Peers::start(&PeersSpec { hosts, addresses: 4, ..PeersSpec::default() })?;
    let explicit = peers.by_route("explicit_port");
    let well_known = peers.by_route("well_known");
    let mut sums = Sums::default();
    for (explicit, well_known) in explicit.chunks(HOSTS).zip(well_known.chunks(HOSTS)).take(rounds) {
        round(&peers, explicit, well_known, &mut sums).await?;
    }
    sums.report(report);
    resumed(options, &peers, &explicit[..HOSTS], report).await
}

/// Microseconds of CPU per destination, a sample for each round.
#[derive(Debug, Default)]
struct Sums {
    bare_explicit: Vec<f64>,
    explicit: Vec<f64>,
    bare_well_known: Vec<f64>,
    well_known: Vec<f64>,
}

impl Sums {
    fn report(&mut self, report: &mut Report) {
        for sums in
            [&mut self.bare_explicit, &mut self.explicit, &mut self.bare_well_known, &mut self.well_known]
        {
            sums.remove(0);
        }
        report.add("cold", "bare client, per destination", "us", None, &self.bare_explicit);
        report.add("cold", "explicit port (one handshake, DNS)", "us", None, &self.explicit);
        let times = ratios(&self.explicit, &self.bare_explicit);
        report.add("cold", "explicit port, times bare", "x", Some(1.4), &times);
        report.add("cold", "by .well-known (two handshakes, DNS)", "us", None, &self.well_known);
        let times = ratios(&self.well_known, &self.bare_well_known);
        report.add("cold", "by .well-known, times bare", "x", Some(2.6), &times);
    }
}

async fn round(peers: &Peers, explicit: &[Host], well_known: &[Host], sums: &mut Sums) -> Done {
    let bare = Bare::new(peers, Sessions::Forgotten)?;
    let bridge = Bridge::new(peers)?;
    sums.bare_explicit.push(bare_batch(&bare, explicit).await?);
    sums.explicit.push(bridge_batch(&bridge, explicit).await?);
    sums.bare_well_known.push(bare_batch(&bare, well_known).await?);
    sums.well_known.push(bridge_batch(&bridge, well_known).await?);
    Ok(())
}

/// Meets all `hosts` with the bare client; microseconds of CPU each.
async fn bare_batch(bare: &Bare, hosts: &[Host]) -> Done<f64> {
    let before = cpu();
    let open = meet_barely(bare, hosts).await?;
    let each = per(cpu() - before, hosts.len());
    drop(open);
    Ok(each)
}

/// Opens a connection to all `hosts` with the bare client, and asks each once.
pub async fn meet_barely(bare: &Bare, hosts: &[Host]) -> Done<Vec<BareConnection>> {
    stream::iter(hosts)
        .map(|host| async move {
            let mut connection = bare.open(host).await?;
            connection.get(ONE_KILOBYTE).await?;
            Done::Ok(connection)
        })
        .buffer_unordered(IN_FLIGHT)
        .try_collect()
        .await
}

/// Meets all `hosts` with Southbridge; microseconds of CPU each.
pub async fn bridge_batch(bridge: &Bridge, hosts: &[Host]) -> Done<f64> {
    let before = cpu();
    stream::iter(hosts)
        .map(|host| bridge.get(&host.name, ONE_KILOBYTE))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_length| std::future::ready(Ok(())))
        .await?;
    Ok(per(cpu() - before, hosts.len()))
}

/// The same with sessions that are remembered: hosts met before, whose connections are gone.
async fn resumed(options: &Options, peers: &Peers, hosts: &[Host], report: &mut Report) -> Done {
    let bare = Bare::new(peers, Sessions::Kept)?;
    let keeps_nothing = PoolLimits { idle_per_peer_max: 0, ..PoolLimits::default() };
    let bridge = Bridge::with(peers, keeps_nothing, 1024)?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..=options.rounds {
        theirs.push(bare_batch(&bare, hosts).await?);
        ours.push(bridge_batch(&bridge, hosts).await?);
    }
    let (theirs, ours) = (&theirs[1..], &ours[1..]);
    report.add("cold", "met before, resumed: bare client", "us", None, theirs);
    report.add("cold", "met before, resumed: Southbridge", "us", None, ours);
    report.add("cold", "met before, resumed: times bare", "x", None, &ratios(ours, theirs));
    let handshakes = bridge.kernel.stats().handshakes.get() as f64;
    let share = bridge.kernel.stats().handshakes_resumed.get() as f64 / handshakes;
    report.add("cold", "share of Southbridge's handshakes resumed", "", None, &[share]);
    Ok(())
}

/// Microseconds each.
pub fn per(spent: Duration, count: usize) -> f64 {
    spent.as_secs_f64() * 1e6 / count as f64
}

/// Hosts met in one sample.
const HOSTS: usize = 120;
/// As many at a time on either side.
const IN_FLIGHT: usize = 16;
