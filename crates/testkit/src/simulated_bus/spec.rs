//! The options of a story, and how a seed draws them.

use std::time::Duration;

use southbridge_bus::externaliser::ExternaliserLimits;
use southbridge_bus::resolver::ResolverLimits;
use southbridge_policy::admission::AdmissionLimits;
use southbridge_policy::budget::BudgetLimits;
use southbridge_policy::pool::PoolLimits;
use southbridge_policy::ranker::RankerLimits;
use southbridge_policy::seeded::Seeded;

/// What happens in a simulated world around one bus. Shares are parts of one, `…_permille` parts of a thousand; what
/// goes wrong does so until `lasts`, and then never again.
#[derive(Clone, Debug, PartialEq)]
pub struct BusSpec {
    /// What decides everything that is left to chance.
    pub seed: u64,
    /// How many hosts.
    pub hosts: usize,
    /// For how long things are handed in and go wrong.
    pub lasts: Duration,
    /// PDUs and EDUs handed in.
    pub items: usize,
    /// The share of them that is typing, presence or receipts.
    pub volatile_share: f64,
    /// The share of the durable ones that their callers name, and hand in again after a crash.
    pub keyed_share: f64,
    /// The most hosts that one of them is for.
    pub destinations_max: usize,
    /// The most bytes one of them is padded with.
    pub padding_max: usize,
    /// Items for every host that wait in the outbox when the first process starts.
    pub backlog: usize,
    /// Queries asked; every third is one that must never be processed twice.
    pub queries: usize,
    /// The share of hosts that are not well: dead, slow, flapping, or answering all that can be answered but 200.
    pub ailing_share: f64,
    /// Hosts of which none answers from the first moment to the second: a share, and the moments.
    pub outage: Option<(f64, Duration, Duration)>,
    /// Durable items out of a thousand that their receivers refuse with a 400, whatever else is with them.
    pub poison_permille: u64,
    /// Requests that never arrive.
    pub lost_permille: u64,
    /// Answers that never arrive.
    pub answer_lost_permille: u64,
    /// Requests and answers that arrive after up to three minutes.
    pub late_permille: u64,
    /// Requests (of transactions) and answers that arrive twice.
    pub twice_permille: u64,
    /// Connections found closed before a byte was written.
    pub stale_permille: u64,
    /// Hosts cut off for a while, one-way or both ways.
    pub partitions: usize,
    /// The share of hosts that are found by `.well-known`, by SRV or by neither; the others have a port in their names.
    pub named_share: f64,
    /// The share of hosts that have an IPv6 address at which nobody answers, besides the good one.
    pub half_deaf_share: f64,
    /// Times that the name servers of a host fail for a while: SERVFAIL, silence, REFUSED.
    pub dns_faults: usize,
    /// Times that the `.well-known` of a host fails for a while: 500, a page in HTML, silence, a 404.
    pub well_known_faults: usize,
    /// Times that a host moves to another address, and perhaps to be found another way. Where it was, nobody is, or a
    /// stranger.
    pub moves: usize,
    /// Crashes in all.
    pub crashes: usize,
    /// One out of so many points (writes, syncs, sends, answers) is a crash, while there are some left.
    pub crash_every: u64,
    /// A crash at this point, counted from 0 at the start; for stories that crash everywhere once.
    pub crash_at: Option<u64>,
    /// How many writes of a thousand take up to two seconds, as on a disk that is busy with others.
    pub disk_slow_permille: u64,
    /// Times that the disk is full for a while.
    pub disk_full: usize,
    /// Times that the disk does not answer for a while.
    pub disk_silent: usize,
    /// Times that a write or its sync fails for good; the process goes on without until it is restarted.
    pub disk_failures: usize,
    /// The same for this write, counted from 0 at the start; for stories in which every one fails once.
    pub disk_failure_at: Option<u64>,
    /// Times that the disk gives out blocks of other places for a while.
    pub disk_misdirections: usize,
    /// Times that the wall clock is set by up to twelve hours, forward or back.
    pub clock_jumps: usize,
    /// Times that something is heard from a host.
    pub wakes: usize,
    /// Backlogs that an operator drops.
    pub drops: usize,
    /// Backlogs of which a retention limit drops the older half.
    pub expiries: usize,
    /// Callers who lose interest.
    pub cancels: usize,
    /// Whether hosts that are well again speak to us. Else we have to find out.
    pub heralds: bool,
    /// Trouble ceases after so many facts, if it has not before: cuts a story short.
    pub facts_max: Option<u64>,
    /// The bus's limits.
    pub limits: ExternaliserLimits,
    /// The pool's.
    pub pool: PoolLimits,
    /// The ranker's.
    pub ranker: RankerLimits,
    /// The resolver's.
    pub resolver: ResolverLimits,
    /// What may be under way.
    pub admission: AdmissionLimits,
    /// How many retries there may be.
    pub budget: BudgetLimits,
}

