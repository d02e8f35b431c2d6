//! The two homeservers that are compared, and how a pair is measured.

use std::time::Duration;

use southbridge_tests::Result;
use southbridge_tests::client_api::ClientApi;
use southbridge_tests::southbridge::{self, DoorKind, SouthbridgeProcess};
use southbridge_tests::synapse::{Outbound, Surroundings, SynapseProcess};

use crate::internet::Internet;
use crate::traffic::Traffic;

/// A Synapse by itself, and one with Southbridge. They know nothing of each other.
#[derive(Debug)]
pub struct Homes {
    stock: Home,
    ours: Home,
    southbridge: SouthbridgeProcess,
}

#[derive(Debug)]
struct Home {
    synapse: SynapseProcess,
    user: ClientApi,
}

/// CPU of each process for one kind of traffic, per request that reached another homeserver.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The Synapse by itself.
    pub stock: Duration,
    /// The Synapse with Southbridge.
    pub ours: Duration,
    /// Its Southbridge.
    pub southbridge: Duration,
}

impl Homes {
    /// Starts all three processes and waits until they work.
    ///
    /// # Errors
    /// Something is missing on this machine, or a process does not start.
    pub async fn start(internet: &Internet) -> Result<Self> {
        let dir = internet.directory("ours")?;
        let surroundings = southbridge::Surroundings {
            dir: dir.clone(),
            secret: SECRET.into(),
            dns: internet.dns(),
            ca_file: internet.ca_file(),
            well_known_port: 443,
            forbidden: southbridge_tests::federation::FORBIDDEN,
        };
        let binary = southbridge::daemon()?;
        let mut southbridge = SouthbridgeProcess::prepare(&surroundings, &binary, DoorKind::Unix)?;
        southbridge.start().await?;
        let outbound = Outbound::Southbridge {
            door: southbridge.door().clone(),
            secret: SECRET.into(),
            forward_proxy: southbridge.forward_proxy(),
        };
        let stock_dir = internet.directory("stock")?;
        let mut homes = Vec::new();
        for (name, dir, outbound) in
            [("stock.fed.test", stock_dir, Outbound::Itself), ("ours.fed.test", dir, outbound)]
        {
            let server_name = name.to_owned();
            let ca_file = internet.ca_file();
            let surroundings = Surroundings { server_name, dir, outbound, ca_file, app_service: None };
            let mut synapse = SynapseProcess::start(surroundings, &internet.authority)?;
            synapse.ready().await?;
            let user = synapse.register("alice").await?;
            homes.push(Home { synapse, user });
        }
        let ours = homes.remove(1);
        Ok(Self { stock: homes.remove(0), ours, southbridge })
    }

    /// Has both send `traffic` to the homeservers of `users`, one after the other.
    ///
    /// # Errors
    /// A request failed, or a process ended.
    pub async fn pair(
        &self,
        traffic: Traffic,
        users: &[String],
        internet: &Internet,
        ours_first: bool,
    ) -> Result<Sample> {
        let before = self.settled().await?;
        if traffic.begins_hung_up() {
            internet.others.hang_up();
        }
        // Seeing that a connection is gone is a part of what it costs; both lose theirs at the same time.
        let hung_up = self.settled().await?;
        let mut spent = hung_up.minus(before);
        for ours in [ours_first, !ours_first] {
            let before = self.settled().await?;
            let home = if ours { &self.ours } else { &self.stock };
            traffic.send(&home.user, users, internet).await?;
            spent = spent.plus(self.settled().await?.minus(before).of(ours));
        }
        Ok(spent.per(users.len()))
    }

    /// What was used so far, once nobody has anything left to do.
    async fn settled(&self) -> Result<Sample> {
        let mut last = self.used()?;
        loop {
            tokio::time::sleep(QUIET).await;
            let now = self.used()?;
            if now.minus(last).sum() <= IDLE {
                return Ok(now);
            }
            last = now;
        }
    }

    fn used(&self) -> Result<Sample> {
        Ok(Sample {
            stock: self.stock.synapse.usage()?.0,
            ours: self.ours.synapse.usage()?.0,
            southbridge: self.southbridge.usage()?.0,
        })
    }
}

impl Sample {
    fn sum(self) -> Duration {
        self.stock + self.ours + self.southbridge
    }

    fn plus(self, other: Self) -> Self {
        Self {
            stock: self.stock + other.stock,
            ours: self.ours + other.ours,
            southbridge: self.southbridge + other.southbridge,
        }
    }

    fn minus(self, before: Self) -> Self {
        Self {
            stock: self.stock.saturating_sub(before.stock),
            ours: self.ours.saturating_sub(before.ours),
            southbridge: self.southbridge.saturating_sub(before.southbridge),
        }
    }

    /// What the side that worked has used; the other was idle, and is not asked what for.
    fn of(self, ours: bool) -> Self {
        if ours {
            Self { stock: Duration::ZERO, ..self }
        } else {
            Self { stock: self.stock, ..Self::default() }
        }
    }

    fn per(self, requests: usize) -> Self {
        let requests = u32::try_from(requests).unwrap_or(u32::MAX).max(1);
        Self {
            stock: self.stock / requests,
            ours: self.ours / requests,
            southbridge: self.southbridge / requests,
        }
    }
}

const SECRET: &str = "secret-of-a-benchmark";
/// How long nothing must happen for a process to count as done.
const QUIET: Duration = Duration::from_millis(300);
/// What an idle Synapse uses in that time, to the resolution of the system's clock.
const IDLE: Duration = Duration::from_millis(20);
