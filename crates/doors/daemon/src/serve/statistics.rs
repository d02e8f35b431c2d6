//! The statistics of the daemon: the region that another process can read, and those who are told.

use std::io;

use southbridge::Southbridge;
use southbridge_kernel::Clock;
use southbridge_kernel::admin::MoreMetrics;
use southbridge_kernel::http::explain;
use southbridge_kernel::stats::publish::{Publishing, publish};
use southbridge_kernel::stats::{Board, KeepLimits, Place, Region, RegionOptions};
use tracing::{info, warn};

use crate::config::sections::statistics::Statistics as Settings;

/// The region at its place, or in memory where there is none to be had; none at all where there is no memory for it,
/// which the kernel will say.
pub fn open(settings: &Settings) -> Option<Region> {
    let options = RegionOptions { bytes_max: settings.bytes_max, ..RegionOptions::default() };
    let region = Region::new(&options).ok()?;
    let place = settings.dir.as_ref().map_or_else(Place::of_process, Place::new);
    place.clean(&KeepLimits::default(), Clock::start().wall());
    match region.move_into(&place) {
        Ok(path) => info!(path = %path.display(), "figures can be read with `southbridge stats`"),
        Err(error) => {
            warn!(error = explain(&error), "figures are in memory only: no other process can read them");
        }
    }
    Some(region)
}

/// Publishes until it is closed.
pub struct Statistics {
    _publishing: Publishing,
    region: Option<Region>,
}

impl Statistics {
    /// Begins to publish what is counted by `southbridge` and by `more`.
    ///
    /// # Errors
    /// When the system gives no socket or thread.
    pub fn publish(
        southbridge: &Southbridge,
        more: Vec<MoreMetrics>,
        settings: &Settings,
        region: Option<Region>,
    ) -> io::Result<Self> {
        let board = Board::new(southbridge.kernel().clone(), more);
        Ok(Self { _publishing: publish(&board, &settings.publish)?, region })
    }

    /// Ends in good order: the file goes, since one that stays tells of a crash.
    pub fn close(self) {
        self.region.iter().for_each(Region::close);
    }
}
