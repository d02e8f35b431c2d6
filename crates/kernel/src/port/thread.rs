//! The I/O thread as a thread: started, attached to, stopped.
//!
//! # Source
//! K1, K2; DESIGN decisions 1 and 2.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use rustc_hash::FxHashMap;
use southbridge_words::{Step, Ticket};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet};

use super::queue::{Shared, Submission, stopped};
use super::{Completion, Port, PortError, PortRequest};
use crate::discovery::Discover;
use crate::exchange::{Call, ExchangeError};
use crate::kernel::{Kernel, KernelConfig, KernelError};

/// The ways of finding routes that ports may name.
pub type Schemes = FxHashMap<&'static str, Rc<dyn Discover>>;

/// A kernel on a thread of its own. Dropping it stops and joins the thread.
pub struct KernelThread {
    kernel: Arc<Notify>,
    stopped: Arc<AtomicBool>,
    attaching: Arc<Mutex<Vec<Arc<Shared>>>>,
    thread: Option<JoinHandle<()>>,
}

/// Why the I/O thread did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no thread or descriptor.
    #[error("the I/O thread cannot be started")]
    System(#[from] std::io::Error),
    /// The kernel could not be set up.
    #[error("the kernel cannot be set up: {0}")]
    Kernel(String),
}

impl KernelThread {
    /// Starts the I/O thread with a kernel of `config`; `schemes` makes its discoveries on that thread.
    ///
    /// # Errors
    /// [`StartError`] when there is no thread to be had or the configuration does not work.
    pub fn start(
        config: KernelConfig,
        schemes: impl FnOnce(&Kernel) -> Schemes + Send + 'static,
    ) -> Result<Self, StartError> {
        let kernel = Arc::new(Notify::new());
        let stopped = Arc::new(AtomicBool::new(false));
        let attaching = Arc::new(Mutex::new(Vec::new()));
        let (report, started) = mpsc::channel();
        let side = KernelSide {
            bell: Arc::clone(&kernel),
            stopped: Arc::clone(&stopped),
            attaching: Arc::clone(&attaching),
        };
        let thread = std::thread::Builder::new()
            .name("southbridge-io".to_owned())
            .spawn(move || side.run(config, schemes, &report))?;
        let outcome = started.recv().unwrap_or_else(|_| Err("the I/O thread died at its start".to_owned()));
        outcome.map_err(StartError::Kernel)?;
        Ok(Self { kernel, stopped, attaching, thread: Some(thread) })
    }

    /// Attaches a port that holds at most `held_max` submissions.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn attach(&self, held_max: usize) -> std::io::Result<Port> {
        let shared = Shared::new(held_max, Arc::clone(&self.kernel), Arc::clone(&self.stopped))?;
        let shared = Arc::new(shared);
        self.attaching.lock().expect("no holder of this lock panics").push(Arc::clone(&shared));
        self.kernel.notify_one();
        Ok(Port { shared })
    }
}

impl Drop for KernelThread {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        self.kernel.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the I/O thread has been reported by its hook already.
            let _joined = thread.join();
        }
    }
}

struct KernelSide {
    bell: Arc<Notify>,
    stopped: Arc<AtomicBool>,
    attaching: Arc<Mutex<Vec<Arc<Shared>>>>,
}

/// One port, seen from the I/O thread.
struct Attached {
    shared: Arc<Shared>,
    tasks: Rc<RefCell<FxHashMap<Ticket, AbortHandle>>>,
}

