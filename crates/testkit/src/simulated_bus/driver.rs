//! Runs the machines: the part that the I/O thread plays in earnest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use southbridge_bus::externaliser::{Action, Externaliser, Moment};
use southbridge_policy::admission::Admission;
use southbridge_policy::budget::RetryBudget;
use southbridge_policy::pool::{Pool, PoolUse};
use southbridge_policy::racing::AddressMemory;
use southbridge_policy::ranker::Ranker;
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Append, ConnId, Instant, Mark, ServerName, Ticket, WallTime};

use super::agenda::{Agenda, Fact, Within};
use super::breach::Breach;
use super::callers::{Errand, Kind, Question};
use super::carrying::Carried;
use super::hosts::{Ailment, Host, draw};
use super::ledger::{Ledger, Verdict};
use super::naming::Names;
use super::racing::Conn;
use super::report::BusReport;
use super::spec::BusSpec;
use crate::memory_outbox::{Fate, MemoryDisk, MemoryOutbox};

/// The machines, the world around them, and what is under way between them.
pub(super) struct Simulation<'a> {
    pub(super) spec: &'a BusSpec,
    pub(super) now: Instant,
    /// What has been added to the wall clock, in milliseconds.
    pub(super) clock_offset: i64,
    pub(super) agenda: Agenda,
    pub(super) hosts: Vec<Host>,
    pub(super) ledger: Ledger,
    pub(super) kinds: Vec<Kind>,
    pub(super) questions: Vec<Question>,
    pub(super) process: Option<Process>,
    /// Counts processes: what belongs to an earlier one is void.
    pub(super) boot: u64,
    pub(super) disk: MemoryDisk,
    pub(super) disk_fate: Fate,
    pub(super) is_failure_due: bool,
    pub(super) tickets: BTreeMap<Ticket, Errand>,
    pub(super) cancelled: BTreeMap<Ticket, usize>,
    /// Hosts for which a retention limit was met.
    pub(super) expired: BTreeSet<usize>,
    /// Draws for the world.
    pub(super) chance: Seeded,
    /// Draws for the callers, who do the same whatever the world does.
    pub(super) users: Seeded,
    /// Draws for crashes.
    pub(super) doom: Seeded,
    pub(super) crashes_left: usize,
    pub(super) is_healed: bool,
    healed_at: Instant,
    pub(super) report: BusReport,
    pub(super) breach: Option<String>,
    log: Option<Vec<String>>,
    tickets_made: u64,
    turns_at_now: u32,
}

/// What is gone when the process is.
pub(super) struct Process {
    pub(super) bus: Externaliser,
    pub(super) ranker: Ranker,
    pub(super) pool: Pool,
    pub(super) admission: Admission,
    pub(super) budget: RetryBudget,
    pub(super) names: Names,
    pub(super) memory: AddressMemory,
    /// The kernel's own chance.
    pub(super) seeded: Seeded,
    pub(super) outbox: MemoryOutbox,
    pub(super) carried: BTreeMap<Ticket, Carried>,
    /// The errand that carries a host's transaction.
    pub(super) sends: BTreeMap<usize, Ticket>,
    /// The errands that carry queries.
    pub(super) asks: BTreeMap<Ticket, Ticket>,
    pub(super) conns: BTreeMap<ConnId, Conn>,
    pub(super) write: Option<(southbridge_bus::externaliser::WriteId, Vec<Append>, Vec<Mark>)>,
    pub(super) disk_free_at: Instant,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(spec: &'a BusSpec, with_log: bool) -> Self {
        let mut chance = Seeded::new(spec.seed);
        let hosts = draw(spec, &mut chance);
        let mut simulation = Self {
            spec,
            now: Instant::ZERO,
            clock_offset: 0,
            agenda: Agenda::default(),
            ledger: Ledger::new(hosts.len()),
            hosts,
            kinds: Vec::new(),
            questions: Vec::new(),
            process: None,
            boot: 0,
            disk: MemoryDisk::default(),
            disk_fate: Fate::Kept,
            is_failure_due: false,
            tickets: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            expired: BTreeSet::new(),
            users: Seeded::new(spec.seed.rotate_left(17)),
            doom: Seeded::new(spec.seed.rotate_left(33)),
            chance,
            crashes_left: spec.crashes,
            is_healed: false,
            healed_at: Instant::FAR_FUTURE,
            report: BusReport::default(),
            breach: None,
            log: with_log.then(Vec::new),
            tickets_made: 0,
            turns_at_now: 0,
        };
        simulation.report.touched =
            simulation.hosts.iter().map(|host| host.ailment != Ailment::None).collect();
        simulation.agenda.add(Instant::ZERO, Fact::Start);
        simulation.plan_callers();
        simulation.plan_troubles();
        simulation.fill_outbox();
        simulation
    }

