//! What is counted: figures in shared memory, bumped on the hot path by one add each, read by everybody.
//!
//! ```text
//! any thread:   counter.add(1) ──▶ ┌──────────────┐ ◀── another process, now or after a crash (Reading)
//!                                  │ the Region   │
//! I/O thread:   the kernel's Stats▶└──────────────┘ ──▶ /metrics, StatsD, a file, OTLP (publish)
//! ```
//!
//! A [`Region`] is memory of a fixed layout. Figures are registered in it once, under a name with labels; what comes
//! back is a handle ([`Counter`], [`Gauge`], [`Histogram`]) that any thread may bump. [`Stats`] are the kernel's own.
//!
//! ```
//! use southbridge_kernel::stats::{Metric, Place, Region, RegionOptions, Unit};
//!
//! let region = Region::new(&RegionOptions::default())?;
//! # let dir = tempfile::tempdir()?;
//! let place = Place::new(dir.path().join("statistics")); // or Place::of_process()
//! region.move_into(&place)?; // from here on, `southbridge stats` reads it
//! let orders = region.counter(&Metric::new("orders_total", "Orders.").with(&[("shop", "north")]))?;
//! let work = region.histogram(&Metric::new("work_seconds", "Work.").in_unit(Unit::Seconds))?;
//! orders.add(1);
//! work.observe(0.012);
//! assert_eq!((orders.get(), work.count()), (1, 1));
//! region.close(); // what stays tells of a crash
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Units
//! Counters count events since the start; sizes are bytes, times are seconds, kept to the nanosecond.
//!
//! # Source
//! K10, K11, K13; DESIGN decision 11. Latencies are taken in the kernel, so they hold when an application's
//! loop is late.

mod board;
mod buckets;
mod cells;
mod distribution;
mod endpoints;
mod exposition;
mod figures;
mod fork;
mod layout;
mod mapping;
mod metric;
mod place;
pub mod publish;
mod reading;
mod region;
mod registry;
mod services;

pub use board::{Board, MoreMetrics};
pub use cells::{Counter, Gauge, Histogram};
pub use distribution::Distribution;
pub use exposition::Exposition;
pub use figures::{Stats, StatsConfig};
pub use metric::{Kind, Metric, RegisterError, Unit};
pub use place::{Found, KeepLimits, Place, PlaceError};
pub use reading::{Damage, Figure, ReadError, Reading, Value};
pub use region::{Region, RegionOptions};
pub(crate) use services::ServiceFigures;

#[cfg(test)]
mod tests;
