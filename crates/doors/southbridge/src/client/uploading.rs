//! Bodies of requests that come in pieces: fed by the application, or read from files.
//!
//! # Units
//! Bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use southbridge_kernel::http::{BodyStopped, StreamedBody};
use southbridge_kernel::port::Taken;
use southbridge_words::Step;

use super::files::Files;
use super::multipart::{OpenFile, Segment};
use super::{ClientError, Fed};

/// What an application feeds, as a body.
struct FedBody(Fed);

impl Body for FedBody {
    type Data = Bytes;
    type Error = BodyStopped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyStopped>>> {
        self.0.poll_next(cx).map(|taken| match taken {
            Taken::Data(bytes) => Some(Ok(Frame::data(bytes))),
            Taken::End => None,
            Taken::Aborted => {
                Some(Err(BodyStopped { reason: "the application gave up feeding it".to_owned() }))
            }
        })
    }
}

/// The body that comes from `fed`.
pub(super) fn fed_body(fed: Fed, bytes: Option<u64>) -> StreamedBody {
    StreamedBody::new(Box::pin(FedBody(fed)), bytes)
}

/// The body that `segments` make. How long it is is found out first, and held to: what a file grows by meanwhile is
/// not sent.
pub(super) async fn segments_body(
    segments: &[Segment],
    files: &Rc<Files>,
) -> Result<StreamedBody, ClientError> {
    let mut sources = Vec::with_capacity(segments.len());
    let mut total = 0_u64;
    for segment in segments {
        let (source, bytes) = match segment {
            Segment::Bytes(bytes) => (Source::Bytes(bytes.clone()), bytes.len() as u64),
            Segment::File(path) => {
                let file = open(path.clone(), files).await?;
                measured(file, files).await?
            }
            Segment::Open(file) => measured(file.clone(), files).await?,
            Segment::Fed => return Err(ClientError::invalid("a part that is fed needs Multipart::fed")),
        };
        sources.push(source);
        total += bytes;
    }
    let files = Rc::clone(files);
    let pieces = stream::iter(sources).flat_map(move |source| {
        let files = Rc::clone(&files);
        stream::unfold(source, move |source| source.next(Rc::clone(&files)))
    });
    let body = StreamBody::new(pieces.map(|piece| piece.map(Frame::data)));
    Ok(StreamedBody::new(Box::pin(body), Some(total)))
}

async fn open(path: PathBuf, files: &Rc<Files>) -> Result<OpenFile, ClientError> {
    let name = path.display().to_string();
    let opened = files.run(move || File::open(path)).await.map_err(|error| failed(&name, &error))?;
    Ok(OpenFile { file: Arc::new(opened), at: 0, name })
}

/// `file` as a source, and how much is in it.
async fn measured(file: OpenFile, files: &Rc<Files>) -> Result<(Source, u64), ClientError> {
    let asked = Arc::clone(&file.file);
    let measured = files.run(move || {
        let meta = asked.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(meta.len())
    });
    let bytes = measured.await.map_err(|error| failed(&file.name, &error))?.saturating_sub(file.at);
    Ok((Source::File { file, left: bytes }, bytes))
}

fn failed(name: &str, error: &io::Error) -> ClientError {
    ClientError::FileFailed { path: name.to_owned(), reason: error.to_string(), step: Step::Admission }
}

/// Where a stretch of a body comes from.
enum Source {
    Bytes(Bytes),
    File { file: OpenFile, left: u64 },
    Over,
}

impl Source {
    /// The next piece, and the rest.
    async fn next(self, files: Rc<Files>) -> Option<(Result<Bytes, BodyStopped>, Self)> {
        match self {
            Self::Over => None,
            Self::Bytes(bytes) => Some((Ok(bytes), Self::Over)),
            Self::File { left: 0, .. } => None,
            Self::File { mut file, left } => {
                let (opened, at) = (Arc::clone(&file.file), file.at);
                Some(match files.run(move || read_piece(&opened, at, left)).await {
                    Ok(piece) => {
                        let bytes = piece.len() as u64;
                        file.at += bytes;
                        (Ok(piece), Self::File { file, left: left - bytes })
                    }
                    Err(error) => {
                        (Err(BodyStopped { reason: format!("{}: {error}", file.name) }), Self::Over)
                    }
                })
            }
        }
    }
}

fn read_piece(file: &File, at: u64, left: u64) -> io::Result<Bytes> {
    let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
    let mut piece = vec![0; most];
    let read = loop {
        match file.read_at(&mut piece, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
    }
    piece.truncate(read);
    Ok(piece.into())
}

const PIECE_BYTES: usize = 64 * 1024;
