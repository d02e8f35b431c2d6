//! `queue`: what waits for whom, and what to do about it.

use std::fmt::Write as _;
use std::io::{self, BufRead, IsTerminal, Write as _};

use serde_json::{Value, json};

use super::client::plain;
use super::{Client, Trouble, counted, fail, print_json};
use crate::cli::{DropQueue, ListQueues, Queue, ShowQueue, WakeQueues};
use crate::commands::{DONE, FAILED, print};

/// Does what is asked.
pub fn run(what: &Queue) -> u8 {
    let done = match what {
        Queue::Ls(arguments) => list(arguments),
        Queue::Show(arguments) => show(arguments),
        Queue::Wake(arguments) => wake(arguments),
        Queue::Drop(arguments) => drop_backlog(arguments),
    };
    done.unwrap_or_else(|trouble| fail(&trouble))
}

fn list(arguments: &ListQueues) -> Result<u8, Trouble> {
    let client = Client::find(&arguments.asking.place)?;
    let (rows, more) = rows(&client, arguments)?;
    if arguments.asking.json {
        print_json(&json!({ "queues": rows, "more": more }));
        return Ok(DONE);
    }
    if rows.is_empty() {
        print("no queue is in that state, or there are none: nothing waits\n");
        return Ok(DONE);
    }
    let mut table = format!(
        "{:<32} {:<10} {:>8} {:>8} {:>8}  {}\n",
        "DESTINATION", "STATE", "WAITING", "VOLATILE", "FAILURES", "WHY"
    );
    for row in &rows {
        let waiting = format!("{}{}", row["items"], if row["at_least"] == true { "+" } else { "" });
        let _ = writeln!(
            table,
            "{:<32} {:<10} {:>8} {:>8} {:>8}  {}",
            plain(&row["destination"]),
            plain(&row["state"]),
            waiting,
            row["volatile"].to_string(),
            row["failures"].to_string(),
            why(row)
        );
    }
    if more {
        table.push_str("there are more; --limit shows as many as you ask for\n");
    }
    print(&table);
    Ok(DONE)
}

/// As many rows as are asked for, and whether there are more.
fn rows(client: &Client, arguments: &ListQueues) -> Result<(Vec<Value>, bool), Trouble> {
    let mut rows: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let left = arguments.limit.saturating_sub(rows.len());
        if left == 0 {
            return Ok((rows, true));
        }
        let mut path = format!("/bus/v1/queues?limit={}", left.min(PAGE));
        if let Some(state) = &arguments.state {
            let _ = write!(path, "&state={}", encode(state));
        }
        if let Some(after) = &after {
            let _ = write!(path, "&after={}", encode(after));
        }
        let mut page = client.ask("GET", &path, b"")?;
        if let Some(found) = page["queues"].as_array_mut() {
            rows.append(found);
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok((rows, false)),
        }
    }
}

fn why(row: &Value) -> String {
    let mut why = row["hold"].as_str().map(|_| plain(&row["hold"])).unwrap_or_default();
    if let Some(millis) = row["retry_in_ms"].as_u64() {
        let _ = write!(why, "{}again in {}", if why.is_empty() { "" } else { ", " }, show_span(millis));
    }
    why
}

fn show(arguments: &ShowQueue) -> Result<u8, Trouble> {
    let client = Client::find(&arguments.asking.place)?;
    let row = client.ask("GET", &path_of(arguments.destination.as_str()), b"")?;
    if arguments.asking.json {
        print_json(&row);
        return Ok(DONE);
    }
    let mut text = format!("{}: {}\n", plain(&row["destination"]), plain(&row["state"]));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<22} {value}");
    };
    line("waiting", at_stake(&row["items"], row["at_least"] == true, &row["volatile"]));
    line("delivered up to", format!("s{} of s{}", row["delivered"], row["last"]));
    line("in memory", format!("{} of them", row["held"]));
    if row["transaction"].is_string() {
        line("transaction", plain(&row["transaction"]));
    }
    if row["failures"] != 0 {
        let since = row["failing_for_ms"].as_u64().map(|span| format!(" within {}", show_span(span)));
        line("failures in a row", format!("{}{}", row["failures"], since.unwrap_or_default()));
    }
    if !why(&row).is_empty() {
        line("why", why(&row));
    }
    line("largest transaction", format!("{} bytes", row["transaction_bytes_max"]));
    print(&text);
    Ok(DONE)
}

