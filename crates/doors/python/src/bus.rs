//! The Federation Side Bus of a homeserver that runs in this process and keeps the truth itself.
//!
//! One call hands over one event and all its destinations; everything else comes back in batches, to whoever watches the
//! descriptor. What it does is said in [`southbridge::bus_port`].
//!
//! # Source
//! F21 (b), K1, K3; decision 0016.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};
use southbridge_words::{Secret, ServerName, Ticket};

use crate::exchange::Exchange;
use crate::process::Own;
use crate::response::Response;
use crate::seam::bus_port::{
    self, BusId, BusProgress, BusSetup, EduParts, OwedLimits, PduParts, PeerRequest, PreparedBus, RefusedPdu,
    Told,
};
use crate::seam::{Answer, Failure, Outgoing, Port as KernelPort, Purpose, Said};
use crate::{errors, process, seam, values};

/// A bus, with a port of its own. Used by one thread.
#[pyclass(frozen, module = "southbridge._kernel")]
pub struct Bus {
    port: Own<KernelPort>,
    id: BusId,
    carry_timeout: Duration,
}

/// A PDU: its bytes and its event id.
type Pdu<'py> = (Bound<'py, PyBytes>, String);
/// An EDU: its type and its content.
type Edu<'py> = (String, Bound<'py, PyBytes>);

