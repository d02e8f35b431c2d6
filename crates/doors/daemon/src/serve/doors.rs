//! The doors at work: who accepts where, and how accepting ends. The bus door goes with its bus ([`super::bus`]).

use std::io;
use std::rc::Rc;
use std::time::Duration;

use southbridge::Southbridge;
use southbridge::forward_proxy::ForwardProxy;
use southbridge::module_door::ModuleDoor;
use southbridge::synapse_door::{Discoveries, SynapseDoor};
use southbridge_kernel::admin::{Admin, MoreMetrics};
use southbridge_kernel::net::{ListenOptions, Listener, LocalStream};
use southbridge_words::Secret;
use tokio::task::{JoinHandle, JoinSet};
use tracing::error;

use super::{carries, numbers, setup};
use crate::activation::Origin;
use crate::config::Config;
use crate::door::Door;
use crate::listeners::Listeners;

/// All doors but that of the bus.
pub struct Doors {
    synapse: SynapseDoor,
    proxy: ForwardProxy,
    module: ModuleDoor,
    places: Vec<Place>,
    /// Callers who were waiting when accepting ended.
    late: tokio::sync::Mutex<JoinSet<()>>,
}

/// One place where a door accepts.
struct Place {
    door: Door,
    origin: Origin,
    listener: Rc<Listener>,
    accepting: Option<JoinHandle<()>>,
}

impl Doors {
    /// The doors of `southbridge` at the places of `listeners`. Nobody is accepted yet.
    ///
    /// # Errors
    /// When the system gives no descriptor, or a socket is not what it was.
    pub fn new(
        southbridge: &Southbridge,
        config: &Config,
        secret: Secret,
        listeners: &Listeners,
    ) -> io::Result<Self> {
        let discoveries = Discoveries { matrix: southbridge.matrix(), web: southbridge.https() };
        let kernel = southbridge.kernel();
        let places = listeners.list.iter().filter(|passed| passed.door != Door::Bus).map(|passed| {
            let listener = Listener::inherit(passed.socket.try_clone()?, &ListenOptions::default());
            let mut listener = listener.map_err(io::Error::other)?;
            if let Some(tls) = config.synapse.tls.as_ref().filter(|_| passed.listen.tls) {
                listener = listener.with_tls(tls.clone());
            }
            Ok(Place {
                door: passed.door,
                origin: passed.origin,
                listener: Rc::new(listener),
                accepting: None,
            })
        });
        Ok(Self {
            synapse: SynapseDoor::new(kernel.clone(), discoveries, setup::synapse_door(config, secret)),
            proxy: ForwardProxy::new(kernel.clone(), southbridge.http(), setup::forward_proxy(config)),
            module: ModuleDoor::new(southbridge.clone(), config.module.door(config.addresses.clone())),
            places: places.collect::<io::Result<_>>()?,
            late: tokio::sync::Mutex::default(),
        })
    }

    /// Opens the doors and lets people in, those first who have been waiting.
    pub fn accept(&mut self, admin: &Admin) {
        self.synapse.open();
        for place in &mut self.places {
            let (listener, synapse, proxy, admin) =
                (Rc::clone(&place.listener), self.synapse.clone(), self.proxy.clone(), admin.clone());
            let module = self.module.clone();
            let door = place.door;
            place.accepting = Some(tokio::task::spawn_local(async move {
                match door {
                    Door::Synapse => {
                        synapse.serve(&listener).await;
                    }
                    Door::Admin => admin.serve(&listener).await,
                    Door::Module => {
                        module.serve(&listener).await;
                    }
                    Door::Bus => {}
                    Door::ForwardProxy => {
                        let Err(refused) = proxy.serve(&listener).await;
                        error!("{refused}");
                    }
                }
            }));
        }
    }

    /// Ends accepting because everything ends. Who is waiting at a socket that will be closed is still served; at a
    /// socket that somebody else keeps open they wait for whoever comes next. The admin socket answers to the end.
    pub async fn close(&mut self) {
        self.stop(|door| carries(door) || door == Door::Module).await;
        // Modules are told how far it has come, and connect again to whoever comes next.
        self.module.close();
        let late = self.late.get_mut();
        for place in self.places.iter().filter(|place| carries(place.door) && place.origin == Origin::Own) {
            for _ in 0..LATE_MAX {
                let Ok(stream) = tokio::time::timeout(Duration::ZERO, place.listener.accept()).await else {
                    break;
                };
                late.spawn_local(serve_one(place.door, self.synapse.clone(), self.proxy.clone(), stream));
            }
        }
        // Sockets of our own are closed now: a caller who comes later is refused at once instead of waiting in vain.
        self.places.retain(|place| place.door == Door::Admin);
    }

    /// Ends accepting because a successor accepts at the same sockets.
    pub async fn leave_to_successor(&mut self) {
        self.stop(|_| true).await;
        self.module.close();
        self.places.clear();
    }

    /// Waits until nobody is being served.
    pub async fn drained(&self) {
        self.synapse.drained().await;
        self.proxy.drained().await;
        self.module.drained().await;
        let mut late = self.late.lock().await;
        while late.join_next().await.is_some() {}
    }

    /// How many are being served.
    pub fn in_progress(&self) -> u64 {
        let late = self.late.try_lock().map_or(0, |late| late.len() as u64);
        let served = [
            self.synapse.snapshot().in_progress,
            self.proxy.snapshot().in_progress,
            self.module.snapshot().in_progress,
        ];
        served.into_iter().map(u64::from).sum::<u64>() + late
    }

    /// The numbers of the doors.
    pub fn metrics(&self) -> MoreMetrics {
        let (synapse, proxy, module) = (self.synapse.clone(), self.proxy.clone(), self.module.clone());
        Rc::new(move |out| {
            numbers::expose_module(&module.snapshot(), out);
            numbers::expose_synapse(&synapse.snapshot(), out);
            numbers::expose_proxy(&proxy.snapshot(), out);
        })
    }

    async fn stop(&mut self, which: impl Fn(Door) -> bool) {
        for place in self.places.iter_mut().filter(|place| which(place.door)) {
            if let Some(accepting) = place.accepting.take() {
                accepting.abort();
                // Aborted tasks end with an error that says so; what matters is that it has let go of its listener.
                let _ = accepting.await;
            }
        }
    }
}

async fn serve_one(door: Door, synapse: SynapseDoor, proxy: ForwardProxy, stream: LocalStream) {
    match door {
        Door::Synapse => synapse.serve_connection(stream).await,
        _ => proxy.serve_connection(stream).await,
    }
}

/// As many as a backlog can hold.
const LATE_MAX: usize = 65_535;
