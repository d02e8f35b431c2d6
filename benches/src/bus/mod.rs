//! The Federation Side Bus: one message to ten thousand servers, and what waits for those that are away.
//!
//! The outbox is a real one on a real disk, the peers are real ones behind TLS in another process, as many as there
//! are descriptors for.
//!
//! # Source
//! Issue 3, "What it must reach"; F15, F16, F19.

mod fan_out;
mod idle;
mod restart;
mod rig;
mod signing;
mod storm;
mod sustained;

use crate::Done;
use crate::report::Report;

pub use idle::{fill_outbox, known_destinations};

/// One of its benchmarks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Signing a transaction request.
    Signing,
    /// One message to nine thousand hosts.
    FanOut,
    /// Two thousand messages a second to two hundred hosts, for a minute.
    Sustained,
    /// A start with ten thousand backlogs.
    Restart,
    /// A hundred thousand known destinations.
    Idle,
    /// Dead hosts, slow hosts, and ten times too many EDUs.
    Storm,
}

/// `part` of it, or all, one after the other.
///
/// # Errors
/// The peers, the disk or a request failed.
pub async fn run(part: Option<Part>, report: &mut Report) -> Done {
    let is = |wanted| part.is_none_or(|part| part == wanted);
    if is(Part::Signing) {
        signing::run(report)?;
    }
    if is(Part::FanOut) {
        fan_out::run(report).await?;
    }
    if is(Part::Sustained) {
        sustained::run(report).await?;
    }
    if is(Part::Restart) {
        restart::run(report).await?;
    }
    if is(Part::Idle) {
        idle::run(report)?;
    }
    if is(Part::Storm) {
        storm::run(report).await?;
    }
    Ok(())
}