#[pymethods]
impl Bus {
    /// Opens the bus of `server_name`, which signs with `signing_keys` (the format of Synapse's `signing.key`).
    /// Blocks for a moment.
    #[new]
    #[pyo3(signature = (
        server_name, signing_keys, *, ca_files=Vec::new(), only_ca_files=false, allow=Vec::new(), deny=Vec::new(),
        give_back_after=1200.0, items_max=5_000, bytes_max=67_108_864, close_patience=3.0, well_known_port=None
    ))]
    #[expect(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        reason = "they have names in Python, and come as they are"
    )]
    fn new(
        py: Python<'_>,
        server_name: &str,
        signing_keys: &str,
        ca_files: Vec<PathBuf>,
        only_ca_files: bool,
        allow: Vec<String>,
        deny: Vec<String>,
        give_back_after: f64,
        items_max: usize,
        bytes_max: usize,
        close_patience: f64,
        well_known_port: Option<u16>,
    ) -> PyResult<Self> {
        let age_max = seconds(give_back_after)?;
        let setup = BusSetup {
            ca_files,
            only_ca_files,
            addresses: bus_port::addresses(&allow, &deny).map_err(|error| errors::of_failure(py, &error))?,
            owed: OwedLimits { age_max, items_max, bytes_max },
            close_patience: seconds(close_patience)?,
            well_known_port,
            ..BusSetup::new(name(server_name)?, Secret::new(signing_keys.as_bytes()))
        };
        let port = process::attach(py, "twisted")?;
        let opened = py.detach(|| {
            let (id, _ticket) = bus_port::open(&port, PreparedBus::new(setup)?)?;
            seam::done(&port).map(|_done| id)
        });
        let id = opened.map_err(|error| errors::of_failure(py, &error))?;
        let bus = Self { port: Own::new(port), id, carry_timeout: age_max };
        // Nothing can be ready yet.
        let _armed = bus.ours(py)?.arm();
        Ok(bus)
    }

    /// The descriptor to watch for reading.
    fn fileno(&self, py: Python<'_>) -> PyResult<RawFd> {
        Ok(self.ours(py)?.as_fd().as_raw_fd())
    }

    /// Hands in an event at `position` for all `destinations`. Gives those that are no server names.
    #[pyo3(signature = (pdu, event_id, destinations, position))]
    fn send_pdu<'py>(
        &self,
        py: Python<'py>,
        pdu: &Bound<'py, PyBytes>,
        event_id: &str,
        destinations: &Bound<'py, PyAny>,
        position: u64,
    ) -> PyResult<Bound<'py, PyList>> {
        let (names, unfit) = names(destinations)?;
        if !names.is_empty() {
            let pdu = PduParts { bytes: Bytes::copy_from_slice(pdu.as_bytes()), event_id: event_id.into() };
            self.told(py, bus_port::send_pdu(self.ours(py)?, self.id, pdu, names, position))?;
        }
        Ok(unfit)
    }

    /// Hands in typing, presence or receipts for all `destinations`; made at `now_ms`.
    fn send_edu<'py>(
        &self,
        py: Python<'py>,
        edu_type: &str,
        content: &Bound<'py, PyBytes>,
        destinations: &Bound<'py, PyAny>,
        now_ms: u64,
    ) -> PyResult<()> {
        let (names, _unfit) = names(destinations)?;
        if names.is_empty() {
            return Ok(());
        }
        let edu = edu_parts(edu_type, content, now_ms);
        self.told(py, bus_port::send_edu(self.ours(py)?, self.id, edu, names.into())).map(drop)
    }

    /// Carries PDUs and EDUs to one destination, after whatever waits for it; its ticket is drained when all of it is
    /// there, or will not get there from here. It is tried again for `patience` seconds (`give_back_after`, when none are
    /// given), and once more then.
    #[pyo3(signature = (destination, pdus, edus, now_ms, *, patience=None))]
    fn carry(
        &self,
        py: Python<'_>,
        destination: &str,
        pdus: Vec<Pdu<'_>>,
        edus: Vec<Edu<'_>>,
        now_ms: u64,
        patience: Option<f64>,
    ) -> PyResult<u64> {
        let patience = patience.map_or(Ok(self.carry_timeout), seconds)?;
        let pdu = |(pdu, event_id): Pdu<'_>| PduParts {
            bytes: Bytes::copy_from_slice(pdu.as_bytes()),
            event_id: event_id.into(),
        };
        let pdus = pdus.into_iter().map(pdu).collect();
        let edus =
            edus.into_iter().map(|(edu_type, content)| edu_parts(&edu_type, &content, now_ms)).collect();
        let destination = name(destination)?;
        let port = self.ours(py)?;
        self.told(py, bus_port::carry(port, self.id, destination, pdus, edus, patience))
    }

    /// Asks a homeserver for `uri` (`matrix-federation://name/path`), with these header fields and nothing added to them:
    /// by this bus's rules for names, addresses and certificates, and on its connections. All of it takes `timeout` at
    /// most. What it gives is opened, fed nothing, and drawn.
    #[pyo3(signature = (method, uri, headers, body=None, *, timeout=1260.0))]
    fn ask(
        &self,
        py: Python<'_>,
        method: &str,
        uri: &str,
        headers: &Bound<'_, PyAny>,
        body: Option<&Bound<'_, PyBytes>>,
        timeout: f64,
    ) -> PyResult<Exchange> {
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| PyValueError::new_err(format!("{method:?} is no method of HTTP")))?;
        let body = body.map_or_else(Bytes::new, |body| Bytes::copy_from_slice(body.as_bytes()));
        let request = PeerRequest::new(method, uri, values::headers(headers)?, body, seconds(timeout)?)
            .map_err(|failure| errors::of_failure(py, &failure))?;
        let response = Response::new(Outgoing::Bus { bus: self.id, request }, None);
        Ok(Exchange::new(Py::new(py, response)?, Purpose::Stream))
    }

    /// Asks how far it has come, now that everything up to `floor` was handed in; its ticket is drained with the answer.
    fn progress(&self, py: Python<'_>, floor: u64) -> PyResult<u64> {
        self.told(py, bus_port::progress(self.ours(py)?, self.id, floor))
    }

    /// `destination` has said something: what waits for it, if it could not be reached, is tried at once.
    fn heard(&self, py: Python<'_>, destination: &str) -> PyResult<u64> {
        self.told(py, bus_port::heard(self.ours(py)?, self.id, name(destination)?))
    }

    /// `destination` is back.
    fn wake(&self, py: Python<'_>, destination: &str) -> PyResult<u64> {
        self.told(py, bus_port::wake(self.ours(py)?, self.id, name(destination)?))
    }

    /// Gives `destination` back at once.
    fn give_back(&self, py: Python<'_>, destination: &str) -> PyResult<u64> {
        self.told(py, bus_port::give_back(self.ours(py)?, self.id, name(destination)?))
    }

    /// Closes it; its ticket is drained with how far it has come.
    fn close(&self, py: Python<'_>, floor: u64) -> PyResult<u64> {
        self.told(py, bus_port::close(self.ours(py)?, self.id, floor))
    }

    /// What has come back: pairs of a ticket and `None`, what was said against PDUs, how far it has come, or an
    /// exception.
    fn drain<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let port = self.ours(py)?;
        let mut words = Vec::new();
        loop {
            let taken = seam::drain(port, BATCH, |ticket, said| {
                if let Said::Answered(answer) = said {
                    words.push((ticket, answer));
                }
            });
            if taken == 0 {
                port.acknowledge();
                if port.arm() {
                    break;
                }
            }
        }
        let drained = PyList::empty(py);
        for (Ticket(ticket), answer) in words {
            drained.append((ticket, in_python(py, answer)?))?;
        }
        Ok(drained)
    }
}

