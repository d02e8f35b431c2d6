//! What processes say of themselves, as a person reads it.

use std::fmt::Write;

use serde_json::Value;

/// A line for each process.
pub(super) fn of_processes(rows: &[(u32, Result<Value, String>)]) -> String {
    if rows.is_empty() {
        return "no process of this user can be asked\n".to_owned();
    }
    let mut out = format!("{:>8} {:>8} {:>8}  {:<24} {}\n", "PID", "UP", "REQUESTS", "MARK", "COMMAND");
    for (pid, told) in rows {
        match told {
            Ok(process) => {
                let (up, requests) = (ago(&process["uptime_ms"]), &process["requests"]);
                let (mark, command) = (plain(&process["mark"]), plain(&process["command"]));
                let _ = writeln!(out, "{pid:>8} {up:>8} {requests:>8}  {mark:<24} {command}");
            }
            Err(trouble) => {
                let _ = writeln!(out, "{pid:>8} {:>8} {:>8}  {trouble}", "-", "-");
            }
        }
    }
    out
}

/// The pages that one process has told, one after another.
pub(super) fn of_pages(told: &[(&str, Value)]) -> String {
    let parts: Vec<String> = told.iter().map(|(name, page)| of_page(name, page)).collect();
    parts.join("\n")
}

fn of_page(name: &str, page: &Value) -> String {
    match name {
        "process" => process(page),
        "marks" => marks(page),
        "requests" => requests(page),
        "stacks" => all(&page["threads"]).map(stack).collect::<Vec<_>>().join("\n"),
        _ => stack(page),
    }
}

fn process(page: &Value) -> String {
    let facts: Vec<String> = page["facts"].as_object().into_iter().flatten().map(fact).collect();
    format!(
        "process {} of southbridge {}{}, up for {}: {}\n",
        page["pid"],
        plain(&page["version"]),
        facts.concat(),
        ago(&page["uptime_ms"]),
        plain(&page["command"])
    )
}

fn fact((name, value): (&String, &Value)) -> String {
    format!(", {} {}", harmless(name), plain(value))
}

fn marks(page: &Value) -> String {
    let mut out = String::new();
    for mark in all(&page["marks"]) {
        let is = if mark["is_current"] == true { "is in" } else { "entered" };
        let within: String = all(&mark["within"]).map(|outer| format!(" in {}", plain(outer))).collect();
        let (thread, name, age) = (&mark["thread"], plain(&mark["name"]), ago(&mark["age_ms"]));
        let _ = writeln!(out, "thread {thread} {is} {name}{within}, {age} ago");
    }
    if out.is_empty() { "in no mark\n".to_owned() } else { out }
}

fn requests(page: &Value) -> String {
    let mut out = String::new();
    for request in all(&page["oldest"]) {
        let what = match &request["url"] {
            Value::Null => plain(&request["service"]),
            url => format!("{} {}", plain(&request["method"]), plain(url)),
        };
        let _ = write!(out, "{what}: {} for {}", plain(&request["step"]), ago(&request["age_ms"]));
        for (name, words) in [("endpoint", ", at "), ("mark", ", in ")] {
            if request[name].is_string() {
                let _ = write!(out, "{words}{}", plain(&request[name]));
            }
        }
        out.push('\n');
    }
    if out.is_empty() { "no request under way\n".to_owned() } else { out }
}

fn stack(page: &Value) -> String {
    let who = if page["is_main"] == true { "the main thread" } else { "a thread" };
    let number = if page["thread"].is_null() { String::new() } else { format!(" ({})", page["thread"]) };
    let mut out = format!("{who}{number} is {}\n", plain(&page["state"]));
    let moving = page["moving"].as_u64().unwrap_or_default();
    for (place, frame) in (0..).zip(all(&page["frames"])) {
        let moves = if place < moving { "  (comes and goes)" } else { "" };
        let line = frame["line"].as_u64().map_or_else(String::new, |line| format!(":{line}"));
        let _ = writeln!(out, "  {}{line} {}{moves}", plain(&frame["file"]), plain(&frame["function"]));
    }
    if page["is_cut"] == true {
        out.push_str("  and so on\n");
    }
    out
}

fn all(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn ago(millis: &Value) -> String {
    match millis.as_u64().unwrap_or_default() {
        short @ ..10_000 => format!("{short} ms"),
        long => format!("{} s", long / 1000),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map(harmless).unwrap_or_default()
}

/// Names come from the program, and end up on a terminal.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_stack_says_what_holds_still() {
        let frames = json!([
            {"file": "a.py", "line": 3, "function": "f\u{1b}[31m"},
            {"file": "a.py", "line": null, "function": "<module>"},
        ]);
        let page = json!({"thread": 7, "is_main": true, "state": "running", "moving": 1, "is_cut": true, "frames": frames});
        let text = "the main thread (7) is running\n  a.py:3 f\u{fffd}[31m  (comes and goes)\n  a.py <module>\n  and so on\n";
        assert_eq!(stack(&page), text);
    }

    #[test]
    fn who_does_not_answer_is_listed_all_the_same() {
        let process = json!({"uptime_ms": 12_000, "requests": 2, "mark": "loading cart", "command": "shop"});
        let rows = [(1, Ok(process)), (2, Err("process 2 does not answer: timed out".to_owned()))];
        let text = of_processes(&rows);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["1", "12", "s", "2", "loading", "cart", "shop"]);
        assert_eq!(lines[2][3..], ["process", "2", "does", "not", "answer:", "timed", "out"]);
    }
}
