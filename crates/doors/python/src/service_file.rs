//! The file in which a program declares its services: one table for each, checked as a whole.
//!
//! # Units
//! Durations carry their units in the file (`"3s"`). Relative paths are relative to the file.
//!
//! # Source
//! Issue 4, item 4.

use std::path::Path;

use southbridge_settings::file;
use southbridge_settings::key::{
    DAY, Fallback, Key, Kind, MINUTE, SECOND, Section, count, duration, key, optional,
};
use southbridge_settings::problem::{Problems, near_miss};
use southbridge_settings::reader::{Reader, Source, quoted, text_of};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::seam::{Attempts, BreakerLimits, ClientTls, Service, ServiceDiscovery, ServiceLimits};

/// The services of `file`, by name.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn load(file: &Path) -> Result<Vec<Service>, Problems> {
    let text = file::read_text(file).map_err(|text| file::unreadable(file, text))?;
    file::parse(&text, Some(file), read)
}

fn read(source: &Source<'_>, root: &DeTable<'_>) -> Vec<Service> {
    for (name, value) in root {
        let found: &str = name.get_ref();
        if found != TABLE {
            let hint = match near_miss(found, [TABLE]) {
                Some(near) => format!("did you mean [{near}.NAME]?"),
                None => "every table here is [service.NAME]".to_owned(),
            };
            let what = if value.get_ref().is_table() { "table" } else { "key" };
            source.problem(Some(name.span()), format!("unknown {what} `{found}`; {hint}"));
        }
    }
    let Some(services) = root.get(TABLE) else { return Vec::new() };
    let Some(services) = services.get_ref().as_table() else {
        source.problem(Some(services.span()), "`service` must be a table; write [service.orders]".to_owned());
        return Vec::new();
    };
    services.iter().filter_map(|(name, value)| read_service(source, name, value)).collect()
}

fn read_service(
    source: &Source<'_>,
    name: &Spanned<std::borrow::Cow<'_, str>>,
    value: &Spanned<DeValue<'_>>,
) -> Option<Service> {
    let title = format!("{TABLE}.{}", name.get_ref());
    let reader = Reader::open(source, &SERVICE, title.clone(), Some(value));
    if !reader.is_given() {
        return None;
    }
    if !reader.has("discovery") {
        reader.refuse_table("has no discovery, which says where it is found");
        return None;
    }
    let discovery = read_discovery(&reader)?;
    let mut service = Service::new(name.get_ref(), discovery);
    service.host = reader.text("host");
    service.limits = read_limits(&reader.table("limits", &LIMITS));
    if reader.has("retry") {
        service.attempts = read_retry(&reader.table("retry", &RETRY));
    }
    if reader.has("breaker") {
        let table = reader.table("breaker", &BREAKER);
        let breaker = read_breaker(&table);
        table.check(breaker.validate());
        service.breaker = Some(breaker);
    }
    if reader.has("tls") {
        service.tls = Some(read_tls(&reader.table("tls", &TLS)));
    }
    // Whatever is left is about its name; the breaker has said what is wrong with it already.
    let bare = Service { breaker: None, ..service.clone() };
    if let Err(error) = bare.validate() {
        source.problem(Some(name.span()), format!("[{title}]: {error}"));
    }
    Some(service)
}

fn read_discovery(reader: &Reader<'_>) -> Option<ServiceDiscovery> {
    let ways = reader.list("discovery", |value, kind| {
        text_of(value, kind)?.parse::<ServiceDiscovery>().map_err(|why| quoted(value, &why))
    });
    let mut addresses = Vec::new();
    let several = ways.len() > 1;
    for way in ways {
        match way {
            ServiceDiscovery::Addresses(some) => addresses.extend(some),
            _ if several => {
                reader.refuse("discovery", "several places are addresses; a name or records stand alone");
                return None;
            }
            other => return Some(other),
        }
    }
    Some(ServiceDiscovery::Addresses(addresses))
}

