//! A bus whose answers are written down.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use southbridge_words::ServerName;

use crate::bus_door::{
    Acknowledged, BusApi, Check, Code, Failure, KeyRow, LostRow, QueryFailure, Question, QueueRow, Reading,
    ResultLine, Submission, Verdict,
};

/// The bus, and what it was asked.
#[derive(Clone, Default)]
pub(super) struct Scripted(Rc<RefCell<Script>>);

#[derive(Default)]
pub(super) struct Script {
    /// Taken by submissions in order; when there are none left, they are volatile.
    pub answers: VecDeque<Result<Acknowledged, Failure>>,
    pub sent: Vec<Submission>,
    /// Taken by questions in order; when there are none left, they wait for ever.
    pub responses: VecDeque<Result<Bytes, QueryFailure>>,
    pub asked: Vec<Question>,
    /// Questions that were given up.
    pub given_up: u32,
    pub queues: BTreeMap<ServerName, QueueRow>,
    pub woken: Vec<ServerName>,
    /// What was asked to be checked, in words.
    pub checked: Vec<String>,
    /// Servers whose keys are known.
    pub keys: BTreeMap<ServerName, KeyRow>,
    /// What happened, in order.
    pub lines: Vec<ResultLine>,
}

impl Scripted {
    pub(super) fn script(&self) -> std::cell::RefMut<'_, Script> {
        self.0.borrow_mut()
    }

    pub(super) fn queue_up(&self, destination: &str, state: &'static str, items: u64) {
        let row = QueueRow {
            destination: destination.to_owned(),
            state,
            delivered: 0,
            last: items,
            items,
            at_least: false,
            held: 0,
            volatile: 2,
            transaction: None,
            failures: 0,
            failing_for_ms: None,
            hold: None,
            retry_in_ms: Some(1000),
            transaction_bytes_max: 1 << 20,
        };
        self.script().queues.insert(super::name(destination), row);
    }
}

struct GivenUp(Scripted);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.script().given_up += 1;
    }
}

impl BusApi for Scripted {
    async fn send(&self, submission: Submission) -> Result<Acknowledged, Failure> {
        let mut script = self.script();
        script.sent.push(submission);
        script.answers.pop_front().unwrap_or(Ok(Acknowledged::Volatile))
    }

    async fn query(&self, question: Question) -> Result<Bytes, QueryFailure> {
        self.script().asked.push(question);
        let next = self.script().responses.pop_front();
        match next {
            Some(response) => response,
            None => {
                let _given_up = GivenUp(self.clone());
                pending().await
            }
        }
    }

    async fn verify(&self, check: &Check<'_>, timeout: Duration) -> Result<Verdict, Failure> {
        self.script().checked.push(format!("{check:?} within {timeout:?}"));
        match check {
            Check::Event { .. } => Ok(Verdict::Whole { event_id: "$e".to_owned() }),
            Check::Object { .. } => Err(Failure::new(Code::NotVerified, "signature does not fit")),
            Check::Request { .. } => Ok(Verdict::Request { origin: "a.example".to_owned() }),
        }
    }

    async fn keys(&self, server: &ServerName, _timeout: Duration) -> Result<Vec<KeyRow>, Failure> {
        let known = self.script().keys.get(server).cloned();
        known.map(|key| vec![key]).ok_or_else(|| Failure::new(Code::NoKeys, "it does not answer"))
    }

    fn forget_keys(&self, server: &ServerName) -> bool {
        self.script().keys.remove(server).is_some()
    }

    fn wake(&self, destination: &ServerName) {
        self.script().woken.push(destination.clone());
    }

    fn queue(&self, destination: &ServerName) -> Option<QueueRow> {
        self.script().queues.get(destination).cloned()
    }

    fn queues(&self, after: Option<&ServerName>, max: usize) -> Vec<(ServerName, QueueRow)> {
        let script = self.script();
        let rows = script.queues.iter().filter(|(name, _)| after.is_none_or(|after| *name > after));
        rows.take(max).map(|(name, row)| (name.clone(), row.clone())).collect()
    }

    async fn drop_backlog(&self, destination: &ServerName) -> Result<LostRow, Failure> {
        Ok(self.script().queues.remove(destination).unwrap().at_stake())
    }

    fn results(&self, from: Option<&str>) -> Result<Reading, Failure> {
        let from: usize = match from.map(str::parse) {
            None => self.script().lines.len(),
            Some(Ok(from)) => from,
            Some(Err(_)) => return Err(Failure::new(Code::InvalidParam, "from is no token")),
        };
        let lines = self.script().lines.split_off(from);
        let lines = stream::iter(lines).chain(stream::pending()).boxed_local();
        Ok(Reading { token: from.to_string(), lines })
    }
}
