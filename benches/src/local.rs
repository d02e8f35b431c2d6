//! Two thousand new connections a second on the unix socket, for ten seconds, without a refusal.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::spawn_local;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::daemon::Daemon;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;
use crate::{Done, Options};

/// Knocks.
///
/// # Errors
/// The daemon or a peer failed.
pub async fn run(options: &Options, report: &mut Report) -> Done {
    let peers = Peers::start(&PeersSpec { hosts: HOSTS, ..PeersSpec::default() })?;
    let daemon = Rc::new(Daemon::start(options, &peers).await?);
    for host in peers.hosts() {
        daemon.get(host, PATH).await?;
    }
    let (answered, refused) = (Rc::new(Cell::new(0_u32)), Rc::new(Cell::new(0_u32)));
    let mut tick = interval(TICK);
    // Late ticks are made up for: what was promised is a rate.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let begun = Instant::now();
    for turn in 0..TICKS {
        tick.tick().await;
        for nth in 0..PER_TICK {
            let host = peers.hosts()[(turn * PER_TICK + nth) % HOSTS].clone();
            let daemon = Rc::clone(&daemon);
            let (answered, refused) = (Rc::clone(&answered), Rc::clone(&refused));
            spawn_local(async move {
                let outcome = daemon.get(&host, PATH).await;
                if let Err(error) = &outcome
                    && refused.get() == 0
                {
                    eprintln!("the first refusal: {error}");
                }
                let counter = if outcome.is_ok() { &answered } else { &refused };
                counter.set(counter.get() + 1);
            });
        }
    }
    let asked = (TICKS * PER_TICK) as u32;
    let rate = f64::from(asked) / begun.elapsed().as_secs_f64();
    let until = Instant::now() + LAST_ANSWER_MAX;
    while answered.get() + refused.get() < asked && Instant::now() < until {
        sleep(TICK).await;
    }
    report.add("local", "new connections a second, for ten seconds", "/s", None, &[rate]);
    report.add("local", "answered", "", None, &[f64::from(answered.get())]);
    let missing = f64::from(asked - answered.get());
    report.add("local", "refused or not answered", "", Some(0.0), &[missing]);
    Ok(())
}

const PATH: &str = "/_matrix/federation/v1/version";
const HOSTS: usize = 16;
const TICK: Duration = Duration::from_millis(5);
const PER_TICK: usize = 10;
const TICKS: usize = 2000;
const LAST_ANSWER_MAX: Duration = Duration::from_secs(10);
