//! The world in a process of its own: it says in JSON where it is, and takes orders line by line.
//!
//! Orders on standard input, each answered by one line of JSON on standard output:
//!
//! - `storm BLACK_HOLE_SHARE SLOW_SHARE`: draws the health of all hosts afresh;
//! - `calm`: all hosts are healthy, and close the connections on which they hung;
//! - `healthy`, `slow`, `black_hole`: the names of the hosts that are so now;
//! - `counts`: what the homeservers and the DNS server have seen;
//! - `mark PART NUMBER`: a message of which the content has this `part` and `number` is handed in now;
//! - `arrived PART [HEALTH]`, `part PART [HEALTH]`: what came of it to all hosts, or to those that are so now;
//! - `presence NUMBER`: what came of presence, of which the newest has the status message NUMBER.
//!
//! It ends with its standard input, so that it cannot outlive whoever started it.

use std::io::{self, BufRead, Write};

use serde_json::{Value, json};

use super::{FederationSpec, Health, World};

/// Starts a world, writes where it is as one line of JSON to `output`, and takes orders from `input`
/// until its end.
///
/// # Errors
/// When the world cannot start, or nobody listens to what it says.
pub fn serve_forever(spec: FederationSpec, input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let world = World::start(spec)?;
    say(&mut output, &world.describe())?;
    for line in input.lines() {
        let reply = obey(&world, &line?);
        say(&mut output, &reply)?;
    }
    Ok(())
}

fn say(output: &mut impl Write, what: &Value) -> io::Result<()> {
    writeln!(output, "{what}")?;
    output.flush()
}

pub(super) fn obey(world: &World, order: &str) -> Value {
    let words: Vec<&str> = order.split_whitespace().collect();
    match words[..] {
        ["storm", black_hole, slow] => match (black_hole.parse(), slow.parse()) {
            (Ok(black_hole), Ok(slow)) => {
                world.storm(black_hole, slow);
                json!({ "ok": true })
            }
            _ => json!({ "error": "storm takes two shares, for example: storm 0.2 0.1" }),
        },
        ["calm"] => {
            world.calm();
            json!({ "ok": true })
        }
        ["counts"] => world.counts(),
        ["mark", part, number] => match number.parse() {
            Ok(number) => {
                world.mark(part, number);
                json!({ "ok": true })
            }
            Err(_) => json!({ "error": "mark takes a part and a number, for example: mark storm 3" }),
        },
        ["arrived", part] => world.tally().arrived(part, |_| true),
        ["part", part] => world.tally().part(part, |_| true),
        ["arrived", part, health] => of_health(health, |it| world.tally().arrived(part, |n| world.is(n, it))),
        ["part", part, health] => of_health(health, |it| world.tally().part(part, |n| world.is(n, it))),
        ["presence", number] => world.tally().presence(number.parse().unwrap_or(0)),
        [health] => of_health(health, |health| world.names_of(health)),
        _ => json!({ "error": ORDERS }),
    }
}

fn of_health(name: &str, answer: impl FnOnce(Health) -> Value) -> Value {
    match Health::ALL.into_iter().find(|health| health.name() == name) {
        Some(health) => answer(health),
        None => json!({ "error": ORDERS }),
    }
}

const ORDERS: &str = "the orders are: storm BLACK_HOLE_SHARE SLOW_SHARE, calm, healthy, slow, black_hole, counts, \
                      mark PART NUMBER, arrived PART [HEALTH], part PART [HEALTH], presence NUMBER";

impl World {
    /// All that another process needs to know, as JSON: `dns`, `ca`, `well_known_port`, `default_port`,
    /// `federation_port`, and `hosts` with `name`, `route`, `health` and `http2` of each.
    pub fn describe(&self) -> Value {
        let hosts: Vec<Value> = self
            .hosts()
            .iter()
            .map(|host| {
                json!({
                    "name": self.name(host),
                    "route": host.route.name(),
                    "health": host.health.name(),
                    "http2": host.http2,
                })
            })
            .collect();
        json!({
            "dns": self.dns_address().to_string(),
            "ca": self.ca_path(),
            "well_known_port": self.ports().well_known,
            "default_port": self.ports().default,
            "federation_port": self.ports().federation,
            "hosts": hosts,
        })
    }

    /// The names of the hosts that are doing so now, as JSON.
    pub fn names_of(&self, health: Health) -> Value {
        let they = self.hosts().into_iter().filter(|host| host.health == health);
        Value::Array(they.map(|host| Value::String(self.name(&host))).collect())
    }

    /// Whether the host at `index` is doing so now.
    fn is(&self, index: u32, health: Health) -> bool {
        self.plan.health(index as usize) == Some(health)
    }

    /// What was seen so far, as JSON.
    pub fn counts(&self) -> Value {
        let counts = self.homeservers().counts();
        json!({
            "accepted": counts.accepted,
            "open": counts.open,
            "open_max": counts.open_max,
            "handshakes": counts.handshakes,
            "resumed": counts.resumed,
            "handshakes_failed": counts.handshakes_failed,
            "requests": counts.requests,
            "dns_queries": self.dns().queries_total(),
        })
    }
}
