//! What the DNS server knows: a script per name and type, and how often each was asked.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_proto::rr::RecordType;

/// What a query gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// These records. As many as fit in 64 KiB go out: "ten thousand" are some thousands on the wire.
    Records {
        /// What they say.
        data: Vec<Data>,
        /// How long they may be kept.
        ttl: u32,
    },
    /// There is no such name.
    NxDomain {
        /// The time to live in the SOA record; without one no SOA is sent.
        ttl: Option<u32>,
    },
    /// There is such a name, and nothing of that type.
    NoData {
        /// The time to live in the SOA record; without one no SOA is sent.
        ttl: Option<u32>,
    },
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// Nothing at all: the client's patience decides.
    Silence,
    /// An empty answer with the TC bit over UDP, the true one over TCP.
    Truncated(Box<Answer>),
    /// `genuine`, and before it forged records under a wrong id: a client must not see them.
    Spoofed {
        /// What the forger says.
        forged: Vec<Data>,
        /// What is true.
        genuine: Box<Answer>,
    },
    /// `answer`, and in the additional section records for names nobody asked for.
    Poisoned {
        /// Name and address of each record slipped in.
        extra: Vec<(String, IpAddr)>,
        /// What is true.
        genuine: Box<Answer>,
    },
    /// The same, later.
    Late(Duration, Box<Answer>),
    /// These bytes behind the id of the query: no message at all, if you like.
    Garbage(Vec<u8>),
}

impl Answer {
    /// Addresses, of whichever family.
    pub fn addresses(addresses: &[IpAddr], ttl: u32) -> Self {
        Self::Records { data: addresses.iter().copied().map(Data::Address).collect(), ttl }
    }

    /// One SRV record.
    pub fn srv(priority: u16, weight: u16, port: u16, target: &str, ttl: u32) -> Self {
        let record = SrvRecord { priority, weight, port, target: target.into() };
        Self::Records { data: vec![Data::Srv(record)], ttl }
    }
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// SRV.
    Srv(SrvRecord),
    /// CNAME: the name that is meant.
    Cname(String),
}

impl Data {
    /// The type it is asked for by.
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::Address(IpAddr::V4(_)) => RecordType::A,
            Self::Address(IpAddr::V6(_)) => RecordType::AAAA,
            Self::Srv(_) => RecordType::SRV,
            Self::Cname(_) => RecordType::CNAME,
        }
    }
}

/// An SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub struct SrvRecord {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

type Rule = Arc<dyn Fn(&str, RecordType) -> Option<Answer> + Send + Sync>;

/// Scripts and counts.
#[derive(Default)]
pub(super) struct Script(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    answers: HashMap<String, HashMap<RecordType, Answer>>,
    otherwise: Option<Rule>,
    counts: HashMap<(String, RecordType), u64>,
    total: u64,
    over_tcp: u64,
}

impl Script {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, name: &str, kind: RecordType, answer: Answer) {
        self.lock().answers.entry(key(name)).or_default().insert(kind, answer);
    }

    pub(super) fn unset(&self, name: &str) {
        self.lock().answers.remove(&key(name));
    }

    pub(super) fn otherwise(&self, rule: Rule) {
        self.lock().otherwise = Some(rule);
    }

    pub(super) fn queries(&self, name: &str, kind: RecordType) -> u64 {
        self.lock().counts.get(&(key(name), kind)).copied().unwrap_or(0)
    }

    pub(super) fn queries_total(&self) -> u64 {
        self.lock().total
    }

    pub(super) fn queries_over_tcp(&self) -> u64 {
        self.lock().over_tcp
    }

    pub(super) fn forget_queries(&self) {
        let mut inner = self.lock();
        inner.counts.clear();
        (inner.total, inner.over_tcp) = (0, 0);
    }

    pub(super) fn count(&self, name: &str, kind: RecordType, over_tcp: u64) {
        let mut inner = self.lock();
        inner.total += 1;
        inner.over_tcp += over_tcp;
        if inner.counts.len() < COUNTED_MAX {
            *inner.counts.entry((key(name), kind)).or_default() += 1;
        }
    }

    /// The answer for `name` itself; an alias is told as `Records` of one CNAME.
    pub(super) fn answer(&self, name: &str, kind: RecordType) -> Answer {
        let inner = self.lock();
        if let Some(answers) = inner.answers.get(&key(name)) {
            let scripted = [kind, RecordType::ANY, RecordType::CNAME].iter().find_map(|k| answers.get(k));
            return scripted.cloned().unwrap_or(Answer::NoData { ttl: Some(NEGATIVE_TTL) });
        }
        let rule = inner.otherwise.clone();
        drop(inner);
        rule.and_then(|rule| rule(&key(name), kind)).unwrap_or(Answer::NxDomain { ttl: Some(NEGATIVE_TTL) })
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script of {} names", self.lock().answers.len())
    }
}

/// Names in lower case without the final dot.
fn key(name: &str) -> String {
    let name = if name == "." { name } else { name.trim_end_matches('.') };
    name.to_ascii_lowercase()
}

const NEGATIVE_TTL: u32 = 60;
/// (name, type) pairs counted one by one; beyond, only the total grows.
const COUNTED_MAX: usize = 200_000;
