//! A peer that does what it is told, request by request.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use southbridge_kernel::net::{MemoryListener, MemoryStream};
use southbridge_testkit::raw::{RequestText, Step, Turn, Wire};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use crate::http2;
use crate::log::Log;
use crate::reply::{Reply, Script};

/// A peer at one address. Until told otherwise it answers everything with 200 and `{}`. Dropped, it is gone: its
/// connections end, and the next dial is refused.
pub struct Peer {
    shared: Rc<Shared>,
    task: AbortHandle,
}

/// A request that a peer has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Counts the requests of this peer, from 1.
    pub number: u64,
    /// On which connection it came: they are numbered through the whole network, from 1.
    pub conn: u64,
    /// When it was there, since the start of the rehearsal.
    pub at: Duration,
    /// `GET`, …
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The lines of the head, word for word.
    pub head: String,
    /// All of the body.
    pub body: Vec<u8>,
}

type Rule = Rc<dyn Fn(&Seen) -> Reply>;

pub(crate) struct Shared {
    address: SocketAddr,
    log: Log,
    start: Instant,
    /// Rung when a request is held: it is the test's turn.
    attention: Arc<Notify>,
    queued: RefCell<VecDeque<Reply>>,
    by_target: RefCell<BTreeMap<String, Reply>>,
    otherwise: RefCell<Rule>,
    seen: RefCell<Vec<Seen>>,
    seen_count: Cell<u64>,
    held: RefCell<BTreeMap<u64, oneshot::Sender<Reply>>>,
}

impl Peer {
    pub(crate) fn start(
        listener: MemoryListener,
        tls: Option<Arc<ServerConfig>>,
        log: Log,
        start: Instant,
        attention: Arc<Notify>,
    ) -> Self {
        let well: Rule = Rc::new(|_| Reply::json(200, "{}"));
        let shared = Rc::new(Shared {
            address: listener.address(),
            log,
            start,
            attention,
            queued: RefCell::default(),
            by_target: RefCell::default(),
            otherwise: RefCell::new(well),
            seen: RefCell::default(),
            seen_count: Cell::new(0),
            held: RefCell::default(),
        });
        let task = tokio::task::spawn_local(Rc::clone(&shared).serve(listener, tls));
        Self { shared, task: task.abort_handle() }
    }

    /// From now on every request for `target` (path and query) gets `reply`.
    pub fn on(&self, target: &str, reply: Reply) {
        self.shared.by_target.borrow_mut().insert(target.to_owned(), reply);
    }

    /// The next request, whatever for, gets `reply`; called again, the one after it, and so on. They come before all else.
    pub fn next(&self, reply: Reply) {
        self.shared.queued.borrow_mut().push_back(reply);
    }

    /// From now on requests that nothing else is said about get `reply`.
    pub fn otherwise(&self, reply: Reply) {
        self.answer_with(move |_| reply.clone());
    }

    /// From now on requests that nothing else is said about get what `rule` says.
    pub fn answer_with(&self, rule: impl Fn(&Seen) -> Reply + 'static) {
        *self.shared.otherwise.borrow_mut() = Rc::new(rule);
    }

    /// The first 10 000 requests that it has read.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.borrow().clone()
    }

    /// The numbers of the requests that are [held](Reply::held).
    pub fn held(&self) -> Vec<u64> {
        self.shared.held.borrow().keys().copied().collect()
    }

    /// Gives `reply` to the request with this number, which is held; says whether it was, and somebody still waits for it.
    pub fn release(&self, number: u64, reply: Reply) -> bool {
        let held = self.shared.held.borrow_mut().remove(&number);
        held.is_some_and(|held| held.send(reply).is_ok())
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn serve(self: Rc<Self>, listener: MemoryListener, tls: Option<Arc<ServerConfig>>) {
        let mut served = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = served.join_next() => {}
                stream = listener.accept() => {
                    let (this, tls) = (Rc::clone(&self), tls.clone());
                    served.spawn_local(async move {
                        let conn = stream.conn();
                        if let Err(error) = this.converse(stream, tls).await {
                            this.log.note(format_args!("connection {conn} at {}: {}", this.address, error.kind()));
                        }
                    });
                }
            }
        }
    }

    async fn converse(
        self: &Rc<Self>,
        stream: MemoryStream,
        tls: Option<Arc<ServerConfig>>,
    ) -> io::Result<()> {
        let conn = stream.conn();
        let Some(config) = tls else {
            return self.converse_http1(stream, conn, MemoryStream::reset).await;
        };
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            return http2::converse(self, stream, conn).await.map_err(io::Error::other);
        }
        self.converse_http1(stream, conn, |stream| stream.into_inner().0.reset()).await
    }

    async fn converse_http1<S>(&self, stream: S, conn: u64, reset: impl FnOnce(S)) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut wire = Wire::open(stream, None).await?;
        loop {
            let text = match wire.read_request().await {
                // Between two requests everybody may leave.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                text => text?,
            };
            drop(wire.take_read());
            let seen = self.note(conn, text);
            let reply = self.reply_to(&seen).await;
            match give(&mut wire, &reply, &seen.method).await? {
                Turn::GoesOn => {}
                Turn::Over => return Ok(()),
                Turn::Reset => {
                    reset(wire.into_stream());
                    return Ok(());
                }
            }
        }
    }

    /// Keeps a request, and gives it its number.
    pub(crate) fn note(&self, conn: u64, text: RequestText) -> Seen {
        let RequestText { head, body } = text;
        let mut words = head.split_ascii_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let number = self.seen_count.get() + 1;
        self.seen_count.set(number);
        self.log.note(format_args!(
            "connection {conn} at {}: {method} {target}, {} bytes",
            self.address,
            body.len()
        ));
        let at = Instant::now().saturating_duration_since(self.start);
        let seen = Seen { number, conn, at, method, target, head, body };
        let mut all = self.seen.borrow_mut();
        if all.len() < SEEN_MAX {
            all.push(seen.clone());
        }
        seen
    }

    /// What is to be done with a request, as soon as that is known.
    pub(crate) async fn reply_to(&self, seen: &Seen) -> Reply {
        let mut reply = self.script_for(seen);
        while reply.0 == Script::Held {
            let (release, released) = oneshot::channel();
            self.held.borrow_mut().insert(seen.number, release);
            self.attention.notify_one();
            reply = released.await.unwrap_or_else(|_| Reply::reset());
        }
        reply
    }

    fn script_for(&self, seen: &Seen) -> Reply {
        if let Some(reply) = self.queued.borrow_mut().pop_front() {
            return reply;
        }
        if let Some(reply) = self.by_target.borrow().get(&seen.target) {
            return reply.clone();
        }
        let rule = Rc::clone(&self.otherwise.borrow());
        rule(seen)
    }
}

async fn give<S>(wire: &mut Wire<S>, reply: &Reply, method: &str) -> io::Result<Turn>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let steps: Vec<Step> = match &reply.0 {
        Script::Held => Vec::new(),
        Script::Deed(deed) => deed.steps(method),
        Script::Steps(steps) => steps.clone(),
    };
    for step in &steps {
        let turn = wire.take(step).await?;
        if turn != Turn::GoesOn {
            return Ok(turn);
        }
    }
    Ok(Turn::GoesOn)
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({})", self.shared.address)
    }
}

const SEEN_MAX: usize = 10_000;
