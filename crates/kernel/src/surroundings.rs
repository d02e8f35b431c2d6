//! What a kernel lives in: a clock and a network. The real ones, or ones that a test holds in its hand.
//!
//! On [`Surroundings::real`] bytes go through the system's sockets and time passes by itself. In
//! [`Surroundings::in_memory`] nothing leaves the process: whoever the kernel dials listens at a [`MemoryNetwork`], names
//! are asked for there too, and the wall clock begins when the test says and goes on with tokio's clock, which a
//! runtime that was started with `start_paused(true)` moves only when it is told to. All the rest is the same code.
//!
//! # Source
//! T4; DESIGN decision 14.

use southbridge_words::WallTime;

use crate::Clock;
use crate::net::{MemoryNetwork, Network};

/// A clock and a network. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What the time is looked up on.
    pub clock: Clock,
    /// What is dialled through.
    pub network: Network,
}

impl Surroundings {
    /// The system's sockets, and the system's time.
    pub fn real() -> Self {
        Self { clock: Clock::start(), network: Network::System }
    }

    /// Nothing outside of `network`; it is now `wall`. Must be called within a runtime whose clock is paused.
    pub fn in_memory(network: MemoryNetwork, wall: WallTime) -> Self {
        Self { clock: Clock::start_at(wall), network: Network::Memory(network) }
    }
}
