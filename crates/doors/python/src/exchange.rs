//! An exchange whose bodies go in pieces: the response's is drawn, the request's is fed, and neither ever blocks.
//!
//! Whoever drives it does what it can, and then waits for news: an answer, something to draw, or room to feed. What
//! is not drawn stays in the kernel, which holds the peer back.
//!
//! # Units
//! Bytes.
//!
//! # Source
//! K4, K15, K20; issue 4, item 2.

use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use smallvec::SmallVec;
use southbridge_words::Ticket;

use crate::asyncio::AsyncioWaiter;
use crate::digest::Sha256;
use crate::heard::Listening;
use crate::here::{self, Here};
use crate::port::Port;
use crate::process::{self, Own};
use crate::response::Response;
use crate::seam::{
    self, Answer, Draw, Drawn, Ends, Failure, Feed, IntoFile, Progress, Purpose, Pushed, Question, Saved,
};
use crate::waiting::{Over, Who};
use crate::{errors, ffi, headers};

/// One request and its response, in pieces. Used where it was opened: in one loop, hub or thread.
#[pyclass(frozen, weakref, module = "southbridge._kernel")]
pub struct Exchange {
    what: What,
    opened: OnceLock<OpenedAt>,
    saved: OnceLock<(PathBuf, u64, u64)>,
}

/// What is exchanged.
enum What {
    /// A request for its response.
    Response(Py<Response>, Purpose),
    /// A question for its answer.
    Question(Question),
}

struct OpenedAt {
    port: Py<Port>,
    /// Whether it was opened in a thread that blocks; then any such thread may go on with it.
    blocks: bool,
    ticket: Ticket,
    bodies: Own<Mutex<Bodies>>,
    progress: Option<Arc<Progress>>,
}

struct Bodies {
    drawing: Drawing,
    feed: Option<Feed>,
}

enum Drawing {
    Flows(Draw),
    Over(Option<http::HeaderMap>),
    Failed(Failure),
    Closed,
}

impl Exchange {
    /// What `response` asks for, which has not been sent.
    pub fn new(response: Py<Response>, purpose: Purpose) -> Self {
        Self::of(What::Response(response, purpose))
    }

    /// A question to the kernel, which has not been asked.
    pub fn asking(question: Question) -> Self {
        Self::of(What::Question(question))
    }

    fn of(what: What) -> Self {
        Self { what, opened: OnceLock::new(), saved: OnceLock::new() }
    }

    fn response(&self) -> PyResult<&Py<Response>> {
        match &self.what {
            What::Response(response, _) => Ok(response),
            What::Question(_) => Err(PyRuntimeError::new_err("a question has no response")),
        }
    }

    fn opened(&self) -> PyResult<&OpenedAt> {
        self.opened.get().ok_or_else(|| PyRuntimeError::new_err("the exchange has not been opened"))
    }

