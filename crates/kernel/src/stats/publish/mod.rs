//! Sends figures out at regular intervals, from the I/O thread: also while the application's own threads compute.
//!
//! | to | how |
//! | --- | --- |
//! | Prometheus | asks the admin socket for `/metrics`, whenever it wants; or an endpoint of its own |
//! | [`StatsdConfig`] | datagrams to a StatsD server: what has changed since the last interval |
//! | [`FileConfig`] | a file in the text format of Prometheus, exchanged whole: for node_exporter's textfile collector |
//! | [`OtlpConfig`] | OTLP over HTTP, as JSON, by the kernel's own HTTP |
//!
//! Nobody is waited for: what cannot be sent is counted (`southbridge_publish_failures_total`) and was only an
//! interval's worth, since every figure goes on being kept in the region.
//!
//! # Source
//! K10.

mod otlp;
mod prometheus;
mod statsd;
mod textfile;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::Board;
use crate::net::ListenAddress;

pub use otlp::{OtlpConfig, OtlpTarget};
pub use statsd::{StatsdConfig, Tags};
pub use textfile::FileConfig;

/// Where figures are sent.
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// How often the region is told what is not bumped in it, and that the kernel is well. Default 1 s: what a reader
    /// after a crash finds of gauges is no older.
    pub beat: Duration,
    /// An endpoint that Prometheus asks. Everybody who reaches it reads all figures, and nothing else.
    pub prometheus: Option<ListenAddress>,
    /// A StatsD server.
    pub statsd: Option<StatsdConfig>,
    /// A file.
    pub file: Option<FileConfig>,
    /// An OpenTelemetry collector.
    pub otlp: Option<OtlpConfig>,
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { beat: Duration::from_secs(1), prometheus: None, statsd: None, file: None, otlp: None }
    }
}

/// Publishing, for as long as it is held.
#[derive(Debug)]
#[must_use = "publishing ends when this is dropped"]
pub struct Publishing {
    tasks: Vec<JoinHandle<()>>,
    listening: Option<ListenAddress>,
}

impl Publishing {
    /// Where Prometheus can ask; the port is the real one where 0 was asked for.
    pub fn listening(&self) -> Option<&ListenAddress> {
        self.listening.as_ref()
    }

    /// Ends it, sockets and all: what was listened at is free afterwards.
    pub async fn end(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _cancelled = task.await;
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Publishes what is on `board`. Must be called on the I/O thread. The first beat is over when this returns: who is told
/// only then that all is ready finds everything in the region.
///
/// # Errors
/// When the system gives no socket or thread; the error names the address.
pub fn publish(board: &Board, config: &PublishConfig) -> io::Result<Publishing> {
    let mut publishing = Publishing { tasks: Vec::new(), listening: None };
    if let Some(address) = &config.prometheus {
        let listener = prometheus::listen(address)?;
        publishing.listening = Some(listener.address().clone());
        publishing.tasks.push(tokio::task::spawn_local(prometheus::serve(listener, board.clone())));
    }
    board.beat();
    let beating = board.clone();
    publishing.every(config.beat, move || beating.beat());
    if let Some(statsd) = &config.statsd {
        let (board, mut sender) = (board.clone(), statsd::Sender::open(statsd)?);
        publishing.every(statsd.interval, move || {
            let lost = sender.send(&board.read());
            board.kernel().stats().publish_failures.add(lost);
        });
    }
    if let Some(file) = &config.file {
        let (board, writer) = (board.clone(), textfile::Writer::start(&file.path)?);
        publishing.every(file.interval, move || {
            let lost = writer.write(board.page().into_text());
            board.kernel().stats().publish_failures.add(lost);
        });
    }
    if let Some(otlp) = &config.otlp {
        let pushing = Rc::new(otlp::Pusher::new(board.clone(), otlp.clone())).run();
        publishing.tasks.push(tokio::task::spawn_local(pushing));
    }
    Ok(publishing)
}

impl Publishing {
    fn every(&mut self, interval: Duration, mut act: impl FnMut() + 'static) {
        self.tasks.push(tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(interval);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                act();
            }
        }));
    }
}

#[cfg(test)]
mod tests;
