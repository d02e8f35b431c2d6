use std::cell::RefCell;
use std::net::UdpSocket;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use super::*;
use crate::clock::Clock;
use crate::kernel::{Kernel, KernelConfig};
use crate::net::AddressPolicy;
use crate::stats::{Exposition, Metric, MoreMetrics, Region, RegionOptions, StatsConfig, Value};

fn config() -> (Region, KernelConfig) {
    let region = Region::new(&RegionOptions::default()).unwrap();
    let stats = StatsConfig { region: Some(region.clone()), ..StatsConfig::default() };
    let loopback = vec!["127.0.0.0/8".parse().unwrap()];
    (
        region,
        KernelConfig { stats, addresses: AddressPolicy::new(loopback, vec![]), ..KernelConfig::default() },
    )
}

fn on_io_thread<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

/// The application's thread computes and never waits: it is the I/O thread that publishes, again and again.
#[test]
fn figures_get_out_while_the_application_is_busy() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let mut statsd = StatsdConfig::new(server.local_addr().unwrap());
    statsd.interval = Duration::from_millis(10);
    let (region, kernel) = config();
    let counter = region.counter(&Metric::new("app_total", "Work done.")).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let io = std::thread::spawn(move || {
        on_io_thread(async move {
            let board = Board::new(Kernel::new(kernel).unwrap(), Vec::new());
            let config = PublishConfig { statsd: Some(statsd), ..PublishConfig::default() };
            let _publishing = publish(&board, &config).unwrap();
            let _told = stopped.await;
        });
    });
    let (mut counted, mut intervals, mut packet) = (0, 0, [0; 2048]);
    let (clock, mut added) = (Clock::start(), 0);
    let deadline = clock.now() + Duration::from_secs(30);
    while intervals < 5 {
        assert!(clock.now() < deadline, "{intervals} intervals in half a minute");
        counter.add(1);
        added += 1;
        if let Ok(length) = server.recv(&mut packet) {
            let text = std::str::from_utf8(&packet[..length]).unwrap();
            let mine = text.lines().find_map(|line| line.strip_prefix("app_total:"));
            let more: Option<u64> = mine.map(|line| line.strip_suffix("|c").unwrap().parse().unwrap());
            counted += more.unwrap_or(0);
            intervals += u32::from(more.is_some());
        }
    }
    assert!(counted > 0 && counted <= added, "{counted} of {added}");
    stop.send(()).unwrap();
    io.join().unwrap();
}

/// A collector that takes figures at its second minute only.
#[test]
fn figures_are_pushed_to_a_collector() {
    let (region, kernel) = config();
    region.counter(&Metric::new("app_total", "Work done.")).unwrap().add(3);
    on_io_thread(async move {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let kernel = Kernel::new(kernel).unwrap();
        let otlp = OtlpConfig {
            target: OtlpTarget::parse(&url).unwrap(),
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(20),
            service: "test".to_owned(),
        };
        let config = PublishConfig { otlp: Some(otlp), ..PublishConfig::default() };
        let _publishing = publish(&Board::new(kernel.clone(), Vec::new()), &config).unwrap();
        for answer in ["503 Service Unavailable", "200 OK"] {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut request = Vec::new();
            let body = loop {
                assert!(stream.read_buf(&mut request).await.unwrap() > 0, "the request is whole");
                let text = String::from_utf8_lossy(&request);
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                assert!(head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{head}");
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                });
                if body.len() == length.unwrap().parse::<usize>().unwrap() {
                    break body.to_owned();
                }
            };
            let message: serde_json::Value = serde_json::from_str(&body).unwrap();
            let metrics = &message["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
            let found = metrics.as_array().unwrap().iter().find(|metric| metric["name"] == "app_total");
            assert_eq!(found.unwrap()["sum"]["dataPoints"][0]["asInt"], "3");
            let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        assert!(kernel.stats().publish_failures.get() >= 1, "the first answer was none");
    });
}

/// What a door counts is asked for. Another process finds it in the region all the same.
#[test]
fn what_is_not_bumped_is_copied_into_the_region() {
    let (region, kernel) = config();
    on_io_thread(async move {
        let count = Rc::new(RefCell::new(1));
        let counting = Rc::clone(&count);
        let more: MoreMetrics = Rc::new(move |out: &mut Exposition| {
            out.head("door_total", "counter", "Let in.");
            out.value("door_total", &[("door", "a")], *counting.borrow());
            out.head("door_open", "gauge", "Open.");
            out.value("door_open", &[], 3);
        });
        let board = Board::new(Kernel::new(kernel).unwrap(), vec![more]);
        for expected in [1, 8] {
            count.replace(expected);
            board.beat();
            let reading = region.read();
            let found = reading.figure("door_total", &[("door", "a")]).unwrap();
            assert_eq!(found.value, Value::Counter(expected));
            assert_eq!(reading.figure("door_open", &[]).unwrap().value, Value::Gauge(3));
            assert!(
                reading.figure("southbridge_connections", &[]).is_some(),
                "what the kernel holds as well"
            );
            assert!(reading.beat_at >= reading.started_at);
        }
        let text = board.page().into_text();
        assert_eq!(text.matches("# TYPE door_total ").count(), 1, "and stands on the page once");
        assert_eq!(text.matches("door_total{").count(), 1);
    });
}

/// Prometheus asks a program that has no admin socket, on a connection that it keeps.
#[test]
#[expect(clippy::disallowed_methods, reason = "it is the scraper that dials")]
fn prometheus_asks_an_endpoint_that_has_one_page() {
    let (region, kernel) = config();
    region.counter(&Metric::new("app_total", "Work done.")).unwrap().add(3);
    on_io_thread(async move {
        let board = Board::new(Kernel::new(kernel).unwrap(), Vec::new());
        let anywhere = Some(ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()));
        let config = PublishConfig { prometheus: anywhere, ..PublishConfig::default() };
        let publishing = publish(&board, &config).unwrap();
        let Some(ListenAddress::Tcp(address)) = publishing.listening().cloned() else { panic!("listens") };
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let asked = "GET /metrics HTTP/1.1\r\nhost: prom.example\r\n\r\n\
                     POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n\
                     GET /debug/hosts HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(asked.as_bytes()).await.unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).await.unwrap();
        assert!(told.contains("\napp_total 3\n"), "{told}");
        let statuses: Vec<&str> = told.lines().filter(|line| line.starts_with("HTTP/1.1")).collect();
        assert_eq!(statuses.len(), 3, "{told}");
        assert!(statuses[0].contains("200") && statuses[1].contains("405") && statuses[2].contains("404"));

        let taken = PublishConfig { prometheus: publishing.listening().cloned(), ..PublishConfig::default() };
        let error = publish(&board, &taken).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        publishing.end().await;
        let _publishing = publish(&board, &taken).unwrap();
    });
}
