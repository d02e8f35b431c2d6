//! A UDP socket to one name server, shared by the questions of a few seconds.
//!
//! A socket for each question would be safe and slow: most of what a lookup costs is making, watching and
//! closing it. A line is connected (datagrams from others never reach it), has a port that the system chose
//! by chance, carries a bounded number of questions under ids chosen by chance, and is then replaced. Whoever
//! wants to forge an answer must guess port, id and question of one that is open.
//!
//! # Source
//! RFC 5452 (what an answer must match before it is believed).

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use rustc_hash::FxHashMap;
use southbridge_words::{Instant, LookupFailure};
use tokio::sync::{Notify, oneshot};

use crate::net::{Datagrams, Network};

/// What a question gets.
type Told = Result<Message, LookupFailure>;

/// A socket, and the questions that are open on it.
pub(super) struct Line {
    socket: Datagrams,
    network: Network,
    opened_at: Instant,
    asked: Cell<u32>,
    open: RefCell<FxHashMap<u16, Open>>,
    retired: Cell<bool>,
    closing: Notify,
}

struct Open {
    question: Query,
    tell: oneshot::Sender<Told>,
}

/// The place of one question on a line; left when dropped.
struct Place<'a> {
    line: &'a Line,
    id: u16,
}

impl Line {
    /// Opens a line to `server`, and starts reading from it.
    ///
    /// # Errors
    /// When this machine has no socket to spare, or no way to the server.
    pub(super) fn open(network: &Network, server: SocketAddr, now: Instant) -> io::Result<Rc<Self>> {
        let line = Rc::new(Self {
            socket: network.datagrams(server)?,
            network: network.clone(),
            opened_at: now,
            asked: Cell::new(0),
            open: RefCell::default(),
            retired: Cell::new(false),
            closing: Notify::new(),
        });
        tokio::task::spawn_local(read(Rc::clone(&line)));
        Ok(line)
    }

    /// Whether a new question should go on another line.
    pub(super) fn is_worn(&self, now: Instant) -> bool {
        self.asked.get() >= QUESTIONS_MAX || now.saturating_since(self.opened_at) >= AGE_MAX
    }

    /// No new question comes: close when the last open one has left.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.close_if_done();
    }

    /// Asks `question`, which `bytes` spell but for the id, and asks again every `resend` while nothing comes.
    /// Ends when the answer has come; the caller has the timeout.
    pub(super) async fn ask(&self, question: Query, mut bytes: Vec<u8>, resend: Duration) -> Told {
        let (tell, mut told) = oneshot::channel();
        let place = self.place(question, tell);
        bytes[..2].copy_from_slice(&place.id.to_be_bytes());
        for _ in 0..SENDS_MAX {
            self.socket.send(&bytes).await.map_err(|_| LookupFailure::Refused)?;
            if let Ok(told) = tokio::time::timeout(resend, &mut told).await {
                return told.unwrap_or(Err(LookupFailure::Refused));
            }
        }
        told.await.unwrap_or(Err(LookupFailure::Refused))
    }

    fn place(&self, question: Query, tell: oneshot::Sender<Told>) -> Place<'_> {
        self.asked.set(self.asked.get() + 1);
        let mut open = self.open.borrow_mut();
        // Far fewer questions are open than there are ids, so this ends soon.
        let ids = std::iter::repeat_with(|| self.network.draw() as u16);
        let id = { ids }.find(|id| !open.contains_key(id)).unwrap_or_default();
        open.insert(id, Open { question, tell });
        Place { line: self, id }
    }

    /// Something came from the server, or from whoever can send in its name.
    fn on_datagram(&self, bytes: &[u8]) {
        let Some([high, low, flags]) = bytes.first_chunk::<3>() else { return };
        if flags & IS_RESPONSE == 0 {
            return;
        }
        let id = u16::from_be_bytes([*high, *low]);
        let mut open = self.open.borrow_mut();
        let Some(Open { question, .. }) = open.get(&id) else { return };
        let told = match Message::from_vec(bytes) {
            Ok(message) if answers(&message, question) => Ok(message),
            Ok(_) => return,
            Err(_) => Err(LookupFailure::Malformed),
        };
        if let Some(Open { tell, .. }) = open.remove(&id) {
            // Whoever has gone meanwhile is not told.
            let _ = tell.send(told);
        }
    }

    /// The system says that nobody listens there.
    fn on_refused(&self) {
        for (_, Open { tell, .. }) in self.open.borrow_mut().drain() {
            let _ = tell.send(Err(LookupFailure::Refused));
        }
    }

    fn close_if_done(&self) {
        if self.retired.get() && self.open.borrow().is_empty() {
            self.closing.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.line.open.borrow_mut().remove(&self.id);
        self.line.close_if_done();
    }
}

