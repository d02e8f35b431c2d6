//! What goes wrong, and the starts and ends of processes.

use std::collections::BTreeMap;
use std::time::Duration;

use southbridge_bus::externaliser::Externaliser;
use southbridge_policy::admission::Admission;
use southbridge_policy::budget::RetryBudget;
use southbridge_policy::pool::Pool;
use southbridge_policy::racing::{AddressMemory, AddressMemoryLimits};
use southbridge_policy::ranker::Ranker;
use southbridge_policy::seeded::Seeded;
use southbridge_words::{Instant, Outbox, OutboxError, Seq, ServerName};

use super::agenda::{Fact, Trouble};
use super::driver::{Process, Simulation};
use super::homes::{DnsFault, WellKnownFault};
use super::naming::Names;
use crate::memory_outbox::{Fate, MemoryOutbox};

impl Simulation<'_> {
    /// Draws what will go wrong, and when.
    pub(super) fn plan_troubles(&mut self) {
        let spec = self.spec;
        for _ in 0..spec.partitions {
            let host = self.some_host();
            let (out, back) = [(true, false), (false, true), (true, true)][self.chance.below(3) as usize];
            let over = Trouble::Mend { host };
            self.plan_spell(Trouble::Partition { host, out, back }, over);
        }
        for _ in 0..spec.dns_faults {
            let (host, fault) = (self.some_host(), DnsFault::draw(&mut self.chance));
            self.plan_spell(Trouble::Names { host, fault }, Trouble::NamesWell { host });
        }
        for _ in 0..spec.well_known_faults {
            let (host, fault) = (self.some_host(), WellKnownFault::draw(&mut self.chance));
            self.plan_spell(Trouble::WellKnown { host, fault }, Trouble::WellKnownWell { host });
        }
        for _ in 0..spec.moves {
            let host = self.some_host();
            self.plan(Trouble::Move(host));
        }
        for _ in 0..spec.disk_full {
            self.plan_spell(Trouble::DiskFull, Trouble::DiskWell);
        }
        for _ in 0..spec.disk_silent {
            self.plan_spell(Trouble::DiskSilent, Trouble::DiskWell);
        }
        for _ in 0..spec.disk_misdirections {
            self.plan_spell(Trouble::DiskMisdirects, Trouble::DiskWell);
        }
        for _ in 0..spec.disk_failures {
            self.plan_spell(Trouble::DiskFailure, Trouble::Restart);
        }
        for _ in 0..spec.clock_jumps {
            let seconds = self.chance.below(24 * 3600).cast_signed() - 12 * 3600;
            self.plan(Trouble::ClockJump(seconds));
        }
        for _ in 0..spec.cancels {
            self.plan(Trouble::Cancel);
        }
        for _ in 0..spec.wakes {
            let host = self.some_host();
            self.plan(Trouble::Wake(host));
        }
        for _ in 0..spec.drops {
            let host = self.some_host();
            self.plan(Trouble::Drop(host));
        }
        for _ in 0..spec.expiries {
            let host = self.some_host();
            self.plan(Trouble::Expire(host));
        }
        self.agenda.add(Instant::ZERO + spec.lasts, Fact::Heal);
    }

    fn plan(&mut self, trouble: Trouble) -> Instant {
        let at = Instant::ZERO + Duration::from_millis(self.chance.below(self.spec.lasts.as_millis() as u64));
        self.agenda.add(at, Fact::Trouble(trouble));
        at
    }

    fn plan_spell(&mut self, trouble: Trouble, over: Trouble) {
        let at = self.plan(trouble);
        let lasts = Duration::from_millis(100 + self.chance.below(self.spec.lasts.as_millis() as u64 / 3));
        self.agenda.add(at + lasts, Fact::Trouble(over));
    }

    fn some_host(&mut self) -> usize {
        self.chance.below(self.spec.hosts as u64) as usize
    }

    pub(super) fn on_trouble(&mut self, trouble: Trouble) {
        if self.is_healed {
            return;
        }
        match trouble {
            Trouble::Partition { host, out, back } => {
                self.note("partition", host as u64, u64::from(out) * 2 + u64::from(back));
                self.report.touched[host] = true;
                (self.hosts[host].is_cut_out, self.hosts[host].is_cut_back) = (out, back);
            }
            Trouble::Mend { host } => {
                self.note("mend", host as u64, 0);
                (self.hosts[host].is_cut_out, self.hosts[host].is_cut_back) = (false, false);
            }
            Trouble::Names { host, fault } => {
                self.note("names fail", host as u64, fault as u64);
                self.report.touched[host] = true;
                self.hosts[host].home.dns_fault = Some(fault);
            }
            Trouble::NamesWell { host } => {
                self.note("names well", host as u64, 0);
                self.hosts[host].home.dns_fault = None;
            }
            Trouble::WellKnown { host, fault } => {
                self.note("well-known fails", host as u64, fault as u64);
                self.report.touched[host] = true;
                self.hosts[host].home.well_known_fault = Some(fault);
            }
            Trouble::WellKnownWell { host } => {
                self.note("well-known well", host as u64, 0);
                self.hosts[host].home.well_known_fault = None;
            }
            Trouble::Move(host) => {
                self.note("moves", host as u64, 0);
                self.report.touched[host] = true;
                self.hosts[host].home.relocate(&mut self.chance);
            }
            Trouble::DiskFull => self.set_disk(Fate::Full),
            Trouble::DiskSilent => self.set_disk(Fate::Unavailable),
            Trouble::DiskMisdirects => {
                self.note("disk misdirects", 0, 0);
                self.disk.misdirect_reads(true);
            }
            Trouble::DiskWell => self.set_disk(Fate::Kept),
            Trouble::DiskFailure => self.is_failure_due = true,
            Trouble::ClockJump(seconds) => {
                self.note("clock jump", seconds.unsigned_abs(), u64::from(seconds < 0));
                self.clock_offset = self.clock_offset.saturating_add(seconds * 1000);
            }
            Trouble::Wake(host) => self.hear_from(host),
            Trouble::Drop(host) => {
                self.note("drop", host as u64, 0);
                let name = self.name(host);
                self.tell_bus(|bus, at| {
                    bus.drop_backlog(&name, at);
                });
            }
            Trouble::Expire(host) => self.expire(host),
            Trouble::Cancel => self.cancel_last(),
            Trouble::Restart => self.crash(),
        }
    }

    fn set_disk(&mut self, fate: Fate) {
        self.note("disk", fate as u64, 0);
        self.disk_fate = fate;
        self.disk.set_fate_of_all(fate);
        self.disk.misdirect_reads(false);
    }

    fn hear_from(&mut self, host: usize) {
        self.note("heard", host as u64, 0);
        let (name, now) = (self.name(host), self.now);
        if let Some(process) = &mut self.process {
            process.ranker.handle_wake(&self.hosts[host].service, now);
        }
        self.tell_bus(|bus, at| bus.wake(&name, at));
    }

    /// All trouble ceases.
    pub(super) fn heal(&mut self) {
        if self.is_healed {
            return;
        }
        self.note("healed", 0, 0);
        self.set_healed();
        self.set_disk(Fate::Kept);
        self.is_failure_due = false;
        for host in &mut self.hosts {
            (host.is_cut_out, host.is_cut_back) = (false, false);
            (host.home.dns_fault, host.home.well_known_fault) = (None, None);
        }
        // An operator sees to it that everything runs.
        let has_failed = self.process.as_mut().is_some_and(|process| process.outbox.recover().is_err());
        if has_failed {
            self.crash();
        }
        if self.spec.heralds {
            for host in 0..self.spec.hosts {
                self.hear_from(host);
            }
        }
    }

    /// Whether the process ends here. Everything that asks is a point at which a story can crash.
    pub(super) fn is_doomed(&mut self) -> bool {
        let point = self.report.points;
        self.report.points += 1;
        if self.spec.crash_at == Some(point) {
            return true;
        }
        let is_doomed =
            self.crashes_left > 0 && !self.is_healed && self.doom.below(self.spec.crash_every.max(1)) == 0;
        self.crashes_left -= usize::from(is_doomed);
        is_doomed
    }

    /// The process ends; what is on the disk and on the wire stays. Another one starts.
    pub(super) fn crash(&mut self) {
        if self.process.take().is_none() {
            return;
        }
        self.note("crash", self.boot, 0);
        self.report.crashes += 1;
        self.boot += 1;
        self.lose_tickets();
        let after = self.millis(50, 5_000);
        self.agenda.add(self.now + after, Fact::Start);
    }

    /// A process starts, and takes up what the last one left.
    pub(super) fn start(&mut self) {
        if self.process.is_some() {
            return;
        }
        self.note("start", self.boot, 0);
        let origin = ServerName::parse("us.sim").expect("it is a server name");
        let seed = self.spec.seed ^ (self.boot + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut outbox = MemoryOutbox::open(&self.disk);
        let recovered = outbox.recover();
        self.check_outbox(&mut outbox);
        self.process = Some(Process {
            bus: Externaliser::new(origin, self.spec.limits.clone(), seed),
            ranker: Ranker::new(self.spec.ranker.clone(), seed ^ 1),
            pool: Pool::new(self.spec.pool.clone()),
            admission: Admission::new(self.spec.admission.clone(), seed ^ 4),
            budget: RetryBudget::new(self.spec.budget.clone()),
            names: Names::new(self.spec.resolver.clone(), seed ^ 5),
            memory: AddressMemory::new(AddressMemoryLimits::default(), seed ^ 6),
            seeded: Seeded::new(seed ^ 7),
            outbox,
            carried: BTreeMap::new(),
            sends: BTreeMap::new(),
            asks: BTreeMap::new(),
            conns: BTreeMap::new(),
            write: None,
            disk_free_at: self.now,
        });
        match recovered {
            Ok(recovered) => self.tell_bus(|bus, at| bus.handle_recovered(recovered, at)),
            Err(error) => self.breach(format!("the outbox cannot be opened: {error}")),
        }
    }

    /// I1: what was not delivered is still queued, in order.
    fn check_outbox(&mut self, outbox: &mut MemoryOutbox) {
        if self.spec.hosts > 64 {
            return;
        }
        for host in 0..self.hosts.len() {
            let page = outbox.read(&self.hosts[host].name, Seq::START, usize::MAX, usize::MAX);
            if matches!(page, Err(OutboxError::Damaged { .. })) {
                continue;
            }
            let held: Vec<Seq> =
                page.map(|page| page.items.iter().map(|item| item.seq).collect()).unwrap_or_default();
            let is_whole = self.ledger.waiting(host).eq(held);
            self.insist(is_whole, || format!("I1: the outbox has lost something for host {host}"));
        }
    }
}
