//! The course of the demo: who is asked what, and when.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::load::{Door, Sample};
use super::progress::Progress;
use super::serving::{Serving, Usage};

/// What all parts of the demo share.
pub struct Course<'a> {
    pub door: Door,
    pub names: Vec<String>,
    pub serving: &'a Serving,
    pub progress: &'a Progress,
}

/// One transaction to everybody.
#[derive(Debug)]
pub struct FanOut {
    pub title: &'static str,
    /// Homeservers that should get it.
    pub expected: usize,
    /// When each delivery was done, since the beginning, in order.
    pub delivered: Vec<Duration>,
    /// Answers that were no delivery.
    pub failed: usize,
    /// CPU time that Southbridge took.
    pub cpu: Duration,
    /// The most descriptors it had open.
    pub descriptors_max: usize,
    pub resident: u64,
}

/// Questions asked for people who wait.
#[derive(Debug)]
pub struct Queries {
    pub good: usize,
    pub failed: usize,
    /// How long the good ones took, in order.
    pub took: Vec<Duration>,
}

/// A storm: transactions to everybody while people ask questions.
#[derive(Debug)]
pub struct Storm {
    pub transactions: FanOut,
    pub queries: Queries,
}

impl FanOut {
    /// When `share` of those that should get it had it.
    pub fn delivered_share(&self, share: f64) -> Option<Duration> {
        let count = (self.expected as f64 * share).ceil() as usize;
        self.delivered.get(count.saturating_sub(1)).copied()
    }

    /// Whether everybody who should get it did.
    pub fn is_complete(&self) -> bool {
        self.delivered.len() >= self.expected
    }
}

impl Queries {
    /// The `share` quantile of the time that good answers took.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let at = (self.took.len() as f64 * share).ceil() as usize;
        self.took.get(at.saturating_sub(1)).copied()
    }
}

impl Course<'_> {
    /// Sends transaction `number` to every homeserver at once; `healthy` says who must get it, if not all.
    pub async fn fan_out(
        &self,
        title: &'static str,
        number: usize,
        healthy: Option<&HashSet<String>>,
    ) -> (FanOut, JoinSet<Sample>) {
        let expected = healthy.map_or(self.names.len(), HashSet::len);
        let bar = self.progress.begin(title, expected);
        let before = self.serving.usage();
        let begun = Instant::now();
        let found = Rc::new(RefCell::new((Vec::with_capacity(expected), 0_usize)));
        let mut tasks = JoinSet::new();
        // Those that nobody expects to answer; given up when the others are done.
        let mut in_vain = JoinSet::new();
        for name in &self.names {
            let must = healthy.is_none_or(|healthy| healthy.contains(name));
            let (door, name, found, bar) = (self.door.clone(), name.clone(), Rc::clone(&found), bar.clone());
            if !must {
                in_vain.spawn_local(async move { door.send(&name, number).await });
                continue;
            }
            tasks.spawn_local(async move {
                let sample = door.send(&name, number).await;
                let mut found = found.borrow_mut();
                if sample.is_good() {
                    found.0.push(begun.elapsed());
                    bar.advance();
                } else {
                    found.1 += 1;
                }
            });
        }
        let most = self.watch(tasks).await;
        bar.finish();
        let after = self.serving.usage();
        let (delivered, failed) = std::mem::take(&mut *found.borrow_mut());
        let fan_out = FanOut {
            title,
            expected,
            delivered,
            failed,
            cpu: after.cpu.saturating_sub(before.cpu),
            descriptors_max: most,
            resident: after.resident,
        };
        (fan_out, in_vain)
    }

    /// Waits for `tasks`, and tells the most descriptors that Southbridge had open meanwhile.
    async fn watch(&self, mut tasks: JoinSet<()>) -> usize {
        let mut most = 0;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                ended = tasks.join_next() => if ended.is_none() { return most },
                _ = tick.tick() => {
                    let Usage { descriptors, .. } = self.serving.usage();
                    most = most.max(descriptors);
                }
            }
        }
    }

    /// Asks healthy homeservers for profiles for `time`, and nothing else.
    pub async fn queries(&self, title: &'static str, time: Duration) -> Queries {
        let bar = self.progress.begin(title, queries_in(time));
        let everybody: HashSet<String> = self.names.iter().cloned().collect();
        let queries = ask(&self.door, &everybody, time, || bar.advance()).await;
        bar.finish();
        queries
    }

    /// Sends a transaction to everybody while people go on asking `healthy` homeservers.
    pub async fn storm(&self, number: usize, healthy: &HashSet<String>, time: Duration) -> Storm {
        let asking = {
            let (door, healthy) = (self.door.clone(), healthy.clone());
            tokio::task::spawn_local(async move { ask(&door, &healthy, time, || {}).await })
        };
        // The requests to the dead go on while people ask: they are the storm.
        let (transactions, _in_vain) = self.fan_out("storm", number, Some(healthy)).await;
        self.progress.say("the storm's transactions are through; people go on asking");
        let queries = asking.await.unwrap_or(Queries { good: 0, failed: 0, took: Vec::new() });
        Storm { transactions, queries }
    }
}

/// Asks one homeserver after the other, `RATE` times a second, whether or not the one before has answered.
async fn ask(door: &Door, hosts: &HashSet<String>, time: Duration, asked: impl Fn()) -> Queries {
    let mut sorted: Vec<&String> = hosts.iter().collect();
    sorted.sort();
    let mut tasks = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    for at in 0..queries_in(time) {
        tick.tick().await;
        asked();
        let (door, host) = (door.clone(), sorted[at % sorted.len()].clone());
        tasks.spawn_local(async move { door.profile(&host).await });
    }
    let samples: Vec<Sample> = tasks.join_all().await;
    let mut took: Vec<Duration> =
        samples.iter().filter(|sample| sample.is_good()).map(|sample| sample.took).collect();
    took.sort();
    Queries { good: took.len(), failed: samples.len() - took.len(), took }
}

fn queries_in(time: Duration) -> usize {
    (time.as_secs_f64() * f64::from(RATE)) as usize
}

/// Questions a second: what a busy small homeserver's users ask.
const RATE: u32 = 50;
