//! The table that the demo ends with.

use std::fmt::Write;
use std::time::Duration;

use super::course::{FanOut, Queries};
use super::serving::Usage;

/// How the homeservers are found, in a sentence.
pub fn routes(hosts: &[(String, String)]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for (_, route) in hosts {
        match kinds.iter_mut().find(|(kind, _)| kind == route) {
            Some((_, count)) => *count += 1,
            None => kinds.push((route, 1)),
        }
    }
    kinds.sort_unstable();
    let parts: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} by {kind}")).collect();
    format!("they are found {}", parts.join(", "))
}

/// The table of results.
pub fn table(fan_outs: &[&FanOut], calm: &Queries, storm: &Queries) -> String {
    let mut out = String::new();
    let _infallible = writeln!(
        out,
        "{:<14} {:>11} {:>7} {:>9} {:>9} {:>9} {:>10} {:>10}",
        "transactions", "delivered", "failed", "to 50 %", "to 95 %", "to 100 %", "CPU", "CPU/host"
    );
    for fan_out in fan_outs {
        let per_host = fan_out.cpu / u32::try_from(fan_out.delivered.len().max(1)).unwrap_or(u32::MAX);
        let _infallible = writeln!(
            out,
            "{:<14} {:>11} {:>7} {:>9} {:>9} {:>9} {:>10} {:>10}",
            fan_out.title,
            format!("{}/{}", fan_out.delivered.len(), fan_out.expected),
            fan_out.failed,
            time(fan_out.delivered_share(0.5)),
            time(fan_out.delivered_share(0.95)),
            time(fan_out.delivered_share(1.0)),
            time(Some(fan_out.cpu)),
            time(Some(per_host)),
        );
    }
    let _infallible =
        writeln!(out, "\n{:<14} {:>11} {:>9} {:>9} {:>9}", "queries", "answered", "p50", "p99", "max");
    for (title, queries) in [("calm", calm), ("in the storm", storm)] {
        let _infallible = writeln!(
            out,
            "{:<14} {:>11} {:>9} {:>9} {:>9}",
            title,
            format!("{}/{}", queries.good, queries.good + queries.failed),
            time(queries.quantile(0.5)),
            time(queries.quantile(0.99)),
            time(queries.quantile(1.0)),
        );
    }
    out
}

/// What Southbridge cost in all.
pub fn costs(at_start: &Usage, at_end: &Usage, fan_outs: &[&FanOut]) -> String {
    let descriptors = fan_outs.iter().map(|fan_out| fan_out.descriptors_max).max().unwrap_or(0);
    let resident = fan_outs.iter().map(|fan_out| fan_out.resident).max().unwrap_or(0);
    format!(
        "\nSouthbridge: {} of CPU in all; memory {} at start, {} after the warm fan-out, {} at the end; \
         at most {descriptors} descriptors",
        time(Some(at_end.cpu)),
        mebibytes(at_start.resident),
        mebibytes(resident),
        mebibytes(at_end.resident),
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn time(duration: Option<Duration>) -> String {
    match duration {
        None => "–".to_owned(),
        Some(duration) if duration < Duration::from_millis(1) => format!("{} µs", duration.as_micros()),
        Some(duration) if duration < Duration::from_secs(1) => {
            format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
        }
        Some(duration) => format!("{:.2} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_units_that_people_read() {
        let cases = [(50, "50 µs"), (1500, "1.5 ms"), (2_500_000, "2.50 s")];
        for (micros, text) in cases {
            assert_eq!(time(Some(Duration::from_micros(micros))), text);
        }
        assert_eq!(time(None), "–");
    }

    #[test]
    fn the_kinds_of_discovery_are_counted() {
        let hosts =
            [("a", "srv"), ("b", "well-known"), ("c", "srv")].map(|(name, kind)| (name.into(), kind.into()));
        assert_eq!(routes(&hosts), "they are found 2 by srv, 1 by well-known");
    }
}
