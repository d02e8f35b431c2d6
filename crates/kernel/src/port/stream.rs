//! Bodies in pieces, across the port: what one side makes, the other takes when it can, with a bounded buffer between.
//!
//! ```text
//! response:  peer ─▶ Flow  ─▶ [pieces] ─▶ Draw   the application draws; what it does not draw is not read
//! request:   peer ◀─ Fed   ◀─ [pieces] ◀─ Feed   the application feeds; what the peer does not take is refused
//! ```
//!
//! The application never blocks on one: it is told `Pending` or `Full`, and a completion of the submission follows
//! when it can go on (`Readable`, `Writable`). The I/O thread's ends are polled like any future. Whichever end is
//! dropped, the other one hears of it.
//!
//! # Units
//! Bytes; the buffer of a stream has room for `bytes_max` of them, and one piece more.
//!
//! # Source
//! K3, K4, K15; faults row 4 of our own making: a reader that sleeps.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::task::{Context, Poll};

use ::http::HeaderMap;
use bytes::Bytes;
use crossbeam_queue::ArrayQueue;
use futures_util::task::AtomicWaker;
use southbridge_words::Ticket;

use super::desk::{Desk, Unanswered};
use super::queue::Shared;
use super::{Completion, News};

/// What travels.
enum Piece<E> {
    Data(Bytes),
    End(Option<Box<HeaderMap>>),
    Failed(E),
}

/// Which end the application holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Reads,
    Writes,
}

/// What both ends of one stream share.
pub(super) struct Pipe<D: Desk> {
    ticket: Ticket,
    port: Arc<Shared<D>>,
    side: Side,
    pieces: ArrayQueue<Piece<D::Error>>,
    bytes: AtomicUsize,
    bytes_max: usize,
    /// The application has been told to wait.
    waits: AtomicBool,
    /// The word that it can go on is on its way: never more than one, since there is a place for one.
    told: AtomicBool,
    /// The I/O thread's end, where it waits.
    kernel: AtomicWaker,
    application_gone: AtomicBool,
    kernel_gone: AtomicBool,
}

/// The application's end of a response's body. Dropping it cancels what is still to come.
pub struct Draw<D: Desk> {
    pipe: Arc<Pipe<D>>,
    trailers: Option<HeaderMap>,
    is_over: bool,
}

/// What was drawn.
#[derive(Debug)]
pub enum Drawn<E> {
    /// Bytes, of which there may be more.
    Data(Bytes),
    /// That was all; with what the peer said after it.
    End(Option<HeaderMap>),
    /// It broke off.
    Failed(E),
    /// Nothing yet: `Readable` comes when it is worth drawing again.
    Pending,
}

/// The I/O thread's end of a response's body. Dropped without an end, it says that it failed.
pub struct Flow<D: Desk> {
    pipe: Arc<Pipe<D>>,
    is_over: bool,
}

/// The application's end of a request's body. Dropped before it is finished, it aborts the request.
pub struct Feed<D: Desk> {
    pipe: Arc<Pipe<D>>,
    is_over: bool,
}

/// What became of bytes that were fed.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed {
    /// They go out.
    Taken,
    /// There is no room, and here they are again: `Writable` comes when there is.
    Full(Bytes),
    /// Nobody takes any more: the request has ended.
    Closed,
}

/// The I/O thread's end of a request's body.
pub struct Fed<D: Desk> {
    pipe: Arc<Pipe<D>>,
}

/// What was taken of a request's body.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Bytes, of which there may be more.
    Data(Bytes),
    /// That was all.
    End,
    /// The application gave up in the middle.
    Aborted,
}

/// The other end is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// A stream from the I/O thread to the application. Its place is reserved already.
pub(super) fn downward<D: Desk>(
    port: &Arc<Shared<D>>,
    ticket: Ticket,
    bytes_max: usize,
) -> (Flow<D>, Draw<D>) {
    let pipe = Pipe::new(port, ticket, Side::Reads, bytes_max);
    (Flow { pipe: Arc::clone(&pipe), is_over: false }, Draw { pipe, trailers: None, is_over: false })
}

