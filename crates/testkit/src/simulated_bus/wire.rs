//! What happens between us and a host, and what the host makes of a request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use southbridge_bus::externaliser::Answer;
use southbridge_bus::resolver::{WellKnownAnswer, WellKnownResult};
use southbridge_policy::pool::Returned;
use southbridge_words::{Outcome, Ticket};

use super::agenda::{Fact, Within};
use super::carrying::{Carry, Stage};
use super::driver::Simulation;
use super::homes::WellKnownFault;
use super::hosts::{Ailment, Reach};
use crate::simulated_names::well_known;

/// A request on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    boot: u64,
    errand: Ticket,
    attempt: u32,
    host: usize,
    /// Which of its homes the connection leads to.
    moves: u32,
    load: Load,
}

/// What a request holds.
#[derive(Clone, Debug)]
pub(super) enum Load {
    Transaction { id: Arc<str>, body: Bytes },
    Query(usize),
    Fetch,
}

impl Simulation<'_> {
    /// A request leaves us.
    pub(super) fn launch(&mut self, errand: Ticket, attempt: u32, (host, moves): (usize, u32), load: Load) {
        if self.hosts[host].is_cut_out || self.happens(self.spec.lost_permille) {
            return self.note("lost", host as u64, errand.0);
        }
        let may_repeat = match &load {
            Load::Transaction { .. } | Load::Fetch => true,
            Load::Query(number) => self.questions[*number].is_repeatable,
        };
        let parcel = Parcel { boot: self.boot, errand, attempt, host, moves, load };
        let takes = self.hosts[host].round_trip / 2;
        if may_repeat && self.happens(self.spec.twice_permille) {
            let later = takes + self.millis(0, 100_000);
            self.agenda.add(self.now + later, Fact::Arrive(Box::new(parcel.clone())));
        }
        let late =
            if self.happens(self.spec.late_permille) { self.millis(0, 180_000) } else { Duration::ZERO };
        self.agenda.add(self.now + takes + late, Fact::Arrive(Box::new(parcel)));
    }

    /// A request reaches its host.
    pub(super) fn on_arrived(&mut self, parcel: &Parcel) {
        let host = parcel.host;
        self.note("arrived", host as u64, parcel.errand.0);
        let has_moved = self.hosts[host].home.moves != parcel.moves;
        match self.hosts[host].reach(self.spec, self.now, self.is_healed) {
            _ if has_moved => self.cut(parcel),
            Reach::Silent => {}
            Reach::Refusing => self.cut(parcel),
            Reach::Open => {
                let answer = match &parcel.load {
                    Load::Transaction { id, body } => self.answer_transaction(host, id, body),
                    Load::Query(number) => self.answer_query(host, *number),
                    Load::Fetch => match self.answer_fetch(host) {
                        Some(answer) => answer,
                        None => return,
                    },
                };
                if self.breach.is_none() {
                    self.send_answer(parcel, &answer);
                }
            }
        }
    }

    /// Whoever is there ends the connection instead of an answer.
    fn cut(&mut self, parcel: &Parcel) {
        let (errand, attempt) = (parcel.errand, parcel.attempt);
        let after = self.hosts[parcel.host].round_trip / 2;
        let cut = Within::Cut { errand, attempt, is_stale: false };
        self.agenda.add(self.now + after, Fact::Of(parcel.boot, cut));
    }

    /// What the `.well-known` host says, if it says anything.
    fn answer_fetch(&self, host: usize) -> Option<Answer> {
        let home = &self.hosts[host].home;
        let is_well = self.is_healed || home.well_known_fault.is_none();
        let fault = home.well_known_fault.filter(|_| !is_well);
        let answer = match fault {
            Some(WellKnownFault::Silent) => return None,
            Some(WellKnownFault::Failing) => Answer::new(500, "no"),
            Some(WellKnownFault::CaptivePortal) => Answer::new(200, "<html>welcome"),
            Some(WellKnownFault::Forgetful) => Answer::new(404, ""),
            None => {
                let WellKnownAnswer { status, body, .. } =
                    well_known(home.delegate(host).as_deref(), self.at().wall);
                Answer { status, retry_after: None, body: body.into() }
            }
        };
        Some(answer)
    }

    fn send_answer(&mut self, parcel: &Parcel, answer: &Answer) {
        let Parcel { boot, errand, attempt, host, .. } = *parcel;
        if self.hosts[host].is_cut_back || self.happens(self.spec.answer_lost_permille) {
            return self.note("answer lost", host as u64, errand.0);
        }
        let thinking = match self.hosts[host].ailment {
            Ailment::Slow if !self.is_healed => self.millis(3_000, 117_000),
            _ => self.millis(5, 50),
        };
        let late =
            if self.happens(self.spec.late_permille) { self.millis(0, 180_000) } else { Duration::ZERO };
        let takes = self.hosts[host].round_trip / 2 + thinking + late;
        let answered = Within::Answered { errand, attempt, host, answer: answer.clone() };
        if self.happens(self.spec.twice_permille) {
            let again = takes + self.millis(0, 60_000);
            self.agenda.add(self.now + again, Fact::Of(boot, answered.clone()));
        }
        self.agenda.add(self.now + takes, Fact::Of(boot, answered));
    }

    fn answer_transaction(&mut self, host: usize, id: &Arc<str>, body: &Bytes) -> Answer {
        if let Some(known) = self.hosts[host].processed.get(id) {
            let is_same = known == body;
            self.insist(is_same, || format!("I2: host {host} has seen transaction {id} with another body"));
            return good();
        }
        let refuses =
            |most: usize| self.ledger.items_of(host, body).iter().any(|one| self.ledger.is_unfit(*one, most));
        if self.spec.poison_permille > 0 && refuses(usize::MAX) {
            return Answer::new(400, r#"{"errcode":"M_BAD_JSON"}"#);
        }
        match self.mood(host, body.len()) {
            Mood::Good => {
                self.process_transaction(host, id, body);
                good()
            }
            Mood::Instead(answer) => answer,
            Mood::InsteadAfterwards(answer) => {
                self.process_transaction(host, id, body);
                answer
            }
        }
    }

    fn process_transaction(&mut self, host: usize, id: &Arc<str>, body: &Bytes) {
        let told = self.ledger.receive(host, body);
        let new = self.check(told);
        self.note("processed", host as u64, new.len() as u64);
        self.hosts[host].processed.insert(Arc::clone(id), body.clone());
        let now = self.now;
        for number in new {
            if let Some(since) = self.ledger.items[number].handed_in_at {
                self.report.received(host, since, now);
            } else {
                self.report.received_of_backlog(host, now);
            }
        }
    }

    fn answer_query(&mut self, host: usize, number: usize) -> Answer {
        let mood = self.mood(host, 0);
        if let Mood::Instead(answer) = mood {
            return answer;
        }
        let question = &mut self.questions[number];
        question.processed += 1;
        let is_right = question.is_repeatable || question.processed == 1;
        self.insist(is_right, || format!("query {number} was processed twice"));
        match mood {
            Mood::InsteadAfterwards(answer) => answer,
            _ => Answer::new(200, "{}"),
        }
    }

    /// How a host takes a request with a body of so many bytes, as long as it is not well.
    fn mood(&mut self, host: usize, bytes: usize) -> Mood {
        if self.is_healed {
            return Mood::Good;
        }
        let drawn = self.chance.below(6);
        let instead = |status: u16| Mood::Instead(Answer::new(status, r#"{"errcode":"M_UNKNOWN"}"#));
        let is_large = bytes > self.hosts[host].bytes_max;
        match self.hosts[host].ailment {
            Ailment::RateLimiting if drawn > 0 => {
                let retry_after = match drawn {
                    1 => Some("3".to_owned()),
                    2 => Some("Sun, 06 Nov 2089 08:49:37 GMT".to_owned()),
                    3 => Some("99999999999999999999".to_owned()),
                    _ => None,
                };
                Mood::Instead(Answer { status: 429, retry_after, body: Bytes::new() })
            }
            Ailment::Failing if drawn < 3 => instead(502),
            Ailment::Failing if drawn < 5 => Mood::InsteadAfterwards(Answer::new(504, "<html>")),
            Ailment::Small if is_large => instead(413),
            Ailment::SmallBehindCdn if is_large && drawn < 4 => instead(520),
            Ailment::SmallBehindCdn if is_large => Mood::InsteadAfterwards(Answer::new(520, "")),
            Ailment::Unwelcoming => instead([401, 403, 404][drawn as usize % 3]),
            Ailment::Garbling if drawn < 2 => Mood::Instead(Answer::new(200, "<html>welcome")),
            Ailment::Garbling if drawn < 5 => Mood::InsteadAfterwards(Answer::new(200, "{}x")),
            Ailment::Gone => instead(410),
            _ => Mood::Good,
        }
    }

    /// The size from which on a host takes nothing.
    pub(super) fn bytes_max_of(&self, host: usize) -> usize {
        match self.hosts[host].ailment {
            Ailment::Small => self.hosts[host].bytes_max,
            _ => usize::MAX,
        }
    }

    /// An answer is here.
    pub(super) fn on_answered(&mut self, errand: Ticket, attempt: u32, host: usize, answer: Answer) {
        let carried = self.carried(errand).filter(|carried| carried.attempt == attempt);
        let Some((load, since)) = carried.and_then(|carried| match carried.stage {
            Stage::OnWire(_, since) => Some((carried.load, since)),
            _ => None,
        }) else {
            return self.on_stray_answer(host, answer);
        };
        self.note("answered", host as u64, u64::from(answer.status));
        if self.is_doomed() {
            return self.crash();
        }
        let latency = self.now.saturating_since(since);
        let outcome = if answer.status >= 500 || answer.status == 429 {
            Outcome::Unwilling { latency, retry_after: answer.retry_after(self.at().wall) }
        } else {
            Outcome::Answered { latency }
        };
        self.end_errand(errand, Returned::Reusable, outcome);
        let at = self.at();
        match load {
            Carry::Transaction => {
                let name = self.name(host);
                self.tell_bus(|bus, at| bus.handle_answer(&name, answer, at));
            }
            Carry::Query(ticket, _) => self.tell_bus(|bus, at| bus.handle_query_answer(ticket, answer, at)),
            Carry::Fetch(id) => {
                let Some(process) = &mut self.process else { return };
                let Answer { status, body, .. } = answer;
                let (body, received_at) = (body.to_vec(), at.wall);
                let answer = WellKnownAnswer { status, body, received_at, ..WellKnownAnswer::default() };
                process.names.resolver.handle_well_known(id, WellKnownResult::Answered(answer), at.now);
            }
        }
    }

    /// An answer to what is over. The kernel knows its exchanges and drops it; that it would do no harm while
    /// nothing is under way is tried here all the same.
    fn on_stray_answer(&mut self, host: usize, answer: Answer) {
        let is_quiet = self.process.as_ref().is_some_and(|process| !process.sends.contains_key(&host));
        if is_quiet {
            let name = self.name(host);
            self.tell_bus(|bus, at| bus.handle_answer(&name, answer, at));
        }
    }
}

#[derive(Debug)]
enum Mood {
    Good,
    Instead(Answer),
    /// The work is done all the same.
    InsteadAfterwards(Answer),
}

fn good() -> Answer {
    Answer::new(200, r#"{"pdus":{}}"#)
}
