//! A kernel for tests: on a clock that stands still, in a world that the test makes up.
//!
//! Its thread does nothing by itself. While it *stands* in the process, ports are attached to it instead of the real
//! kernel. What is Python of it (whose turn it is, and what peers answer) is in `southbridge.testing`.
//!
//! # Units
//! Seconds, as `float`.
//!
//! # Source
//! T4; DESIGN decision 14.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use southbridge_rehearsal::{
    Answer, CertificateKind, Data, Deed, DnsScript, Ending, Head, Path, Peer, RecordType, Rehearsal as Story,
    RehearsalConfig, RehearsalThread, Reply, Seen, Speech, SrvRecord, Syn,
};

use crate::process;
use crate::seam::{self, Landing};

/// A kernel on virtual time, on a thread of its own that moves only when it is told to.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Rehearsal {
    thread: Mutex<Option<process::Own<RehearsalThread<Cast>>>>,
    landing: Landing,
    dns: DnsScript,
}

/// The peers, and the requests that they hold.
#[derive(Default)]
struct Cast {
    peers: BTreeMap<u64, Peer>,
    peers_made: u64,
    calls: Rc<RefCell<VecDeque<(u64, Seen)>>>,
}

/// A request that a peer holds: peer, number, connection, time, method, target, head, body.
type Call<'py> = (u64, u64, u64, f64, String, String, String, Bound<'py, PyBytes>);

/// What is done with a request: the pause before it, the head, pieces with the pause before each, how it ends.
type DeedArgument = (f64, Option<HeadArgument>, Vec<(f64, Vec<u8>)>, String);

/// The head of an answer: status and headers.
type HeadArgument = (u16, Vec<(String, Vec<u8>)>);

#[pymethods]
impl Rehearsal {
    /// Sets everything up. Nothing has happened yet.
    #[new]
    #[pyo3(signature = (seed, wall))]
    fn new(py: Python<'_>, seed: u64, wall: f64) -> PyResult<Self> {
        let millis = duration(wall)?.as_millis();
        let config = RehearsalConfig {
            seed,
            wall: seam::wall_time(u64::try_from(millis).unwrap_or(u64::MAX)),
            ..RehearsalConfig::default()
        };
        let started = py.detach(|| crate::ffi::without_signals(|| Self::start(config)));
        started.map_err(PyRuntimeError::new_err)
    }

    /// From now on it stands in the place of the process's own kernel.
    fn enter(&self) -> PyResult<()> {
        if process::set_stage(Some(self.landing.clone())) {
            return Ok(());
        }
        Err(PyRuntimeError::new_err("another kernel of a test stands here already: leave that first"))
    }

    /// The process's own kernel is in its place again.
    fn leave(&self) {
        process::set_stage(None);
    }

    /// Ends it; whoever waits for an answer gets `StoppedError`.
    fn close(&self, py: Python<'_>) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        py.detach(|| drop(thread));
    }

    /// Lets everything happen that can happen now, and then at most `seconds` pass: no more than until it is the turn of a
    /// program or of a peer's script. Whether that is so.
    fn step(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let span = duration(seconds)?;
        self.with(py, move |story, _| story.step(span))
    }

    /// Seconds since the start.
    #[getter]
    fn now(&self, py: Python<'_>) -> PyResult<f64> {
        self.with(py, |story, _| story.elapsed().as_secs_f64())
    }

