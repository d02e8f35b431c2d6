//! The I/O thread as a thread: started, attached to, stopped.
//!
//! # Source
//! K1, K2; DESIGN decisions 1 and 2.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use rustc_hash::FxHashMap;
use southbridge_words::{Step, Ticket};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, LocalSet};

use super::queue::{Shared, Submission, stopped};
use super::{Completion, Port, PortError, PortRequest};
use crate::discovery::Discover;
use crate::exchange::{Call, ExchangeError};
use crate::kernel::{Kernel, KernelConfig};

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
                    let _starter_gone = report.send(Err(crate::http::explain(&error)));
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
        let owed = Owed { ticket, shared: Arc::clone(&self.shared), tasks: Rc::clone(&self.tasks) };
        let kernel = kernel.clone();
        let task = tokio::task::spawn_local(async move {
            let result = carry(&kernel, request, discovery).await;
            owed.give(result);
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
            self.take_tasks().values().for_each(AbortHandle::abort);
        }
        over
    }

    fn take_tasks(&self) -> FxHashMap<Ticket, AbortHandle> {
        std::mem::take(&mut *self.tasks.borrow_mut())
    }
}

impl Drop for Attached {
    /// However the I/O thread ends, in order or by a panic: an error can be handled, and a hang cannot.
    fn drop(&mut self) {
        for (ticket, task) in self.take_tasks() {
            task.abort();
            self.shared.complete(Completion { ticket, result: Err(stopped()) });
        }
        self.shared.finish();
    }
}

impl Drop for KernelSide {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        let never_seen = std::mem::take(&mut *self.attaching.lock().unwrap_or_else(PoisonError::into_inner));
        never_seen.iter().for_each(|shared| shared.finish());
    }
}

/// A completion that an application waits for. When its task ends without a word, by a panic, it fails.
struct Owed {
    ticket: Ticket,
    shared: Arc<Shared>,
    tasks: Rc<RefCell<FxHashMap<Ticket, AbortHandle>>>,
}

impl Owed {
    fn give(&self, result: Result<http::Response<bytes::Bytes>, PortError>) {
        // Who is not listed any more has been answered: it was cancelled, or this was said before.
        if self.tasks.borrow_mut().remove(&self.ticket).is_some() {
            self.shared.complete(Completion { ticket: self.ticket, result });
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let message = "the kernel failed in the middle of the request; its log says where".to_owned();
        self.give(Err(PortError { step: Step::Response, is_repeatable: false, message }));
    }
}

async fn carry(
    kernel: &Kernel,
    request: PortRequest,
    discovery: Rc<dyn Discover>,
) -> Result<http::Response<bytes::Bytes>, PortError> {
    let deadline = kernel.deadline(request.timeout);
    let service = request.service;
    let call = Call {
        service: service.clone(),
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
    let collecting = body.collect_all(request.body_bytes_max);
    let collected = tokio::time::timeout_at(kernel.clock().to_tokio(deadline), collecting).await;
    let overdue = ExchangeError::DeadlinePassed { service, step: Step::Body, waited: request.timeout };
    let body = collected.unwrap_or(Err(overdue)).map_err(|error| port_error(&error))?;
    Ok(http::Response::from_parts(parts, body))
}

fn port_error(error: &ExchangeError) -> PortError {
    PortError {
        step: error.step(),
        is_repeatable: error.is_repeatable(),
        message: crate::http::explain(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    use futures_util::future::LocalBoxFuture;
    use southbridge_policy::ranker::Demand;
    use southbridge_words::{Class, Instant, ServiceName};

    use super::*;
    use crate::discovery::{DiscoveryError, DnsDiscovery, Route};
    use crate::dns::DnsConfig;
    use crate::exchange::Repeat;
    use crate::net::AddressPolicy;

    /// A way of finding routes that is broken.
    struct Broken;

    impl Discover for Broken {
        fn discover<'a>(
            &'a self,
            service: &'a ServiceName,
            _deadline: Instant,
        ) -> LocalBoxFuture<'a, Result<Rc<Route>, DiscoveryError>> {
            panic!("as the test wants it: {service}")
        }
    }

    fn start() -> KernelThread {
        let config = KernelConfig {
            dns: DnsConfig { servers: vec!["127.0.0.1:9".parse().unwrap()], ..DnsConfig::default() },
            addresses: AddressPolicy::new(["127.0.0.0/8".parse().unwrap()], []),
            ..KernelConfig::default()
        };
        let schemes = |kernel: &Kernel| {
            let http: Rc<dyn Discover> = Rc::new(DnsDiscovery::http(kernel.dns().clone()));
            let broken: Rc<dyn Discover> = Rc::new(Broken);
            [("http", http), ("broken", broken)].into_iter().collect()
        };
        KernelThread::start(config, schemes).expect("the I/O thread starts")
    }

    fn ask(scheme: &'static str, name: &str) -> PortRequest {
        PortRequest {
            scheme,
            service: ServiceName::new(name),
            request: http::Request::get("/").body(bytes::Bytes::new()).unwrap(),
            class: Class::Interactive,
            demand: Demand::Prompt,
            repeat: Repeat::Safe,
            timeout: Duration::from_secs(1),
            body_bytes_max: 4096,
        }
    }

    fn wait(port: &Port) -> Result<http::Response<bytes::Bytes>, PortError> {
        let mut result = None;
        while port.drain(1, |completion| result = Some(completion.result)) == 0 {
            assert!(port.wait(Duration::from_secs(30)), "it completes");
        }
        result.expect("one was drained")
    }

    /// The kernel has a bug. Whoever waits for a request that meets it is told so, and others are served on.
    #[test]
    fn a_request_that_meets_a_panic_completes() {
        let kernel = start();
        let port = kernel.attach(4).unwrap();
        for _ in 0..2 {
            port.submit(ask("broken", "a.example")).unwrap();
            assert!(wait(&port).unwrap_err().message.contains("the kernel failed"));
        }
        assert_eq!(port.held(), 0);
    }

    /// A body that flows well and never ends outlasts its request's timeout in the kernel, and not at a port.
    #[test]
    fn the_timeout_of_a_port_covers_the_body() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let peer = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0, "a request comes");
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            while stream.write_all(&[b'x'; 1024]).is_ok() && stream.read(&mut [0; 1]).is_err() {}
        });
        let kernel = start();
        let port = kernel.attach(4).unwrap();
        port.submit(PortRequest { body_bytes_max: u64::MAX, ..ask("http", &name) }).unwrap();
        let error = wait(&port).unwrap_err();
        assert_eq!(error.step, Step::Body);
        assert!(error.message.contains("within 1s"), "{}", error.message);
        peer.join().unwrap();
    }
}
