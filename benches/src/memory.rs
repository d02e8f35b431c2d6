//! Bytes per open connection and per remembered host, each weighed in a process that does nothing else.

use std::process::{Command, Stdio};

use clap::ValueEnum;

use crate::Done;
use crate::held::What;
use crate::report::Report;

/// Weighs.
///
/// # Errors
/// A holder failed.
pub fn run(report: &mut Report) -> Done {
    let bare = weigh(What::BareConnections)? / KIB;
    report.add("memory", "bare client, per open TLS connection", "KiB", None, &[bare]);
    let ours = weigh(What::Connections)? / KIB;
    report.add("memory", "Southbridge, per open TLS connection", "KiB", Some(32.0), &[ours]);
    let grown = weigh(What::Requests)? / KIB;
    report.add("memory", "growth over 100,000 warm requests", "KiB", Some(256.0), &[grown]);
    let host = weigh(What::Hosts)?;
    report.add("memory", "per remembered host without connection", "B", Some(1024.0), &[host]);
    Ok(())
}

/// What a process that holds `what` says that it weighs.
///
/// # Errors
/// The holder failed.
pub fn weigh(what: What) -> Done<f64> {
    let name = what.to_possible_value().ok_or("a weight without a name")?;
    let output = Command::new(std::env::current_exe()?)
        .args(["hold", name.get_name()])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("hold {} ended with {}", name.get_name(), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

const KIB: f64 = 1024.0;