    /// Lets the next thing happen; false when nothing will ever again, or a promise was broken.
    pub(super) fn step(&mut self) -> bool {
        if self.breach.is_some() || !self.turn() {
            return false;
        }
        self.drain();
        self.check_bounds();
        self.breach.is_none()
    }

    /// How it ended.
    pub(super) fn end(mut self) -> (Result<BusReport, Breach>, Vec<String>) {
        if self.breach.is_none() {
            self.check_end();
        }
        self.report.ended_at = self.now;
        let log = self.log.take().unwrap_or_default();
        match self.breach.take() {
            None => (Ok(self.report), log),
            Some(what) => (Err(Breach::new(self.spec, what, self.report.facts, self.now)), log),
        }
    }

    /// A machine has panicked: only what was written down is of use still.
    pub(super) fn end_of_panic(mut self) -> (Breach, Vec<String>) {
        let what = format!("a machine has panicked: {}", self.breach.take().unwrap_or_default());
        (Breach::new(self.spec, what, self.report.facts, self.now), self.log.take().unwrap_or_default())
    }

    fn turn(&mut self) -> bool {
        if self.spec.facts_max.is_some_and(|most| self.report.facts >= most) {
            self.heal();
        }
        let bus = self.process.as_ref().and_then(|process| process.bus.poll_timeout());
        let pool = self.process.as_ref().and_then(|process| process.pool.poll_timeout());
        let names = self.process.as_ref().and_then(|process| process.names.resolver.poll_timeout());
        let wake = bus.into_iter().chain(pool).chain(names).min();
        self.report.facts += 1;
        match (wake, self.agenda.next_at()) {
            (Some(wake), fact) if fact.is_none_or(|at| wake <= at) => self.wake(wake, bus, pool, names),
            (_, Some(_)) => {
                let Some((at, fact)) = self.agenda.next() else { return false };
                self.advance(at);
                self.on_fact(fact);
            }
            _ => return false,
        }
        true
    }

    fn wake(&mut self, at: Instant, bus: Option<Instant>, pool: Option<Instant>, names: Option<Instant>) {
        self.advance(at);
        self.note("wake", u64::from(bus == Some(at)), u64::from(pool == Some(at)));
        let moment = self.at();
        let Some(process) = &mut self.process else { return };
        if pool.is_some_and(|due| due <= moment.now) {
            process.pool.handle_timeout(moment.now);
        }
        if names.is_some_and(|due| due <= moment.now) {
            process.names.resolver.handle_timeout(moment.now);
        }
        if bus.is_some_and(|due| due <= moment.now) {
            process.bus.handle_timeout(moment);
        }
    }

    fn advance(&mut self, at: Instant) {
        self.turns_at_now = if at > self.now { 0 } else { self.turns_at_now + 1 };
        let is_moving = self.turns_at_now < TURNS_MAX;
        self.insist(is_moving, || "time stands still: a machine asks to be woken for ever".to_owned());
        self.now = self.now.max(at);
        let is_alive = self.now.saturating_since(self.healed_at) < LIVENESS;
        self.insist(is_alive, || {
            "weeks after all trouble has ceased there is still something to do".to_owned()
        });
    }

