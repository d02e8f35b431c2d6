//! The daemon behind the Synapse door: accept, parse, forward on a warm connection, answer.

use std::cell::Cell;

use futures_util::future::try_join_all;

use crate::cold::per;
use crate::daemon::Daemon;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;
use crate::usage::{cpu_of, resident_of};
use crate::{Done, Options};

/// Measures the daemon.
///
/// # Errors
/// The daemon or a peer failed.
pub async fn run(options: &Options, report: &mut Report) -> Done {
    let peers = Peers::start(&PeersSpec { hosts: HOSTS, ..PeersSpec::default() })?;
    let daemon = Daemon::start(options, &peers).await?;
    let started = resident_of(daemon.pid())? as f64 / MEGABYTE;
    report.add("door", "the daemon's memory at its start", "MB", Some(25.0), &[started]);
    batch(&daemon, &peers, REQUESTS / 2).await?;
    let before = resident_of(daemon.pid())?;
    let mut samples = Vec::new();
    for _ in 0..options.rounds {
        samples.push(batch(&daemon, &peers, REQUESTS).await?);
    }
    let grown = (resident_of(daemon.pid())? as f64 - before as f64) / 1024.0;
    report.add("door", "a request through the door, warm upstream", "us", Some(90.0), &samples);
    report.add("door", "the daemon's growth over all requests", "KiB", Some(512.0), &[grown]);
    Ok(())
}

/// Sends `count` requests, each on a connection of its own; the daemon's microseconds of CPU each.
async fn batch(daemon: &Daemon, peers: &Peers, count: usize) -> Done<f64> {
    let left = Cell::new(count);
    let before = cpu_of(daemon.pid())?;
    try_join_all(peers.hosts().iter().map(|host| async {
        while left.get() > 0 {
            left.set(left.get() - 1);
            daemon.get(host, PATH).await?;
        }
        Done::Ok(())
    }))
    .await?;
    Ok(per(cpu_of(daemon.pid())? - before, count))
}

const PATH: &str = "/_matrix/federation/v1/query/profile?user_id=%40somebody%3Aelsewhere";
const HOSTS: usize = 16;
const REQUESTS: usize = 10_000;
const MEGABYTE: f64 = 1e6;