impl KernelSide {
    fn run(
        self,
        config: KernelConfig,
        schemes: impl FnOnce(&Kernel) -> Schemes,
        report: &mpsc::Sender<Result<(), String>>,
    ) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let _starter_gone = report.send(Err(error.to_string()));
                return;
            }
        };
        LocalSet::new().block_on(&runtime, async move {
            let kernel = match Kernel::new(config) {
                Ok(kernel) => kernel,
                Err(error) => {
                    let _starter_gone = report.send(Err(whole(&error)));
                    return;
                }
            };
            let schemes = schemes(&kernel);
            let _starter_gone = report.send(Ok(()));
            self.serve(&kernel, &schemes).await;
        });
    }

    async fn serve(&self, kernel: &Kernel, schemes: &Schemes) {
        let mut ports: Vec<Attached> = Vec::new();
        loop {
            let notified = self.bell.notified();
            let new = std::mem::take(&mut *self.attaching.lock().expect("no holder of this lock panics"));
            ports.extend(new.into_iter().map(|shared| Attached { shared, tasks: Rc::default() }));
            for port in &ports {
                port.take_all(kernel, schemes);
            }
            ports.retain(|port| !port.is_over());
            if self.stopped.load(Ordering::Acquire) {
                ports.iter().for_each(Attached::fail_all);
                return;
            }
            notified.await;
        }
    }
}

impl Attached {
    fn take_all(&self, kernel: &Kernel, schemes: &Schemes) {
        while let Some(submission) = self.shared.take_submission() {
            match submission {
                Submission::Request(ticket, request) => self.start(ticket, *request, kernel, schemes),
                Submission::Cancel(ticket) => self.cancel(ticket),
            }
        }
    }

    fn start(&self, ticket: Ticket, request: PortRequest, kernel: &Kernel, schemes: &Schemes) {
        let Some(discovery) = schemes.get(request.scheme).map(Rc::clone) else {
            let message = format!("no discovery is called {:?}", request.scheme);
            let error = PortError { step: Step::Discovery, is_repeatable: true, message };
            self.shared.complete(Completion { ticket, result: Err(error) });
            return;
        };
        let (shared, tasks) = (Arc::clone(&self.shared), Rc::clone(&self.tasks));
        let kernel = kernel.clone();
        let task = tokio::task::spawn_local(async move {
            let result = carry(&kernel, request, discovery).await;
            tasks.borrow_mut().remove(&ticket);
            shared.complete(Completion { ticket, result });
        });
        self.tasks.borrow_mut().insert(ticket, task.abort_handle());
    }

    fn cancel(&self, ticket: Ticket) {
        if let Some(task) = self.tasks.borrow_mut().remove(&ticket) {
            task.abort();
            let message = "cancelled by the application".to_owned();
            let error = PortError { step: Step::Admission, is_repeatable: false, message };
            self.shared.complete(Completion { ticket, result: Err(error) });
        }
    }

    /// Whether the application has let go; what it had under way is then cancelled.
    fn is_over(&self) -> bool {
        let over = self.shared.is_detached();
        if over {
            self.tasks.borrow_mut().drain().for_each(|(_, task)| task.abort());
        }
        over
    }

    fn fail_all(&self) {
        for (ticket, task) in self.tasks.borrow_mut().drain() {
            task.abort();
            self.shared.complete(Completion { ticket, result: Err(stopped()) });
        }
        self.shared.finish();
    }
}

async fn carry(
    kernel: &Kernel,
    request: PortRequest,
    discovery: Rc<dyn Discover>,
) -> Result<http::Response<bytes::Bytes>, PortError> {
    let deadline = kernel.deadline(request.timeout);
    let call = Call {
        service: request.service,
        discovery,
        request: request.request,
        class: request.class,
        demand: request.demand,
        deadline,
        repeat: request.repeat,
        ranked: true,
    };
    let response = kernel.exchange(call).await.map_err(|error| port_error(&error))?;
    let (parts, body) = response.into_parts();
    let body = body.collect_all(request.body_bytes_max).await.map_err(|error| port_error(&error))?;
    Ok(http::Response::from_parts(parts, body))
}

fn port_error(error: &ExchangeError) -> PortError {
    PortError {
        step: error.step(),
        is_repeatable: error.is_repeatable(),
        message: crate::http::explain(error),
    }
}

fn whole(error: &KernelError) -> String {
    crate::http::explain(error)
}
