//! `send`, `queue` and `keys`: what a person asks of the bus of a running Southbridge, by its door.

mod client;
pub mod keys;
pub mod queue;
pub mod send;

use serde_json::Value;

pub use client::Client;
pub(in crate::commands) use client::{split, talk};

use crate::commands::{FAILED, MISCONFIGURED, print};

/// Why a command ends without having done what was asked.
#[derive(Debug)]
pub enum Trouble {
    /// The command line or the configuration is wrong.
    Asked(String),
    /// It was asked rightly, and did not work.
    Met(String),
}

/// Prints what is wrong, and says with which code to end.
fn fail(trouble: &Trouble) -> u8 {
    let (text, code) = match trouble {
        Trouble::Asked(text) => (text, MISCONFIGURED),
        Trouble::Met(text) => (text, FAILED),
    };
    eprintln!("{text}");
    code
}

fn print_json(value: &Value) {
    print(&format!("{value:#}\n"));
}

/// `3 messages`, `1 message`.
fn counted(count: u64, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}
