//! What a kernel lives in: a clock, its alarm, and a network. The real ones, or ones that a test holds in its hand.
//!
//! On [`Surroundings::real`] bytes go through the system's sockets and time passes by itself. In
//! [`Surroundings::in_memory`] nothing leaves the process: whoever the kernel dials listens at a [`MemoryNetwork`], names
//! are asked for there too, and the wall clock begins when the test says and goes on with tokio's clock, which a
//! runtime that was started with `start_paused(true)` moves only when it is told to. All the rest is the same code.
//!
//! # Source
//! T4; DESIGN decision 14.

use southbridge_words::WallTime;

use crate::net::{MemoryNetwork, Network};
use crate::{Alarm, Clock};

/// A clock, its alarm, and a network. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// What the time is looked up on.
    pub clock: Clock,
    /// What wakes whoever waits for a time.
    pub alarm: Alarm,
    /// What is dialled through.
    pub network: Network,
}

impl Surroundings {
    /// The system's sockets, and the system's time.
    pub fn real() -> Self {
        let clock = Clock::start();
        Self { clock, alarm: Alarm::new(clock), network: Network::System }
    }

    /// Nothing outside of `network`; it is now `wall`. Must be called within a runtime whose clock is paused.
    pub fn in_memory(network: MemoryNetwork, wall: WallTime) -> Self {
        let clock = Clock::start_at(wall);
        Self { clock, alarm: Alarm::of_tokio(clock), network: Network::Memory(network) }
    }
}
