//! A body that goes into a file which the application has open, and has asked for once it had seen the head.
//!
//! A homeserver's client sees a response, makes up its mind, and only then says into what the body goes: a [`Wish`]. What
//! goes into the file is hashed on the way, because whoever keeps media wants to know what they are. Of a body in parts it
//! is the content of the part that has been opened; what comes after it flows as ever.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! F17; issue 5, item 3; decision 0018.

use std::fs::File;
use std::future::{Future, poll_fn};
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use southbridge_kernel::port::{Gone, Reply, Taken};
use southbridge_words::Step;

use super::cutter::Cutter;
use super::errands::{pump, unless_gone};
use super::files::Files;
use super::incoming::Incoming;
use super::journey::Arrived;
use super::response::Answer;
use super::{ClientError, Fed, Flow};
use crate::Southbridge;

/// A file that the application has open, and what of the body belongs into it.
#[derive(Debug)]
pub struct IntoFile {
    /// The file, by a descriptor of our own.
    pub file: File,
    /// Where in it the content begins. What else it has stays.
    pub at: u64,
    /// How many bytes the body may have, what is around the content included.
    pub bytes_max: u64,
    /// Whether the content is that of the part whose head has come, and not all of the body.
    pub is_part: bool,
}

/// What has gone into a file.
#[derive(Clone, Debug)]
pub struct Kept {
    /// How much of the body flowed before it.
    pub begins_at: u64,
    /// How much.
    pub bytes: u64,
    /// The hash of it.
    pub hash: RunningHash,
    /// Whether more came than there may be, and the rest was not waited for.
    pub is_too_large: bool,
}

/// A SHA-256 that can be gone on with.
#[derive(Clone, Debug, Default)]
pub struct RunningHash(Sha256);

