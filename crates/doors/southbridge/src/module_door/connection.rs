//! One module: its greeting, its bus, and what it asks of it.
//!
//! Nothing waits here: a question is begun as it is read, and its answer is written as it comes. Who does not read its
//! answers is not read any more once [`REPLIES_MAX`] of them wait.

use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use southbridge_bus::externaliser::ExternaliserLimits;
use southbridge_bus::owed::OwedLimits;
use southbridge_bus::signing::{Signer, SigningKeys};
use southbridge_kernel::net::{LocalStream, Peer};
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};
use tracing::{error, info, warn};

use super::Inside;
use super::frames;
use super::words::{self, Asked, Greeting, Hello, Reply, Request, Welcome};
use crate::bus_port::{
    Carry, Close, Deed, GiveBack, Heard, Post, Progress, SendEdu, SendPdu, Wake, bus_config, open_post,
};
use crate::client::ClientError;

type Frames = FramedRead<ReadHalf<LocalStream>, LengthDelimitedCodec>;

/// Why a connection ends before its module leaves.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// What came makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// It cannot be read any more.
    #[error("it cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// A bug of ours.
    #[error("a task failed; the log before this says where")]
    Failed,
}

/// Serves a module until it leaves, says what makes no sense, or the door closes.
pub(super) async fn serve(stream: LocalStream, inside: &Rc<Inside>) {
    let uid = match stream.peer() {
        Peer::Unix { uid } => uid,
        Peer::Tcp(_) => None,
    };
    let (read, mut write) = tokio::io::split(stream);
    let mut frames = frames::reader(read, inside.config.frame_bytes_max);
    let greeted = tokio::time::timeout(inside.config.greeting_max, greet(&mut frames, inside)).await;
    let opened = greeted.unwrap_or_else(|_| Err("it has said nothing in time".to_owned()));
    let welcome = Welcome { greeting: Greeting::ours(), refused: opened.as_ref().err().cloned() };
    let head = serde_json::to_vec(&welcome).expect("two strings and a number");
    let is_written = write.write_all(&frames::to_module(&head)).await.is_ok();
    let Opened { name, post, carry_timeout } = match opened {
        Ok(opened) if is_written => opened,
        Ok(_) => return,
        Err(reason) => {
            inside.counters.refused.add(1);
            warn!(uid, reason, "a module was given no bus");
            return;
        }
    };
    info!(server_name = name, uid, "module connected");
    let ended = Connection::new(post, carry_timeout, write, inside).run(&mut frames).await;
    match ended {
        Ok(()) => info!(server_name = name, "module disconnected"),
        Err(broken) => {
            inside.counters.malformed.add(u64::from(matches!(broken, Broken::Malformed(_))));
            warn!(server_name = name, error = %broken, "module cut off");
        }
    }
}

/// A module's bus.
struct Opened {
    name: String,
    post: Rc<Post>,
    carry_timeout: Duration,
}

/// Reads who a module is, and opens its bus.
async fn greet(frames: &mut Frames, inside: &Rc<Inside>) -> Result<Opened, String> {
    let frame = match frames.next().await {
        Some(Ok(frame)) => frame,
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("it left without a word".to_owned()),
    };
    let (head, _body) = frames::parted(&frame)?;
    Greeting::read(head)?;
    let hello: Hello = serde_json::from_slice(head).map_err(|error| format!("its greeting: {error}"))?;
    let config = &inside.config;
    if let Some(dialled) = hello.never_dialled.iter().find(|one| !config.addresses.denies(one)) {
        return Err(format!(
            "{dialled} must not be dialled for it, and this daemon would: put it under `deny` of [addresses] in the \
             daemon's configuration, or take it out of federation_ip_range_blocklist"
        ));
    }
    let age_max = Duration::try_from_secs_f64(hello.give_back_after)
        .map_err(|_| format!("give_back_after: {} is no time", hello.give_back_after))?;
    let owed =
        OwedLimits { age_max, items_max: hello.items_max, bytes_max: hello.bytes_max.min(config.bytes_max) };
    let keys = std::str::from_utf8(hello.signing_keys.expose()).map_err(|error| error.to_string())?;
    let keys = SigningKeys::parse(keys).map_err(|error| format!("signing_keys: {error}"))?;
    let origin = hello.server_name.0;
    let name = origin.as_str().to_owned();
    let bus = bus_config(origin.clone(), ExternaliserLimits::default(), config.close_patience);
    let southbridge = &inside.southbridge;
    let signer = Signer::new(origin, keys);
    let post = open_post(southbridge.kernel(), southbridge.matrix(), signer, bus, owed).await;
    let opened = post.map(|post| Opened { name, post, carry_timeout: age_max });
    opened.map_err(|error| error.to_string())
}

