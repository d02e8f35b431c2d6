//! A broken promise, and the shortest story that breaks it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use southbridge_words::Instant;

use super::driver::Simulation;
use super::report::BusReport;
use super::spec::BusSpec;

/// A promise that was broken, with all that is needed to see it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    /// Which, and how.
    pub what: String,
    /// The story: its seed and all options.
    pub spec: BusSpec,
    /// How many facts there were until it was noticed.
    pub facts: u64,
    /// When that was.
    pub at: Instant,
    /// So many facts of trouble are enough: after them everything goes well, and a promise is broken all the same.
    pub shortest: Option<u64>,
}

impl Breach {
    pub(super) fn new(spec: &BusSpec, what: String, facts: u64, at: Instant) -> Self {
        Self { what, spec: spec.clone(), facts, at, shortest: None }
    }

    /// Looks for the shortest beginning of the story after which a promise is broken even if all trouble ceases there.
    /// A bisection: what it finds fails, and one fact less does not.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        let fails = |facts| run(&BusSpec { facts_max: Some(facts), ..self.spec.clone() }, false).0.is_err();
        let (mut well, mut broken) = (0, self.spec.facts_max.unwrap_or(u64::MAX).min(self.facts));
        if !fails(broken) {
            return self;
        }
        while broken - well > 1 {
            let middle = well + (broken - well) / 2;
            if fails(middle) {
                broken = middle;
            } else {
                well = middle;
            }
        }
        self.shortest = Some(broken);
        self
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {} (after {} facts, at {:?})", self.spec.seed, self.what, self.facts, self.at)?;
        if let Some(shortest) = self.shortest {
            writeln!(
                f,
                "the shortest beginning that fails has {shortest} facts (facts_max: Some({shortest}))"
            )?;
        }
        writeln!(f, "replay with: cargo xtask simulate --seed {} --verbose", self.spec.seed)?;
        write!(f, "{:#?}", self.spec)
    }
}

impl std::error::Error for Breach {}

/// Lives through a story. Hands out what it wrote down, if asked to.
pub(super) fn run(spec: &BusSpec, with_log: bool) -> (Result<BusReport, Box<Breach>>, Vec<String>) {
    let mut simulation = Simulation::new(spec, with_log);
    while let Some(goes_on) = step(&mut simulation) {
        if !goes_on {
            let (result, log) = simulation.end();
            return (result.map_err(Box::new), log);
        }
    }
    let (breach, log) = simulation.end_of_panic();
    (Err(Box::new(breach)), log)
}

/// None when a machine panicked.
fn step(simulation: &mut Simulation<'_>) -> Option<bool> {
    match catch_unwind(AssertUnwindSafe(|| simulation.step())) {
        Ok(goes_on) => Some(goes_on),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text =
                text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for an unknown reason");
            simulation.breach(text.to_owned());
            None
        }
    }
}
