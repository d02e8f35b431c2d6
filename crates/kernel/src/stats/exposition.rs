//! The text format that Prometheus reads.
//!
//! # Source
//! Prometheus exposition format, version 0.0.4.

use std::fmt::{self, Write};

use rustc_hash::FxHashMap;

use super::reading::{Figure, Reading, Value};
use super::{Distribution, Kind, Unit};

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    families: Vec<Family>,
    places: FxHashMap<String, usize>,
}

/// Everything of one name.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Sample {
    suffix: &'static str,
    pub(super) labels: Vec<(String, String)>,
    pub(super) value: String,
}

impl Exposition {
    /// The content type of the page.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins the metric `name` of `kind` (`counter`, `gauge`, `histogram`).
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let family = self.family(name);
        kind.clone_into(&mut family.kind);
        help.clone_into(&mut family.help);
    }

    /// One value of it.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let sample = Sample { suffix: "", labels: labels.collect(), value: value.to_string() };
        self.family(name).samples.push(sample);
    }

    /// Everything that was read out of a region, but for names that stand here already.
    pub fn reading(&mut self, reading: &Reading) {
        let before = self.families.len();
        for figure in &reading.figures {
            let place = self.places.get(&figure.name).copied();
            if place.is_some_and(|place| place < before) {
                continue;
            }
            if place.is_none() {
                self.head(&figure.name, figure.value.kind().name(), &figure.help);
            }
            self.figure(figure);
        }
    }

    /// The page.
    pub fn into_text(self) -> String {
        let mut text = String::new();
        for family in &self.families {
            let name = &family.name;
            if !family.kind.is_empty() {
                let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
                let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", family.kind);
            }
            for Sample { suffix, labels, value } in &family.samples {
                let _infallible = writeln!(text, "{name}{suffix}{} {value}", Labels(labels));
            }
        }
        text
    }

    pub(super) fn families(&self) -> &[Family] {
        &self.families
    }

    fn family(&mut self, name: &str) -> &mut Family {
        let place = self.places.get(name).copied().unwrap_or_else(|| {
            let (kind, help) = (String::new(), String::new());
            self.families.push(Family { name: name.to_owned(), kind, help, samples: Vec::new() });
            self.places.insert(name.to_owned(), self.families.len() - 1);
            self.families.len() - 1
        });
        &mut self.families[place]
    }

    fn figure(&mut self, figure: &Figure) {
        let Figure { labels, unit, .. } = figure;
        let samples = &mut self.family(&figure.name).samples;
        let mut push = |suffix, labels: Vec<(String, String)>, value: String| {
            samples.push(Sample { suffix, labels, value });
        };
        match &figure.value {
            Value::Histogram(spread) => {
                for (bound, count) in cumulative(spread, *unit) {
                    let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
                    let mut labels = labels.clone();
                    labels.push(("le".to_owned(), bound));
                    push("_bucket", labels, count.to_string());
                }
                push("_sum", labels.clone(), shown(i128::from(spread.sum()), *unit));
                push("_count", labels.clone(), spread.count().to_string());
            }
            Value::Counter(stored) => push("", labels.clone(), shown(i128::from(*stored), *unit)),
            Value::Gauge(stored) => push("", labels.clone(), shown(i128::from(*stored), *unit)),
        }
    }
}

impl Value {
    /// What kind of figure has it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Counter(_) => Kind::Counter,
            Self::Gauge(_) => Kind::Gauge,
            Self::Histogram(_) => Kind::Histogram,
        }
    }
}

/// Upper bounds in `unit` (`None`: no bound), with how many are at most so much. The bounds are powers of two of what
/// is kept, where buckets end: from 8 µs to 137 s; from 1 to a trillion bytes or things, in steps of four; and ratios
/// from a thousandth to a thousand, in steps of two.
pub(super) fn cumulative(spread: &Distribution, unit: Unit) -> Vec<(Option<f64>, u64)> {
    let (first, last, step) = match unit {
        Unit::Seconds => (13, 37, 1),
        Unit::Count | Unit::Bytes => (0, 40, 2),
        Unit::Ratio => (20, 40, 1),
    };
    let bounds = (first..=last).step_by(step).map(|power: u32| 1_u64 << power);
    let counted = bounds.map(|bound| (Some(bound as f64 / unit.per_one() as f64), spread.at_most(bound)));
    counted.chain([(None, spread.count())]).collect()
}

/// What is kept, in the unit itself; whole numbers stay whole.
pub(super) fn shown(stored: i128, unit: Unit) -> String {
    match unit.per_one() {
        1 => stored.to_string(),
        per_one => (stored as f64 / per_one as f64).to_string(),
    }
}

struct Labels<'a>(&'a [(String, String)]);

impl fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = '{';
        for (name, value) in self.0 {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{before}{name}=\"{escaped}\"")?;
            before = ',';
        }
        if self.0.is_empty() { Ok(()) } else { f.write_str("}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Metric, Region, RegionOptions};

    #[test]
    fn labels_are_escaped() {
        let mut page = Exposition::default();
        page.value("x", &[("host", "a\"b\\c\nd")], 1);
        page.value("y", &[], 2);
        assert_eq!(page.into_text(), "x{host=\"a\\\"b\\\\c\\nd\"} 1\ny 2\n");
    }

    /// What the kernel computes when it is asked wins over what was left in the region at the last interval.
    #[test]
    fn a_name_stands_on_the_page_once() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        region.gauge(&Metric::new("hosts", "Old.")).unwrap().set(1.0);
        region.counter(&Metric::new("a_total", "A.").with(&[("x", "1")])).unwrap().add(3);
        region.counter(&Metric::new("b_total", "B.").in_unit(Unit::Seconds)).unwrap().add_f64(0.25);
        region.counter(&Metric::new("a_total", "A.").with(&[("x", "2")])).unwrap().add(4);
        let mut page = Exposition::default();
        page.head("hosts", "gauge", "New.");
        page.value("hosts", &[], 7);
        page.reading(&region.read());
        assert_eq!(
            page.into_text(),
            "# HELP hosts New.\n# TYPE hosts gauge\nhosts 7\n\
             # HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 3\na_total{x=\"2\"} 4\n\
             # HELP b_total B.\n# TYPE b_total counter\nb_total 0.25\n"
        );
    }

    #[test]
    fn a_histogram_says_how_many_are_at_most_each_bound() {
        let region = Region::new(&RegionOptions::default()).unwrap();
        let histogram = region.histogram(&Metric::new("t", "T.").in_unit(Unit::Seconds)).unwrap();
        for value in [0.0, 0.000_008, 0.000_9, 0.001_1, 1e6] {
            histogram.observe(value);
        }
        let mut page = Exposition::default();
        page.reading(&region.read());
        let text = page.into_text();
        for line in [
            "t_bucket{le=\"0.000008192\"} 2",
            "t_bucket{le=\"0.001048576\"} 3",
            "t_bucket{le=\"0.002097152\"} 4",
            "t_bucket{le=\"137.438953472\"} 4",
            "t_bucket{le=\"+Inf\"} 5",
            "t_count 5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("t_sum 1000000.002"), "{text}");
    }
}
