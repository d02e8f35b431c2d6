//! What callers hand in, and how they take the answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_bus::externaliser::{Acknowledgement, Event, Refused};
use southbridge_bus::outgoing::{OutgoingEdu, OutgoingPdu, OutgoingQuery, QueryMethod};
use southbridge_words::{Instant, ServerName, Ticket, WallTime};

use super::agenda::Fact;
use super::driver::Simulation;
use super::hosts::index_of;
use super::ledger::Entry;

/// What an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pdu,
    Durable(&'static str),
    Volatile(&'static str),
}

/// A query that a caller asks.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) host: usize,
    /// Whether it may be processed more than once.
    pub(super) is_repeatable: bool,
    timeout: Duration,
    pub(super) processed: u32,
}

/// What a ticket stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Item(usize),
    Query(usize, Instant),
}

impl Simulation<'_> {
    /// Draws what will be handed in, and when.
    pub(super) fn plan_callers(&mut self) {
        for number in 0..self.spec.backlog + self.spec.items {
            let is_backlog = number < self.spec.backlog;
            let (kind, entry) = self.draw_item(number, is_backlog);
            self.kinds.push(kind);
            self.ledger.items.push(entry);
            if !is_backlog {
                let at = self.some_time();
                self.agenda.add(at, Fact::HandIn(number));
            }
        }
        for number in 0..self.spec.queries {
            let timeout = match self.users.below(4) {
                0 => Duration::ZERO,
                short => Duration::from_secs(short * short * 15),
            };
            let host = self.users.below(self.spec.hosts as u64) as usize;
            self.questions.push(Question { host, is_repeatable: number % 3 > 0, timeout, processed: 0 });
            let at = self.some_time();
            self.agenda.add(at, Fact::Query(number));
        }
    }

    /// Some time at which something is handed in; often in a burst.
    fn some_time(&mut self) -> Instant {
        let lasts = self.spec.lasts.as_millis() as u64;
        let millis = match self.users.below(3) {
            0 => self.users.below(8) * lasts / 8 + self.users.below(20),
            _ => self.users.below(lasts),
        };
        Instant::ZERO + Duration::from_millis(millis + 1)
    }

    fn draw_item(&mut self, number: usize, is_backlog: bool) -> (Kind, Entry) {
        let users = &mut self.users;
        let kind = if !is_backlog && users.factor(0.0, 1.0) < self.spec.volatile_share {
            Kind::Volatile(["m.typing", "m.presence", "m.receipt"][users.below(3) as usize])
        } else if users.below(3) == 0 {
            let types = ["m.direct_to_device", "m.device_list_update", "m.signing_key_update", "sim.unknown"];
            Kind::Durable(types[users.below(4) as usize])
        } else {
            Kind::Pdu
        };
        let all = self.spec.hosts;
        let hosts: Vec<usize> = if is_backlog {
            (0..all).collect()
        } else {
            let count = 1 + users.below(self.spec.destinations_max as u64) as usize;
            let (first, step) = (users.below(all as u64) as usize, 1 + users.below(3) as usize);
            let mut hosts: Vec<usize> = (0..count).map(|nth| (first + nth * step) % all).collect();
            hosts.sort_unstable();
            hosts.dedup();
            hosts
        };
        let padding = "x".repeat(users.below(1 + self.spec.padding_max as u64) as usize);
        let content = format!("{{\"n\":{number},\"pad\":\"{padding}\"}}");
        let bytes = match kind {
            Kind::Pdu => Bytes::from(content),
            Kind::Durable(edu_type) => {
                let edu = OutgoingEdu::new(edu_type, content, WallTime::default());
                edu.expect("the simulation's EDUs are EDUs").to_json()
            }
            Kind::Volatile(_) => Bytes::new(),
        };
        let is_keyed = is_backlog || users.factor(0.0, 1.0) < self.spec.keyed_share;
        let entry = Entry {
            bytes,
            hosts,
            key: is_keyed.then(|| format!("key{number}").into()),
            is_poison: users.below(1000) < self.spec.poison_permille,
            is_acknowledged: false,
            handed_in_at: None,
            seq: None,
        };
        (kind, entry)
    }

    /// A caller hands in item `number`, if there is a process to take it.
    pub(super) fn hand_in(&mut self, number: usize) {
        let entry = &mut self.ledger.items[number];
        entry.handed_in_at.get_or_insert(self.now);
        let destinations: Arc<[ServerName]> =
            entry.hosts.iter().map(|host| self.hosts[*host].name.clone()).collect();
        let (bytes, key) = (entry.bytes.clone(), entry.key.clone());
        let (kind, at, ticket) = (self.kinds[number], self.at(), self.ticket());
        let (number_of_user, wall) = (number % 7, at.wall);
        let Some(process) = &mut self.process else { return self.keep_for_later(number) };
        self.report.handed_in += 1;
        let taken = match kind {
            Kind::Pdu => {
                let pdu = OutgoingPdu::new(bytes).expect("the simulation's PDUs are PDUs");
                process.bus.send_pdu(ticket, pdu, destinations, key, at)
            }
            Kind::Durable(edu_type) => {
                let pad =
                    &bytes["{\"content\":".len()..bytes.len() - edu_type.len() - ",\"edu_type\":\"\"}".len()];
                let edu = OutgoingEdu::new(edu_type, bytes.slice_ref(pad), wall);
                process.bus.send_edu(ticket, edu.expect("it was one before"), destinations, key, at)
            }
            Kind::Volatile(edu_type) => {
                let edu = OutgoingEdu::new(edu_type, volatile(edu_type, number, number_of_user), wall);
                process.bus.send_edu(ticket, edu.expect("it is one"), destinations, key, at)
            }
        };
        match taken {
            Ok(()) => {
                self.tickets.insert(ticket, Errand::Item(number));
            }
            Err(why) => self.on_refused(number, &why),
        }
    }

    /// A caller asks.
    pub(super) fn ask(&mut self, number: usize) {
        let (at, ticket) = (self.at(), self.ticket());
        let question = &self.questions[number];
        let query = if question.is_repeatable {
            OutgoingQuery::new(QueryMethod::Get, "/_matrix/federation/v1/event/{eventId}")
                .path("eventId", format!("q{number}"))
        } else {
            OutgoingQuery::new(QueryMethod::Post, "/_matrix/federation/v1/user/keys/claim")
                .body(format!("{{\"q\":{number}}}"))
        };
        let (host, timeout) = (self.hosts[question.host].name.clone(), question.timeout);
        let Some(process) = &mut self.process else { return };
        if process.bus.query(ticket, &query, host, timeout, at).is_ok() {
            let deadline = if timeout.is_zero() { Instant::FAR_FUTURE } else { self.now + timeout };
            self.tickets.insert(ticket, Errand::Query(number, deadline));
        }
    }

    /// A caller loses interest in what was handed in last.
    pub(super) fn cancel_last(&mut self) {
        let Some((&ticket, &errand)) = self.tickets.last_key_value() else { return };
        self.tickets.remove(&ticket);
        if let Errand::Item(number) = errand {
            // It may be on its way into the outbox: then it is still acknowledged.
            self.cancelled.insert(ticket, number);
        }
        self.tell_bus(|bus, at| bus.cancel(ticket, at));
    }

    /// The process is gone, and with it everybody who waits. Who named his item hands it in again.
    pub(super) fn lose_tickets(&mut self) {
        self.cancelled.clear();
        for (_, errand) in std::mem::take(&mut self.tickets) {
            if let Errand::Item(number) = errand {
                self.keep_for_later(number);
            }
        }
    }

    fn keep_for_later(&mut self, number: usize) {
        if self.ledger.items[number].key.is_some() && self.kinds[number] != Kind::Volatile("m.typing") {
            let after = self.now + Duration::from_millis(500 + self.users.below(20_000));
            self.agenda.add(after, Fact::HandIn(number));
        }
    }

    fn on_refused(&mut self, number: usize, why: &Refused) {
        self.report.refused += 1;
        self.insist(
            matches!(
                why,
                Refused::Overloaded { .. }
                    | Refused::OutboxFull { .. }
                    | Refused::OutboxUnavailable { .. }
                    | Refused::OutboxFailed { .. }
            ),
            || format!("item {number} was refused: {why}"),
        );
        // Who is refused still has it, and may try again: nothing of it was kept. But for a disk that failed: then nobody
        // knows, and only who has named his item can hand it in again without its going out twice.
        let is_known =
            !matches!(why, Refused::OutboxFailed { .. }) || self.ledger.items[number].key.is_some();
        if is_known && !self.is_healed && self.users.below(2) == 0 {
            let after = self.now + Duration::from_millis(500 + self.users.below(20_000));
            self.agenda.add(after, Fact::HandIn(number));
        }
    }

    /// The bus tells something.
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Accepted { ticket, acknowledgement } => self.on_accepted(ticket, acknowledgement),
            Event::Refused { ticket, why } => match self.tickets.remove(&ticket) {
                Some(Errand::Item(number)) => self.on_refused(number, &why),
                Some(Errand::Query(..)) => self.breach("I6: a query ended as an item".to_owned()),
                None => {
                    let is_known = self.cancelled.remove(&ticket).is_some();
                    self.insist(is_known, || "I6: a ticket was answered twice".to_owned());
                }
            },
            Event::QueryDone { ticket, .. } => match self.tickets.remove(&ticket) {
                Some(Errand::Query(_, deadline)) => {
                    self.report.queries += 1;
                    let is_in_time = self.now <= deadline;
                    self.insist(is_in_time, || "I6: a query ended after its deadline".to_owned());
                }
                _ => self.breach("I6: a query was answered twice".to_owned()),
            },
            Event::GivenUp { destination, upto, reason, .. } => {
                let host = index_of(&destination);
                self.report.given_up += 1;
                let bytes_max = self.bytes_max_of(host);
                let told = self.ledger.give_up(host, upto, reason, |entry| {
                    entry.is_poison || entry.bytes.len() + SLACK > bytes_max
                });
                self.check(told);
            }
            Event::Diverged { destination, transaction } => {
                let is_explained = self.expired.contains(&index_of(&destination));
                self.insist(is_explained, || {
                    format!("transaction {transaction} could not be rendered again")
                });
            }
            _ => {}
        }
    }

    fn on_accepted(&mut self, ticket: Ticket, acknowledgement: Acknowledgement) {
        let number = match self.tickets.remove(&ticket) {
            Some(Errand::Item(number)) => number,
            Some(Errand::Query(..)) => return self.breach("I6: a query ended as an item".to_owned()),
            None => match self.cancelled.remove(&ticket) {
                Some(number) => number,
                None => return self.breach("I6: a ticket was answered twice".to_owned()),
            },
        };
        match (acknowledgement, self.kinds[number]) {
            (Acknowledgement::Volatile, Kind::Volatile(_)) => {}
            (Acknowledgement::Durable(seq), Kind::Pdu | Kind::Durable(_)) => {
                let told = self.ledger.acknowledge(number, seq);
                self.check(told);
                self.report.accepted += 1;
            }
            _ => self.breach(format!("item {number} was acknowledged as what it is not")),
        }
    }
}

fn volatile(edu_type: &str, number: usize, user: usize) -> String {
    match edu_type {
        "m.typing" => {
            let typing = number.is_multiple_of(2);
            format!(
                "{{\"room_id\":\"!r{}:sim\",\"typing\":{typing},\"user_id\":\"@u{user}:sim\"}}",
                number % 3
            )
        }
        "m.presence" => {
            format!(
                "{{\"push\":[{{\"presence\":\"online\",\"last_active_ago\":{number},\"user_id\":\"@u{user}:sim\"}}]}}"
            )
        }
        _ => format!(
            "{{\"!r{}:sim\":{{\"m.read\":{{\"@u{user}:sim\":{{\"data\":{{\"ts\":{number}}},\"event_ids\":[\"$e{number}\"]}}}}}}}}",
            number % 3
        ),
    }
}

/// What a body may have besides one item.
const SLACK: usize = 400;
