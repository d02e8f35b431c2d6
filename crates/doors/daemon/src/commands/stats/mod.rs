//! `stats`: what a process has counted, read out of its memory-mapped file, whether it lives or not.

mod table;

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use rustix::event::{Timespec, poll};
use serde_json::{Value as Json, json};
use southbridge_kernel::Clock;
use southbridge_kernel::stats::{Exposition, Figure, Found, Place, Reading, Unit, Value};

use crate::cli::Stats;
use crate::commands::{DONE, FAILED};

/// Prints what is asked for.
pub fn run(arguments: &Stats) -> u8 {
    if arguments.of.is_none() {
        return write(&list(arguments)).map_or(FAILED, |()| DONE);
    }
    let shown = find(arguments)
        .and_then(|path| if arguments.watch { watch(arguments, &path) } else { once(arguments, &path) });
    shown.unwrap_or_else(|trouble| {
        eprintln!("{trouble}");
        FAILED
    })
}

fn once(arguments: &Stats, path: &Path) -> Result<u8, String> {
    let (reading, alive) = read(path)?;
    let _nobody_reads_on = write(&text(arguments, &reading, alive));
    let Some(damage) = reading.damage else { return Ok(DONE) };
    Err(format!(
        "{}: {} at byte {}; what comes before it is shown",
        path.display(),
        damage.problem,
        damage.at
    ))
}

fn watch(arguments: &Stats, path: &Path) -> Result<u8, String> {
    loop {
        let (reading, alive) = read(path)?;
        let clear = if io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        let written = write(&format!("{clear}{}", text(arguments, &reading, alive)));
        if written.is_err() || !alive {
            return Ok(DONE);
        }
        // Interrupted is as good as over.
        let _waited = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
    }
}

fn read(path: &Path) -> Result<(Reading, bool), String> {
    Reading::of_file(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

fn text(arguments: &Stats, reading: &Reading, alive: bool) -> String {
    if arguments.json {
        return format!("{:#}\n", json_of(reading, alive));
    }
    if arguments.prometheus {
        let mut page = Exposition::default();
        page.reading(reading);
        return page.into_text();
    }
    table::of(reading, alive, Clock::start().wall())
}

fn write(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}

/// The file that is meant.
fn find(arguments: &Stats) -> Result<PathBuf, String> {
    let Some(pid) = arguments.pid() else {
        return arguments.of.clone().ok_or_else(|| "name a process or a file".to_owned());
    };
    if arguments.dir.is_none()
        && let Some(path) = mapped_by(pid)
    {
        return Ok(path);
    }
    let found = files(arguments).into_iter().find(|found| found.pid == pid);
    found.map(|found| found.path).ok_or_else(|| {
        let places: Vec<String> =
            places(arguments).iter().map(|place| place.dir().display().to_string()).collect();
        format!(
            "process {pid} has no statistics file in {}; name the file, or its directory with --dir",
            places.join(" or ")
        )
    })
}

/// The file that a living process has mapped, wherever it lies.
fn mapped_by(pid: u32) -> Option<PathBuf> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let paths = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..]));
    let name = format!("/{pid}-");
    paths
        .filter(|path| path.ends_with(".stats") && path.contains(&name))
        .map(PathBuf::from)
        .find(|path| path.exists())
}

fn files(arguments: &Stats) -> Vec<Found> {
    places(arguments).iter().flat_map(Place::files).collect()
}

fn places(arguments: &Stats) -> Vec<Place> {
    if let Some(dir) = &arguments.dir {
        return vec![Place::new(dir)];
    }
    let (own, of_unit) = (Place::of_process(), Place::new("/run/southbridge-stats/statistics"));
    if own == of_unit { vec![own] } else { vec![own, of_unit] }
}

fn list(arguments: &Stats) -> String {
    let found = files(arguments);
    let programs =
        found.iter().map(|found| Reading::of_file(&found.path).map(|(reading, _)| reading.program));
    let rows: Vec<(&Found, String)> = found.iter().zip(programs.map(Result::unwrap_or_default)).collect();
    if arguments.json {
        let row = |(found, program): &(&Found, String)| {
            json!({
                "pid": found.pid, "program": program, "alive": found.alive,
                "seen_unix_ms": found.seen_at.unix_millis(), "file": found.path.display().to_string(),
            })
        };
        return format!("{:#}\n", Json::from(rows.iter().map(row).collect::<Vec<_>>()));
    }
    table::of_files(&rows, Clock::start().wall())
}

fn json_of(reading: &Reading, alive: bool) -> Json {
    let damage = reading.damage.map(|damage| json!({ "at": damage.at, "problem": damage.problem }));
    json!({
        "pid": reading.pid, "program": reading.program, "alive": alive,
        "started_unix_ms": reading.started_at.unix_millis(), "beat_unix_ms": reading.beat_at.unix_millis(),
        "refused": reading.refused, "damage": damage,
        "figures": reading.figures.iter().map(json_of_figure).collect::<Vec<_>>(),
    })
}

fn json_of_figure(figure: &Figure) -> Json {
    let labels: serde_json::Map<String, Json> =
        figure.labels.iter().map(|(name, value)| (name.clone(), Json::from(value.as_str()))).collect();
    let mut row = json!({
        "name": figure.name, "kind": figure.value.kind().name(), "unit": figure.unit.name(), "labels": labels,
    });
    match &figure.value {
        Value::Counter(stored) if figure.unit.per_one() == 1 => row["value"] = Json::from(*stored),
        Value::Gauge(stored) if figure.unit.per_one() == 1 => row["value"] = Json::from(*stored),
        Value::Counter(stored) => row["value"] = Json::from(in_unit(*stored as f64, figure.unit)),
        Value::Gauge(stored) => row["value"] = Json::from(in_unit(*stored as f64, figure.unit)),
        Value::Histogram(spread) => {
            row["count"] = Json::from(spread.count());
            row["sum"] = Json::from(in_unit(spread.sum() as f64, figure.unit));
            for (name, part) in table::PARTS {
                let value = spread.quantile(part).map(|stored| in_unit(stored as f64, figure.unit));
                row[name] = Json::from(value);
            }
            row["max"] = Json::from(in_unit(spread.maximum() as f64, figure.unit));
        }
    }
    row
}

fn in_unit(stored: f64, unit: Unit) -> f64 {
    stored / unit.per_one() as f64
}
