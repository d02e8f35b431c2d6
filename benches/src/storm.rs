//! Interactive queries while one host in five has vanished and one in ten takes three seconds.
//!
//! Transactions go to every host all the time, one at a time each, as a homeserver sends them. Healthy hosts think
//! for 20 ms, so that a latency is more than the noise of a small machine. The pool is kept tighter than by
//! default, so that its limits matter.
//!
//! # Source
//! F5, F19; rows 1 and 2 of the fault list.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use southbridge_policy::pool::{PoolLimits, PoolUse};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{interval, sleep};

use crate::Done;
use crate::bridge::{Bridge, Question};
use crate::peers::{Host, Peers, PeersSpec};
use crate::report::Report;
use crate::usage::descriptors;

/// Lives through a calm and a storm.
///
/// # Errors
/// The peers failed.
pub async fn run(report: &mut Report) -> Done {
    let mut peers = Peers::start(&PeersSpec {
        hosts: HOSTS,
        well_known: 0.5,
        srv: 0.2,
        explicit: 0.2,
        black_hole: BLACK_HOLES,
        slow: SLOW,
        latency: 20,
        ttl: 5,
        addresses: 4,
    })?;
    let hosts: Rc<[Host]> = peers.hosts().into();
    let bridge = Bridge::with(&peers, limits(), 1024)?;
    let others = descriptors();
    peers.order("calm")?;
    let watch = Rc::new(Watch::default());
    let mut tasks = Tasks(vec![keep_watch(&bridge, &watch)]);
    for host in hosts.iter() {
        tasks.0.push(keep_sending(&bridge, host, &watch));
    }
    sleep(WARM_UP).await;
    watch.clear();
    let calm = query_for(&bridge, &hosts, CALM, &watch).await;
    peers.order(&format!("storm {BLACK_HOLES} {SLOW}"))?;
    let storm = query_for(&bridge, &hosts, STORM, &watch).await;
    report.add("storm", "interactive query, calm, p50", "ms", None, &[percentile(&calm, 50)]);
    report.add("storm", "interactive query, calm, p99", "ms", None, &[percentile(&calm, 99)]);
    report.add("storm", "interactive query, storm, p50", "ms", None, &[percentile(&storm, 50)]);
    report.add("storm", "interactive query, storm, p99", "ms", None, &[percentile(&storm, 99)]);
    let times = percentile(&storm, 99) / percentile(&calm, 99);
    report.add("storm", "p99 in the storm, times calm", "x", Some(2.0), &[times]);
    watch.report(report, others);
    Ok(())
}

fn limits() -> PoolLimits {
    PoolLimits {
        connections_max: 1000,
        dials_max: 200,
        handshakes_max: 32,
        limited_dials_max: 100,
        limited_handshakes_max: 16,
        limited_connections_max: 250,
        ..PoolLimits::default()
    }
}

/// What was seen while time went by.
#[derive(Default)]
struct Watch {
    most: RefCell<PoolUse>,
    descriptors: Cell<usize>,
    sent: Cell<u64>,
    healthy_failed: Cell<u64>,
    queries_failed: Cell<u64>,
}

impl Watch {
    fn clear(&self) {
        self.healthy_failed.set(0);
        self.queries_failed.set(0);
        self.sent.set(0);
    }

    fn look(&self, usage: PoolUse) {
        let mut most = self.most.borrow_mut();
        most.connections = most.connections.max(usage.connections);
        most.dials = most.dials.max(usage.dials);
        most.handshakes = most.handshakes.max(usage.handshakes);
        self.descriptors.set(self.descriptors.get().max(descriptors()));
    }

