//! What came of it, side by side.

use std::fmt;
use std::time::Duration;

use southbridge_tests::columns;

use crate::homes::Sample;
use crate::traffic::Traffic;

/// All samples of all kinds of traffic.
#[derive(Clone, Debug, Default)]
pub struct Table(Vec<(Traffic, Sample)>);

impl Table {
    /// Adds what one pair has used.
    pub fn add(&mut self, traffic: Traffic, sample: Sample) {
        self.0.push((traffic, sample));
    }

    /// Whether Synapse has used less with Southbridge than by itself, over all that was sent.
    pub fn has_come_down(&self) -> bool {
        self.share_of_all() < 1.0
    }

    /// What Synapse has used with Southbridge for everything, as a multiple of what it has used by itself.
    fn share_of_all(&self) -> f64 {
        let sum = |of: fn(&Sample) -> Duration| self.0.iter().map(|(_, sample)| of(sample)).sum::<Duration>();
        sum(|sample| sample.ours).as_secs_f64() / sum(|sample| sample.stock).as_secs_f64()
    }

    fn row(&self, traffic: Traffic) -> [String; COLUMNS] {
        let samples: Vec<Sample> =
            self.0.iter().filter(|(of, _)| *of == traffic).map(|(_, sample)| *sample).collect();
        let range = |of: fn(&Sample) -> f64| range(samples.iter().map(of).collect());
        [
            traffic.to_string(),
            range(|sample| millis(sample.stock)),
            range(|sample| millis(sample.ours)),
            range(|sample| millis(sample.ours) / millis(sample.stock)),
            range(|sample| millis(sample.southbridge)),
            range(|sample| millis(sample.ours + sample.southbridge) / millis(sample.stock)),
        ]
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Milliseconds of CPU for each request to another homeserver: min – median – max of the pairs.\n"
        )?;
        let mut lines = vec![HEAD.map(str::to_owned)];
        lines.extend(Traffic::ALL.into_iter().map(|traffic| self.row(traffic)));
        columns::write(f, &lines)?;
        let direction = if self.has_come_down() { "went down" } else { "did not go down" };
        let share = self.share_of_all();
        writeln!(f, "\nThe CPU use of Synapse {direction}: {share:.2} times what it was, over all of it.")
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn range(mut samples: Vec<f64>) -> String {
    samples.sort_by(f64::total_cmp);
    let middle = samples.len() / 2;
    let median = match samples.as_slice() {
        [] => return "–".to_owned(),
        odd if odd.len() % 2 == 1 => odd[middle],
        even => f64::midpoint(even[middle - 1], even[middle]),
    };
    format!("{:.2} – {median:.2} – {:.2}", samples[0], samples[samples.len() - 1])
}

const COLUMNS: usize = 6;
const HEAD: [&str; COLUMNS] =
    ["traffic", "Synapse by itself", "with Southbridge", "times", "Southbridge", "both, times"];

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(stock: u64, ours: u64) -> Sample {
        let millis = Duration::from_millis;
        Sample { stock: millis(stock), ours: millis(ours), southbridge: millis(1) }
    }

    /// One kind of traffic may cost more: what counts is all of it.
    #[test]
    fn what_counts_is_the_sum_of_all_traffic() {
        let mut table = Table::default();
        table.add(Traffic::KeysFirst, sample(8, 2));
        table.add(Traffic::KeysOpen, sample(2, 4));
        assert!(table.has_come_down());
        assert!(table.to_string().ends_with("went down: 0.60 times what it was, over all of it.\n"));
        table.add(Traffic::KeysOpen, sample(2, 9));
        assert!(!table.has_come_down());
    }

    #[test]
    fn a_range_has_its_median_in_the_middle() {
        assert_eq!(range(vec![3.0, 1.0, 2.0]), "1.00 – 2.00 – 3.00");
        assert_eq!(range(vec![3.0, 1.0]), "1.00 – 2.00 – 3.00");
    }
}
