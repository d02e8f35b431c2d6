//! Each room says in its `clippy.toml` what may not be called there, and why.

use super::Findings;
use super::workspace::Package;

/// Rooms that must say so; the others follow the one at the root.
const ROOMS: [&str; 7] = ["words", "policy", "wire", "kernel", "bus", "stores", "doors"];

/// What the rooms that only decide must never call.
const NEVER_IN_MACHINES: [&str; 4] =
    ["std::time::Instant::now", "std::time::SystemTime::now", "std::thread::sleep", "std::thread::spawn"];

/// Every room has its list, and every line of it a reason.
pub fn check(packages: &[Package], findings: &mut Findings) {
    for package in packages {
        let room = package.room.as_deref().unwrap_or_default();
        if !ROOMS.contains(&room) {
            continue;
        }
        let path = package.dir.join("clippy.toml");
        match super::read(&path) {
            Ok(text) => check_text(&text, &path.display().to_string(), room, findings),
            Err(failure) => findings.problem(path.display(), failure.what),
        }
    }
}

fn check_text(text: &str, place: &str, room: &str, findings: &mut Findings) {
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return findings.problem(place, error),
    };
    let entries = table.get("disallowed-methods").and_then(toml::Value::as_array);
    let Some(entries) = entries.filter(|entries| !entries.is_empty()) else {
        return findings.problem(place, "no disallowed-methods: say what may not be called in this room");
    };
    let path_of = |entry: &toml::Value| entry.get("path").and_then(toml::Value::as_str).map(str::to_owned);
    for entry in entries {
        if entry.get("reason").and_then(toml::Value::as_str).is_none_or(str::is_empty) {
            findings.problem(place, format_args!("{} has no reason", path_of(entry).unwrap_or_default()));
        }
    }
    if matches!(room, "words" | "policy" | "wire" | "bus") {
        for never in NEVER_IN_MACHINES {
            if !entries.iter().any(|entry| path_of(entry).as_deref() == Some(never)) {
                findings.problem(
                    place,
                    format_args!("{never} is missing: machines are told the time and never wait"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, room: &str) -> usize {
        let mut findings = Findings::default();
        check_text(text, "clippy.toml", room, &mut findings);
        findings.problems.len()
    }

    /// A prohibition nobody can explain is one nobody will keep.
    #[test]
    fn a_prohibition_needs_a_reason() {
        let bare = r#"disallowed-methods = [{ path = "std::thread::sleep" }]"#;
        let told = r#"disallowed-methods = [{ path = "std::thread::sleep", reason = "it stalls everyone" }]"#;
        assert_eq!(problems(bare, "kernel"), 1);
        assert_eq!(problems(told, "kernel"), 0);
        assert_eq!(problems("", "kernel"), 1);
    }

    /// A list for a pure room that forgets the clock is not a list for a pure room.
    #[test]
    fn machines_must_not_know_the_time() {
        let told = r#"disallowed-methods = [{ path = "std::thread::sleep", reason = "it stalls everyone" }]"#;
        assert_eq!(problems(told, "bus"), 3);
    }
}
