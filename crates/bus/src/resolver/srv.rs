//! Which SRV records can be used.
//!
//! # Source
//! RFC 2782; Matrix specification, "Resolving server names", steps 3.3, 3.4, 4 and 5.

use std::sync::Arc;

use southbridge_words::SrvRecord;

/// Under which of its two names the service is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SrvService {
    /// `_matrix-fed._tcp`, since Matrix 1.8.
    MatrixFed,
    /// `_matrix._tcp`, deprecated and still in use.
    Matrix,
}

impl SrvService {
    /// The whole name to look up for `host`.
    pub(super) fn name(self, host: &str) -> Arc<str> {
        match self {
            Self::MatrixFed => format!("_matrix-fed._tcp.{host}").into(),
            Self::Matrix => format!("_matrix._tcp.{host}").into(),
        }
    }

    /// What is asked when there are no records under this name.
    pub(super) fn next(self) -> Option<Self> {
        match self {
            Self::MatrixFed => Some(Self::Matrix),
            Self::Matrix => None,
        }
    }
}

/// What an SRV answer comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Usable {
    /// These, the best first.
    Targets(Vec<SrvRecord>),
    /// There is no record that could be used.
    Nothing,
    /// The sole record says that the service is decidedly not here.
    NotOffered,
}

/// The at most `targets_max` records of an answer that can be used, the lowest priority number first.
pub(super) fn usable(records: &[SrvRecord], targets_max: usize) -> Usable {
    if !records.is_empty() && records.iter().all(|record| is_root(&record.target)) {
        return Usable::NotOffered;
    }
    let mut targets: Vec<SrvRecord> = Vec::new();
    let mut good: Vec<&SrvRecord> = records.iter().filter(|record| is_usable(record)).collect();
    // The heaviest of one priority first, so that what is cut off matters least.
    good.sort_by_key(|record| (record.priority, std::cmp::Reverse(record.weight)));
    for record in good {
        let seen = targets.iter().any(|other| other.port == record.port && other.target == record.target);
        if !seen && targets.len() < targets_max {
            targets.push(SrvRecord { target: host_name(&record.target), ..record.clone() });
        }
    }
    if targets.is_empty() { Usable::Nothing } else { Usable::Targets(targets) }
}

/// `target` as it is looked up: in lower case, without the final dot, and shared where it is so already.
fn host_name(target: &Arc<str>) -> Arc<str> {
    let bare = target.trim_end_matches('.');
    match bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => bare.to_ascii_lowercase().into(),
        false if bare.len() == target.len() => Arc::clone(target),
        false => bare.into(),
    }
}

fn is_root(target: &str) -> bool {
    target.is_empty() || target == "."
}

fn is_usable(record: &SrvRecord) -> bool {
    record.port != 0 && is_host_name(record.target.strip_suffix('.').unwrap_or(&record.target))
}

/// Whether `name` can be looked up as a host. Underscores are let through: such hosts exist.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !last_is_number
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SrvRecord {
        SrvRecord { priority, weight, port, target: target.into() }
    }

    #[test]
    fn the_lowest_priority_and_the_heaviest_weight_come_first() {
        let records =
            [record(20, 0, 1, "c.example"), record(10, 5, 2, "B.example."), record(10, 60, 3, "a.example")];
        let expected =
            [record(10, 60, 3, "a.example"), record(10, 5, 2, "b.example"), record(20, 0, 1, "c.example")];
        assert_eq!(usable(&records, 16), Usable::Targets(expected.to_vec()));
        assert_eq!(usable(&records, 1), Usable::Targets(expected[..1].to_vec()));
    }

    /// A dot among real targets is noise; a dot alone is a statement; nothing is nothing.
    #[test]
    fn a_dot_alone_says_that_the_service_is_not_offered() {
        assert_eq!(usable(&[record(0, 0, 0, ".")], 16), Usable::NotOffered);
        assert_eq!(usable(&[], 16), Usable::Nothing);
        let mixed = usable(&[record(0, 0, 1, "."), record(0, 0, 1, "a.example")], 16);
        assert_eq!(mixed, Usable::Targets(vec![record(0, 0, 1, "a.example")]));
    }

    #[test]
    fn records_that_cannot_be_dialled_are_ignored() {
        let long = "a".repeat(64);
        for (port, target) in
            [(0, "a.example"), (1, "1.2.3.4"), (1, "a b"), (1, "a..b"), (1, long.as_str()), (1, "::1")]
        {
            assert_eq!(usable(&[record(0, 0, port, target)], 16), Usable::Nothing, "{target}:{port}");
        }
    }

    proptest! {
        /// Whatever a name server sends, the result is bounded and can be looked up.
        #[test]
        fn any_answer_is_read_without_harm(
            records in prop::collection::vec((any::<u16>(), any::<u16>(), any::<u16>(), "\\PC{0,80}"), 0..64),
            targets_max in 0_usize..20,
        ) {
            let records: Vec<SrvRecord> = records.iter().map(|(p, w, port, t)| record(*p, *w, *port, t)).collect();
            if let Usable::Targets(targets) = usable(&records, targets_max) {
                prop_assert!(targets.len() <= targets_max);
                prop_assert!(targets.iter().all(|t| t.port != 0 && is_host_name(&t.target)));
                prop_assert!(targets.is_sorted_by_key(|target| target.priority));
            }
        }
    }
}