impl Bus {
    fn ours(&self, py: Python<'_>) -> PyResult<&KernelPort> {
        self.port.get().ok_or_else(|| errors::forked(py))
    }

    #[expect(clippy::unused_self, reason = "it belongs to the calls above")]
    fn told(&self, py: Python<'_>, submitted: Result<Ticket, Failure>) -> PyResult<u64> {
        submitted.map(|Ticket(ticket)| ticket).map_err(|failure| errors::of_failure(py, &failure))
    }
}

/// How far a bus has come. What is counted is counted since it was asked last.
#[pyclass(frozen, get_all, name = "BusProgress", module = "southbridge._kernel")]
pub struct PyBusProgress {
    /// Who, up to where everything was delivered, and whether what comes after that is the homeserver's business again.
    told: Vec<(String, u64, bool)>,
    /// Who, which PDU, and why.
    refused: Vec<(String, String, String)>,
    /// Transactions delivered, without those that ended something that was carried.
    transactions: u64,
    /// Volatile EDUs that went along, by type.
    edus: Vec<(&'static str, u32)>,
    /// Requests with a transaction.
    requests: u64,
    /// Their answers, by status.
    answers: Vec<(u16, u64)>,
    /// Live events that wait, counted for each destination.
    waiting: usize,
    /// Parts of volatile EDUs that wait, counted for each destination.
    edus_waiting: usize,
    /// Destinations for which something waits or is under way.
    destinations: usize,
}

impl From<BusProgress> for PyBusProgress {
    fn from(progress: BusProgress) -> Self {
        let of_one = |one: Told| (one.destination.as_str().to_owned(), one.position, one.is_given_back);
        Self {
            told: progress.told.into_iter().map(of_one).collect(),
            refused: all_refused(progress.refused),
            transactions: progress.transactions,
            edus: progress.edus.by_type().into(),
            requests: progress.traffic.requests,
            answers: progress.traffic.answers.into_iter().collect(),
            waiting: progress.waiting,
            edus_waiting: progress.edus_waiting,
            destinations: progress.destinations,
        }
    }
}

fn in_python(py: Python<'_>, answer: Result<Answer, Failure>) -> PyResult<Bound<'_, PyAny>> {
    match answer {
        Ok(Answer::Progress(progress)) => PyBusProgress::from(*progress).into_bound_py_any(py),
        Ok(Answer::Carried(refused)) => all_refused(refused).into_bound_py_any(py),
        Ok(_) => Ok(py.None().into_bound(py)),
        Err(failure) => Ok(errors::of_failure(py, &failure).into_value(py).into_bound(py).into_any()),
    }
}

fn all_refused(refused: Vec<RefusedPdu>) -> Vec<(String, String, String)> {
    refused.into_iter().map(|one| (one.destination.as_str().to_owned(), one.event_id, one.error)).collect()
}

fn edu_parts(edu_type: &str, content: &Bound<'_, PyBytes>, now_ms: u64) -> EduParts {
    let content = Bytes::copy_from_slice(content.as_bytes());
    EduParts { edu_type: Arc::from(edu_type), content, created_at: seam::wall_time(now_ms) }
}

/// The names in `destinations`, and what of them is none.
fn names<'py>(destinations: &Bound<'py, PyAny>) -> PyResult<(Vec<ServerName>, Bound<'py, PyList>)> {
    let (mut names, unfit) = (Vec::new(), PyList::empty(destinations.py()));
    for one in destinations.try_iter()? {
        let one = one?.cast_into::<PyString>()?;
        match ServerName::parse(&one.to_cow()?) {
            Ok(name) => names.push(name),
            Err(_) => unfit.append(one)?,
        }
    }
    Ok((names, unfit))
}

/// What of `names` cannot be the name of a homeserver.
#[pyfunction]
#[pyo3(name = "no_server_names", signature = (names, /))]
pub fn no_server_names<'py>(names: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    let unfit = PyList::empty(names.py());
    for one in names.try_iter()? {
        let one = one?.cast_into::<PyString>()?;
        if ServerName::parse(&one.to_cow()?).is_err() {
            unfit.append(one)?;
        }
    }
    Ok(unfit)
}

fn name(text: &str) -> PyResult<ServerName> {
    ServerName::parse(text).map_err(|error| PyValueError::new_err(format!("{text:?}: {error}")))
}

fn seconds(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err(format!("{seconds} s is no time that anything could take")))
}

/// How many completions are taken off the queue at a time.
const BATCH: usize = 64;