    fn report(&self, report: &mut Report, others: usize) {
        let (limits, most) = (limits(), self.most.borrow());
        let bound = |limit: u32| Some(f64::from(limit));
        report.add("storm", "transactions delivered to healthy hosts", "", None, &[self.sent.get() as f64]);
        let failed = self.healthy_failed.get() as f64;
        report.add("storm", "transactions to healthy hosts not delivered", "", Some(0.0), &[failed]);
        let failed = self.queries_failed.get() as f64;
        report.add("storm", "queries to healthy hosts not answered", "", Some(0.0), &[failed]);
        let open = f64::from(most.connections);
        report.add("storm", "connections at most", "", bound(limits.connections_max), &[open]);
        let dials = f64::from(most.dials);
        report.add("storm", "dials at most", "", bound(limits.dials_max), &[dials]);
        let handshakes = f64::from(most.handshakes);
        report.add("storm", "handshakes at most", "", bound(limits.handshakes_max), &[handshakes]);
        let used = self.descriptors.get().saturating_sub(others) as f64;
        // A socket for each connection, and for each question to a name server.
        let most = f64::from(limits.connections_max) + DNS_QUERIES_MAX;
        report.add("storm", "descriptors at most", "", Some(most), &[used]);
    }
}

/// Tasks that end with this.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

fn keep_watch(bridge: &Bridge, watch: &Rc<Watch>) -> AbortHandle {
    let (bridge, watch) = (bridge.clone(), Rc::clone(watch));
    let task = spawn_local(async move {
        let mut tick = interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            watch.look(bridge.kernel.pool_usage());
        }
    });
    task.abort_handle()
}

/// A transaction to `host` every two seconds or so, the next one not before the last one has ended.
fn keep_sending(bridge: &Bridge, host: &Host, watch: &Rc<Watch>) -> AbortHandle {
    let (bridge, host, watch) = (bridge.clone(), host.clone(), Rc::clone(watch));
    let task = spawn_local(async move {
        for id in 0.. {
            let sent = bridge.ask(&host.name, Question::transaction(id)).await;
            if host.healthy {
                let counter = if sent.is_ok() { &watch.sent } else { &watch.healthy_failed };
                counter.set(counter.get() + 1);
            }
            sleep(BETWEEN_TRANSACTIONS).await;
        }
    });
    task.abort_handle()
}

/// Asks hosts by turns for `time`; the milliseconds that each healthy one took.
async fn query_for(bridge: &Bridge, hosts: &Rc<[Host]>, time: Duration, watch: &Rc<Watch>) -> Vec<f64> {
    let answered = Rc::new(RefCell::new(Vec::new()));
    let mut tick = interval(BETWEEN_QUERIES);
    let until = Instant::now() + time;
    let mut asking = Vec::new();
    for turn in 0.. {
        if Instant::now() >= until {
            break;
        }
        tick.tick().await;
        let host = hosts[turn * 7 % hosts.len()].clone();
        let (bridge, answered, watch) = (bridge.clone(), Rc::clone(&answered), Rc::clone(watch));
        let task = spawn_local(async move {
            let begun = Instant::now();
            let outcome = bridge.ask(&host.name, query()).await;
            if host.healthy {
                match outcome {
                    Ok(_) => {
                        let ms = begun.elapsed().as_secs_f64() * 1000.0;
                        answered.borrow_mut().push(ms);
                    }
                    Err(error) => {
                        eprintln!("{}: {error}", host.name);
                        watch.queries_failed.set(watch.queries_failed.get() + 1);
                    }
                }
            }
            host.healthy
        });
        asking.push(task);
    }
    for task in asking {
        // Those to hosts that hang are left to themselves.
        let _in_time = tokio::time::timeout(Duration::from_millis(1), task).await;
    }
    answered.take()
}

fn query() -> Question {
    let question = Question::get("/_matrix/federation/v1/query/profile?user_id=%40a%3Ab");
    Question { timeout: Duration::from_secs(10), ..question }
}

fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
        .get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

const HOSTS: usize = 300;
const BLACK_HOLES: f64 = 0.2;
const SLOW: f64 = 0.1;
const WARM_UP: Duration = Duration::from_secs(6);
const CALM: Duration = Duration::from_secs(10);
const STORM: Duration = Duration::from_secs(25);
const BETWEEN_QUERIES: Duration = Duration::from_millis(10);
const BETWEEN_TRANSACTIONS: Duration = Duration::from_secs(2);
const DNS_QUERIES_MAX: f64 = 256.0;
