//! Transactions (`PUT /send/{txnId}`), taken in as a homeserver does: once for each origin and id.
//!
//! Recording is off until [`Homeservers::record_sends`](super::Homeservers::record_sends), or until a host is
//! told what to answer; benchmarks need no ledger of bodies.
//!
//! # Source
//! Matrix Server-Server API, "Transactions"; faults rows 16–18.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use hyper::Method;
use hyper::header::AUTHORIZATION;

use super::received::Received;
use super::script::Canned;

/// What a host does with one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnSend {
    /// Processes it, and says so.
    #[default]
    Process,
    /// Processes it, and finds fault with these PDUs: event id and error.
    ProcessWithErrors(Vec<(String, String)>),
    /// Does not process it, and says this.
    Refuse(Canned),
    /// Processes it, and says this instead.
    ProcessAndSay(Canned),
    /// Processes it, and never answers.
    ProcessAndHang,
    /// Processes it, and closes the connection without an answer.
    ProcessAndCut,
    /// Does not process it, and closes the connection without an answer.
    Cut,
}

/// One `PUT /send/{txnId}`, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentTransaction {
    /// Its id, as it stood in the path.
    pub id: String,
    /// The values of its `Authorization` headers.
    pub authorization: Vec<String>,
    /// All of its body.
    pub body: Bytes,
    /// Whether it was processed: asked to, and not before.
    pub processed: bool,
}

impl SentTransaction {
    /// Its body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What becomes of a request.
pub(super) enum Verdict {
    /// It is answered like all others.
    Otherwise,
    Say(Canned),
    Hang,
    Cut,
}

/// Is told of every transaction that comes to a healthy host: the host, the id, the body.
pub(super) type Watcher = Box<dyn Fn(&str, &str, &Bytes) + Send + Sync>;

/// The transactions of all hosts.
#[derive(Default)]
pub(super) struct Sends {
    recording: AtomicBool,
    watcher: OnceLock<Watcher>,
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Debug, Default)]
struct Host {
    answers: VecDeque<OnSend>,
    seen: Vec<SentTransaction>,
    processed: HashSet<(String, String)>,
}

impl Sends {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self) {
        self.recording.store(true, Ordering::Relaxed);
    }

    /// From now on tells `watcher`, unless there is one already.
    pub(super) fn watch(&self, watcher: Watcher) {
        let _there_is_one = self.watcher.set(watcher);
    }

    /// Whether all of the body of what is sent to `target` is wanted.
    pub(super) fn records(&self, target: &str) -> bool {
        (self.is_recording() || self.watcher.get().is_some()) && target.starts_with(SEND)
    }

    fn is_recording(&self) -> bool {
        self.recording.load(Ordering::Relaxed)
    }

    pub(super) fn answer_next(&self, host: &str, answers: impl IntoIterator<Item = OnSend>) {
        self.record();
        self.lock().entry(host.to_ascii_lowercase()).or_default().answers.extend(answers);
    }

    pub(super) fn of(&self, host: &str) -> Vec<SentTransaction> {
        self.lock().get(&host.to_ascii_lowercase()).map(|host| host.seen.clone()).unwrap_or_default()
    }

    /// Takes in `request`, if it is a transaction and recording is on.
    pub(super) fn take(&self, request: &Received) -> Verdict {
        let is_whole = request.method == Method::PUT && request.complete;
        if !self.records(&request.target) || !is_whole {
            return Verdict::Otherwise;
        }
        let id = request.target[SEND.len()..].to_owned();
        if let Some(watcher) = self.watcher.get() {
            watcher(&request.host, &id, &request.body);
        }
        if !self.is_recording() {
            return Verdict::Otherwise;
        }
        let mut hosts = self.lock();
        let host = hosts.entry(request.host.clone()).or_default();
        let answer = host.answers.pop_front().unwrap_or_default();
        let authorization = request.headers.get_all(AUTHORIZATION).iter();
        let authorization: Vec<_> =
            authorization.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let wanted = !matches!(answer, OnSend::Refuse(_) | OnSend::Cut);
        let body = request.body.clone();
        let origin = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default()["origin"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let processed = wanted && host.processed.insert((origin, id.clone()));
        host.seen.push(SentTransaction { id, authorization, body, processed });
        match answer {
            OnSend::Process => Verdict::Say(Canned::json(200, r#"{"pdus":{}}"#)),
            OnSend::ProcessWithErrors(errors) => {
                let pdus: serde_json::Map<_, _> = errors
                    .into_iter()
                    .map(|(id, error)| (id, serde_json::json!({ "error": error })))
                    .collect();
                Verdict::Say(Canned::json(200, &serde_json::json!({ "pdus": pdus }).to_string()))
            }
            OnSend::Refuse(canned) | OnSend::ProcessAndSay(canned) => Verdict::Say(canned),
            OnSend::ProcessAndHang => Verdict::Hang,
            OnSend::ProcessAndCut | OnSend::Cut => Verdict::Cut,
        }
    }
}

impl fmt::Debug for Sends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sends")
    }
}

const SEND: &str = "/_matrix/federation/v1/send/";
