//! The I/O thread as a thread: started, attached to, stopped.
//!
//! # Source
//! K1, K2; DESIGN decisions 1 and 2.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::Port;
use super::desk::Desk;
use super::landing::{AttachedPorts, KernelSide, Landing};
use crate::kernel::{Kernel, KernelConfig};

/// A kernel on a thread of its own. Dropping it stops and joins the thread.
pub struct KernelThread<D: Desk> {
    landing: Landing<D>,
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

impl<D: Desk> KernelThread<D> {
    /// Starts the I/O thread with a kernel of `config`; `desk` makes what stands behind the ports, on that thread.
    ///
    /// # Errors
    /// [`StartError`] when there is no thread to be had or the configuration does not work.
    pub fn start(
        config: KernelConfig,
        desk: impl FnOnce(&Kernel) -> D + Send + 'static,
    ) -> Result<Self, StartError> {
        let (landing, side) = Landing::new(None);
        let (report, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("southbridge-io".to_owned())
            .spawn(move || run(&side, config, desk, &report))?;
        let outcome = started.recv().unwrap_or_else(|_| Err("the I/O thread died at its start".to_owned()));
        outcome.map_err(StartError::Kernel)?;
        Ok(Self { landing, thread: Some(thread) })
    }

    /// Attaches a port that holds at most `held_max` submissions.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn attach(&self, held_max: usize) -> std::io::Result<Port<D>> {
        self.landing.attach(held_max)
    }

    /// Attaches a port for `frontend`, as people know it who ask what the program is doing.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn attach_for(&self, frontend: &'static str, held_max: usize) -> std::io::Result<Port<D>> {
        self.landing.attach_for(frontend, held_max)
    }
}

impl<D: Desk> Drop for KernelThread<D> {
    fn drop(&mut self) {
        self.landing.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of the I/O thread has been reported by its hook already.
            let _joined = thread.join();
        }
    }
}

fn run<D: Desk>(
    side: &KernelSide<D>,
    config: KernelConfig,
    desk: impl FnOnce(&Kernel) -> D,
    report: &mpsc::Sender<Result<(), String>>,
) {
    // Everything here is of this thread, and its tasks are the runtime's own: a `LocalSet` would queue them twice.
    let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
        Ok(runtime) => runtime,
        Err(error) => {
            let _starter_gone = report.send(Err(error.to_string()));
            return;
        }
    };
    let ports = AttachedPorts::default();
    let mut work = Box::pin(async {
        let kernel = match Kernel::new(config) {
            Ok(kernel) => kernel,
            Err(error) => {
                let _starter_gone = report.send(Err(crate::http::explain(&error)));
                return;
            }
        };
        let desk = Rc::new(desk(&kernel));
        drop(kernel);
        let _starter_gone = report.send(Ok(()));
        side.serve_at(&ports, &desk).await;
    });
    // Apart from the work, so that it is still there when the runtime itself has failed.
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(work.as_mut())));
    if ended.is_err() && !can_wake(&runtime) {
        // Whatever is dropped now would ring at a door that is not there, which is a panic within a panic, and close
        // descriptors that may be somebody else's by now. It stays as it is; who waits is told.
        std::mem::forget(work);
        std::mem::forget(runtime);
        ports.abandon();
    }
}

/// Whether tasks of `runtime` can be woken from elsewhere: not when a program has closed all descriptors beneath it.
fn can_wake(runtime: &LocalRuntime) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_local(async {})))).is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use futures_util::future::LocalBoxFuture;
    use southbridge_policy::ranker::Demand;
    use southbridge_words::{Class, Instant, ServiceName, Step};

    use super::*;
    use crate::discovery::{Discover, DiscoveryError, DnsDiscovery, Route};
    use crate::dns::DnsConfig;
    use crate::exchange::Repeat;
    use crate::net::AddressPolicy;
    use crate::port::{PortError, PortRequest};

    /// A desk that knows two ways of finding routes.
    struct Plain {
        kernel: Kernel,
        http: Rc<dyn Discover>,
    }

    impl Desk for Plain {
        type Answer = http::Response<bytes::Bytes>;
        type Error = PortError;

        fn kernel(&self) -> &Kernel {
            &self.kernel
        }

        fn scheme(&self, name: &str) -> Option<Rc<dyn Discover>> {
            match name {
                "http" => Some(Rc::clone(&self.http)),
                "broken" => Some(Rc::new(Broken)),
                _ => None,
            }
        }
    }

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

    fn start() -> KernelThread<Plain> {
        let config = KernelConfig {
            dns: DnsConfig { servers: vec!["127.0.0.1:9".parse().unwrap()], ..DnsConfig::default() },
            addresses: AddressPolicy::new(["127.0.0.0/8".parse().unwrap()], []),
            ..KernelConfig::default()
        };
        let desk = |kernel: &Kernel| Plain {
            http: Rc::new(DnsDiscovery::http(kernel.dns().clone())),
            kernel: kernel.clone(),
        };
        KernelThread::start(config, desk).expect("the I/O thread starts")
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

    fn wait(port: &Port<Plain>) -> Result<http::Response<bytes::Bytes>, PortError> {
        let mut result = None;
        while port.drain(1, |completion| result = completion.answer()) == 0 {
            assert!(port.wait(Duration::from_secs(30)), "it completes");
        }
        result.expect("one was drained")
    }

    /// Longer than anybody waits for a test.
    const AN_HOUR: Duration = Duration::from_secs(3600);

    /// Bob waits for what Alice takes off the port for him: while he sleeps, or is on his way to sleep. Nothing else would
    /// wake him.
    #[test]
    fn whoever_sleeps_looks_when_another_took_what_is_theirs() {
        let kernel = start();
        let port = kernel.attach(4).unwrap();
        for _ in 0..100 {
            let taken = AtomicBool::new(false);
            let is_over = || taken.load(Ordering::SeqCst);
            std::thread::scope(|scope| {
                let bob = scope.spawn(|| port.wait_in_turn(AN_HOUR, Duration::ZERO, is_over));
                taken.store(true, Ordering::SeqCst);
                port.rouse();
                assert!(bob.join().expect("it does not panic"));
            });
        }
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
