//! The numbers of the bus on the metrics page.
//!
//! # Source
//! K10, K13.

use southbridge_bus::externaliser::{Counts, QueueState};
use southbridge_kernel::stats::Exposition;

use super::counters::{ByOutcome, Counters, Outcome};
use super::inner::Inner;

impl Inner {
    pub(super) fn expose(&self, out: &mut Exposition) {
        let counts = self.externaliser.borrow().counts();
        expose_queues(&counts, out);
        let (transactions, queries) = self.under_way();
        let gauges = [
            (
                "southbridge_bus_transactions_under_way",
                transactions as u64,
                "Transactions asked for or under way.",
            ),
            ("southbridge_bus_queries_under_way", queries as u64, "Queries under way."),
            ("southbridge_bus_answer_bytes", self.held().bytes(), "Bytes of answers being read."),
            ("southbridge_outbox_jobs", self.desk.under_way() as u64, "Jobs of the outbox under way."),
            (
                "southbridge_outbox_jobs_waiting",
                self.desk.waiting() as u64,
                "Of these, without room on its thread.",
            ),
            ("southbridge_outbox_job_bytes", self.desk.bytes() as u64, "Bytes in jobs of the outbox."),
            (
                "southbridge_outbox_partitions",
                counts.partitions.into(),
                "Of the 256 shares of all destinations, those that this process delivers to.",
            ),
            (
                "southbridge_outbox_trouble",
                self.counters.outbox_trouble.get().into(),
                "1 while the outbox takes nothing.",
            ),
        ];
        for (name, value, help) in gauges {
            out.head(name, "gauge", help);
            out.value(name, &[], value);
        }
        self.counters.expose(&counts, self.ring.written(), out);
        self.keys.expose(out);
    }
}

fn expose_queues(counts: &Counts, out: &mut Exposition) {
    out.head("southbridge_bus_queues", "gauge", "Federation queues, by what they do.");
    for (state, count) in QueueState::ALL.into_iter().zip(counts.queues) {
        out.value("southbridge_bus_queues", &[("state", state.name())], count);
    }
    let gauges = [
        ("southbridge_bus_destinations", counts.destinations, "Destinations known to the queues."),
        ("southbridge_bus_queues_lined_up", counts.lined_up, "Queues that wait for their turn."),
        ("southbridge_bus_accepting", counts.accepting, "Items that wait to be on the disk."),
        ("southbridge_bus_item_bytes", counts.item_bytes, "Bytes of durable items in memory."),
        ("southbridge_bus_volatile_bytes", counts.volatile_bytes, "Bytes of volatile EDUs in memory."),
        (
            "southbridge_bus_volatile_parts",
            counts.volatile_parts,
            "Parts of volatile EDUs that wait, counted for each destination.",
        ),
        (
            "southbridge_bus_broadcast_parts",
            counts.broadcast_parts,
            "Parts of volatile EDUs that wait to be spread over their destinations.",
        ),
    ];
    for (name, value, help) in gauges {
        out.head(name, "gauge", help);
        out.value(name, &[], value);
    }
}

impl Counters {
    fn expose(&self, counts: &Counts, results: u64, out: &mut Exposition) {
        let requests = [
            (
                "southbridge_bus_transactions_total",
                &self.transactions,
                "Transactions that ended, by outcome.",
            ),
            ("southbridge_bus_query_attempts_total", &self.queries, "Attempts of queries, by outcome."),
        ];
        for (name, counted, help) in requests {
            expose_outcomes(name, counted, help, out);
        }
        out.head("southbridge_bus_edus_dropped_total", "counter", "Expendable EDUs dropped under pressure.");
        let dropped = [
            ("m.typing", counts.shed.typing),
            ("m.presence", counts.shed.presence),
            ("m.receipt", counts.shed.receipts),
        ];
        for (kind, count) in dropped {
            out.value("southbridge_bus_edus_dropped_total", &[("type", kind)], count);
        }
        out.head(
            "southbridge_bus_items_given_up_total",
            "counter",
            "Accepted items that will not be delivered.",
        );
        for (reason, count) in Self::REASONS.into_iter().zip(&self.given_up) {
            out.value("southbridge_bus_items_given_up_total", &[("reason", reason)], count.get());
        }
        let totals = [
            ("southbridge_bus_items_delivered_total", self.items_delivered.get(), "Durable items delivered."),
            (
                "southbridge_bus_pdus_refused_total",
                self.pdus_refused.get(),
                "PDUs that their receivers refused.",
            ),
            ("southbridge_bus_diverged_total", self.diverged.get(), "Transactions that had to be sent anew."),
            ("southbridge_bus_results_total", results, "Results written for readers."),
        ];
        for (name, value, help) in totals {
            out.head(name, "counter", help);
            out.value(name, &[], value);
        }
    }
}

fn expose_outcomes(name: &str, counted: &ByOutcome, help: &str, out: &mut Exposition) {
    out.head(name, "counter", help);
    for outcome in Outcome::ALL {
        out.value(name, &[("outcome", outcome.name())], counted.get(outcome));
    }
}
