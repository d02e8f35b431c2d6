//! The way of one server name through the steps of the specification.
//!
//! A journey knows the rules and nothing else: what to look up next, and what the answers come to.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use southbridge_words::{Answer, Endpoint, HostPart, Instant, LookupFailure, ServerName, SrvRecord};

use super::composition::{Composition, PeerPort, host_of};
use super::delegations::Told;
use super::srv::{SrvService, Usable, usable};
use super::{
    ExplainedStep, ResolveError, ResolverLimits, StepKind, StepSource, WellKnownFailure, WellKnownTrouble,
};

/// One resolution under way.
#[derive(Debug)]
pub(super) struct Journey {
    /// The name it started from.
    pub(super) name: ServerName,
    /// Whom it is for.
    pub(super) errand: Errand,
    /// When it started.
    pub(super) started_at: Instant,
    /// What was done so far; kept only for explanations.
    pub(super) steps: Vec<ExplainedStep>,
    /// The name that `Host` and certificate follow: the one it started from, or the delegated one.
    subject: ServerName,
    stage: Stage,
    step_started_at: Instant,
    /// Until when all that was learned on the way is believed.
    pub(super) fresh_until: Instant,
    stale: bool,
}

/// Whom a journey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// The cache of composed results, and whoever waits there.
    Compose,
    /// One ticket that wants to know how.
    Explain(southbridge_words::Ticket),
    /// Nobody any more.
    Nobody,
}

#[derive(Debug)]
enum Stage {
    Start,
    WellKnown,
    Srv(SrvService),
    Addresses { key: PeerPort, targets: Vec<Target> },
}

/// One name whose addresses are wanted.
#[derive(Debug)]
struct Target {
    record: SrvRecord,
    addresses: Option<Result<Answer<Arc<[IpAddr]>>, LookupFailure>>,
}

/// What a journey needs next.
#[derive(Debug)]
pub(super) enum Next {
    /// The delegation of this host.
    WellKnown(Arc<str>),
    /// These SRV records.
    Srv(Arc<str>),
    /// The addresses of all these names; each answer comes back with its position.
    Addresses(Vec<Arc<str>>),
    /// An answer that is still to come.
    Wait,
    /// Nothing: it is over.
    Done(Result<Composition, ResolveError>),
}

impl Journey {
    pub(super) fn new(name: ServerName, errand: Errand, now: Instant) -> Self {
        Self {
            subject: name.clone(),
            name,
            errand,
            started_at: now,
            steps: Vec::new(),
            stage: Stage::Start,
            step_started_at: now,
            fresh_until: Instant::FAR_FUTURE,
            stale: false,
        }
    }

    /// Steps 1 to 3: what the name itself says.
    pub(super) fn begin(&mut self, now: Instant) -> Next {
        let name = self.name.clone();
        if let Some(next) = self.by_name() {
            let outcome = match self.name.host() {
                HostPart::Ip(_) => "an IP literal: no lookup",
                HostPart::Dns(_) => "a name with a port: no .well-known, no SRV",
            };
            self.explain(StepKind::Name, name.as_str(), &outcome, StepSource::Rule, now);
            return next;
        }
        self.explain(StepKind::Name, name.as_str(), &"a name without a port", StepSource::Rule, now);
        self.stage = Stage::WellKnown;
        Next::WellKnown(host_of(&self.name))
    }

    /// Steps 3.1 to 4: what the host delegates to.
    pub(super) fn on_well_known(&mut self, told: Told, cached: bool, now: Instant) -> Next {
        let host = self.name.host_lowercase();
        match told {
            Ok(known) => {
                let source = StepSource::of(cached, known.stale);
                let server = &known.value;
                self.explain(StepKind::WellKnown, &host, &format_args!("delegates to {server}"), source, now);
                self.believe(known.fresh_until, known.stale);
                self.subject = known.value;
                self.by_name().unwrap_or_else(|| self.search(SrvService::MatrixFed))
            }
            Err(failing) if failing.error == WellKnownTrouble::Fetch(WellKnownFailure::Overloaded) => {
                Next::Done(Err(ResolveError::Overloaded))
            }
            Err(failing) => {
                let outcome = format_args!("no delegation: {}", failing.error);
                self.explain(StepKind::WellKnown, &host, &outcome, StepSource::of(cached, false), now);
                self.believe(failing.retry_at, false);
                self.search(SrvService::MatrixFed)
            }
        }
    }