impl RunningHash {
    /// Goes on with `data`.
    pub fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    /// The hash of all that it has seen, in hexadecimal.
    pub fn hex(&self) -> String {
        self.0.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What the application and the I/O thread say to each other about a body: each of them once.
#[derive(Debug, Default)]
pub struct Wish {
    into: Mutex<Option<IntoFile>>,
    kept: OnceLock<Kept>,
}

impl Wish {
    /// Wishes for a file. To be said before the feed of the exchange is finished, which is when it is looked at.
    pub fn set(&self, into: IntoFile) {
        self.lock().replace(into);
    }

    /// What has gone into the file; it is known before anything else of the body can be drawn.
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.get()
    }

    fn take(&self) -> Option<IntoFile> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<IntoFile>> {
        self.into.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The I/O thread's ends of a wish.
pub(crate) struct Wishing {
    /// Ends when the application has made up its mind.
    pub(crate) fed: Fed,
    pub(crate) wish: Arc<Wish>,
    pub(crate) files: Rc<Files>,
}

/// A part whose head has come, with the beginning of a body.
pub(crate) struct OpenPart {
    /// Where its content begins.
    pub(crate) content_at: usize,
    /// What ends it.
    pub(crate) delimiter: Bytes,
}

/// Answers with the head of what is `arriving`, and does with its body what the application then wishes. Of a part that is
/// open, all that is before its content flows at once.
pub(crate) async fn answer_as_wished(
    reply: Reply<Southbridge>,
    mut flow: Flow,
    mut wishing: Wishing,
    arriving: impl Future<Output = Result<(Arrived, Option<OpenPart>), ClientError>>,
) {
    match unless_gone(&flow, arriving).await {
        Err(Gone) => reply.give(Err(ClientError::Cancelled)),
        Ok(Err(error)) => {
            reply.give(Err(error.clone()));
            flow.end(Err(error));
        }
        Ok(Ok((Arrived { response, mut incoming }, part))) => {
            reply.give(Ok(Answer::Head(Box::new(response))));
            let ended = match wishing.fulfil(&mut incoming, &mut flow, part).await {
                Ok(Ok(())) => pump(incoming, &mut flow).await,
                Ok(Err(error)) => Ok(Err(error)),
                Err(Gone) => Err(Gone),
            };
            if let Ok(result) = ended {
                flow.end(result);
            }
        }
    }
}

impl Wishing {
    async fn fulfil(
        &mut self,
        incoming: &mut Incoming,
        flow: &mut Flow,
        part: Option<OpenPart>,
    ) -> Result<Result<(), ClientError>, Gone> {
        let is_part = part.is_some();
        let (mut begins_at, mut delimiter) = (0, Bytes::new());
        if let Some(part) = part {
            let heads = incoming.split_beginning(part.content_at);
            (begins_at, delimiter) = (heads.len() as u64, part.delimiter);
            flow.give(heads);
        }
        let into = match self.wished(incoming, flow).await? {
            Ok(Some(into)) if into.is_part == is_part => into,
            Ok(_) => return Ok(Ok(())),
            Err(error) => return Ok(Err(error)),
        };
        let mut keeping = Keeping::new(into, begins_at, incoming.service().to_owned(), &self.files);
        let received = keeping.receive(incoming, flow, Cutter::new(delimiter)).await?;
        // Before anything that can be drawn.
        let _once = self.wish.kept.set(keeping.kept);
        Ok(received.map(|rest| incoming.put_back(rest)))
    }

    /// What the application wishes, once it says so.
    async fn wished(
        &mut self,
        incoming: &Incoming,
        flow: &Flow,
    ) -> Result<Result<Option<IntoFile>, ClientError>, Gone> {
        let Self { fed, wish, .. } = self;
        let said = async {
            loop {
                match poll_fn(|cx| fed.poll_next(cx)).await {
                    Taken::Data(_) => {}
                    Taken::End => return Ok(wish.take()),
                    Taken::Aborted => return Err(Gone),
                }
            }
        };
        unless_gone(flow, incoming.in_time(Step::Body, said))
            .await?
            .map_or_else(|error| Ok(Err(error)), |said| said.map(Ok))
    }
}

struct Keeping<'a> {
    into: Arc<File>,
    at: u64,
    left: u64,
    bytes_max: u64,
    service: String,
    kept: Kept,
    files: &'a Files,
}

impl<'a> Keeping<'a> {
    fn new(into: IntoFile, begins_at: u64, service: String, files: &'a Files) -> Self {
        Self {
            into: Arc::new(into.file),
            at: into.at,
            left: into.bytes_max.saturating_sub(begins_at),
            bytes_max: into.bytes_max,
            service,
            kept: Kept { begins_at, bytes: 0, hash: RunningHash::default(), is_too_large: false },
            files,
        }
    }

    /// Writes what comes, some of it at a time; meanwhile nothing more is read.
    async fn receive(
        &mut self,
        incoming: &mut Incoming,
        flow: &Flow,
        mut cutter: Cutter,
    ) -> Result<Result<Option<Bytes>, ClientError>, Gone> {
        let (mut batch, mut batched) = (Vec::new(), 0);
        loop {
            let came = unless_gone(flow, incoming.next()).await?;
            let mut rest = None;
            let is_last = match &came {
                Ok(Some(piece)) => {
                    let Some(left) = self.left.checked_sub(piece.len() as u64) else {
                        self.kept.is_too_large = true;
                        break Ok(Err(self.too_large()));
                    };
                    self.left = left;
                    let cut = cutter.cut(piece.clone());
                    rest = cut.rest;
                    for content in [cut.before, cut.content] {
                        batched += content.len();
                        batch.extend(Some(content).filter(|content| !content.is_empty()));
                    }
                    rest.is_some()
                }
                Ok(None) | Err(_) => {
                    let content = cutter.finish();
                    batched += content.len();
                    batch.push(content);
                    true
                }
            };
            if is_last || batched >= BATCH_BYTES || batch.len() >= BATCH_PIECES {
                if let Err(error) = self.write(std::mem::take(&mut batch)).await {
                    break Ok(Err(error));
                }
                batched = 0;
            }
            if is_last {
                break Ok(came.map(|_| rest));
            }
        }
    }

    /// Writes and hashes `pieces`, on the thread for files.
    async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), ClientError> {
        let (file, at, mut hash) = (Arc::clone(&self.into), self.at, self.kept.hash.clone());
        let written = self.files.run(move || {
            let mut end = at;
            for piece in &pieces {
                file.write_all_at(piece, end)?;
                hash.update(piece);
                end += piece.len() as u64;
            }
            Ok((end, hash))
        });
        let (end, hash) = written.await.map_err(|error| failed(&error))?;
        self.kept.bytes += end - self.at;
        self.kept.hash = hash;
        self.at = end;
        Ok(())
    }

    fn too_large(&self) -> ClientError {
        ClientError::TooLarge {
            service: self.service.clone(),
            what: "the body".to_owned(),
            step: Step::Body,
            bytes_max: self.bytes_max,
        }
    }
}

fn failed(error: &io::Error) -> ClientError {
    ClientError::FileFailed {
        path: "the open file of the application".to_owned(),
        reason: error.to_string(),
        step: Step::Body,
    }
}

/// How much is written at a time.
const BATCH_BYTES: usize = 256 * 1024;
/// The same, for bodies that come in crumbs.
const BATCH_PIECES: usize = 256;
