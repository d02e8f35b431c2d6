//! `[storage]`: what survives a restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use southbridge_store_sqlite::{AtLimit, OutboxOptions, RankStoreOptions, RetentionLimits};

use crate::config::key::{DAY, HOUR, Key, Kind, MIB, MINUTE, Section, count, duration, key, optional, size};
use crate::config::reader::Reader;

/// The settings of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The database.
    pub path: PathBuf,
    /// Whether the file names it.
    pub given: bool,
    /// How often changed ranks are written.
    pub write_interval: Duration,
    /// How the ranks in the file are used.
    pub options: RankStoreOptions,
    /// How the outbox in the file is used.
    pub outbox: OutboxOptions,
    /// Whether somebody wrote down bounds that hold for an outbox in the file only.
    pub bounds_outbox: bool,
}

impl Storage {
    pub(in crate::config) fn read(reader: &Reader<'_>, state_dir: &Path) -> Self {
        let path = reader.path("path").unwrap_or_else(|| state_dir.join("southbridge.db"));
        if reader.has("path")
            && let Err(reason) = check_place(&path)
        {
            reader.refuse("path", &reason);
        }
        let options = RankStoreOptions {
            lock_wait: reader.duration("lock_wait"),
            bytes_max: reader.size("bytes_max"),
            records_max: reader.count32("records_max"),
            ..RankStoreOptions::default()
        };
        Self {
            path,
            given: reader.has("path"),
            write_interval: reader.duration("write_interval"),
            outbox: read_outbox(reader, options.lock_wait),
            options,
            bounds_outbox: ["outbox_bytes_max", "outbox_at_limit", "outbox_keys_max"]
                .iter()
                .any(|key| reader.has(key)),
        }
    }
}

fn read_outbox(reader: &Reader<'_>, lock_wait: Duration) -> OutboxOptions {
    let at_limit = match reader.choice("outbox_at_limit") {
        "drop_oldest" => AtLimit::GiveUpOldest,
        _ => AtLimit::Refuse,
    };
    OutboxOptions {
        lock_wait,
        retention: RetentionLimits {
            bytes_max: reader.size("outbox_bytes_max"),
            at_limit,
            age_max: Some(reader.duration("outbox_age_max")),
            ..RetentionLimits::default()
        },
        key_age_max: reader.duration("outbox_key_age_max"),
        keys_max: reader.count("outbox_keys_max"),
    }
}

/// Whether a database can be made at `path`, as far as that can be seen without making it.
fn check_place(path: &Path) -> Result<(), String> {
    use rustix::fs::{Access, access};
    let shown = path.display();
    if path.is_dir() {
        return Err(format!("{shown} is a directory; name a file in it, such as \"{shown}/southbridge.db\""));
    }
    if path.exists() {
        let open = access(path, Access::READ_OK | Access::WRITE_OK);
        return open.map_err(|error| format!("{shown} cannot be written: {error}"));
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !dir.is_dir() {
        return Err(format!("directory {0} does not exist; make it with `mkdir -p {0}`", dir.display()));
    }
    access(dir, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| format!("directory {} cannot be written: {error}", dir.display()))
}

/// The keys of `[storage]`.
pub const SECTION: Section = Section {
    name: "storage",
    about: "What survives a restart: how hosts were doing and when they may be tried again; and, where there is a bus \
            (`[bus]`), what was accepted and not delivered yet, unless that lies in a database (`[outbox]`).",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    optional(
        "path",
        Kind::Path,
        "`southbridge.db` in the state directory",
        "The database (SQLite). Losing it costs a slower start; and, where there is a bus, what it had accepted and not \
         delivered. Put it on a local disk. Each process has its own, also where several share an outbox: hosts are ranked \
         by each for itself.",
    ),
    key(
        "write_interval",
        duration(100, HOUR),
        "\"5s\"",
        "How often what changed is written. A crash forgets at most this much of what was learnt about hosts.",
    ),
    key(
        "lock_wait",
        duration(0, 10 * MINUTE),
        "\"10s\"",
        "How long to wait for another process to let go of the file, such as the predecessor in a hand-over.",
    ),
    key(
        "bytes_max",
        size(MIB, 1024 * 1024 * MIB),
        "\"256MiB\"",
        "The largest size of the file where there is no bus: room for a million hosts.",
    ),
    key(
        "records_max",
        count(16, 10_000_000),
        "100000",
        "Hosts kept, the latest seen: twice what is remembered in memory.",
    ),
    key(
        "outbox_bytes_max",
        size(16 * MIB, 16 * 1024 * 1024 * MIB),
        "\"4GiB\"",
        "The room that the outbox of the bus may take on the disk: a week of a busy homeserver whose neighbours are all \
         down. A message is stored once, whatever the number of its destinations.",
    ),
    key(
        "outbox_at_limit",
        Kind::Choice(&["refuse", "drop_oldest"]),
        "\"refuse\"",
        "What happens when that room is used up. `refuse`: nothing durable is accepted until there is room, callers are \
         told so, and nothing that was accepted is lost. `drop_oldest`: from nine tenths on, the oldest messages are \
         given up for those destinations that lack them still, which is logged, counted and told to callers.",
    ),
    key(
        "outbox_age_max",
        duration(HOUR, 3650 * DAY),
        "\"28d\"",
        "How long a message waits for a destination that does not come, before it is given up for it. A homeserver that \
         was away for longer had better ask for what it missed.",
    ),
    key(
        "outbox_key_age_max",
        duration(MINUTE, 3650 * DAY),
        "\"1d\"",
        "How long the key of a submission is remembered, so that the same one is not accepted twice. A caller that \
         crashed has handed it in again by then.",
    ),
    key(
        "outbox_keys_max",
        count(1000, 1_000_000_000),
        "1000000",
        "Keys remembered, the latest: about 100 MB on the disk.",
    ),
];