/// A stream from the application to the I/O thread. Its place is reserved already.
pub(super) fn upward<D: Desk>(port: &Arc<Shared<D>>, ticket: Ticket, bytes_max: usize) -> (Feed<D>, Fed<D>) {
    let pipe = Pipe::new(port, ticket, Side::Writes, bytes_max);
    (Feed { pipe: Arc::clone(&pipe), is_over: false }, Fed { pipe })
}

impl<D: Desk> Pipe<D> {
    fn new(port: &Arc<Shared<D>>, ticket: Ticket, side: Side, bytes_max: usize) -> Arc<Self> {
        Arc::new(Self {
            ticket,
            port: Arc::clone(port),
            side,
            // The last place is for how it ends.
            pieces: ArrayQueue::new(PIECES_MAX + 1),
            bytes: AtomicUsize::new(0),
            bytes_max,
            waits: AtomicBool::new(false),
            told: AtomicBool::new(false),
            kernel: AtomicWaker::new(),
            application_gone: AtomicBool::new(false),
            kernel_gone: AtomicBool::new(false),
        })
    }

    /// The word that the application can go on has reached it.
    pub(super) fn take_word(&self) -> Completion<D> {
        // First of all: what happens from here on deserves another word.
        self.told.store(false, Ordering::SeqCst);
        let news = match self.side {
            Side::Reads => News::Readable,
            Side::Writes => News::Writable,
        };
        Completion { ticket: self.ticket, news }
    }

    fn has_room(&self) -> bool {
        self.pieces.len() < PIECES_MAX && self.bytes.load(Ordering::SeqCst) < self.bytes_max
    }

    fn put(&self, piece: Piece<D::Error>) {
        if let Piece::Data(bytes) = &piece {
            self.bytes.fetch_add(bytes.len(), Ordering::SeqCst);
        }
        let pushed = self.pieces.push(piece);
        debug_assert!(pushed.is_ok(), "room is asked for first, and the end has a place of its own");
    }

    fn get(&self) -> Option<Piece<D::Error>> {
        let piece = self.pieces.pop()?;
        if let Piece::Data(bytes) = &piece {
            self.bytes.fetch_sub(bytes.len(), Ordering::SeqCst);
        }
        Some(piece)
    }

    /// The application waits from now on. Whoever says so looks once more afterwards.
    fn wait(&self) {
        self.waits.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Tells the application that it can go on, if it waits.
    fn tell_application(self: &Arc<Self>) {
        fence(Ordering::SeqCst);
        if self.waits.swap(false, Ordering::SeqCst) && !self.told.swap(true, Ordering::SeqCst) {
            self.port.signal(Arc::clone(self));
        }
    }
}

impl<D: Desk> Drop for Pipe<D> {
    fn drop(&mut self) {
        self.port.release(1);
    }
}

impl<D: Desk> Draw<D> {
    /// What there is next. After `End` or `Failed` there is nothing more.
    pub fn take(&mut self) -> Drawn<D::Error> {
        if self.is_over {
            return Drawn::End(self.trailers.take());
        }
        let piece = self.pipe.get().or_else(|| {
            self.pipe.wait();
            self.pipe.get()
        });
        let Some(piece) = piece else { return Drawn::Pending };
        self.pipe.kernel.wake();
        match piece {
            Piece::Data(bytes) => Drawn::Data(bytes),
            Piece::End(trailers) => {
                self.is_over = true;
                Drawn::End(trailers.map(|trailers| *trailers))
            }
            Piece::Failed(error) => {
                self.is_over = true;
                Drawn::Failed(error)
            }
        }
    }