impl Default for BusSpec {
    /// A small calm world in which nothing goes wrong.
    fn default() -> Self {
        Self {
            seed: 1,
            hosts: 5,
            lasts: Duration::from_secs(60),
            items: 40,
            volatile_share: 0.4,
            keyed_share: 0.7,
            destinations_max: 5,
            padding_max: 500,
            backlog: 0,
            queries: 6,
            ailing_share: 0.0,
            outage: None,
            poison_permille: 0,
            lost_permille: 0,
            answer_lost_permille: 0,
            late_permille: 0,
            twice_permille: 0,
            stale_permille: 0,
            partitions: 0,
            named_share: 0.0,
            half_deaf_share: 0.0,
            dns_faults: 0,
            well_known_faults: 0,
            moves: 0,
            crashes: 0,
            crash_every: 100,
            crash_at: None,
            disk_slow_permille: 20,
            disk_full: 0,
            disk_silent: 0,
            disk_failures: 0,
            disk_failure_at: None,
            disk_misdirections: 0,
            clock_jumps: 0,
            wakes: 0,
            drops: 0,
            expiries: 0,
            cancels: 0,
            heralds: true,
            facts_max: None,
            limits: ExternaliserLimits::default(),
            pool: PoolLimits::default(),
            ranker: RankerLimits::default(),
            resolver: ResolverLimits::default(),
            admission: AdmissionLimits::default(),
            budget: BudgetLimits::default(),
        }
    }
}

impl BusSpec {
    /// The story that `seed` stands for. Each kind of trouble is left out of most, so that it is met both alone and
    /// in company.
    pub fn of_seed(seed: u64) -> Self {
        let mut drawn = Drawn(Seeded::new(seed ^ 0x5eed_b005_0000_0000));
        let hosts = drawn.between(3, 12) as usize;
        let mut spec = Self {
            seed,
            hosts,
            lasts: Duration::from_secs([30, 120, 900, 7200][drawn.between(0, 3) as usize]),
            items: drawn.between(10, 60) as usize,
            volatile_share: [0.0, 0.3, 0.8][drawn.between(0, 2) as usize],
            destinations_max: drawn.between(1, hosts as u64) as usize,
            padding_max: [50, 2_000, 2_000, 60_000][drawn.between(0, 3) as usize],
            backlog: drawn.sometimes(4, 150) as usize,
            queries: drawn.between(0, 15) as usize,
            ailing_share: [0.0, 0.3, 0.6][drawn.between(0, 2) as usize],
            poison_permille: drawn.sometimes(5, 60),
            lost_permille: drawn.sometimes(3, 200),
            answer_lost_permille: drawn.sometimes(3, 300),
            late_permille: drawn.sometimes(3, 200),
            twice_permille: drawn.sometimes(3, 200),
            stale_permille: drawn.sometimes(3, 300),
            partitions: drawn.sometimes(3, 6) as usize,
            named_share: [0.0, 0.5, 1.0][drawn.between(0, 2) as usize],
            half_deaf_share: [0.0, 0.0, 0.4][drawn.between(0, 2) as usize],
            dns_faults: drawn.sometimes(3, 6) as usize,
            well_known_faults: drawn.sometimes(3, 6) as usize,
            moves: drawn.sometimes(3, 4) as usize,
            crashes: drawn.sometimes(2, 6) as usize,
            crash_every: drawn.between(20, 200),
            disk_full: drawn.sometimes(4, 3) as usize,
            disk_silent: drawn.sometimes(4, 3) as usize,
            disk_failures: drawn.sometimes(4, 3) as usize,
            disk_misdirections: drawn.sometimes(6, 2) as usize,
            clock_jumps: drawn.sometimes(4, 6) as usize,
            wakes: drawn.sometimes(3, 20) as usize,
            drops: drawn.sometimes(5, 3) as usize,
            expiries: drawn.sometimes(5, 3) as usize,
            cancels: drawn.sometimes(5, 6) as usize,
            heralds: drawn.between(0, 1) == 1,
            ..Self::default()
        };
        if drawn.between(0, 2) == 0 {
            spec.limits = narrow(&mut drawn);
        }
        spec
    }
}

/// Limits that a small story meets.
fn narrow(drawn: &mut Drawn) -> ExternaliserLimits {
    let mut limits = ExternaliserLimits {
        accepting_max: drawn.between(2, 10) as usize,
        write_items_max: drawn.between(1, 4) as usize,
        write_marks_max: drawn.between(1, 4) as usize,
        sends_max: drawn.between(3, 8) as usize,
        doubtful_sends_max: drawn.between(1, 2) as usize,
        catch_up_sends_max: drawn.between(1, 2) as usize,
        memory_bytes_max: drawn.between(1, 64) as usize * 1024,
        volatile_bytes_max: drawn.between(1, 8) as usize * 1024,
        remembered_max: drawn.between(1, 5) as usize,
        first_contacts_per_second: drawn.between(1, 50) as u32,
        queries_max: drawn.between(2, 8) as usize,
        queries_per_destination_max: drawn.between(1, 3) as usize,
        ..ExternaliserLimits::default()
    };
    limits.queue.items_max = drawn.between(1, 20) as usize;
    limits.queue.page_items = drawn.between(1, 20) as usize;
    limits.queue.page_bytes = drawn.between(1, 32) as usize * 1024;
    limits
}

#[derive(Debug)]
struct Drawn(Seeded);

impl Drawn {
    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.below(most - least + 1)
    }

    /// Zero, but once in `every` times 1 to `most`.
    fn sometimes(&mut self, every: u64, most: u64) -> u64 {
        let amount = self.between(1, most);
        if self.0.below(every) == 0 { amount } else { 0 }
    }
}
