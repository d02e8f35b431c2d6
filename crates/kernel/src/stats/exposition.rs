//! The text format that Prometheus reads.
//!
//! # Source
//! Prometheus exposition format, version 0.0.4.

use std::fmt::Write;

use super::Histogram;

/// A page of metrics in the making.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// The content type of the page.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins the metric `name` of `kind` (`counter`, `gauge`, `histogram`).
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One value of it.
    pub fn value(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _infallible = writeln!(self.text, "{name}{} {value}", Labels(labels, None));
    }

    /// A whole histogram.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        for (bound, count) in histogram.cumulative() {
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            let _infallible = writeln!(self.text, "{name}_bucket{} {count}", Labels(labels, Some(&bound)));
        }
        let plain = Labels(labels, None);
        let (sum, count) = (histogram.sum_seconds(), histogram.count());
        let _infallible = writeln!(self.text, "{name}_sum{plain} {sum}\n{name}_count{plain} {count}");
    }

    /// The page.
    pub fn into_text(self) -> String {
        self.text
    }
}

struct Labels<'a>(&'a [(&'a str, &'a str)], Option<&'a str>);

impl std::fmt::Display for Labels<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bound = self.1.map(|bound| ("le", bound));
        let mut all = self.0.iter().copied().chain(bound).peekable();
        if all.peek().is_none() {
            return Ok(());
        }
        let mut before = '{';
        for (name, value) in all {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            write!(f, "{before}{name}=\"{escaped}\"")?;
            before = ',';
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Exposition::default();
        page.value("x", &[("host", "a\"b\\c\nd")], 1);
        page.value("y", &[], 2);
        assert_eq!(page.into_text(), "x{host=\"a\\\"b\\\\c\\nd\"} 1\ny 2\n");
    }
}
