//! OTLP over HTTP, as JSON: figures pushed to an OpenTelemetry collector by the kernel's own HTTP.
//!
//! The address policy holds for a collector as for everybody: one on loopback or in a private network must be allowed.
//!
//! # Source
//! K10; OpenTelemetry protocol 1.x, OTLP/HTTP with JSON encoding (64-bit integers as strings).

use std::rc::Rc;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use ::http::uri::Scheme;
use ::http::{HeaderValue, Method, Request, Uri};
use bytes::Bytes;
use serde_json::{Value as Json, json};
use southbridge_policy::ranker::Demand;
use southbridge_words::{Class, ServiceName, WallTime};
use tokio::time::MissedTickBehavior;

use crate::discovery::{Discover, DnsDiscovery};
use crate::exchange::{Call, Repeat};
use crate::stats::exposition::cumulative;
use crate::stats::reading::{Figure, Reading, Value};
use crate::stats::{Board, Unit};
use crate::tls::Alpn;

/// An OpenTelemetry collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// Where it takes metrics.
    pub target: OtlpTarget,
    /// How often it is told. Default 60 s, as OpenTelemetry's own exporters do.
    pub interval: Duration,
    /// How long it may take to answer. Default 10 s.
    pub timeout: Duration,
    /// `service.name` of what is sent.
    pub service: String,
}

/// The address of a collector: `http://host:4318/v1/metrics`, or with https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpTarget {
    secure: bool,
    authority: String,
    path: String,
}

impl OtlpTarget {
    /// Reads the URL `text`; without a path, `/v1/metrics` is meant.
    ///
    /// # Errors
    /// Says what is wrong with `text`, without repeating it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = "write the address of a collector, such as \"http://collector:4318/v1/metrics\"";
        let uri: Uri = text.parse().map_err(|_| format!("is not a URL; {wanted}"))?;
        let (scheme, authority) = match (uri.scheme(), uri.authority()) {
            (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => {
                (scheme.clone(), authority)
            }
            _ => return Err(format!("has no http:// or https:// and host; {wanted}")),
        };
        if authority.as_str().contains('@') {
            return Err("has a user in it, which a collector is not told".to_owned());
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path == "/" { "/v1/metrics" } else { path };
        let secure = scheme == Scheme::HTTPS;
        Ok(Self { secure, authority: authority.to_string(), path: path.to_owned() })
    }
}

/// Pushes to one collector.
pub(super) struct Pusher {
    board: Board,
    config: OtlpConfig,
    discovery: Rc<dyn Discover>,
}

impl Pusher {
    pub(super) fn new(board: Board, config: OtlpConfig) -> Self {
        let dns = board.kernel().dns().clone();
        let discovery: Rc<dyn Discover> = match config.target.secure {
            true => Rc::new(DnsDiscovery::https(dns, Alpn::Http2OrHttp1)),
            false => Rc::new(DnsDiscovery::http(dns)),
        };
        Self { board, config, discovery }
    }

    /// Pushes at every interval, for ever. One push at a time: a slow collector is told less often.
    pub(super) async fn run(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(self.config.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let pushed = self.push().await;
            match &pushed {
                Ok(()) if failing => tracing::info!("the collector takes figures again"),
                Err(reason) if !failing => {
                    tracing::warn!(
                        collector = self.config.target.authority,
                        reason,
                        "figures cannot be pushed"
                    );
                }
                _ => {}
            }
            failing = pushed.is_err();
            self.board.kernel().stats().publish_failures.add(u64::from(failing));
        }
    }

