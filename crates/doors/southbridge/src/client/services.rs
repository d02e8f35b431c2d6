//! Services that a program declares: found and connected before the first request, and asked for by name.
//!
//! A declared service `orders` is what `http://orders/…` and `https://orders/…` lead to, from any client of the
//! process; how it is found and spoken to is its own affair. Whether it can be reached is known without asking it
//! anything (K12): it is visited now and then, and each visit tells.
//!
//! # Source
//! K6, K7, K12, K14, K16; issue 4, item 4.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use southbridge_kernel::port::{Errand, Line, Started};
use southbridge_kernel::{Declared, Kernel, ServiceTerms};
use southbridge_policy::ranker::Demand;
use southbridge_words::{ServiceName, Ticket};
use url::Url;

use super::declaration::Service;
use super::finding::{Pushed, discovery};
use super::readiness::{News, Readiness};
use super::response::Answer;
use super::routes::{Destination, SharedTls};
use super::settings::connector;
use super::{ClientError, Port};
use crate::Southbridge;

/// Declares `service`, or declares it anew; the answer is `Answer::Done`. Reads the files that its TLS names.
///
/// # Errors
/// [`ClientError::InvalidSetting`] names what is wrong with it; [`ClientError::Overloaded`] when the port is full.
pub fn declare(port: &Port, service: Service) -> Result<Ticket, ClientError> {
    let tls = check(&service)?;
    Ok(port.submit(Task::Declare { service: Box::new(service), tls })?)
}

/// Declares `service` on the I/O thread itself, as [`declare`] does from elsewhere.
///
/// # Errors
/// [`ClientError::InvalidSetting`] names what is wrong with it; [`ClientError::Overloaded`] when there are too many.
pub fn declare_on(desk: &Southbridge, service: &Service) -> Result<(), ClientError> {
    let tls = check(service)?;
    desk.services().declare(desk.kernel(), service, tls).map(drop)
}

fn check(service: &Service) -> Result<SharedTls, ClientError> {
    service.validate()?;
    service.tls.as_ref().map(connector).transpose()
}

/// Takes a service back; the answer is `Answer::Done`.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn withdraw(port: &Port, name: &str) -> Result<Ticket, ClientError> {
    Ok(port.submit(Task::Withdraw { name: name.to_owned() })?)
}

/// A service declared by its addresses is at `addresses` from now on; the answer is `Answer::Done`. Connections to
/// those that went away end when what is under way on them has.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full. [`ClientError::InvalidSetting`] is the answer when there is no
/// such service.
pub fn push(port: &Port, name: &str, addresses: Vec<SocketAddr>) -> Result<Ticket, ClientError> {
    Ok(port.submit(Task::Push { name: name.to_owned(), addresses })?)
}

/// Which services can be reached: the answer is `Answer::Readiness`, at once, or as soon as its version is past
/// `since`. Asked again and again with the version of before, it tells of every change.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn ready(port: &Port, since: Option<u64>) -> Result<Ticket, ClientError> {
    let wanted = since.map_or(Wanted::Now, Wanted::Past);
    Ok(port.submit(Task::Ready { wanted, within: None })?)
}

/// Waits until every service of `names` can be asked, or all that are declared where there are no names: the answer is
/// `Answer::Readiness`, and after `within` in any case.
///
/// # Errors
/// [`ClientError::Overloaded`] when the port is full.
pub fn wait_ready(port: &Port, names: Vec<String>, within: Option<Duration>) -> Result<Ticket, ClientError> {
    Ok(port.submit(Task::Ready { wanted: Wanted::Ready(names), within })?)
}

enum Task {
    Declare { service: Box<Service>, tls: SharedTls },
    Withdraw { name: String },
    Push { name: String, addresses: Vec<SocketAddr> },
    Ready { wanted: Wanted, within: Option<Duration> },
}

/// What readiness is waited for.
enum Wanted {
    Now,
    /// Any later one than this version.
    Past(u64),
    /// That these can be asked.
    Ready(Vec<String>),
}

impl Wanted {
    fn is(&self, readiness: &Readiness) -> bool {
        match self {
            Self::Now => true,
            Self::Past(version) => readiness.version > *version,
            Self::Ready(names) => readiness.are_ready(names),
        }
    }
}

