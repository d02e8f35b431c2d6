//! `keys`: the keys of a homeserver, as the bus knows them.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::client::plain;
use super::queue::{encode, show_span};
use super::{Client, Trouble, fail, print_json};
use crate::cli::Keys;
use crate::commands::{DONE, print};

/// Shows them.
pub fn run(arguments: &Keys) -> u8 {
    show(arguments).unwrap_or_else(|trouble| fail(&trouble))
}

fn show(arguments: &Keys) -> Result<u8, Trouble> {
    let client = Client::find(&arguments.asking.place)?;
    let path = format!("/bus/v1/keys/{}", encode(arguments.server.as_str()));
    if arguments.forget {
        match client.ask("DELETE", &path, b"") {
            // There was nothing to forget, which is as good.
            Err(Trouble::Met(text)) if text.starts_with("M_NOT_FOUND") => {}
            done => drop(done?),
        }
    }
    let found = client.ask("GET", &format!("{path}?timeout_ms={}", arguments.timeout * 1000), b"")?;
    if arguments.asking.json {
        print_json(&found);
    } else {
        print(&table(&found, unix_millis_now()));
    }
    Ok(DONE)
}

fn table(found: &Value, now: u64) -> String {
    let mut text = format!("{}\n", plain(&found["server_name"]));
    for key in found["keys"].as_array().into_iter().flatten() {
        let line = format!("{:<24} {:<43} {}", plain(&key["id"]), plain(&key["key"]), standing(key, now));
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// What a key is good for, in words.
fn standing(key: &Value, now: u64) -> String {
    let until = key["until_ms"].as_u64().unwrap_or(0);
    match (key["good_now"] == true, key["standing"] == "old") {
        (true, _) => format!("signs; believed for {}", show_span(until.saturating_sub(now))),
        (false, true) => format!("old: signed until {} ago", show_span(now.saturating_sub(until))),
        (false, false) => {
            format!("good for what was signed until {} ago", show_span(now.saturating_sub(until)))
        }
    }
}

fn unix_millis_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_key_has_a_line_that_says_what_it_is_good_for() {
        let found = json!({"server_name": "a.example", "keys": [
            {"id": "ed25519:a", "key": "AAA", "standing": "signing", "until_ms": 3_661_000, "good_now": true},
            {"id": "ed25519:b", "key": "BBB", "standing": "old", "until_ms": 0, "good_now": false},
            {"id": "ed25519:c", "key": "CCC", "standing": "signing", "until_ms": 0, "good_now": false}]});
        let text = table(&found, 61_000);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "a.example");
        assert!(
            lines[1].starts_with("  ed25519:a ") && lines[1].ends_with("signs; believed for 1 h 0 min"),
            "{text}"
        );
        assert!(lines[2].ends_with("old: signed until 1 min 1 s ago"), "{text}");
        assert!(lines[3].ends_with("good for what was signed until 1 min 1 s ago"), "{text}");
    }
}