fn read_limits(reader: &Reader<'_>) -> ServiceLimits {
    ServiceLimits {
        requests_max: reader.optional_count32("requests_max"),
        connections_max: reader.optional_count32("connections_max"),
        waiting_max: reader.optional_count32("waiting_max"),
    }
}

fn read_retry(reader: &Reader<'_>) -> Attempts {
    Attempts { attempts_max: reader.count32("attempts_max"), pause_first: Some(reader.duration("pause")) }
}

fn read_breaker(reader: &Reader<'_>) -> BreakerLimits {
    BreakerLimits {
        failures_max: reader.count32("failures_max"),
        errors_max: reader.count32("errors_max"),
        grace: reader.duration("grace"),
        probe_after: reader.duration("probe_after"),
        probe_every_max: reader.duration("probe_every_max"),
    }
}

fn read_tls(reader: &Reader<'_>) -> ClientTls {
    let certificate = match (reader.path("certificate"), reader.path("key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => {
            reader.refuse_table("certificate and key belong together, and one of them is missing");
            None
        }
    };
    ClientTls {
        ca_files: reader.paths("ca_files"),
        only_ca_files: reader.flag("only_ca_files"),
        certificate,
        legacy: reader.flag("legacy"),
    }
}

const TABLE: &str = "service";

const SERVICE: Section = Section {
    name: "service",
    about: "One service that a program asks by its name.",
    keys: &[
        key("discovery", Kind::Discovery, "[]", "Where it is found."),
        optional("host", Kind::Text, "its name, or the name that is looked up", "What is sent as Host."),
        table("limits", "How much may be under way to it."),
        table("retry", "How often a request to it may be sent."),
        table("breaker", "When it is held to be down."),
        table("tls", "Whether it is spoken to with TLS, and how."),
    ],
};

const fn table(name: &'static str, about: &'static str) -> Key {
    Key { name, kind: Kind::Table, default: Fallback::Described("as for all others"), about }
}

const LIMITS: Section = Section {
    name: "limits",
    about: "How much may be under way to it.",
    keys: &[
        optional(
            "requests_max",
            count(1, 1_000_000),
            "as for all",
            "Requests at a time, waiting or on the wire.",
        ),
        optional("connections_max", count(1, 4096), "as for all", "Connections at a time."),
        optional(
            "waiting_max",
            count(1, 1_000_000),
            "as for all",
            "Requests that may wait for a connection.",
        ),
    ],
};

const RETRY: Section = Section {
    name: "retry",
    about: "How often a request to it may be sent.",
    keys: &[
        key("attempts_max", count(1, 10), "3", "Attempts in all."),
        key("pause", duration(0, MINUTE), "\"100ms\"", "Before the second, doubled with every further one."),
    ],
};

const BREAKER: Section = Section {
    name: "breaker",
    about: "When it is held to be down, and how often it is probed then.",
    keys: &[
        key("failures_max", count(2, 1000), "5", "Requests in a row without any answer."),
        key("errors_max", count(2, 1000), "15", "Answers in a row that were 429 or 5xx."),
        key(
            "grace",
            duration(0, MINUTE),
            "\"1s\"",
            "Failures this close together of requests in flight together are one.",
        ),
        key("probe_after", duration(SECOND / 10, DAY), "\"3s\"", "After how long it is first probed."),
        key("probe_every_max", duration(SECOND / 10, DAY), "\"5s\"", "The longest between two probes."),
    ],
};

const TLS: Section = Section {
    name: "tls",
    about: "Whom to trust, and as whom to come.",
    keys: &[
        key("ca_files", Kind::Paths, "[]", "Certificate authorities that are trusted as well."),
        key("only_ca_files", Kind::Flag, "false", "Whether the system's are not trusted."),
        optional("certificate", Kind::Path, "nobody", "Our certificate chain."),
        optional("key", Kind::Path, "nobody", "Its key."),
        key("legacy", Kind::Flag, "false", "Whether it may speak TLS 1.0 and 1.1."),
    ],
};
