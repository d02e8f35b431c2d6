//! `send`: hands one PDU or EDU to the bus.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use southbridge_words::ServerName;

use super::client::plain;
use super::{Client, Trouble, counted, fail, print_json};
use crate::cli::Send;
use crate::commands::{DONE, FAILED, print};

/// Hands it in, and says what is promised of it.
pub fn run(arguments: &Send) -> u8 {
    match hand_in(arguments) {
        Ok(code) => code,
        Err(trouble) => fail(&trouble),
    }
}

fn hand_in(arguments: &Send) -> Result<u8, Trouble> {
    let destinations = destinations(arguments)?;
    let raw = read(&arguments.file)?;
    let body = body(arguments, &raw, &destinations)?;
    let answer = Client::find(&arguments.asking.place)?.ask("POST", "/bus/v1/send", body.as_bytes())?;
    let result = &answer["results"][0];
    if arguments.asking.json {
        print_json(result);
    } else {
        print(&said(result, destinations.len() as u64));
    }
    Ok(if result["acknowledgement"].is_string() { DONE } else { FAILED })
}

fn said(result: &Value, destinations: u64) -> String {
    let destinations = counted(destinations, "destination", "destinations");
    match result["acknowledgement"].as_str() {
        Some("durable") => format!(
            "accepted for {destinations}, as s{}: it is in the outbox and survives a power cut\n",
            result["seq"]
        ),
        Some(_) => {
            format!("accepted for {destinations}: it is in memory, and worth nothing in a few minutes\n")
        }
        None => format!("refused: {}: {}\n", plain(&result["errcode"]), plain(&result["error"])),
    }
}

/// The request, in which what was read stands as it was: a signature may lie over it.
fn body(arguments: &Send, raw: &str, destinations: &[ServerName]) -> Result<String, Trouble> {
    let raw: Box<RawValue> = serde_json::from_str(raw)
        .map_err(|error| Trouble::Asked(format!("{} is not JSON: {error}", shown(&arguments.file))))?;
    let names: Vec<&str> = destinations.iter().map(ServerName::as_str).collect();
    let mut fields = vec![format!("\"destinations\":{}", json!(names))];
    fields.extend(arguments.key.as_ref().map(|key| format!("\"key\":{}", json!(key))));
    fields.extend(arguments.event_id.as_ref().map(|id| format!("\"event_id\":{}", json!(id))));
    fields.push(match &arguments.edu {
        Some(edu_type) => format!("\"edu\":{{\"edu_type\":{},\"content\":{raw}}}", json!(edu_type)),
        None => format!("\"pdu\":{raw}"),
    });
    Ok(format!("{{\"submissions\":[{{{}}}]}}", fields.join(",")))
}

fn destinations(arguments: &Send) -> Result<Vec<ServerName>, Trouble> {
    let mut names = arguments.to.clone();
    if let Some(file) = &arguments.to_file {
        let text = fs::read_to_string(file)
            .map_err(|error| Trouble::Asked(format!("{} cannot be read: {error}", file.display())))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let name = ServerName::parse(line);
            names.push(
                name.map_err(|error| Trouble::Asked(format!("{}:{}: {error}", file.display(), number + 1)))?,
            );
        }
    }
    if names.is_empty() {
        return Err(Trouble::Asked("there are no destinations; name some with --to or --to-file".to_owned()));
    }
    Ok(names)
}

fn read(file: &Path) -> Result<String, Trouble> {
    let is_stdin = file.as_os_str() == "-";
    let read = if is_stdin { read_bounded(io::stdin()) } else { fs::File::open(file).and_then(read_bounded) };
    let text = read.map_err(|error| Trouble::Asked(format!("{} cannot be read: {error}", shown(file))))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let text = format!("{} has more than {FILE_BYTES_MAX} bytes; this is not one event", shown(file));
        return Err(Trouble::Asked(text));
    }
    Ok(text)
}

fn read_bounded(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn shown(file: &Path) -> String {
    if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() }
}

/// More than the largest EDU; the bus says what exactly it takes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