    /// What has happened, in lines.
    fn log(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |story, _| story.log().lines())
    }

    /// Adds a line to the log.
    fn note(&self, py: Python<'_>, line: String) -> PyResult<()> {
        self.with(py, move |story, _| story.note(line))
    }

    /// A peer at `address` that speaks `http1`, `http1+tls` or `http2+tls`. Its requests are among [`Rehearsal::calls`].
    fn add_peer(&self, py: Python<'_>, address: &str, speech: &str) -> PyResult<u64> {
        let at: SocketAddr = parse(address, "address and port")?;
        let speech = one_of(
            speech,
            [
                ("http1", Speech::Http1),
                ("http1+tls", Speech::Http1OverTls),
                ("http2+tls", Speech::Http2OverTls),
            ],
        )?;
        let added = self.with(py, move |story, cast| cast.add(story, at, speech))?;
        added.map_err(|error| PyOSError::new_err(format!("no peer can be at {address}: {error}")))
    }

    /// The peer is gone: its connections end, and the next dial is refused.
    fn remove_peer(&self, py: Python<'_>, peer: u64) -> PyResult<()> {
        self.with(py, move |_, cast| drop(cast.peers.remove(&peer)))
    }

    /// Requests that peers hold since the last call.
    fn calls<'py>(&self, py: Python<'py>) -> PyResult<Vec<Call<'py>>> {
        let calls = self.with(py, |_, cast| std::mem::take(&mut *cast.calls.borrow_mut()))?;
        let shown = calls.into_iter().map(|(peer, seen)| {
            let Seen { number, conn, at, method, target, head, body } = seen;
            (peer, number, conn, at.as_secs_f64(), method, target, head, PyBytes::new(py, &body))
        });
        Ok(shown.collect())
    }

    /// Has `peer` answer the request with this number, which it holds. Whether anybody still waits for it.
    fn reply(&self, py: Python<'_>, peer: u64, number: u64, deed: DeedArgument) -> PyResult<bool> {
        let (after, head, pieces, ending) = deed;
        let head = head.map(|(status, headers)| Head { status, headers });
        let pieces = pieces.into_iter().map(|(pause, piece)| Ok((duration(pause)?, Bytes::from(piece))));
        let ending = one_of(
            &ending,
            [
                ("whole", Ending::Whole),
                ("then close", Ending::ThenClose),
                ("cut", Ending::Cut),
                ("reset", Ending::Reset),
                ("never", Ending::Never),
            ],
        )?;
        let deed = Deed { after: duration(after)?, head, pieces: pieces.collect::<PyResult<_>>()?, ending };
        self.with(py, move |_, cast| {
            cast.peers.get(&peer).is_some_and(|peer| peer.release(number, Reply::from(deed)))
        })
    }

    /// What the way to `ip` is like from now on. `syn` is `answered`, `refused` or `lost`.
    fn set_path(
        &self,
        py: Python<'_>,
        ip: &str,
        latency: f64,
        jitter: f64,
        syn: &str,
        is_cut: bool,
    ) -> PyResult<()> {
        let ip: IpAddr = parse(ip, "address")?;
        let syn = one_of(syn, [("answered", Syn::Answered), ("refused", Syn::Refused), ("lost", Syn::Lost)])?;
        let path = Path {
            latency: duration(latency)?,
            jitter: duration(jitter)?,
            syn,
            is_cut_out: is_cut,
            is_cut_back: is_cut,
            ..Path::default()
        };
        self.with(py, move |story, _| story.network().set_path(ip, path))
    }

    /// From now on `name` gets a certificate of this kind: `good`, `expired`, `not yet valid`, `wrong name`,
    /// `other authority`, `self-signed`.
    fn set_certificate(&self, py: Python<'_>, name: String, kind: &str) -> PyResult<()> {
        let kind = one_of(
            kind,
            [
                ("good", CertificateKind::Good),
                ("expired", CertificateKind::Expired),
                ("not yet valid", CertificateKind::NotYetValid),
                ("wrong name", CertificateKind::WrongName),
                ("other authority", CertificateKind::OtherAuthority),
                ("self-signed", CertificateKind::SelfSigned),
            ],
        )?;
        self.with(py, move |story, _| story.certificates().set(&name, kind))
    }

    /// `name` has these addresses.
    fn dns_host(&self, name: &str, addresses: Vec<String>, ttl: u32) -> PyResult<()> {
        let addresses: Vec<IpAddr> =
            addresses.into_iter().map(|address| parse(&address, "address")).collect::<PyResult<_>>()?;
        self.dns.host(name, &addresses, ttl);
        Ok(())
    }

    /// `name` has SRV records of priority, weight, port and target.
    fn dns_srv(&self, name: &str, records: Vec<(u16, u16, u16, String)>, ttl: u32) {
        let data = records
            .into_iter()
            .map(|(priority, weight, port, target)| Data::Srv(SrvRecord { priority, weight, port, target }));
        self.dns.set(name, RecordType::SRV, Answer::Records { data: data.collect(), ttl });
    }

    /// `name` is another name of `target`.
    fn dns_alias(&self, name: &str, target: &str, ttl: u32) {
        self.dns.cname(name, target, ttl);
    }

    /// Whoever asks for `name` fails: `unknown` (there is no such name), `failure`, `refused` or `silence`.
    fn dns_fail(&self, name: &str, how: &str) -> PyResult<()> {
        let answer = one_of(
            how,
            [
                ("unknown", Answer::NxDomain { ttl: Some(60) }),
                ("failure", Answer::ServFail),
                ("refused", Answer::Refused),
                ("silence", Answer::Silence),
            ],
        )?;
        self.dns.unset(name);
        self.dns.set_all(name, answer);
        Ok(())
    }

    /// How many questions for the addresses of `name` have come in.
    fn dns_questions(&self, name: &str) -> u64 {
        [RecordType::A, RecordType::AAAA, RecordType::SRV]
            .map(|kind| self.dns.queries(name, kind))
            .iter()
            .sum()
    }

    /// What the kernel is doing: each request with where it is, since when, and with whom.
    fn in_flight(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |story, _| {
            let views = story.kernel().requests(IN_FLIGHT_SHOWN_MAX);
            let show = |view: &southbridge_kernel::RequestView| {
                let at = view.endpoint.as_deref().unwrap_or("nobody yet");
                let seconds = Duration::from_millis(view.age_ms).as_secs_f64();
                format!("{} in step {:?} with {at}, for {seconds} s", view.service, view.step)
            };
            views.iter().map(show).collect()
        })
    }
}

