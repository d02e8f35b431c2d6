//! From the text of one value to what it means: durations, sizes, permissions, ports.
//!
//! # Units
//! Durations are a number and one of `ms`, `s`, `m`, `h`, `d`; sizes a number and one of `B`, `KiB`, `MiB`,
//! `GiB`, `kB`, `MB`, `GB`. A bare number is refused: nobody remembers which unit a program had in mind.

use std::time::Duration;

/// Reads a duration.
///
/// # Errors
/// Says what is wrong with `text`, without repeating it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let millis_per_unit =
        match unit {
            "ms" => 1.0,
            "s" => 1000.0,
            "m" | "min" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            "" if !number.is_empty() => {
                return Err(format!("has no unit; did you mean \"{number}s\"? (units are ms, s, m, h, d)"));
            }
            _ => return Err(
                "is not a duration; write a number and a unit, such as \"500ms\", \"75s\", \"2m\" or \"24h\""
                    .to_owned(),
            ),
        };
    let number = parse_number(number).ok_or("is not a duration; the number cannot be read")?;
    Duration::try_from_secs_f64(number * millis_per_unit / 1000.0).map_err(|_| "is too long".to_owned())
}

/// Reads a number of bytes.
///
/// # Errors
/// Says what is wrong with `text`, without repeating it.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let bytes_per_unit: f64 = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "" if !number.is_empty() => {
            return Err(format!("has no unit; did you mean \"{number}B\"? (units are B, KiB, MiB, GiB)"));
        }
        _ => {
            return Err(
                "is not a size; write a number and a unit, such as \"64KiB\" or \"100MiB\"".to_owned()
            );
        }
    };
    let number = parse_number(number).ok_or("is not a size; the number cannot be read")?;
    let bytes = number * bytes_per_unit;
    if bytes > SIZE_MAX {
        return Err("is too large".to_owned());
    }
    Ok(bytes.round() as u64)
}

/// Reads permissions in octal.
///
/// # Errors
/// Says what is wrong with `text`, without repeating it.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let looks_right = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| looks_right && *mode <= 0o777);
    mode.ok_or_else(|| "is not a set of permissions; write three octal digits, such as \"0660\"".to_owned())
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// Whether `port` lies in the range.
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// Reads `"443"` or `"8000-8999"`.
///
/// # Errors
/// Says what is wrong with `text`, without repeating it.
pub fn parse_ports(text: &str) -> Result<PortRange, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(PortRange { first, last }),
        _ => {
            Err("is not a port or a range of ports; they run from 1 to 65535, as in \"8000-8999\"".to_owned())
        }
    }
}

/// Writes a duration the way it is read, in the largest unit that fits.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let unit = units.into_iter().find(|(size, _)| millis >= *size && millis.is_multiple_of(*size));
    match unit {
        Some((size, unit)) => format!("{}{unit}", millis / size),
        None => format!("{millis}ms"),
    }
}

/// Writes a size the way it is read, in the largest unit that fits.
pub fn show_size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    match unit {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..at], text[at..].trim_start())
}

fn parse_number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// Above this a `f64` no longer counts single bytes; nobody's limit is that high.
const SIZE_MAX: f64 = (1_u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_carry_their_unit() {
        let cases = [
            ("75s", 75_000),
            ("500ms", 500),
            ("2m", 120_000),
            ("24h", 86_400_000),
            ("1.5s", 1500),
            ("7 d", 604_800_000),
        ];
        for (text, millis) in cases {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for (text, reason) in [
            ("75", "did you mean \"75s\""),
            ("75 parsecs", "a number and a unit"),
            ("s", "cannot be read"),
            ("-1s", "a number and a unit"),
            ("", "a number and a unit"),
            ("1e9d", "a number and a unit"),
            ("99999999999999999999d", "too long"),
        ] {
            let error = parse_duration(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_carry_their_unit() {
        for (text, bytes) in
            [("100MiB", 100 << 20), ("64 KiB", 65_536), ("1GiB", 1 << 30), ("12B", 12), ("5MB", 5_000_000)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for (text, reason) in [
            ("100", "did you mean \"100B\""),
            ("100 apples", "a number and a unit"),
            ("9999999999GiB", "too large"),
        ] {
            let error = parse_size(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for millis in [0, 1, 999, 1000, 1500, 60_000, 3_600_000, 86_400_000, 86_401_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1023, 1024, 1536, 1 << 20, 1 << 40] {
            assert_eq!(parse_size(&show_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn permissions_are_octal() {
        assert_eq!(parse_mode("0660"), Ok(0o660));
        assert_eq!(parse_mode("600"), Ok(0o600));
        for text in ["660x", "888", "0", "07777", ""] {
            assert!(parse_mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ports_are_ranges() {
        assert_eq!(parse_ports("443"), Ok(PortRange { first: 443, last: 443 }));
        assert_eq!(parse_ports("8000-8999"), Ok(PortRange { first: 8000, last: 8999 }));
        for text in ["0", "70000", "9-8", "http", ""] {
            assert!(parse_ports(text).is_err(), "{text}");
        }
    }
}