fn wake(arguments: &WakeQueues) -> Result<u8, Trouble> {
    let client = Client::find(&arguments.asking.place)?;
    let names: Vec<&str> = arguments.destinations.iter().map(southbridge_words::ServerName::as_str).collect();
    let answer =
        client.ask("POST", "/bus/v1/wake", json!({ "destinations": names }).to_string().as_bytes())?;
    if arguments.asking.json {
        print_json(&answer);
    } else {
        print(&format!("woken: what waits for {} is sent now\n", names.join(", ")));
    }
    Ok(DONE)
}

fn drop_backlog(arguments: &DropQueue) -> Result<u8, Trouble> {
    let client = Client::find(&arguments.asking.place)?;
    let path = path_of(arguments.destination.as_str());
    if !arguments.yes {
        let would = client.ask("DELETE", &path, b"")?;
        let lost = &would["lost"];
        let lost = at_stake(&lost["items"], lost["at_least"] == true, &lost["volatile"]);
        if !confirmed(arguments.destination.as_str(), &lost)? {
            print("nothing was dropped\n");
            return Ok(FAILED);
        }
    }
    let answer = client.ask("DELETE", &format!("{path}?confirm=yes"), b"")?;
    if arguments.asking.json {
        print_json(&answer);
    } else {
        let lost = &answer["lost"];
        let lost = at_stake(&lost["items"], lost["at_least"] == true, &lost["volatile"]);
        print(&format!("dropped for {}: {lost}\n", arguments.destination));
    }
    Ok(DONE)
}

/// Asks the person at the terminal.
fn confirmed(destination: &str, lost: &str) -> Result<bool, Trouble> {
    let question = format!("{destination} will never be sent what waits for it: {lost}.");
    if !io::stdin().is_terminal() {
        let text =
            format!("{question} Say --yes to do it; nobody can be asked here, and nothing was dropped.");
        return Err(Trouble::Asked(text));
    }
    let mut terminal = io::stderr();
    // A terminal that cannot be written is about to say no.
    let _ = write!(terminal, "{question} Drop it? [y/N] ").and_then(|()| terminal.flush());
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// In words, what is not delivered yet.
fn at_stake(items: &Value, at_least: bool, volatile: &Value) -> String {
    let items = counted(items.as_u64().unwrap_or(0), "message", "messages");
    let volatile = volatile.as_u64().unwrap_or(0);
    let more = if at_least { "at least " } else { "" };
    if volatile == 0 {
        return format!("{more}{items}");
    }
    format!("{more}{items}, and {} of typing, presence or receipts", counted(volatile, "piece", "pieces"))
}

/// A span of time as people say it: the two largest units.
pub(super) fn show_span(millis: u64) -> String {
    let seconds = millis.div_ceil(1000);
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn path_of(destination: &str) -> String {
    format!("/bus/v1/queues/{}", encode(destination))
}

pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// As many rows as the door gives at once.
const PAGE: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_at_stake_is_said_in_words() {
        assert_eq!(at_stake(&json!(1), false, &json!(0)), "1 message");
        let both = at_stake(&json!(3), true, &json!(1));
        assert_eq!(both, "at least 3 messages, and 1 piece of typing, presence or receipts");
    }

    #[test]
    fn spans_are_said_as_people_do() {
        for (millis, shown) in
            [(1, "1 s"), (61_000, "1 min 1 s"), (3_600_000, "1 h 0 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(show_span(millis), shown);
        }
    }

    #[test]
    fn names_can_stand_in_a_path() {
        assert_eq!(encode("[::1]:8448"), "%5B%3A%3A1%5D%3A8448");
    }
}