impl Errand<Southbridge> for Task {
    fn start(self: Box<Self>, desk: &Rc<Southbridge>, line: Line<Southbridge>) -> Started {
        let desk = Rc::clone(desk);
        line.carry(move |reply| async move {
            let services = desk.services();
            reply.give(match *self {
                Self::Declare { service, tls } => services.declare(desk.kernel(), &service, tls),
                Self::Withdraw { name } => services.withdraw(&name),
                Self::Push { name, addresses } => services.push(desk.kernel(), &name, addresses),
                Self::Ready { wanted, within } => {
                    let readiness = services.ready(desk.kernel(), &wanted, within).await;
                    Ok(Answer::Readiness(Box::new(readiness)))
                }
            });
        })
    }
}

/// The services of this process.
#[derive(Default)]
pub(crate) struct Services {
    known: RefCell<BTreeMap<String, Served>>,
    news: Rc<News>,
    declarations: Cell<u64>,
}

struct Served {
    destination: Destination,
    pushed: Option<Rc<Pushed>>,
    declared: Declared,
}

impl Services {
    /// The service that `url` names, if it names one.
    pub(super) fn find(&self, url: &Url) -> Option<Destination> {
        let known = self.known.borrow();
        if known.is_empty() || url.port().is_some() {
            return None;
        }
        known.get(url.host_str()?).map(|served| served.destination.clone())
    }

    fn declare(&self, kernel: &Kernel, service: &Service, tls: SharedTls) -> Result<Answer, ClientError> {
        if self.known.borrow().len() >= SERVICES_MAX && !self.known.borrow().contains_key(&service.name) {
            return Err(ClientError::Overloaded { what: format!("{SERVICES_MAX} services are declared") });
        }
        self.declarations.set(self.declarations.get() + 1);
        let (discovery, pushed) = discovery(kernel, service, self.declarations.get(), tls);
        let name = service_name(&service.name);
        // First: what it held to ends with it.
        let before = self.known.borrow_mut().remove(&service.name);
        drop(before);
        let (news, shown, clock) = (Rc::clone(&self.news), service.name.clone(), kernel.clock());
        self.news.begin(&service.name, clock.now());
        let terms =
            ServiceTerms { requests_max: service.limits.requests_max, breaker: service.breaker.clone() };
        let declared = kernel.declare_as(name.clone(), Rc::clone(&discovery), &terms, move |told| {
            news.hear(&shown, told, clock.now());
        });
        let destination = Destination {
            service: name,
            discovery,
            attempts: service.attempts,
            // Whoever declares a service wants to be told at once that it is down (S4).
            demand: Some(Demand::Prompt),
        };
        self.known.borrow_mut().insert(service.name.clone(), Served { destination, pushed, declared });
        Ok(Answer::Done)
    }

    fn withdraw(&self, name: &str) -> Result<Answer, ClientError> {
        let withdrawn = self.known.borrow_mut().remove(name);
        match withdrawn {
            Some(_) => self.news.end(name),
            None => return Err(unknown(name)),
        }
        Ok(Answer::Done)
    }

    fn push(&self, kernel: &Kernel, name: &str, addresses: Vec<SocketAddr>) -> Result<Answer, ClientError> {
        let known = self.known.borrow();
        let served = known.get(name).ok_or_else(|| unknown(name))?;
        let pushed = served.pushed.as_ref().ok_or_else(|| ClientError::InvalidSetting {
            setting: "service",
            reason: format!("{name:?} is found by itself; nothing can be pushed for it"),
        })?;
        pushed.set(addresses);
        // Whatever was known of it was known of where it is no longer.
        kernel.wake(&served.destination.service);
        served.declared.visit();
        Ok(Answer::Done)
    }

    async fn ready(&self, kernel: &Kernel, wanted: &Wanted, within: Option<Duration>) -> Readiness {
        let clock = kernel.clock();
        let waiting = self.news.when(clock, |readiness| wanted.is(readiness));
        match within {
            None => waiting.await,
            Some(within) => match tokio::time::timeout(within, waiting).await {
                Ok(readiness) => readiness,
                Err(_) => self.news.readiness(clock),
            },
        }
    }
}

/// The name stands for itself in ranks and statistics, apart from hosts and Matrix servers of that name.
fn service_name(name: &str) -> ServiceName {
    ServiceName::new(&format!("{PREFIX}{name}"))
}

/// A service as it is shown to people: a declared one by the name that it was declared by.
pub(super) fn shown(service: &ServiceName) -> String {
    let name = service.as_str();
    name.strip_prefix(PREFIX).unwrap_or(name).to_owned()
}

fn unknown(name: &str) -> ClientError {
    ClientError::InvalidSetting { setting: "service", reason: format!("no service is called {name:?}") }
}

const PREFIX: &str = "service:";
/// Each has a task and a connection or two of its own.
const SERVICES_MAX: usize = 1024;
