//! The figures of a process as a person reads them.

use std::fmt::Write;
use std::time::Duration;

use southbridge_kernel::stats::{Figure, Found, Reading, Unit, Value};
use southbridge_words::WallTime;

use super::in_unit;

/// The parts of a distribution that are shown.
pub(super) const PARTS: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// Everything in `reading`, as of `now`.
pub(super) fn of(reading: &Reading, alive: bool, now: WallTime) -> String {
    let mut out = title(reading, alive, now);
    let spread = |figure: &&Figure| matches!(figure.value, Value::Histogram(_));
    let (wide, plain): (Vec<&Figure>, Vec<&Figure>) = reading.figures.iter().partition(spread);
    let width = reading.figures.iter().map(|figure| series(figure).chars().count()).max().unwrap_or(0);
    for figure in plain {
        let shown = match figure.value {
            Value::Counter(stored) => amount(stored as f64, figure.unit),
            Value::Gauge(stored) => amount(stored as f64, figure.unit),
            Value::Histogram(_) => continue,
        };
        let _ = writeln!(out, "{:<width$} {shown:>12}", series(figure));
    }
    if !wide.is_empty() {
        let _ = write!(out, "\n{:<width$} {:>12}", "", "COUNT");
        let _ = writeln!(out, " {:>9} {:>9} {:>9} {:>9}", "P50", "P90", "P99", "MAX");
    }
    for figure in wide {
        let Value::Histogram(spread) = &figure.value else { continue };
        let _ = write!(out, "{:<width$} {:>12}", series(figure), spread.count());
        for (_, part) in PARTS {
            let shown =
                spread.quantile(part).map_or("-".to_owned(), |stored| amount(stored as f64, figure.unit));
            let _ = write!(out, " {shown:>9}");
        }
        let maximum =
            if spread.count() == 0 { "-".to_owned() } else { amount(spread.maximum() as f64, figure.unit) };
        let _ = writeln!(out, " {maximum:>9}");
    }
    out
}

/// The files that were found, with the program of each.
pub(super) fn of_files(rows: &[(&Found, String)], now: WallTime) -> String {
    if rows.is_empty() {
        return "no process of this user has statistics, or had in its last week\n".to_owned();
    }
    let mut out = format!("{:>8}  {:<8} {:>10}  {:<20} {}\n", "PID", "STATE", "SEEN", "PROGRAM", "FILE");
    for (found, program) in rows {
        let (state, seen) = (state(found.alive), ago(now.saturating_since(found.seen_at)));
        let (program, file) = (harmless(program), found.path.display());
        let _ = writeln!(out, "{:>8}  {state:<8} {seen:>10}  {program:<20} {file}", found.pid);
    }
    out
}

fn title(reading: &Reading, alive: bool, now: WallTime) -> String {
    let program = if reading.program.is_empty() { "a process" } else { &reading.program };
    let (started, seen) = (now.saturating_since(reading.started_at), now.saturating_since(reading.beat_at));
    let mut out = format!(
        "{} (pid {}) is {}; started {} ago, last sign of life {} ago\n",
        harmless(program),
        reading.pid,
        state(alive),
        ago(started),
        ago(seen)
    );
    if reading.refused > 0 {
        let _ = writeln!(out, "{} times a figure found no room: give the region more", reading.refused);
    }
    out.push('\n');
    out
}

const fn state(alive: bool) -> &'static str {
    if alive { "alive" } else { "dead" }
}

/// The name of a figure, with its labels.
fn series(figure: &Figure) -> String {
    let labels: Vec<String> = figure.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    match labels.as_slice() {
        [] => figure.name.clone(),
        labels => harmless(&format!("{}{{{}}}", figure.name, labels.join(","))),
    }
}

/// Without control characters: what stands in a label may come from afar.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number of `unit` with three or four digits that say something.
fn amount(stored: f64, unit: Unit) -> String {
    let value = in_unit(stored, unit);
    match unit {
        Unit::Count => format!("{value:.0}"),
        Unit::Ratio => format!("{value:.4}"),
        Unit::Seconds => scaled(
            value,
            &[
                (86_400.0, "d"),
                (3600.0, "h"),
                (60.0, "min"),
                (1.0, "s"),
                (1e-3, "ms"),
                (1e-6, "µs"),
                (1e-9, "ns"),
            ],
        ),
        Unit::Bytes => {
            let sizes =
                [(1_u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")];
            scaled(value, &sizes.map(|(size, name)| (size as f64, name)))
        }
    }
}

fn scaled(value: f64, scale: &[(f64, &str)]) -> String {
    let fits = scale.iter().find(|(size, _)| value.abs() >= *size);
    match fits {
        Some((size, name)) if value / size >= 99.95 || *name == "B" => format!("{:.0} {name}", value / size),
        Some((size, name)) => format!("{:.1} {name}", value / size),
        None => format!("0 {}", scale.iter().find(|(size, _)| *size == 1.0).map_or("", |(_, name)| name)),
    }
}

fn ago(age: Duration) -> String {
    amount(age.as_nanos() as f64, Unit::Seconds)
}

#[cfg(test)]
mod tests {
    use southbridge_kernel::stats::{Metric, Region, RegionOptions};

    use super::*;

    #[test]
    fn amounts_have_their_unit() {
        for (value, unit, shown) in [
            (1234.0, Unit::Count, "1234"),
            (-3.0, Unit::Count, "-3"),
            (5e8, Unit::Ratio, "0.5000"),
            (0.0, Unit::Seconds, "0 s"),
            (1500.0, Unit::Seconds, "1.5 µs"),
            (123_456_789.0, Unit::Seconds, "123 ms"),
            (7.2e12, Unit::Seconds, "2.0 h"),
            (0.0, Unit::Bytes, "0 B"),
            (1000.0, Unit::Bytes, "1000 B"),
            (1_572_864.0, Unit::Bytes, "1.5 MiB"),
        ] {
            assert_eq!(amount(value, unit), shown);
        }
    }

    #[test]
    fn figures_stand_in_columns() {
        let region =
            Region::new(&RegionOptions { program: "shop\u{1b}[2J".to_owned(), ..RegionOptions::default() })
                .unwrap();
        let labels = [("kind", "a\u{7}b")];
        region.counter(&Metric::new("orders_total", "Orders.").with(&labels)).unwrap().add(12);
        let histogram =
            region.histogram(&Metric::new("work_seconds", "Work.").in_unit(Unit::Seconds)).unwrap();
        histogram.observe(0.25);
        region.histogram(&Metric::new("idle_seconds", "Idle.").in_unit(Unit::Seconds)).unwrap();
        let mut reading = region.read();
        (reading.pid, reading.started_at, reading.beat_at) =
            (7, WallTime::from_unix_millis(0), WallTime::from_unix_millis(59_500));
        let text = of(&reading, false, WallTime::from_unix_millis(60_000));
        let expected = "\
shop\u{fffd}[2J (pid 7) is dead; started 1.0 min ago, last sign of life 500 ms ago

orders_total{kind=a\u{fffd}b}           12

                              COUNT       P50       P90       P99       MAX
work_seconds                      1    250 ms    250 ms    250 ms    250 ms
idle_seconds                      0         -         -         -         -
";
        assert_eq!(text, expected, "{text}");
    }
}
