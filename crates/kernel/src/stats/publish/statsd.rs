//! StatsD: what has changed since the last interval, in datagrams.
//!
//! A counter is sent as what was added (`c`), a gauge as what it is (`g`), a histogram as how many came (`c`) and as
//! the median and the 90th and 99th percentile of those (`g`), in the unit of the figure.
//!
//! # Source
//! K10; the StatsD metric export specification, and DogStatsD's for tags.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::stats::exposition::shown;
use crate::stats::reading::{Figure, Reading, Value};
use crate::stats::{Distribution, Unit};

/// A StatsD server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsdConfig {
    /// Where it listens.
    pub server: SocketAddr,
    /// How often it is told. Default 10 s, which is what StatsD itself gathers.
    pub interval: Duration,
    /// What stands before every name.
    pub prefix: String,
    /// How labels travel.
    pub tags: Tags,
    /// The most bytes of a datagram. Default 1432: what an Ethernet frame holds behind IPv6 and UDP headers.
    pub packet_bytes_max: usize,
}

impl StatsdConfig {
    /// The server at `server`, with the defaults.
    pub fn new(server: SocketAddr) -> Self {
        let interval = Duration::from_secs(10);
        Self { server, interval, prefix: String::new(), tags: Tags::InName, packet_bytes_max: 1432 }
    }
}

/// How labels travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// Their values are parts of the name: `requests_total.live`. Every server understands it.
    InName,
    /// As DogStatsD, Telegraf and Vector take them: `requests_total:1|c|#class:live`.
    Datadog,
}

/// Sends to one server.
pub(super) struct Sender {
    config: StatsdConfig,
    socket: UdpSocket,
    /// What was sent last of each figure that is sent as a difference.
    before: HashMap<String, Value>,
}

impl Sender {
    pub(super) fn open(config: &StatsdConfig) -> io::Result<Self> {
        let any = match config.server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        Ok(Self { config: config.clone(), socket, before: HashMap::new() })
    }

    /// Sends what has changed, and says how many datagrams did not get out.
    pub(super) fn send(&mut self, reading: &Reading) -> u64 {
        let mut lost = 0;
        for packet in self.packets(reading) {
            // The server may not be there yet, or the system have no room: it is told the rest next time.
            lost += u64::from(self.socket.send_to(packet.as_bytes(), self.config.server).is_err());
        }
        lost
    }

    fn packets(&mut self, reading: &Reading) -> Vec<String> {
        let bytes_max = self.config.packet_bytes_max;
        let mut packets = vec![String::new()];
        for figure in &reading.figures {
            for line in self.lines(figure).into_iter().filter(|line| line.len() <= bytes_max) {
                let last = packets.last_mut().expect("there is always a last packet");
                if last.is_empty() {
                    *last = line;
                } else if last.len() + 1 + line.len() <= bytes_max {
                    last.push('\n');
                    last.push_str(&line);
                } else {
                    packets.push(line);
                }
            }
        }
        packets.retain(|packet| !packet.is_empty());
        packets
    }

    fn lines(&mut self, figure: &Figure) -> Vec<String> {
        let (name, tags) = self.named(figure);
        let counted = |suffix: &str, added: String| format!("{name}{suffix}:{added}|c{tags}");
        let gauged = |suffix: &str, value: &str| format!("{name}{suffix}:{value}|g{tags}");
        let key = format!("{name}{tags}");
        match &figure.value {
            Value::Gauge(stored) => {
                let value = shown(i128::from(*stored), figure.unit);
                // With a sign before it, a value is a change: only from nothing can it fall below.
                let first = value.starts_with('-').then(|| gauged("", "0"));
                first.into_iter().chain([gauged("", &value)]).collect()
            }
            Value::Counter(stored) => {
                let before = match self.before.insert(key, figure.value.clone()) {
                    // A counter that is lower began anew.
                    Some(Value::Counter(before)) if before <= *stored => before,
                    _ => 0,
                };
                let added = stored - before;
                if added == 0 {
                    return Vec::new();
                }
                vec![counted("", shown(i128::from(added), figure.unit))]
            }
            Value::Histogram(spread) => {
                let added = match self.before.insert(key, figure.value.clone()) {
                    Some(Value::Histogram(before)) => spread.since(&before),
                    _ => Distribution::clone(spread),
                };
                if added.count() == 0 {
                    return Vec::new();
                }
                let mut lines = vec![counted(".count", added.count().to_string())];
                for (suffix, part) in [(".p50", 0.5), (".p90", 0.9), (".p99", 0.99)] {
                    let value = added.quantile(part).unwrap_or(0);
                    lines.push(gauged(suffix, &shown(i128::from(value), figure.unit)));
                }
                lines
            }
        }
    }

