//! Machines that decide: facts and the time go in, decisions come out, and nothing is done.
//!
//! Floor 1 of the house. Every machine here has the shape that the style page shows: `handle_*`
//! takes a fact, `poll` gives the next decision until there is none, `poll_timeout` says when to
//! come back. They run the same in the kernel and in the simulated world.
//!
//! # Architecture Invariant
//! No socket, thread, file, clock or random source. What needs chance is given a seed.

pub mod admission;
pub mod budget;
pub mod freshness;
pub mod lane;
pub mod limits;
pub mod pool;
pub mod racing;
pub mod ranker;
mod roster;
pub mod seeded;
mod slots;