    fn on_fact(&mut self, fact: Fact) {
        match fact {
            Fact::HandIn(number) => {
                self.note("hand in", number as u64, 0);
                self.hand_in(number);
            }
            Fact::Query(number) => {
                self.note("query", number as u64, 0);
                self.ask(number);
            }
            Fact::Trouble(trouble) => self.on_trouble(trouble),
            Fact::Heal => self.heal(),
            Fact::Start => self.start(),
            Fact::Arrive(parcel) => self.on_arrived(&parcel),
            Fact::Of(boot, within) => {
                if boot == self.boot && self.process.is_some() {
                    self.on_within(within);
                }
            }
        }
    }

    fn on_within(&mut self, within: Within) {
        match within {
            Within::Written => self.on_written(),
            Within::Read { host, after, items_max, bytes_max } => {
                self.on_read(host, after, items_max, bytes_max);
            }
            Within::LookedUp(lookup) => self.on_looked_up(&lookup),
            Within::Tried(conn, address, is_up) => self.on_tried(conn, address, is_up),
            Within::RaceStep(conn) => self.try_addresses(conn),
            Within::Shaken(conn) => self.on_shaken(conn),
            Within::Answered { errand, attempt, host, answer } => {
                self.on_answered(errand, attempt, host, answer);
            }
            Within::Cut { errand, attempt, is_stale } => self.on_cut(errand, attempt, is_stale),
            Within::Deadline(errand) => self.on_deadline(errand),
        }
    }

    /// Does what the machines want done, until they want nothing more.
    fn drain(&mut self) {
        for decided in 0_u32.. {
            if self.breach.is_some() {
                return;
            }
            self.insist(decided < TURNS_MAX, || "a machine decides for ever".to_owned());
            let Some(process) = &mut self.process else { return };
            if let Some(action) = process.pool.poll() {
                self.on_pool(action);
            } else if self.drain_names() {
                continue;
            } else if let Some(action) = self.process.as_mut().and_then(|process| process.bus.poll()) {
                self.on_bus(action);
            } else {
                return;
            }
        }
    }

    fn on_bus(&mut self, action: Action) {
        match action {
            Action::Write { id, appends, marks } => self.write(id, appends, marks),
            Action::Read { destination, after, items_max, bytes_max } => {
                self.read(&destination, after, items_max, bytes_max);
            }
            Action::Send { destination, class, patient, deadline } => {
                self.send(&destination, class, patient, deadline);
            }
            Action::Transmit { destination, transaction } => self.transmit(&destination, &transaction),
            Action::GiveBack { destination } => self.give_back(&destination),
            Action::Ask { ticket, destination, class, deadline, repeatable, .. } => {
                self.carry_query(ticket, &destination, class, deadline, repeatable);
            }
            Action::Withdraw(errand) => self.withdraw(&errand),
            Action::Tell(event) => self.on_event(event),
        }
    }

    /// Tells the bus something, if there is one.
    pub(super) fn tell_bus(&mut self, tell: impl FnOnce(&mut Externaliser, Moment)) {
        let at = self.at();
        if let Some(process) = &mut self.process {
            tell(&mut process.bus, at);
        }
    }

    /// Something that concerns the process there is now will happen.
    pub(super) fn add(&mut self, after: Duration, within: Within) {
        let (at, boot) = (self.now + after, self.boot);
        self.agenda.add(at, Fact::Of(boot, within));
    }

    pub(super) fn at(&self) -> Moment {
        let millis = WALL_START + self.now.as_nanos() / 1_000_000;
        let wall = WallTime::from_unix_millis(millis.saturating_add_signed(self.clock_offset));
        Moment { now: self.now, wall }
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.tickets_made += 1;
        Ticket(self.tickets_made)
    }

    pub(super) fn name(&self, host: usize) -> ServerName {
        self.hosts[host].name.clone()
    }

    pub(super) fn millis(&mut self, from: u64, width: u64) -> Duration {
        Duration::from_micros(from * 1000 + self.chance.below(width * 1000))
    }