impl Rehearsal {
    fn start(config: RehearsalConfig) -> Result<Self, String> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let thread = RehearsalThread::start_with(config, move |story| {
            let landing = story.serve_ports(seam::desk);
            let _starter_gone = tell.send((landing, story.dns().clone()));
            Cast::default()
        });
        let thread = thread.map_err(|error| error.to_string())?;
        let (landing, dns) = told.recv().map_err(|error| error.to_string())?;
        Ok(Self { thread: Mutex::new(Some(process::Own::new(thread))), landing, dns })
    }

    /// Has `work` done where the rehearsal lives, with the interpreter's lock released.
    fn with<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Story, &mut Cast) -> T + Send + 'static,
    ) -> PyResult<T> {
        let _visit = process::visit(py)?;
        let done = py.detach(|| {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            let thread = thread.as_ref().and_then(process::Own::get);
            thread.map(|thread| thread.with_both(work))
        });
        match done {
            None => Err(PyRuntimeError::new_err(
                "the kernel of this test has ended, or belongs to another process",
            )),
            Some(Err(ended)) => Err(PyRuntimeError::new_err(ended.to_string())),
            Some(Ok(done)) => Ok(done),
        }
    }
}

impl Cast {
    fn add(&mut self, story: &Story, address: SocketAddr, speech: Speech) -> std::io::Result<u64> {
        let peer = story.peer_that_speaks(address, speech)?;
        self.peers_made += 1;
        let (number, calls) = (self.peers_made, Rc::clone(&self.calls));
        peer.answer_with(move |seen| {
            calls.borrow_mut().push_back((number, seen.clone()));
            Reply::held()
        });
        self.peers.insert(number, peer);
        Ok(number)
    }
}

fn duration(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} is no number of seconds that can pass")))
}

fn parse<T: std::str::FromStr>(text: &str, what: &str) -> PyResult<T> {
    text.parse().map_err(|_| PyValueError::new_err(format!("{text:?} is no {what}")))
}

/// What `word` stands for.
fn one_of<T, const N: usize>(word: &str, known: [(&str, T); N]) -> PyResult<T> {
    let words = known.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let found = known.into_iter().find(|(known, _)| *known == word);
    found
        .map(|(_, meant)| meant)
        .ok_or_else(|| PyValueError::new_err(format!("{word:?} is none of: {words}")))
}

const IN_FLIGHT_SHOWN_MAX: usize = 20;