/// Whether `message` is an answer to `question`. An error may leave the question out.
pub(super) fn answers(message: &Message, question: &Query) -> bool {
    let is_error = !matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain);
    message.message_type == MessageType::Response
        && match message.queries.as_slice() {
            [only] => only == question,
            [] => is_error,
            _ => false,
        }
}

async fn read(line: Rc<Line>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let received = tokio::select! {
            biased;
            received = line.socket.recv(&mut buffer) => received,
            () = line.closing.notified() => return,
        };
        match received {
            Ok(length) => line.on_datagram(&buffer[..length]),
            Err(_) => line.on_refused(),
        }
        line.close_if_done();
    }
}

// A forger must find a port out anew for each line.
const QUESTIONS_MAX: u32 = 128;
const AGE_MAX: Duration = Duration::from_secs(5);
// Datagrams get lost; a server that does not answer the third time is busy or gone.
const SENDS_MAX: u32 = 3;
/// More than what we say we take.
const DATAGRAM_MAX: usize = 4096;
const IS_RESPONSE: u8 = 0x80;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    use hickory_proto::op::OpCode;
    use hickory_proto::rr::{Name, RecordType};
    use std::str::FromStr;

    fn question(name: &str, kind: RecordType) -> Query {
        Query::query(Name::from_str(name).expect("a name"), kind)
    }

    /// Only what repeats the question is its answer; an error may leave the question out.
    #[test]
    fn an_answer_must_repeat_its_question() {
        let asked = question("a.test.", RecordType::A);
        let answer = |repeated: &[Query], code, kind| {
            let mut message = Message::new(1, kind, OpCode::Query);
            message.metadata.response_code = code;
            message.add_queries(repeated.to_vec());
            answers(&message, &asked)
        };
        let good = ResponseCode::NoError;
        assert!(answer(&[question("A.Test.", RecordType::A)], good, MessageType::Response));
        assert!(!answer(&[question("b.test.", RecordType::A)], good, MessageType::Response));
        assert!(!answer(&[question("a.test.", RecordType::AAAA)], good, MessageType::Response));
        assert!(!answer(&[asked.clone(), asked.clone()], good, MessageType::Response));
        assert!(!answer(std::slice::from_ref(&asked), good, MessageType::Query));
        assert!(!answer(&[], good, MessageType::Response));
        assert!(answer(&[], ResponseCode::FormErr, MessageType::Response));
    }

    /// What is worn takes no new question, and closes when the last one has left.
    #[tokio::test]
    async fn a_line_is_worn_by_questions_and_by_age() {
        let story = async {
            let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            let line = Line::open(&Network::System, server, Instant::ZERO).expect("a socket");
            assert!(!line.is_worn(Instant::ZERO) && line.is_worn(Instant::ZERO + AGE_MAX));
            for _ in 0..QUESTIONS_MAX {
                drop(line.place(question("a.test.", RecordType::A), oneshot::channel().0));
            }
            assert!(line.is_worn(Instant::ZERO));
            let place = line.place(question("a.test.", RecordType::A), oneshot::channel().0);
            line.retire();
            tokio::task::yield_now().await;
            assert_eq!(Rc::strong_count(&line), 2);
            drop(place);
            while Rc::strong_count(&line) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::task::LocalSet::new().run_until(story).await;
    }
}