/// A module that has a bus.
struct Connection<'a> {
    inside: &'a Inside,
    post: Rc<Post>,
    tasks: JoinSet<()>,
    replies: mpsc::Sender<Bytes>,
    writing: tokio::task::JoinHandle<()>,
    carry_timeout: Duration,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

impl<'a> Connection<'a> {
    fn new(
        post: Rc<Post>,
        carry_timeout: Duration,
        write: impl AsyncWrite + Unpin + 'static,
        inside: &'a Inside,
    ) -> Self {
        let (replies, waiting) = mpsc::channel(REPLIES_MAX);
        let writing = spawn_local(write_all(write, waiting));
        Self { inside, post, tasks: JoinSet::new(), replies, writing, carry_timeout }
    }

    async fn run(mut self, frames: &mut Frames) -> Result<(), Broken> {
        let inside = self.inside;
        let mut ended = self.listen(frames, inside.closing.pass()).await;
        if matches!(ended, Ok(End::Over)) && self.replies.send(said(UNASKED, &Reply::Closing)).await.is_ok() {
            let leave = tokio::time::sleep(inside.config.close_patience + LEAVE_MAX);
            ended = self.listen(frames, leave).await;
        }
        // What was begun for it ends now, and the bus with it: whoever comes after it finds nothing under way.
        self.tasks.shutdown().await;
        ended.map(|_| ())
    }

    /// Does what it asks, until it leaves, or until it is over.
    async fn listen(&mut self, frames: &mut Frames, over: impl Future<Output = ()>) -> Result<End, Broken> {
        let mut over = pin!(over);
        loop {
            tokio::select! {
                () = over.as_mut() => return Ok(End::Over),
                Some(task) = self.tasks.join_next() => {
                    if let Err(failed) = task {
                        error!(%failed, "a task of the module door ended without its answer");
                        return Err(Broken::Failed);
                    }
                }
                frame = frames.next() => match frame {
                    Some(frame) => self.handle_frame(&frame?).await?,
                    None => return Ok(End::Left),
                },
            }
        }
    }

    async fn handle_frame(&mut self, frame: &[u8]) -> Result<(), Broken> {
        let counters = &self.inside.counters;
        counters.requests.add(1);
        counters.bytes_in.add(frame.len() as u64);
        let malformed = |why: String| Broken::Malformed(why);
        let (head, body) = frames::parted(frame).map_err(|why| malformed(why.to_owned()))?;
        let Asked(id, request) = serde_json::from_slice(head)
            .map_err(|error| malformed(format!("the head of a frame: {error}")))?;
        if self.tasks.len() >= self.inside.config.under_way_max {
            counters.overloaded.add(1);
            let held = self.inside.config.under_way_max;
            let reply = Reply::Failed(format!("{held} requests of this module are under way already"));
            // Here, and not in a task: who sends on without reading is read no more.
            return self.replies.send(said(id, &reply)).await.map_err(|_| unread());
        }
        match self.begin(id, request, body).await {
            Ok(()) => Ok(()),
            Err(Unbegun::Malformed(why)) => Err(malformed(why.to_owned())),
            Err(Unbegun::Refused(error)) => {
                let reply = Reply::Failed(error.to_string());
                self.replies.send(said(id, &reply)).await.map_err(|_| unread())
            }
        }
    }

