//! Bodies of requests that come in pieces: fed by the application, or read from files.
//!
//! # Units
//! Bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use southbridge_kernel::http::{BodyStopped, StreamedBody};
use southbridge_kernel::port::Taken;
use southbridge_words::Step;

use super::files::Files;
use super::multipart::Segment;
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
                let (file, bytes) = open(path.clone(), files).await?;
                (Source::File { path: path.clone(), file, left: bytes }, bytes)
            }
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

async fn open(path: PathBuf, files: &Rc<Files>) -> Result<(File, u64), ClientError> {
    let shown = path.display().to_string();
    let opened = files.run(move || {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok((file, meta.len()))
    });
    opened.await.map_err(|error| ClientError::FileFailed {
        path: shown,
        reason: error.to_string(),
        step: Step::Admission,
    })
}

/// Where a stretch of a body comes from.
enum Source {
    Bytes(Bytes),
    File { path: PathBuf, file: File, left: u64 },
    Over,
}

impl Source {
    /// The next piece, and the rest.
    async fn next(self, files: Rc<Files>) -> Option<(Result<Bytes, BodyStopped>, Self)> {
        match self {
            Self::Over => None,
            Self::Bytes(bytes) => Some((Ok(bytes), Self::Over)),
            Self::File { left: 0, .. } => None,
            Self::File { path, file, left } => {
                let read = files.run(move || read_piece(file, left)).await;
                Some(match read {
                    Ok((file, piece)) => {
                        let left = left - piece.len() as u64;
                        (Ok(piece), Self::File { path, file, left })
                    }
                    Err(error) => {
                        let reason = format!("{}: {error}", path.display());
                        (Err(BodyStopped { reason }), Self::Over)
                    }
                })
            }
        }
    }
}

fn read_piece(mut file: File, left: u64) -> io::Result<(File, Bytes)> {
    let most = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
    let mut piece = vec![0; most];
    let read = file.read(&mut piece)?;
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read"));
    }
    piece.truncate(read);
    Ok((file, piece.into()))
}

const PIECE_BYTES: usize = 64 * 1024;
