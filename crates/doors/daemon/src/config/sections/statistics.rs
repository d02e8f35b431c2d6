//! `[statistics]`: where figures lie, and where they are sent.

use std::path::PathBuf;

use southbridge_kernel::stats::publish::{
    FileConfig, OtlpConfig, OtlpTarget, PublishConfig, StatsdConfig, Tags,
};

use crate::config::key::{HOUR, KIB, Key, Kind, MIB, SECOND, Section, count, duration, key, optional, size};
use crate::config::reader::Reader;

/// The settings of the statistics.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// The directory of the region, if not where the system's customs want it.
    pub dir: Option<PathBuf>,
    /// The most that the region may grow to.
    pub bytes_max: u64,
    /// How many services have figures of their own.
    pub services_max: u32,
    /// How many addresses of services have figures of their own.
    pub endpoints_max: u32,
    /// Where figures are sent.
    pub publish: PublishConfig,
}

impl Statistics {
    pub(in crate::config) fn read(reader: &Reader<'_>) -> Self {
        Self {
            dir: reader.path("dir"),
            bytes_max: reader.size("bytes_max"),
            services_max: reader.count32("services_max"),
            endpoints_max: reader.count32("endpoints_max"),
            publish: PublishConfig {
                beat: reader.duration("beat"),
                // The admin socket has it already.
                prometheus: None,
                statsd: read_statsd(reader),
                file: read_file(reader),
                otlp: read_otlp(reader),
            },
        }
    }
}

fn read_statsd(reader: &Reader<'_>) -> Option<StatsdConfig> {
    let mut servers = reader.addresses("statsd");
    if servers.len() > 1 {
        reader.refuse("statsd", "names several servers; figures are sent to one, which may pass them on");
    }
    let prefix = reader.text("statsd_prefix").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !prefix.chars().all(plain) || prefix.len() > PREFIX_BYTES_MAX {
        reader.refuse(
            "statsd_prefix",
            &format!("{prefix:?} is not a prefix; write at most {PREFIX_BYTES_MAX} letters, digits, `.`, `_` and `-`"),
        );
    }
    let tags = match reader.choice("statsd_tags") {
        "datadog" => Tags::Datadog,
        _ => Tags::InName,
    };
    Some(StatsdConfig {
        server: servers.pop()?,
        interval: reader.duration("statsd_interval"),
        prefix,
        tags,
        packet_bytes_max: reader.size32("statsd_packet_max") as usize,
    })
}

fn read_file(reader: &Reader<'_>) -> Option<FileConfig> {
    let path = reader.path("file")?;
    let dir = path.parent().filter(|dir| dir.is_dir());
    if dir.is_none() {
        let missing = path.parent().unwrap_or(&path).display();
        reader.refuse(
            "file",
            &format!("directory {missing} does not exist; make it with `mkdir -p {missing}`"),
        );
    } else if path.is_dir() {
        let shown = path.display();
        reader.refuse(
            "file",
            &format!("{shown} is a directory; name a file in it, such as \"{shown}/southbridge.prom\""),
        );
    }
    Some(FileConfig { path, interval: reader.duration("file_interval") })
}

fn read_otlp(reader: &Reader<'_>) -> Option<OtlpConfig> {
    let text = reader.text("otlp")?;
    let target =
        OtlpTarget::parse(&text).map_err(|why| reader.refuse("otlp", &format!("{text:?} {why}"))).ok()?;
    Some(OtlpConfig {
        target,
        interval: reader.duration("otlp_interval"),
        timeout: reader.duration("otlp_timeout"),
        service: "southbridge".to_owned(),
    })
}

/// Longer ones leave no room for the name.
const PREFIX_BYTES_MAX: usize = 100;

/// The keys of `[statistics]`.
pub const SECTION: Section = Section {
    name: "statistics",
    about: "Where figures lie, and where they are sent. They lie in a memory-mapped file that `southbridge stats` reads, \
            also after a crash; Prometheus finds them at `/metrics` of the admin socket, whatever stands here.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    optional(
        "dir",
        Kind::Path,
        "`statistics` in systemd's `RUNTIME_DIRECTORY`; else `southbridge` in `XDG_RUNTIME_DIR`; else \
         `southbridge-UID` in `/dev/shm` or the temporary directory",
        "The directory of the memory-mapped file, for this user alone (mode 0700). It should be in memory (tmpfs): on a \
         disk, writing back can hold the I/O thread up. Where none can be had, there is no file, and all else works. The \
         files of the last 8 crashes stay there for a week.",
    ),
    key(
        "bytes_max",
        size(256 * KIB, 64 * MIB),
        "\"4MiB\"",
        "The most that the file may grow to: several times what is there with 100 services. It takes memory as it is \
         used.",
    ),
    key(
        "services_max",
        count(0, 10_000),
        "100",
        "How many homeservers have figures of their own (`southbridge_service_…`), the first that are asked for \
         anything. The others are counted together as `other`. Each costs 6.5 KB, and 41 lines on the metrics page.",
    ),
    key(
        "endpoints_max",
        count(0, 10_000),
        "200",
        "How many addresses of these homeservers have figures of their own (`southbridge_endpoint_…`), at most sixteen of \
         one, the first that are dialled. Each costs 6.3 KB, and 38 lines on the metrics page.",
    ),
    key(
        "beat",
        duration(100, HOUR),
        "\"1s\"",
        "How often the file is told what is found out by asking: connections, hosts, queues. What is counted is in it at \
         once.",
    ),
    key("statsd", Kind::Addresses, "[]", "A StatsD server that is told what has changed, in datagrams."),
    key(
        "statsd_interval",
        duration(SECOND, HOUR),
        "\"10s\"",
        "How often: as often as StatsD itself passes on what it has gathered.",
    ),
    optional("statsd_prefix", Kind::Text, "none", "What stands before every name there, such as `matrix.`"),
    key(
        "statsd_tags",
        Kind::Choice(&["none", "datadog"]),
        "\"none\"",
        "How labels travel. `none`: their values are parts of the name, which every server understands. `datadog`: as \
         tags, which DogStatsD, Telegraf and Vector understand.",
    ),
    key(
        "statsd_packet_max",
        size(512, 64_000),
        "\"1432B\"",
        "The largest datagram: what an Ethernet frame holds behind the headers of IPv6 and UDP.",
    ),
    optional(
        "file",
        Kind::Path,
        "none",
        "A file that is exchanged at an interval, in the text format of Prometheus. For node_exporter's textfile \
         collector its name ends in `.prom`.",
    ),
    key("file_interval", duration(SECOND, HOUR), "\"15s\"", "How often: a usual interval between scrapes."),
    optional(
        "otlp",
        Kind::Text,
        "none",
        "The address of an OpenTelemetry collector that figures are pushed to, such as \
         `\"http://collector:4318/v1/metrics\"` (OTLP over HTTP, as JSON). The address policy holds for it: a collector \
         on loopback or in a private network must be allowed in `[addresses]`.",
    ),
    key(
        "otlp_interval",
        duration(SECOND, HOUR),
        "\"60s\"",
        "How often: as OpenTelemetry's own exporters do.",
    ),
    key("otlp_timeout", duration(100, HOUR), "\"10s\"", "How long the collector may take to answer."),
];