    fn bodies(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, Bodies>> {
        let bodies = self.opened()?.bodies.get().ok_or_else(|| errors::forked(py))?;
        Ok(bodies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells `who` of the next news; `false` when there is news already.
    pub fn listen_as(&self, who: Who) -> PyResult<bool> {
        let opened = self.opened()?;
        match opened.port.get().listen(opened.ticket, who) {
            Listening::Begun => Ok(true),
            Listening::NewsThere => Ok(false),
            Listening::Taken => Err(PyRuntimeError::new_err(
                "somebody waits for this exchange already: one task, greenlet or thread at a time",
            )),
        }
    }

    /// Nobody listens any more.
    pub fn stop_listening(&self) {
        if let Some(opened) = self.opened.get() {
            opened.port.get().unlisten(opened.ticket);
        }
    }

    /// Notes what was saved; the response to it is an answer like any other.
    fn keep_saved(&self, answer: Answer) -> Answer {
        let Answer::Saved(saved) = answer else { return answer };
        let Saved { response, path, bytes, resumed_at } = *saved;
        let _once = self.saved.set((path, bytes, resumed_at));
        Answer::Head(Box::new(response))
    }

    fn check_place(&self, py: Python<'_>, here: &Here<'_>) -> PyResult<()> {
        let opened = self.opened()?;
        if opened.bodies.get().is_none() {
            return Err(errors::forked(py));
        }
        let same = match here {
            Here::Thread if opened.blocks => true,
            _ => here::port(py, here)?.is(&opened.port),
        };
        if same {
            return Ok(());
        }
        Err(errors::plain(
            py,
            "this exchange was opened in another loop or thread, and can be waited for there only",
        ))
    }
}

impl OpenedAt {
    fn close(&self) {
        // In a child of a fork there is nothing to close: it is the parent's.
        let Some(bodies) = self.bodies.get() else { return };
        let ended = {
            let mut bodies = bodies.lock().unwrap_or_else(PoisonError::into_inner);
            let drawing = match bodies.drawing {
                Drawing::Flows(_) => std::mem::replace(&mut bodies.drawing, Drawing::Closed),
                _ => Drawing::Closed,
            };
            (drawing, bodies.feed.take())
        };
        drop(ended);
        self.port.get().forget(self.ticket);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(opened) = self.opened.get() {
            opened.close();
        }
    }
}

#[pymethods]
impl Exchange {
    /// What sends a response that is fed, and comes whole.
    #[new]
    fn upload(response: Py<Response>) -> Self {
        Self::new(response, Purpose::Upload)
    }

    /// Asks which services can be asked: as soon as it is another answer than the one with this version.
    #[staticmethod]
    #[pyo3(signature = (since, /))]
    fn change(since: Option<u64>) -> Self {
        Self::asking(Question::Changed { since })
    }

    /// Sends the request, from where this is.
    fn open(&self, py: Python<'_>) -> PyResult<()> {
        let _visit = process::visit(py)?;
        let here = here::here(py)?;
        let port = here::port(py, &here)?;
        let Ends { ticket, draw, feed, progress } = match &self.what {
            What::Response(response, purpose) => {
                let response = response.get();
                let outgoing = response.take_to_send(py)?;
                port.get().open(py, outgoing, purpose).inspect_err(|_| response.abandon())?
            }
            What::Question(question) => port.get().ask(py, question)?,
        };
        let bodies = Bodies { drawing: draw.map_or(Drawing::Over(None), Drawing::Flows), feed };
        let opened = OpenedAt {
            port: port.unbind(),
            blocks: matches!(here, Here::Thread),
            ticket,
            bodies: Own::new(Mutex::new(bodies)),
            progress,
        };
        let _once = self.opened.set(opened);
        Ok(())
    }

    /// The answer, once it is there. Raises the failure, if it came to that.
    fn head(&self, py: Python<'_>) -> PyResult<Option<Py<Response>>> {
        let response = self.response()?.get();
        if !response.is_settled() {
            let opened = self.opened()?;
            if opened.bodies.get().is_none() {
                return Err(errors::forked(py));
            }
            let Some(answer) = opened.port.get().take_answer(opened.ticket) else { return Ok(None) };
            response.complete(answer.map(|answer| self.keep_saved(answer)));
        }
        response.check(py)?;
        Ok(Some(self.response()?.clone_ref(py)))
    }

    /// The answer to a question for services, once it is there: its version, and of each service the name, the state, for
    /// how many seconds it has been so, and why it is not up.
    fn readiness(&self, py: Python<'_>) -> PyResult<Option<ReadinessShown>> {
        let opened = self.opened()?;
        if opened.bodies.get().is_none() {
            return Err(errors::forked(py));
        }
        let Some(answer) = opened.port.get().take_answer(opened.ticket) else { return Ok(None) };
        let readiness =
            answer.and_then(seam::readiness).map_err(|failure| errors::of_failure(py, &failure))?;
        let services = readiness.services.into_iter();
        let shown = services.map(|it| (it.name, it.state.name(), it.lasts.as_secs_f64(), it.why)).collect();
        Ok(Some((readiness.version, shown)))
    }

    /// Whether the answer is there, or will never be.
    #[getter]
    fn is_answered(&self) -> bool {
        let there = |opened: &OpenedAt| opened.port.get().is_answered(opened.ticket);
        let settled = matches!(&self.what, What::Response(response, _) if response.get().is_settled());
        settled || self.opened.get().is_some_and(there)
    }

    /// What has come of the body, as one: about `bytes_max` at most, `b""` when there is nothing yet, and `None` when
    /// that was all.
    #[pyo3(signature = (bytes_max=65536))]
    fn draw<'py>(&self, py: Python<'py>, bytes_max: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut pieces = SmallVec::<[Bytes; 32]>::new();
        let mut taken = 0;
        let mut bodies = self.bodies(py)?;
        while taken < bytes_max {
            let Drawing::Flows(draw) = &mut bodies.drawing else { break };
            match draw.take() {
                Drawn::Data(piece) => {
                    taken += piece.len();
                    pieces.push(piece);
                }
                Drawn::Pending => break,
                Drawn::End(trailers) => bodies.drawing = Drawing::Over(trailers),
                Drawn::Failed(failure) => bodies.drawing = Drawing::Failed(failure),
            }
        }
        if pieces.is_empty() {
            return match &bodies.drawing {
                Drawing::Flows(_) => Ok(Some(PyBytes::new(py, b""))),
                Drawing::Over(_) => Ok(None),
                Drawing::Failed(failure) => Err(errors::of_failure(py, failure)),
                Drawing::Closed => Err(errors::of_failure(py, &Failure::Cancelled)),
            };
        }
        drop(bodies);
        joined(py, &pieces, taken).map(Some)
    }

    /// What the peer said after the body.
    #[getter]
    fn trailers(&self, py: Python<'_>) -> PyResult<Vec<(String, String)>> {
        match &self.bodies(py)?.drawing {
            Drawing::Over(Some(trailers)) => Ok(headers::lines(trailers)),
            _ => Ok(Vec::new()),
        }
    }

    /// Of a download that is over: the file, how many bytes it has, and how many of them were there before.
    #[getter]
    fn saved(&self) -> Option<(PathBuf, u64, u64)> {
        self.saved.get().cloned()
    }

    /// Of a download: how many bytes are in the file, and how many there will be, if the peer has said so.
    #[getter]
    fn progress(&self) -> (u64, Option<u64>) {
        let progress = self.opened.get().and_then(|opened| opened.progress.as_ref());
        progress.map_or((0, None), |progress| (progress.done(), progress.total()))
    }

    /// Feeds what is in `piece` from `start` on, as far as there is room; up to where it was taken.
    fn feed(&self, py: Python<'_>, piece: &Bound<'_, PyBytes>, start: usize) -> PyResult<usize> {
        let bytes = piece.as_bytes();
        let mut bodies = self.bodies(py)?;
        let mut at = start;
        while at < bytes.len() {
            let Some(feed) = &mut bodies.feed else { return Ok(bytes.len()) };
            let end = bytes.len().min(at + FED_BYTES);
            match feed.push(Bytes::copy_from_slice(&bytes[at..end])) {
                Pushed::Taken => at = end,
                Pushed::Full(_) => break,
                Pushed::Closed => bodies.feed = None,
            }
        }
        Ok(at)
    }

    /// That was all of the request's body.
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        let feed = self.bodies(py)?.feed.take();
        if let Some(feed) = feed {
            feed.finish();
        }
        Ok(())
    }

    /// In its place, one that has not been opened either: when the head of its response has come, the body is held back until
    /// it is finished, and may be told before that into which file it goes.
    fn waiting(&self, py: Python<'_>) -> PyResult<Self> {
        Ok(Self::new(self.response()?.clone_ref(py), Purpose::Wish(Arc::default())))
    }

    /// Has the body go into the file behind the descriptor `fd`, from `at` on, hashed on the way: all of it, or of one in
    /// parts the content of the second. At most `bytes_max` may come. `False` when that is no regular file. It goes on
    /// with that, or without, at `finish`.
    fn keep(&self, fd: RawFd, at: u64, bytes_max: u64, is_part: bool) -> PyResult<bool> {
        let What::Response(_, Purpose::Wish(wish)) = &self.what else {
            return Err(PyRuntimeError::new_err("the exchange was not opened for a wish"));
        };
        let file = ffi::duplicate(fd)?;
        let is_regular = file.metadata().is_ok_and(|meta| meta.is_file());
        if is_regular {
            wish.set(IntoFile { file, at, bytes_max, is_part });
        }
        Ok(is_regular)
    }

    /// What has gone into a file: how much was drawn before it, how much it is, its hash, and whether more came than may. It is
    /// known before what comes after it can be drawn.
    #[getter]
    fn kept(&self) -> Option<(u64, u64, Sha256, bool)> {
        let What::Response(_, Purpose::Wish(wish)) = &self.what else { return None };
        wish.kept().map(|kept| (kept.begins_at, kept.bytes, Sha256::of(kept.hash.clone()), kept.is_too_large))
    }

    /// Whether anything can still be fed.
    #[getter]
    fn wants(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.bodies(py)?.feed.is_some())
    }

