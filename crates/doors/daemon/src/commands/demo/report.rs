//! How the demo says what it has seen.

use std::time::Duration;

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

/// A title and what is said under it, line below line.
pub fn line(title: &str, text: &str) -> String {
    let mut title = title;
    let lines = text.lines().map(|text| format!("{:<10} {text}", std::mem::take(&mut title)));
    lines.collect::<Vec<_>>().join("\n")
}

/// What Southbridge cost from `at_start` until it was `used` so.
pub fn costs(at_start: &Usage, used: &Usage) -> String {
    format!(
        "until it was killed, Southbridge took {} of CPU for all of this; memory {} at start,\n\
         {} then, with {} descriptors",
        time(Some(used.cpu)),
        mebibytes(at_start.resident),
        mebibytes(used.resident),
        used.descriptors,
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// `number` in groups of three digits.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `part` of `all`, in percent.
pub fn percent(part: usize, all: usize) -> String {
    format!("{:.1} %", part as f64 / all.max(1) as f64 * 100.0)
}

/// `duration` in a unit that people read; a dash for one that never came.
pub fn time(duration: Option<Duration>) -> String {
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
    fn large_numbers_are_in_groups() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((percent(1, 8), percent(0, 0)), ("12.5 %".to_owned(), "0.0 %".to_owned()));
    }

    #[test]
    fn a_title_stands_before_the_first_line() {
        assert_eq!(line("warm", "one\ntwo"), "warm       one\n           two");
    }

    #[test]
    fn the_kinds_of_discovery_are_counted() {
        let hosts =
            [("a", "srv"), ("b", "well-known"), ("c", "srv")].map(|(name, kind)| (name.into(), kind.into()));
        assert_eq!(routes(&hosts), "they are found 2 by srv, 1 by well-known");
    }
}
