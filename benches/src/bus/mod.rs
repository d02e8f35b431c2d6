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

/// All of it, one after the other.
///
/// # Errors
/// The peers, the disk or a request failed.
pub async fn run(report: &mut Report) -> Done {
    signing::run(report)?;
    fan_out::run(report).await?;
    sustained::run(report).await?;
    restart::run(report).await?;
    idle::run(report)?;
    storm::run(report).await
}