    fn named(&self, figure: &Figure) -> (String, String) {
        let mut name = format!("{}{}", self.config.prefix, figure.name);
        let mut tags = String::new();
        for (label, value) in &figure.labels {
            match self.config.tags {
                Tags::InName => {
                    name.push('.');
                    name.push_str(&harmless(value, &['.']));
                }
                Tags::Datadog => {
                    tags.push_str(if tags.is_empty() { "|#" } else { "," });
                    tags.push_str(&format!("{label}:{}", harmless(value, &[])));
                }
            }
        }
        (name, tags)
    }
}

/// `value` without what StatsD takes for a sign of its own.
fn harmless(value: &str, more: &[char]) -> String {
    let sign = |c: char| c.is_control() || c.is_whitespace() || ":|@#,".contains(c) || more.contains(&c);
    value.chars().map(|c| if sign(c) { '_' } else { c }).collect()
}

const _: () = assert!(Unit::Count.per_one() == 1, "counts travel as whole numbers");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Metric, Region, RegionOptions};

    fn sender(tags: Tags, packet_bytes_max: usize) -> Sender {
        let server = "127.0.0.1:9".parse().unwrap();
        let config =
            StatsdConfig { prefix: "app.".to_owned(), tags, packet_bytes_max, ..StatsdConfig::new(server) };
        Sender::open(&config).unwrap()
    }

    #[test]
    fn only_what_has_changed_is_sent() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        let counter = region.counter(&Metric::new("a_total", "").with(&[("host", "b.c:1")])).unwrap();
        let gauge = region.gauge(&Metric::new("g", "").in_unit(Unit::Ratio)).unwrap();
        let histogram = region.histogram(&Metric::new("t_seconds", "").in_unit(Unit::Seconds)).unwrap();
        let mut sender = sender(Tags::InName, 1432);
        counter.add(5);
        gauge.set(-0.5);
        histogram.observe(0.25);
        assert_eq!(
            sender.packets(&region.read()),
            ["app.a_total.b_c_1:5|c\napp.g:0|g\napp.g:-0.5|g\napp.t_seconds.count:1|c\n\
              app.t_seconds.p50:0.25|g\napp.t_seconds.p90:0.25|g\napp.t_seconds.p99:0.25|g"]
        );
        counter.add(2);
        gauge.set(1.0);
        assert_eq!(sender.packets(&region.read()), ["app.a_total.b_c_1:2|c\napp.g:1|g"]);
    }

    #[test]
    fn labels_can_be_tags() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        let labels = [("b", "x,y|z"), ("a", "h:1\n")];
        region.counter(&Metric::new("n", "").with(&labels)).unwrap().add(1);
        let packets = sender(Tags::Datadog, 1432).packets(&region.read());
        assert_eq!(packets, ["app.n:1|c|#a:h_1_,b:x_y_z"]);
    }

    /// However much there is, no datagram is longer than it may be, and none is empty.
    #[test]
    fn packets_are_bounded() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        for n in 0..500 {
            let label = format!("value-{n}");
            region.counter(&Metric::new("n_total", "").with(&[("l", &label)])).unwrap().add(1);
        }
        region.counter(&Metric::new("n_total", "").with(&[("l", &"long".repeat(60))])).unwrap().add(1);
        let packets = sender(Tags::InName, 200).packets(&region.read());
        assert!(packets.iter().all(|packet| (1..=200).contains(&packet.len())));
        let lines: usize = packets.iter().map(|packet| packet.lines().count()).sum();
        assert_eq!(lines, 500, "all but the one that has no room in any");
    }
}