    /// Steps 3.3 to 3.5 and 4 to 6.
    pub(super) fn on_srv(
        &mut self,
        answer: Result<Answer<Arc<[SrvRecord]>>, LookupFailure>,
        limits: &ResolverLimits,
        now: Instant,
    ) -> Next {
        let Stage::Srv(service) = self.stage else { return Next::Wait };
        let name = service.name(&self.subject.host_lowercase());
        let answer = match answer {
            Ok(answer) => answer,
            Err(LookupFailure::Overloaded) => return Next::Done(Err(ResolveError::Overloaded)),
            Err(failure) => {
                self.explain(StepKind::Srv, &name, &failure, StepSource::Asked, now);
                return Next::Done(Err(ResolveError::SrvFailed { name, failure }));
            }
        };
        self.believe(answer.fresh_until, answer.stale);
        let source = StepSource::of(answer.cached, answer.stale);
        match usable(&answer.value, limits.targets_max) {
            Usable::Targets(records) => {
                self.explain(StepKind::Srv, &name, &Listed(&records), source, now);
                self.look_up(PeerPort::Srv, records)
            }
            Usable::Nothing => {
                self.explain(StepKind::Srv, &name, &"no usable record", source, now);
                match service.next() {
                    Some(service) => self.search(service),
                    None => self.look_up_subject(FEDERATION_PORT),
                }
            }
            Usable::NotOffered => {
                self.explain(StepKind::Srv, &name, &"the service is not offered", source, now);
                Next::Done(Err(ResolveError::NotOffered { name }))
            }
        }
    }

    /// The addresses of the target at position `at`.
    pub(super) fn on_addresses(
        &mut self,
        at: usize,
        answer: Result<Answer<Arc<[IpAddr]>>, LookupFailure>,
        limits: &ResolverLimits,
        now: Instant,
    ) -> Next {
        self.explain_addresses(at, &answer, now);
        let Stage::Addresses { targets, key } = &mut self.stage else { return Next::Wait };
        let Some(target) = targets.get_mut(at) else { return Next::Wait };
        target.addresses = Some(answer);
        if targets.iter().any(|target| target.addresses.is_none()) {
            return Next::Wait;
        }
        let (key, targets) = (*key, std::mem::take(targets));
        Next::Done(self.compose(key, &targets, limits, now))
    }

    /// What the subject says by itself; `None` for a name without a port.
    fn by_name(&mut self) -> Option<Next> {
        let (address, port) = match (self.subject.host(), self.subject.port()) {
            (HostPart::Ip(address), port) => (Some(address), port.unwrap_or(FEDERATION_PORT)),
            (HostPart::Dns(_), Some(port)) => (None, port),
            (HostPart::Dns(_), None) => return None,
        };
        Some(match address {
            Some(address) => {
                let endpoints = vec![Endpoint::new(SocketAddr::new(address, port))];
                Next::Done(Ok(self.composed(PeerPort::Number(port), endpoints)))
            }
            None => self.look_up_subject(port),
        })
    }

    fn search(&mut self, service: SrvService) -> Next {
        self.stage = Stage::Srv(service);
        Next::Srv(service.name(&self.subject.host_lowercase()))
    }

    fn look_up_subject(&mut self, port: u16) -> Next {
        let target = host_of(&self.subject);
        self.look_up(PeerPort::Number(port), vec![SrvRecord { priority: 0, weight: 0, port, target }])
    }

    fn look_up(&mut self, key: PeerPort, records: Vec<SrvRecord>) -> Next {
        let names = records.iter().map(|record| Arc::clone(&record.target)).collect();
        let targets = records.into_iter().map(|record| Target { record, addresses: None }).collect();
        self.stage = Stage::Addresses { key, targets };
        Next::Addresses(names)
    }