    /// The submission it belongs to.
    pub fn ticket(&self) -> Ticket {
        self.pipe.ticket
    }
}

impl<D: Desk> Drop for Draw<D> {
    fn drop(&mut self) {
        self.pipe.application_gone.store(true, Ordering::SeqCst);
        self.pipe.kernel.wake();
    }
}

impl<D: Desk> Flow<D> {
    /// Waits until there is room for one more piece.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.pipe.kernel.register(cx.waker());
        if self.pipe.application_gone.load(Ordering::SeqCst) {
            return Poll::Ready(Err(Gone));
        }
        if self.pipe.has_room() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    /// Waits until nobody draws any more.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pipe.kernel.register(cx.waker());
        if self.pipe.application_gone.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Gives `bytes` to the application. Ask for room first.
    pub fn give(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.pipe.put(Piece::Data(bytes));
            self.pipe.tell_application();
        }
    }

    /// That was all.
    pub fn end(mut self, result: Result<Option<HeaderMap>, D::Error>) {
        self.finish(match result {
            Ok(trailers) => Piece::End(trailers.map(Box::new)),
            Err(error) => Piece::Failed(error),
        });
    }

    fn finish(&mut self, piece: Piece<D::Error>) {
        self.is_over = true;
        self.pipe.put(piece);
        self.pipe.tell_application();
    }
}

impl<D: Desk> Drop for Flow<D> {
    fn drop(&mut self) {
        self.pipe.kernel_gone.store(true, Ordering::SeqCst);
        if !self.is_over {
            // Nobody said how it ended: it was cancelled, or the kernel is no more.
            self.finish(Piece::Failed(Unanswered::Cancelled.into()));
        }
    }
}

impl<D: Desk> Feed<D> {
    /// Gives `bytes` to the request.
    pub fn push(&mut self, bytes: Bytes) -> Pushed {
        if self.pipe.kernel_gone.load(Ordering::SeqCst) {
            return Pushed::Closed;
        }
        if bytes.is_empty() {
            return Pushed::Taken;
        }
        if !self.pipe.has_room() {
            self.pipe.wait();
            if self.pipe.kernel_gone.load(Ordering::SeqCst) {
                return Pushed::Closed;
            }
            if !self.pipe.has_room() {
                return Pushed::Full(bytes);
            }
        }
        self.pipe.put(Piece::Data(bytes));
        self.pipe.kernel.wake();
        Pushed::Taken
    }

    /// That was all.
    pub fn finish(mut self) {
        self.close(Piece::End(None));
    }

    /// The submission it belongs to.
    pub fn ticket(&self) -> Ticket {
        self.pipe.ticket
    }

    fn close(&mut self, piece: Piece<D::Error>) {
        self.is_over = true;
        self.pipe.put(piece);
        self.pipe.kernel.wake();
    }
}

impl<D: Desk> Drop for Feed<D> {
    fn drop(&mut self) {
        if !self.is_over {
            self.close(Piece::Failed(Unanswered::Cancelled.into()));
        }
    }
}

impl<D: Desk> Fed<D> {
    /// What there is next.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Taken> {
        self.pipe.kernel.register(cx.waker());
        let Some(piece) = self.pipe.get() else { return Poll::Pending };
        self.pipe.tell_application();
        Poll::Ready(match piece {
            Piece::Data(bytes) => Taken::Data(bytes),
            Piece::End(_) => Taken::End,
            Piece::Failed(_) => Taken::Aborted,
        })
    }
}

impl<D: Desk> Drop for Fed<D> {
    fn drop(&mut self) {
        self.pipe.kernel_gone.store(true, Ordering::SeqCst);
        self.pipe.tell_application();
    }
}

macro_rules! debug_as {
    ($($name:ident),*) => {$(
        impl<D: Desk> fmt::Debug for $name<D> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("ticket", &self.pipe.ticket).finish_non_exhaustive()
            }
        }
    )*};
}
debug_as!(Draw, Flow, Feed, Fed);

/// Pieces in one buffer, however small they are.
const PIECES_MAX: usize = 31;
