//! The Externaliser: takes PDUs, EDUs and queries for any number of destinations, and says what is to be done about
//! them (F2).
//!
//! ```text
//!  send_pdu ─┐                                 ┌─ queue a ─┐
//!  send_edu ─┼─▶ Writing ─▶ outbox ─▶ Queues ──┼─ queue b ─┼──▶ Lines ──▶ Send, Transmit
//!            │  (durable)             ▲  ▲     └─ queue … ─┘   (whose turn it is)
//!            └────────────────────────┘  └── recovered, read back
//!              (volatile)
//!  query ─────▶ Queries ──▶ Ask
//! ```
//!
//! Volatile EDUs that are for more destinations than there is time for wait in the broadcast (`edus::Broadcast`)
//! first, and are collapsed there.
//!
//! # Rules
//! - **Durable before acknowledged.** PDUs and EDUs that must not be lost are in the outbox before they are accepted, and
//!   a transaction that holds some is on record before its first byte goes out (F16).
//! - **In order.** Each destination sees its durable items in the order of their positions.
//! - **Bounded.** Whatever the backlog, so many items are in memory, so many sends asked for, so many queries under way.
//! - **Messages first.** Whoever has only volatile EDUs waiting comes after all others, and no more than so many of those
//!   begin in a second; what volatile EDUs cost is bounded, however many there are.
//! - **No herd.** All waits are jittered, retries draw on a budget, first contacts after a start are spread.
//! - **Never silently.** What is accepted ends as `Delivered` or `GivenUp`; what is expendable is counted when it is shed.
//!
//! # When the outbox is in trouble
//! | it says | then |
//! | --- | --- |
//! | full | items are refused, typed; what makes room (marks) is still written; volatile traffic goes on |
//! | unavailable | items wait for it as long as `accepting_patience`, then they are refused; no durable transaction is begun meanwhile; volatile traffic goes on |
//! | failed, damaged | nothing durable is accepted or begun until the process starts anew; volatile traffic goes on |
//! | fenced | the partitions concerned are found by writing marks apart, and their queues are let go of |
//!
//! A destination that another process serves (partitions of a shared outbox) gets its durable items from there. Volatile
//! EDUs are sent by whoever was given them: nobody else has them, and their order against durable items says nothing.
//!
//! # Units
//! See [`ExternaliserLimits`].
//!
//! # Source
//! F2, F5 to F9, F14 to F16, F19; faults rows 16 to 21, 25, 27, 28.

mod action;
mod answer;
mod event;
mod facts;
mod limits;
mod lines;
mod machine;
mod moment;
mod outbox_facts;
mod pace;
mod pressure;
mod queries;
mod queues;
mod refused;
#[cfg(test)]
mod tests;
mod writing;

pub use action::{Action, Errand, WriteId};
pub use answer::{Answer, Failure};
pub use event::{Acknowledgement, Event, GivenUp, Hold, Lost, ShedReason};
pub use limits::ExternaliserLimits;
pub(crate) use limits::unless;
pub(crate) use lines::{Line, Urgency};
pub use machine::{Counts, Externaliser};
pub use moment::Moment;
pub(crate) use queues::QueueKey;
pub use refused::Refused;

pub use crate::queue::{QueueLimits, QueueState, QueueView};