    fn compose(
        &mut self,
        key: PeerPort,
        targets: &[Target],
        limits: &ResolverLimits,
        now: Instant,
    ) -> Result<Composition, ResolveError> {
        let mut endpoints = Vec::new();
        let mut missed = None;
        for Target { record, addresses } in targets {
            match addresses {
                Some(Ok(answer)) => {
                    self.believe(answer.fresh_until, answer.stale);
                    let used = answer.value.iter().take(limits.addresses_per_target_max);
                    endpoints.extend(used.map(|address| Endpoint {
                        address: SocketAddr::new(*address, record.port),
                        priority: record.priority,
                        weight: record.weight,
                    }));
                }
                Some(Err(failure)) => missed = missed.or(Some((record, *failure))),
                None => {}
            }
        }
        endpoints.truncate(limits.endpoints_max);
        match (endpoints.is_empty(), missed) {
            (false, None) => {}
            // Some targets are not known: use the others, and look again soon.
            (false, Some(_)) => self.believe(now + limits.failure_max, false),
            (true, Some((_, LookupFailure::Overloaded))) => return Err(ResolveError::Overloaded),
            (true, Some((record, failure))) => {
                return Err(ResolveError::AddressesFailed { name: Arc::clone(&record.target), failure });
            }
            (true, None) => return Err(self.without_address(targets)),
        }
        Ok(self.composed(key, endpoints))
    }

    fn without_address(&self, targets: &[Target]) -> ResolveError {
        let name = match targets.first() {
            Some(target) => Arc::clone(&target.record.target),
            None => self.subject.host_lowercase().into(),
        };
        ResolveError::NoAddress { name }
    }

    fn composed(&self, port: PeerPort, endpoints: Vec<Endpoint>) -> Composition {
        Composition { subject: self.subject.clone(), endpoints: endpoints.into(), port, stale: self.stale }
    }

    fn believe(&mut self, until: Instant, stale: bool) {
        self.fresh_until = self.fresh_until.min(until);
        self.stale |= stale;
    }

    fn explain_addresses(
        &mut self,
        at: usize,
        answer: &Result<Answer<Arc<[IpAddr]>>, LookupFailure>,
        now: Instant,
    ) {
        let Stage::Addresses { targets, .. } = &self.stage else { return };
        let Some(name) = targets.get(at).map(|target| Arc::clone(&target.record.target)) else { return };
        match answer {
            Ok(answer) if answer.value.is_empty() => {
                let source = StepSource::of(answer.cached, answer.stale);
                self.explain_parallel(StepKind::Addresses, &name, &"no address", source, now);
            }
            Ok(answer) => {
                let source = StepSource::of(answer.cached, answer.stale);
                self.explain_parallel(StepKind::Addresses, &name, &Listed(&answer.value), source, now);
            }
            Err(failure) => {
                self.explain_parallel(StepKind::Addresses, &name, &failure, StepSource::Asked, now);
            }
        }
    }

    /// Notes a step that ended at `now`; the next one begins there.
    fn explain(
        &mut self,
        kind: StepKind,
        subject: &str,
        outcome: &dyn Display,
        source: StepSource,
        now: Instant,
    ) {
        self.explain_parallel(kind, subject, outcome, source, now);
        self.step_started_at = now;
    }

    /// Notes a step that others began together with.
    fn explain_parallel(
        &mut self,
        kind: StepKind,
        subject: &str,
        outcome: &dyn Display,
        source: StepSource,
        now: Instant,
    ) {
        if matches!(self.errand, Errand::Explain(_)) {
            let took = now.saturating_since(self.step_started_at);
            let outcome = outcome.to_string();
            self.steps.push(ExplainedStep { kind, subject: subject.into(), outcome, source, took });
        }
    }
}

/// Prints records and addresses the way people read them.
struct Listed<'a, T>(&'a [T]);

impl Display for Listed<'_, SrvRecord> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, SrvRecord { priority, weight, port, target }) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{target}:{port} (priority {priority}, weight {weight})")?;
        }
        Ok(())
    }
}

impl Display for Listed<'_, IpAddr> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, address) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{address}")?;
        }
        Ok(())
    }
}

/// Where a homeserver listens when nothing says otherwise.
const FEDERATION_PORT: u16 = 8448;