    async fn begin(&mut self, id: u64, request: Request, mut body: &[u8]) -> Result<(), Unbegun> {
        match request {
            Request::SendPdu { event_id, position, to } => {
                let pdu = words::pdu(body, event_id).outgoing()?;
                let destinations = to.into_iter().map(|name| name.0).collect();
                self.carry_out(id, SendPdu { pdu, destinations, position });
            }
            Request::SendEdu { edu_type, at_ms, to } => {
                let edu = words::edu(body, edu_type, at_ms).volatile()?;
                let destinations = to.into_iter().map(|name| name.0).collect();
                self.carry_out(id, SendEdu { edu, destinations });
            }
            Request::Carry { to, pdus, edus, at_ms, patience } => {
                let timeout = patience.map_or(Ok(self.carry_timeout), Duration::try_from_secs_f64);
                let timeout = timeout.map_err(|_| "a patience is no time")?;
                let pdus = words::parts(&mut body, pdus)?.into_iter();
                let pdus = pdus.map(|(pdu, event_id)| words::pdu(&pdu, event_id).outgoing());
                let pdus = pdus.collect::<Result<_, _>>()?;
                let edus = words::parts(&mut body, edus)?.into_iter();
                let edus = edus.map(|(content, edu_type)| words::edu(&content, edu_type, at_ms).outgoing());
                let edus = edus.collect::<Result<_, _>>()?;
                self.carry_out(id, Carry { destination: to.0, pdus, edus, timeout });
            }
            Request::Progress { floor } => self.carry_out(id, Progress { floor }),
            Request::Heard { to } => self.carry_out(id, Heard { destination: to.0 }),
            Request::Wake { to } => self.carry_out(id, Wake { destination: to.0 }),
            Request::GiveBack { to } => self.carry_out(id, GiveBack { destination: to.0 }),
            Request::Close { floor } => self.carry_out(id, Close { floor }),
        }
        Ok(())
    }

    /// Begins `deed` now, and has its answer written when it is there.
    fn carry_out(&mut self, id: u64, deed: impl Deed) {
        let begun = deed.begin(Rc::clone(&self.post));
        let replies = self.replies.clone();
        self.tasks.spawn_local(async move {
            let reply = Reply::from(begun.await);
            // Nobody reads it any more: then the connection has ended.
            let _gone = replies.send(said(id, &reply)).await;
        });
    }
}

/// How listening ends.
enum End {
    Left,
    Over,
}

/// Why something was not begun.
enum Unbegun {
    Malformed(&'static str),
    Refused(ClientError),
}

impl From<&'static str> for Unbegun {
    fn from(why: &'static str) -> Self {
        Self::Malformed(why)
    }
}

impl From<ClientError> for Unbegun {
    fn from(error: ClientError) -> Self {
        Self::Refused(error)
    }
}

fn unread() -> Broken {
    Broken::Unreadable(std::io::ErrorKind::BrokenPipe.into())
}

fn said(id: u64, reply: &Reply) -> Bytes {
    let head = serde_json::to_vec(&(id, reply)).expect("texts and numbers");
    frames::to_module(&head)
}

/// Writes what there is, many answers at a time, until there will be no more.
async fn write_all(mut write: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Bytes>) {
    let mut some = Vec::new();
    let mut batch = BytesMut::new();
    while waiting.recv_many(&mut some, WRITTEN_MAX).await > 0 {
        some.drain(..).for_each(|one| batch.extend_from_slice(&one));
        if write.write_all(&batch).await.is_err() {
            // The reader finds the same.
            return;
        }
        batch.clear();
    }
}

/// Answers that wait to be written; above them nothing more is read.
const REPLIES_MAX: usize = 256;
/// Answers that are written together.
const WRITTEN_MAX: usize = 64;
/// How long a module may take to close its bus when the daemon ends, besides what the bus takes itself.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// The number of what nobody has asked.
const UNASKED: u64 = 0;
