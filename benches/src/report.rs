//! Figures beside their bounds: a table for people, JSON for programs.

use std::fmt;

use serde_json::{Value, json};

/// Everything that was measured, in order.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
}

/// One figure, measured once or several times.
#[derive(Debug)]
struct Figure {
    group: &'static str,
    name: &'static str,
    unit: &'static str,
    bound: Option<f64>,
    samples: Vec<f64>,
}

impl Report {
    /// Adds a figure; with a `bound`, its median must not exceed that.
    pub fn add(
        &mut self,
        group: &'static str,
        name: &'static str,
        unit: &'static str,
        bound: Option<f64>,
        samples: &[f64],
    ) {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let figure = Figure { group, name, unit, bound, samples };
        eprintln!("{figure}");
        self.figures.push(figure);
    }

    /// Whether every bound was kept.
    pub fn is_kept(&self) -> bool {
        self.figures.iter().all(Figure::is_kept)
    }

    /// All figures as JSON.
    pub fn to_json(&self) -> Value {
        self.figures.iter().map(Figure::to_json).collect()
    }
}

impl Figure {
    fn median(&self) -> f64 {
        let middle = self.samples.len() / 2;
        match self.samples.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => self.samples[middle],
            _ => f64::midpoint(self.samples[middle - 1], self.samples[middle]),
        }
    }

    fn min(&self) -> f64 {
        self.samples.first().copied().unwrap_or(f64::NAN)
    }

    fn max(&self) -> f64 {
        self.samples.last().copied().unwrap_or(f64::NAN)
    }

    fn is_kept(&self) -> bool {
        self.bound.is_none_or(|bound| self.median() <= bound)
    }

    fn verdict(&self) -> &'static str {
        match (self.bound, self.is_kept()) {
            (None, _) => "",
            (_, true) => "kept",
            (_, false) => "MISSED",
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "group": self.group,
            "name": self.name,
            "unit": self.unit,
            "bound": self.bound,
            "min": self.min(),
            "median": self.median(),
            "max": self.max(),
            "samples": self.samples.len(),
            "kept": self.is_kept(),
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.bound.map_or_else(String::new, |bound| format!("<= {}", number(bound)));
        write!(
            f,
            "{:<8} {:<46} {:>8} {:>8} {:>8} {:<8} {:>9} {}",
            self.group,
            self.name,
            number(self.min()),
            number(self.median()),
            number(self.max()),
            self.unit,
            bound,
            self.verdict()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:<46} {:>8} {:>8} {:>8} {:<8} {:>9}",
            "", "", "min", "median", "max", "", "bound"
        )?;
        self.figures.iter().try_for_each(|figure| writeln!(f, "{figure}"))
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// `one[n] / other[n]`, of pairs measured next to each other.
pub fn ratios(one: &[f64], other: &[f64]) -> Vec<f64> {
    one.iter().zip(other).map(|(one, other)| one / other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound is for the median: one bad sample of three is weather.
    #[test]
    fn a_bound_is_kept_by_the_median() {
        let mut report = Report::default();
        report.add("a", "b", "us", Some(2.0), &[9.0, 1.0, 2.0]);
        assert!(report.is_kept());
        assert_eq!(report.to_json()[0]["median"], 2.0);
        report.add("a", "c", "us", Some(2.0), &[9.0, 1.0, 3.0]);
        assert!(!report.is_kept());
        assert!(report.to_string().ends_with("MISSED\n"));
    }

    #[test]
    fn pairs_are_divided_one_by_one() {
        assert_eq!(ratios(&[3.0, 4.0], &[2.0, 4.0]), [1.5, 1.0]);
    }
}