    /// Whether something that happens so often out of a thousand times happens now.
    pub(super) fn happens(&mut self, permille: u64) -> bool {
        !self.is_healed && permille > 0 && self.chance.below(1000) < permille
    }

    pub(super) fn set_healed(&mut self) {
        (self.is_healed, self.healed_at) = (true, self.now);
    }

    /// Folds an event into the fingerprint, and writes it down if somebody wants to read it.
    pub(super) fn note(&mut self, what: &'static str, one: u64, other: u64) {
        self.report.fold(self.now, what, one, other);
        if let Some(log) = &mut self.log {
            log.push(format!("{:>6} {:>14.6} {what} {one} {other}", self.report.facts, seconds(self.now)));
        }
    }

    pub(super) fn insist(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.breach(otherwise());
        }
    }

    pub(super) fn breach(&mut self, what: String) {
        self.breach.get_or_insert(what);
    }

    pub(super) fn check<T: Default>(&mut self, verdict: Verdict<T>) -> T {
        verdict.unwrap_or_else(|what| {
            self.breach(what);
            T::default()
        })
    }

    /// I4: nothing grows beyond what it was given.
    fn check_bounds(&mut self) {
        if self.spec.hosts > 64 && !self.report.facts.is_multiple_of(256) {
            return;
        }
        let limits = &self.spec.limits;
        let Some(process) = &self.process else { return };
        let counts = process.bus.counts();
        // What is read back is held by those who have a turn: a page, or a transaction that is rendered again.
        let pages = (limits.queue.page_bytes + limits.queue.transaction_bytes_max + 2 * ITEM_BYTES_MAX)
            * limits.sends_max;
        let waiting_max = self.spec.resolver.waiting_max as usize;
        let bounds = [
            ("sends", counts.sends, limits.sends_max),
            ("items that wait to be accepted", counts.accepting, limits.accepting_max),
            ("bytes of items", counts.item_bytes, limits.memory_bytes_max.saturating_add(pages)),
            ("bytes of volatile EDUs", counts.volatile_bytes, limits.volatile_bytes_max),
            ("queries", counts.queries, limits.queries_max),
            ("transactions carried", process.sends.len(), counts.sends),
            ("requests admitted", process.admission.usage().in_flight as usize, process.carried.len()),
            ("names resolved at a time", process.names.resolver.counters().under_way, waiting_max),
        ];
        let usage: PoolUse = process.pool.usage();
        let broken = bounds.into_iter().find(|(_, held, most)| held > most);
        let most = &mut self.report.most;
        most.sends = most.sends.max(counts.sends);
        most.connections = most.connections.max(usage.connections);
        most.item_bytes = most.item_bytes.max(counts.item_bytes);
        most.volatile_bytes = most.volatile_bytes.max(counts.volatile_bytes);
        if let Some((what, held, most)) = broken {
            self.breach(format!("I4: {held} {what}, and the most is {most}"));
        }
    }

    fn check_end(&mut self) {
        let ended = self.ledger.check_end();
        self.check(ended);
        self.insist(self.process.is_some(), || "no process is left".to_owned());
        let Some(process) = &self.process else { return };
        let (is_idle, carried) = (process.bus.is_idle(), process.carried.len());
        let open = self.tickets.len();
        self.insist(is_idle, || "the bus holds something still".to_owned());
        self.insist(carried == 0, || format!("{carried} errands were left behind"));
        self.insist(open == 0, || format!("I6: {open} tickets were never answered"));
        let items = self.disk.items();
        self.insist(items == 0, || format!("{items} items were left in the outbox"));
    }
}

fn seconds(at: Instant) -> f64 {
    at.as_nanos() as f64 / 1e9
}

/// In the year 2023.
const WALL_START: u64 = 1_700_000_000_000;
/// More than can happen at one instant.
const TURNS_MAX: u32 = 200_000;
/// Longer than the longest wait there is (a 410, 7 days and a quarter), a few times over.
const LIVENESS: Duration = Duration::from_secs(40 * 24 * 3600);
/// The largest item, with what the bus adds to it.
const ITEM_BYTES_MAX: usize = 66_000;
