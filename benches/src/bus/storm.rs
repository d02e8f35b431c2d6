//! A thousand servers, a third of them gone, a fifth of them slow, and ten times more presence and typing than fits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;
use southbridge::bus::{Delivery, Results};
use southbridge_bus::externaliser::{Acknowledgement, Event};
use southbridge_bus::outgoing::OutgoingEdu;
use southbridge_policy::pool::PoolLimits;
use southbridge_words::{Seq, ServerName, WallTime};

use super::rig::{Rig, pdu, to};
use crate::Done;
use crate::peers::{Peers, PeersSpec};
use crate::report::Report;

/// Measures how long live messages take to healthy servers, calm and in the storm.
///
/// # Errors
/// The peers or the disk failed.
pub async fn run(report: &mut Report) -> Done {
    let mut peers = Peers::start(&PeersSpec {
        hosts: HOSTS,
        explicit: 1.0,
        well_known: 0.0,
        black_hole: BLACK_HOLES,
        slow: SLOW,
        latency: 20,
        addresses: 4,
        ..PeersSpec::default()
    })?;
    let directory = tempfile::tempdir()?;
    let rig = Rig::open(&peers, directory.path(), PoolLimits::default(), |config| {
        config.results.results_max = 500_000;
    })
    .await?;
    let destinations = to(peers.hosts().iter().map(|host| &*host.name));
    let healthy: Vec<ServerName> =
        to(peers.hosts().iter().filter(|host| host.healthy).map(|host| &*host.name)).to_vec();
    peers.order("calm")?;
    let mut results = rig.bus.results(None);
    round(&rig, &destinations, &healthy, &mut results, 0, &[]).await?;
    let mut calm = Vec::new();
    for number in 0..CALM_ROUNDS {
        calm.extend(round(&rig, &destinations, &healthy, &mut results, number, &[]).await?);
    }
    peers.order(&format!("storm {BLACK_HOLES} {SLOW}"))?;
    let noise = noise()?;
    let mut storm = Vec::new();
    for number in 0..STORM_ROUNDS {
        storm.extend(round(&rig, &destinations, &healthy, &mut results, number, &noise).await?);
    }
    let ended = Instant::now();
    while is_any_left(&rig, &healthy) && ended.elapsed() < ROUND_MAX {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    report.add(
        "bus",
        "the last EDU to healthy hosts, after the storm",
        "s",
        None,
        &[ended.elapsed().as_secs_f64()],
    );
    let calm_slowest = percentile(&mut calm, 99);
    let in_time = storm.iter().filter(|took| **took <= calm_slowest * 2).count();
    let late = 100.0 - 100.0 * in_time as f64 / storm.len() as f64;
    report.add("bus", "live PDU to a healthy host, calm, p99", "ms", None, &[millis(calm_slowest)]);
    report.add("bus", "the same in the storm, p99", "ms", None, &[millis(percentile(&mut storm, 99))]);
    report.add("bus", "later than twice calm p99, in the storm", "%", Some(1.0), &[late]);
    drop(rig);
    Ok(())
}

/// One message to everybody, with `noise` around it; how long each of `healthy` waited for it.
async fn round(
    rig: &Rig,
    destinations: &std::sync::Arc<[ServerName]>,
    healthy: &[ServerName],
    results: &mut Results,
    number: u64,
    noise: &[OutgoingEdu],
) -> Done<Vec<Duration>> {
    let making = noise.iter().map(|edu| rig.bus.send_edu(edu.clone(), destinations.clone(), None));
    let (noisy, acknowledged) = tokio::join!(
        futures_util::future::try_join_all(making),
        rig.bus.send_pdu(pdu(number), destinations.clone(), None)
    );
    noisy?;
    let began = Instant::now();
    let Acknowledgement::Durable(seq) = acknowledged? else { return Err("a PDU is durable".into()) };
    let mut missing: HashMap<&ServerName, ()> = healthy.iter().map(|name| (name, ())).collect();
    let mut took = Vec::with_capacity(healthy.len());
    let reading = async {
        while !missing.is_empty() {
            let Some(delivery) = results.next().await else { return Err("the bus has ended".into()) };
            let Delivery::Event { event, .. } = delivery else { return Err("results were missed".into()) };
            if let Some((name, upto)) = delivered_to(&event)
                && upto >= seq
                && missing.remove(name).is_some()
            {
                took.push(began.elapsed());
            }
        }
        Done::Ok(())
    };
    // Whoever has nothing by then counts as that late.
    match tokio::time::timeout(ROUND_MAX, reading).await {
        Ok(read) => read?,
        Err(_) => took.resize(healthy.len(), ROUND_MAX),
    }
    Ok(took)
}

/// Whether EDUs wait for any of `healthy`.
fn is_any_left(rig: &Rig, healthy: &[ServerName]) -> bool {
    rig.metric("southbridge_bus_broadcast_parts") > 0
        || healthy.iter().any(|name| rig.bus.queue(name).is_some_and(|queue| queue.volatile > 0))
}

fn delivered_to(event: &Event) -> Option<(&ServerName, Seq)> {
    match event {
        Event::Delivered { destination, upto: Some(upto), .. } => Some((destination, *upto)),
        _ => None,
    }
}

/// Presence and typing of a thousand people: ten times what fits into a transaction of a hundred EDUs.
fn noise() -> Done<Vec<OutgoingEdu>> {
    let mut noise = Vec::new();
    for user in 0..500 {
        let user = format!("@user{user}:origin.test");
        let typing = json!({"room_id": "!room:origin.test", "user_id": &user, "typing": true});
        let presence = json!({"push": [{"user_id": &user, "presence": "online", "last_active_ago": 1}]});
        for (edu_type, content) in [("m.typing", typing), ("m.presence", presence)] {
            noise.push(OutgoingEdu::new(
                edu_type,
                content.to_string(),
                WallTime::from_unix_millis(now_ms()),
            )?);
        }
    }
    Ok(noise)
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn percentile(took: &mut [Duration], percent: usize) -> Duration {
    took.sort_unstable();
    took.get((took.len() * percent / 100).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

const HOSTS: usize = 1_000;
const BLACK_HOLES: f64 = 0.3;
const SLOW: f64 = 0.2;
const CALM_ROUNDS: u64 = 5;
const STORM_ROUNDS: u64 = 10;
const ROUND_MAX: Duration = Duration::from_secs(30);
