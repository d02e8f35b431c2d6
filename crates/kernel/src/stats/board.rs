//! Everything that is to be published: the region, what the kernel holds at the moment, and what others add.
//!
//! What the kernel holds (connections, hosts by state) and what doors and stores count is not bumped in the region:
//! it is asked for. So that another process finds it there as well, it is copied into the region at every beat.
//!
//! # Source
//! K10.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::exposition::{Family, Sample};
use super::reading::Reading;
use super::{Counter, Exposition, Gauge, Metric, RegisterError};
use crate::kernel::Kernel;

/// Adds numbers of its own to what is published: doors and resolvers have some.
pub type MoreMetrics = Rc<dyn Fn(&mut Exposition)>;

/// What is published of one kernel.
#[derive(Clone)]
pub struct Board {
    kernel: Kernel,
    more: Vec<MoreMetrics>,
    copies: Rc<RefCell<FxHashMap<String, Copy>>>,
}

/// Where in the region a number is copied to.
enum Copy {
    Counter(Counter),
    Gauge(Gauge),
    /// The region would not have it.
    Nowhere,
}

impl Board {
    /// The board of `kernel`, with what `more` adds.
    pub fn new(kernel: Kernel, more: Vec<MoreMetrics>) -> Self {
        Self { kernel, more, copies: Rc::default() }
    }

    /// Everything, as of now.
    pub fn page(&self) -> Exposition {
        let mut page = self.live();
        self.kernel.stats().expose(&mut page);
        page
    }

    /// Everything as of now, by way of the region.
    pub fn read(&self) -> Reading {
        self.beat();
        self.kernel.stats().region().read()
    }

    /// Copies into the region what is not bumped there, and says that the kernel is well.
    pub fn beat(&self) {
        for family in self.live().families() {
            for sample in &family.samples {
                self.copy(family, sample);
            }
        }
        self.kernel.stats().region().beat(self.kernel.clock().wall());
    }

    pub(super) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    fn live(&self) -> Exposition {
        let mut page = Exposition::default();
        self.kernel.expose(&mut page);
        for more in &self.more {
            more(&mut page);
        }
        page
    }

    fn copy(&self, family: &Family, sample: &Sample) {
        let key = format!("{}{:?}", family.name, sample.labels);
        let mut copies = self.copies.borrow_mut();
        let copy = copies.entry(key).or_insert_with(|| {
            self.place(family, sample).unwrap_or_else(|error| {
                tracing::debug!(%error, "a number is not in the statistics region");
                Copy::Nowhere
            })
        });
        match copy {
            Copy::Counter(counter) => counter.mirror(sample.value.parse().unwrap_or(0)),
            Copy::Gauge(gauge) => gauge.set(sample.value.parse().unwrap_or(f64::NAN)),
            Copy::Nowhere => {}
        }
    }

    fn place(&self, family: &Family, sample: &Sample) -> Result<Copy, RegisterError> {
        let labels: Vec<(&str, &str)> =
            sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let metric = Metric::new(&family.name, &family.help).with(&labels);
        let region = self.kernel.stats().region();
        match family.kind.as_str() {
            "counter" => region.counter(&metric).map(Copy::Counter),
            _ => region.gauge(&metric).map(Copy::Gauge),
        }
    }
}
