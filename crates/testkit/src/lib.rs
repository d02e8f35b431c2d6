//! The fake Internet that tests, the demo and the benchmarks use.

pub mod black_hole;
pub mod certificates;
pub mod cut_proxy;
pub mod dns;
pub mod homeserver;
#[cfg(test)]
mod probe;
pub mod raw;
mod task;