    /// To be awaited: over when there is news. Where calls block, it has been waited for by then.
    fn wait<'py>(this: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = this.py();
        let _visit = process::visit(py)?;
        let here = here::here(py)?;
        this.get().check_place(py, &here)?;
        let opened = this.get().opened()?;
        let news = intern!(py, "wait_for_news");
        match here {
            Here::Asyncio(looping) => {
                let port = opened.port.clone_ref(py);
                let waiter = AsyncioWaiter::for_news(this.clone().unbind(), port, looping.unbind());
                return Ok(Bound::new(py, waiter)?.into_any());
            }
            Here::Trio => return here::frontend(py, "trio")?.call_method1(news, (this,)),
            Here::Twisted => return here::frontend(py, "twisted")?.call_method1(news, (this,)),
            Here::Gevent => {
                here::frontend(py, "gevent")?.call_method1(news, (this,))?;
            }
            Here::Thread => {
                if process::is_staged() {
                    here::frontend(py, "rehearsed")?.call_method1(news, (this,))?;
                } else {
                    opened.port.get().block_for_news(py, opened.ticket)?;
                }
            }
        }
        Ok(Bound::new(py, Over)?.into_any())
    }

    /// `done` is called, without arguments, at the next news; `False` when there is news already.
    fn listen(&self, done: Py<PyAny>) -> PyResult<bool> {
        self.listen_as(Who::Called(done))
    }

    /// Nobody listens any more.
    fn unlisten(&self) {
        self.stop_listening();
    }

    /// Gives up what is still to come, both ways. What is over already stays as it is.
    fn close(&self) {
        // What it has not sent is not its own: another may have.
        if let Some(opened) = self.opened.get() {
            opened.close();
            if let What::Response(response, _) = &self.what {
                response.get().abandon();
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let What::Response(response, _) = &self.what {
            visit.call(response)?;
        }
        self.opened.get().map_or(Ok(()), |opened| visit.call(&opened.port))
    }
}

/// Whether calls block here: in threads, and in greenlets.
#[pyfunction]
pub fn blocks_here(py: Python<'_>) -> PyResult<bool> {
    Ok(matches!(here::here(py)?, Here::Thread | Here::Gevent))
}

fn joined<'py>(py: Python<'py>, pieces: &[Bytes], bytes: usize) -> PyResult<Bound<'py, PyBytes>> {
    match pieces {
        [one] => Ok(PyBytes::new(py, one)),
        several => PyBytes::new_with(py, bytes, |mut whole| {
            for piece in several {
                let (place, rest) = whole.split_at_mut(piece.len());
                place.copy_from_slice(piece);
                whole = rest;
            }
            Ok(())
        }),
    }
}

/// A readiness as Python takes it.
type ReadinessShown = (u64, Vec<(String, &'static str, f64, Option<String>)>);

/// How much is copied out of the interpreter at a time.
const FED_BYTES: usize = 64 * 1024;
