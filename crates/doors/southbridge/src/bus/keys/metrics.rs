//! The numbers of keys and checks on the metrics page.
//!
//! # Source
//! K10, K13.

use southbridge_kernel::stats::Exposition;

use super::VerifyError;
use super::driver::Inner;
use crate::local_http::Count;

/// What was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    Event,
    Object,
    Request,
}

/// How checks ended.
#[derive(Debug, Default)]
pub(super) struct CheckCounters([[Count; OUTCOMES.len()]; KINDS.len()]);

impl Inner {
    /// Counts how a check ended.
    pub(super) fn count<T>(&self, what: Checked, outcome: Result<T, VerifyError>) -> Result<T, VerifyError> {
        let place = match &outcome {
            Ok(_) => 0,
            Err(error) if error.is_repeatable() => 2,
            Err(_) => 1,
        };
        self.checks.0[what as usize][place].add(1);
        outcome
    }

    pub(super) fn expose(&self, out: &mut Exposition) {
        let name = "southbridge_keys_checks_total";
        out.head(name, "counter", "Signed things checked, by what they are and what came of it.");
        for (kind, counts) in KINDS.into_iter().zip(&self.checks.0) {
            for (outcome, count) in OUTCOMES.into_iter().zip(counts) {
                out.value(name, &[("what", kind), ("outcome", outcome)], count.value());
            }
        }
        let keyring = self.keyring.borrow().counters();
        let name = "southbridge_keys_wanted_total";
        out.head(name, "counter", "Keys asked for, by where the answer was looked for.");
        for (answer, count) in [
            ("known", keyring.known),
            ("joined", keyring.joined),
            ("searched", keyring.searches),
            ("refused", keyring.refused),
        ] {
            out.value(name, &[("answer", answer)], count);
        }
        let name = "southbridge_keys_fetches_total";
        out.head(name, "counter", "Requests for keys, by who was asked.");
        out.value(name, &[("from", "origin")], keyring.origin_fetches);
        out.value(name, &[("from", "notary")], keyring.notary_fetches);
        for (name, help, count) in [
            ("southbridge_keys_refreshes_total", "Keys asked for anew before they end.", keyring.refreshes),
            ("southbridge_keys_not_believed_total", "Answers about keys not believed.", keyring.not_believed),
        ] {
            out.head(name, "counter", help);
            out.value(name, &[], count);
        }
        for (name, help, count) in [
            ("southbridge_keys_servers", "Servers whose keys or failures are remembered.", keyring.servers),
            ("southbridge_keys_bytes", "Bytes they take, about.", keyring.bytes),
            ("southbridge_keys_waiting", "Keys being waited for.", keyring.waiting),
        ] {
            out.head(name, "gauge", help);
            out.value(name, &[], count as u64);
        }
    }
}

const KINDS: [&str; 3] = ["event", "object", "request"];
/// Good; refused, which is final; and no keys to be had.
const OUTCOMES: [&str; 3] = ["good", "refused", "no_keys"];
