//! The fake Internet that tests, the demo and the benchmarks use.

pub mod certificates;
pub mod dns;
pub mod homeserver;
#[cfg(test)]
mod probe;
pub mod raw;
mod task;