    async fn push(&self) -> Result<(), String> {
        let kernel = self.board.kernel();
        let body = message(&self.board.read(), kernel.clock().wall(), &self.config.service).to_string();
        let mut request = Request::new(Bytes::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.config.target.path.parse().map_err(|_| "the path is no path".to_owned())?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let call = Call {
            service: ServiceName::new(&self.config.target.authority),
            discovery: Rc::clone(&self.discovery),
            request,
            class: Class::Backfill,
            demand: Demand::Prompt,
            deadline: kernel.deadline(self.config.timeout),
            // What is sent are totals, so twice does no harm.
            repeat: Repeat::Safe,
            ranked: false,
        };
        let response = kernel.exchange(call).await.map_err(|error| crate::http::explain(&error))?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(format!("it answered {}", response.status()))
        }
    }
}

/// What is in `reading` as of `now`, as an `ExportMetricsServiceRequest`.
fn message(reading: &Reading, now: WallTime, service: &str) -> Json {
    let mut metrics: Vec<Json> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for figure in &reading.figures {
        let place = *places.entry(figure.name.as_str()).or_insert_with(|| {
            metrics.push(metric(figure));
            metrics.len() - 1
        });
        let (data, mut point) = point(figure);
        point["attributes"] =
            attributes(figure.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        point["startTimeUnixNano"] = nanos(reading.started_at);
        point["timeUnixNano"] = nanos(now);
        if let Some(points) = metrics[place][data]["dataPoints"].as_array_mut() {
            points.push(point);
        }
    }
    let pid = reading.pid.to_string();
    let resource = attributes([("service.name", service), ("service.instance.id", &pid)].into_iter());
    json!({ "resourceMetrics": [{
        "resource": { "attributes": resource },
        "scopeMetrics": [{ "scope": { "name": "southbridge" }, "metrics": metrics }],
    }] })
}

/// The metric that `figure` is the first of, without its points.
fn metric(figure: &Figure) -> Json {
    // Unified Code for Units of Measure, as OpenTelemetry has it.
    let unit = match figure.unit {
        Unit::Seconds => "s",
        Unit::Bytes => "By",
        Unit::Count | Unit::Ratio => "1",
    };
    let mut metric = json!({ "name": figure.name, "description": figure.help, "unit": unit });
    // 2: totals since the start.
    match figure.value {
        Value::Counter(_) => {
            metric["sum"] = json!({ "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": [] });
        }
        Value::Gauge(_) => metric["gauge"] = json!({ "dataPoints": [] }),
        Value::Histogram(_) => metric["histogram"] = json!({ "aggregationTemporality": 2, "dataPoints": [] }),
    }
    metric
}

fn point(figure: &Figure) -> (&'static str, Json) {
    let scaled = |stored: f64| stored / figure.unit.per_one() as f64;
    let number = |stored: i128| match figure.unit.per_one() {
        1 => json!({ "asInt": stored.to_string() }),
        _ => json!({ "asDouble": scaled(stored as f64) }),
    };
    match &figure.value {
        Value::Counter(stored) => ("sum", number(i128::from(*stored))),
        Value::Gauge(stored) => ("gauge", number(i128::from(*stored))),
        Value::Histogram(spread) => {
            let (mut counts, mut bounds, mut below) = (Vec::new(), Vec::new(), 0);
            for (bound, count) in cumulative(spread, figure.unit) {
                counts.push(count.saturating_sub(below).to_string());
                bounds.extend(bound);
                below = count;
            }
            let point = json!({
                "count": spread.count().to_string(), "sum": scaled(spread.sum() as f64),
                "bucketCounts": counts, "explicitBounds": bounds,
            });
            ("histogram", point)
        }
    }
}

fn attributes<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Json {
    pairs.map(|(key, value)| json!({ "key": key, "value": { "stringValue": value } })).collect()
}

fn nanos(at: WallTime) -> Json {
    Json::from((u128::from(at.unix_millis()) * 1_000_000).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Metric, Region, RegionOptions};

    #[test]
    fn a_target_is_a_url() {
        let target = OtlpTarget::parse("http://collector:4318").unwrap();
        assert_eq!(
            (target.secure, &*target.authority, &*target.path),
            (false, "collector:4318", "/v1/metrics")
        );
        let target = OtlpTarget::parse("https://o.example/otlp/v1/metrics?x=1").unwrap();
        assert_eq!((target.secure, &*target.path), (true, "/otlp/v1/metrics?x=1"));
        for (text, reason) in [
            ("", "is not a URL"),
            ("collector:4318", "http://"),
            ("/v1/metrics", "http://"),
            ("grpc://collector:4317", "http://"),
            ("http://me:secret@collector", "a user in it"),
        ] {
            let error = OtlpTarget::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_message_has_what_a_collector_expects() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        for (class, count) in [("live", 3), ("join", 4)] {
            region.counter(&Metric::new("n_total", "N.").with(&[("class", class)])).unwrap().add(count);
        }
        region.gauge(&Metric::new("r", "R.").in_unit(Unit::Ratio)).unwrap().set(-0.5);
        region.histogram(&Metric::new("b_bytes", "B.").in_unit(Unit::Bytes)).unwrap().observe(5.0);
        let mut reading = region.read();
        reading.started_at = WallTime::from_unix_millis(1);
        let message = message(&reading, WallTime::from_unix_millis(2), "shop");
        let resource = &message["resourceMetrics"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "shop");
        let metrics = &resource["scopeMetrics"][0]["metrics"];
        assert_eq!(metrics.as_array().unwrap().len(), 3);
        let sum = &metrics[0]["sum"];
        assert_eq!((&sum["isMonotonic"], &sum["aggregationTemporality"]), (&json!(true), &json!(2)));
        assert_eq!(
            sum["dataPoints"][1],
            json!({
                "asInt": "4", "startTimeUnixNano": "1000000", "timeUnixNano": "2000000",
                "attributes": [{ "key": "class", "value": { "stringValue": "join" } }],
            })
        );
        assert_eq!(metrics[1]["gauge"]["dataPoints"][0]["asDouble"], json!(-0.5));
        let point = &metrics[2]["histogram"]["dataPoints"][0];
        let (counts, bounds) = (&point["bucketCounts"], &point["explicitBounds"]);
        assert_eq!(counts.as_array().unwrap().len(), bounds.as_array().unwrap().len() + 1);
        assert_eq!((&counts[2], &bounds[2], &point["sum"]), (&json!("1"), &json!(16.0), &json!(5.0)));
    }
}
