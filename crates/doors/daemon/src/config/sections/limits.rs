//! `[limits]` and `[retries]`: what is let in, and how often it may be asked again.

use southbridge_policy::admission::AdmissionLimits;
use southbridge_policy::budget::BudgetLimits;
use southbridge_words::{Class, PerClass};

use crate::config::key::{HOUR, Key, MIB, SECOND, Section, count, duration, key, size};
use crate::config::reader::Reader;

pub(in crate::config) fn read(reader: &Reader<'_>) -> AdmissionLimits {
    let mut ceiling_percent = PerClass::default();
    for class in Class::ALL {
        let percent = reader.count(&format!("ceiling_{}", class.name()));
        ceiling_percent[class] = u8::try_from(percent).expect("the table of keys bounds percents to 100");
    }
    let limits = AdmissionLimits {
        in_flight_max: reader.count32("in_flight_max"),
        per_service_max: reader.count32("per_service_max"),
        body_bytes_max: reader.size("body_bytes_max"),
        ceiling_percent,
    };
    reader.check(limits.validate());
    limits
}

pub(in crate::config) fn read_retries(reader: &Reader<'_>) -> BudgetLimits {
    let limits = BudgetLimits {
        share_percent: reader.count32("share_percent"),
        per_second_min: reader.count32("per_second_min"),
        window: reader.duration("window"),
    };
    reader.check(limits.validate());
    limits
}

/// The keys of `[limits]`.
pub const SECTION: Section = Section {
    name: "limits",
    about: "What is let in. Past a bound requests are answered 503 at once. Each class may fill a part of every bound \
            only, so that the lowest are turned away first.",
    keys: KEYS,
};

/// The keys of `[retries]`.
pub const RETRIES_SECTION: Section = Section {
    name: "retries",
    about: "How much of the traffic may be second attempts, so that what struggles is not knocked over.",
    keys: RETRIES_KEYS,
};

const KEYS: &[Key] = &[
    key(
        "in_flight_max",
        count(1, 10_000_000),
        "20000",
        "Requests at a time, waiting or on the wire. Twice a room of ten thousand servers.",
    ),
    key(
        "per_service_max",
        count(1, 1_000_000),
        "512",
        "Requests at a time for one host. More than one host answers before they time out.",
    ),
    key(
        "body_bytes_max",
        size(MIB, 1024 * 1024 * MIB),
        "\"256MiB\"",
        "The bodies of all requests held in memory.",
    ),
    key(
        "ceiling_interactive",
        count(1, 100),
        "100",
        "The percentage of each bound that queries of people may fill.",
    ),
    key("ceiling_join", count(1, 100), "95", "The same for joins, leaves and invites."),
    key(
        "ceiling_live",
        count(1, 100),
        "90",
        "The same for transactions: a tenth of the room is kept for people.",
    ),
    key("ceiling_repair", count(1, 100), "80", "The same for missing events, state and server keys."),
    key("ceiling_media", count(1, 100), "70", "The same for media."),
    key("ceiling_backfill", count(1, 100), "60", "The same for history."),
];

const RETRIES_KEYS: &[Key] = &[
    key(
        "share_percent",
        count(0, 100),
        "20",
        "Retries per hundred requests. A region that comes back is then not knocked over again.",
    ),
    key(
        "per_second_min",
        count(0, 100_000),
        "10",
        "Retries a second that are allowed whatever the traffic: a person's clicks on a quiet system.",
    ),
    key("window", duration(SECOND, HOUR), "\"10s\"", "Over how long requests and retries are counted."),
];
