//! One name server: questions over UDP, and over TCP what does not fit there.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use southbridge_words::LookupFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::line::{Line, answers};
use crate::Surroundings;

/// A name server and the line to it.
pub(super) struct Server {
    address: SocketAddr,
    around: Surroundings,
    timeout: Duration,
    line: RefCell<Option<Rc<Line>>>,
}

impl Server {
    pub(super) fn new(address: SocketAddr, timeout: Duration, around: Surroundings) -> Self {
        Self { address, around, timeout, line: RefCell::default() }
    }

    /// What the server says about the records of type `kind` of `name`. The message may be an error.
    pub(super) async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, LookupFailure> {
        let question = Query::query(name.clone(), kind);
        let answer = self.ask_plainly(&question, Extension::Edns).await?;
        match answer.response_code {
            // Servers from before 1999 take the extension for an error.
            ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS => {
                self.ask_plainly(&question, Extension::None).await
            }
            _ => Ok(answer),
        }
    }

    async fn ask_plainly(&self, question: &Query, extension: Extension) -> Result<Message, LookupFailure> {
        let bytes = spell(question, extension)?;
        let line = self.line().map_err(|_| LookupFailure::Overloaded)?;
        let resend = (self.timeout / 4).clamp(RESEND_MIN, RESEND_MAX);
        let asking = line.ask(question.clone(), bytes.clone(), resend);
        let answer =
            tokio::time::timeout(self.timeout, asking).await.map_err(|_| LookupFailure::TimedOut)??;
        if !answer.truncation {
            return Ok(answer);
        }
        let asking = self.ask_over_tcp(&bytes);
        let read = tokio::time::timeout(self.timeout, asking).await.map_err(|_| LookupFailure::TimedOut)?;
        let bytes = read.map_err(|_| LookupFailure::Refused)?;
        let answer = Message::from_vec(&bytes).map_err(|_| LookupFailure::Malformed)?;
        if answers(&answer, question) { Ok(answer) } else { Err(LookupFailure::Malformed) }
    }

    /// Each message has two bytes of length before it (RFC 1035 §4.2.2); so it is at most 64 KiB.
    async fn ask_over_tcp(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.around.network.connect(self.address, |_| Ok(())).await?;
        let length = u16::try_from(question.len()).map_err(io::Error::other)?;
        let mut framed = Vec::with_capacity(question.len() + 2);
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(question);
        stream.write_all(&framed).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    /// The line in use, or a new one in the place of one that is worn.
    fn line(&self) -> io::Result<Rc<Line>> {
        let now = self.around.clock.now();
        let mut current = self.line.borrow_mut();
        if let Some(line) = current.as_ref().filter(|line| !line.is_worn(now)) {
            return Ok(Rc::clone(line));
        }
        let line = Line::open(&self.around.network, self.address, now)?;
        if let Some(worn) = current.replace(Rc::clone(&line)) {
            worn.retire();
        }
        Ok(line)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(line) = self.line.borrow_mut().take() {
            line.retire();
        }
    }
}

/// Whether a question says how large an answer may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extension {
    /// RFC 6891.
    Edns,
    None,
}

fn spell(question: &Query, extension: Extension) -> Result<Vec<u8>, LookupFailure> {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.queries.push(question.clone());
    if extension == Extension::Edns {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD_MAX);
        message.edns = Some(edns);
    }
    message.to_vec().map_err(|_| LookupFailure::Malformed)
}

/// What surely passes without being cut up on the way: the value of the DNS flag day of 2020.
const PAYLOAD_MAX: u16 = 1232;
const RESEND_MIN: Duration = Duration::from_millis(250);
const RESEND_MAX: Duration = Duration::from_secs(1);
