//! The keyring: whose key is this, and is it still good (F18).
//!
//! A machine: it is told that somebody needs a key, says whom to ask for it, is told what came of it, and answers every
//! ticket exactly once.
//!
//! ```text
//!               ┌─ known and good ───────────────────────────────▶ answered (past half its life: refreshed meanwhile)
//! wanted ───────┼─ searched for already ──▶ waits with the others
//!               ├─ failed lately, or answered within the minute ─▶ refused, nobody is asked
//!               └─ search ──▶ origin ──▶ notary ──▶ notary … ────▶ answered as soon as one has it
//! ```
//!
//! What the specification leaves open is decided so:
//! - A good answer is one that the server signed with a key in it; from a notary also one that the notary signed. An
//!   answer that is not good changes nothing, whatever was known before stays (`held`).
//! - A notary cannot replace what a server is known to sign with: while we know keys with which a server signs, what
//!   a notary says of it must be signed with one of those, or be said by several notaries
//!   ([`Sources::agreement_min`]).
//! - Validity runs on the wall clock, and no longer than the answer's lifetime on the monotonic one: a wall clock that
//!   is set back prolongs nothing, and one that leaps ahead makes us ask again, at the pace of failures.
//! - Keys are refreshed when they are asked for in the second half of their life, so what nobody asks for costs nothing.
//!
//! # Units
//! Times are told; nothing here looks at a clock.
//!
//! # Source
//! F18, faults rows 21 and 30; Matrix specification v1.19, Server-Server API, "Retrieving server keys".

mod action;
mod asking;
mod desk;
mod flight;
mod held;
mod kept;
mod limits;
mod machine;
mod shelf;
mod wanted;

pub use action::{Action, FetchId, QUERY_PATH, SERVER_PATH};
pub use kept::KeyView;
pub use limits::{First, KeyringLimits, Notary, Sources};
pub use machine::{Keyring, KeyringCounters};
pub use wanted::{FetchFailure, KeyError, Purpose, Trouble, Wanted};

#[cfg(test)]
mod tests;
