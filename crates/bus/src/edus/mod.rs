//! What is volatile for one destination while it waits: typing, presence, receipts (F8).
//!
//! Of these the last state counts. So they wait as *parts*, one for each thing that has a state: a user in a room, a
//! user, a thread that a user reads. A later part supersedes the earlier one of its key, a stop takes back the start
//! that nobody has seen, and what waits goes out merged into few EDUs. Under pressure the oldest are dropped and
//! counted; none of it is ever on disk.
//!
//! | EDU | key of a part | merged |
//! | --- | --- | --- |
//! | `m.typing` | room, user | never: one EDU holds one |
//! | `m.presence` | user | users of several EDUs into one `push` |
//! | `m.receipt` | room, receipt type, user, thread (or none) | rooms and users into one EDU, one receipt for each user slot |
//!
//! An EDU of these types with content of another shape is passed on as it is, in order with its like, and is as
//! expendable as its type.
//!
//! [`EduReader`] reads an EDU once; the [`VolatileEdu`] it makes is pushed to each destination's [`WaitingEdus`],
//! which share its bytes. [`WaitingEdus::take`] composes a [`Batch`] for one transaction. Where there are too many to
//! be pushed at once, they wait in [`Broadcast`] and are collapsed there, once for all their destinations.
//!
//! # Units
//! Sizes are bytes of JSON. Ages run on the wall clock, from the creation of the EDU.
//!
//! # Source
//! F8; Matrix specification v1.19, Server-Server API, "Typing Notifications", "Presence", "Receipts".

mod along;
mod batch;
mod broadcast;
mod compose;
mod content;
mod limits;
mod part;
mod reader;
mod shed;
mod slots;
mod typing_memory;
mod waiting;

pub use along::Along;
pub use batch::Batch;
pub use broadcast::{Broadcast, Spread};
pub use limits::EduLimits;
pub use reader::{EduReader, NotVolatile, VolatileEdu};
pub use shed::Shed;
pub use waiting::{Pushed, WaitingEdus};

#[cfg(test)]
mod tests;
