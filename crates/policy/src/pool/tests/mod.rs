//! The promises of the pool: its rules as stories, and what holds whatever happens.

mod check;
mod connecting;
mod fairness;
mod lending;
mod patience;
mod pressure;
mod promise;
mod properties;
mod world;

use super::{Capacity, PoolLimits};

/// Limits that no story meets unless it sets them.
fn limits() -> PoolLimits {
    PoolLimits { handshakes_max: 512, limited_handshakes_max: 256, ..PoolLimits::default() }
}

/// HTTP/2 with `streams_max` streams.
const fn shared(streams_max: u32) -> Capacity {
    Capacity::Shared { streams_max }
}
