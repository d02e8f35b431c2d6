//! A small federation on loopback: households of one Synapse and one Southbridge each, and a fake Internet.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use southbridge_testkit::certificates::Authority;
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::{Homeservers, HostScript, WellKnown};
use tempfile::TempDir;

use crate::failure::{Result, While};
use crate::http_trap::HttpTrap;
use crate::process::tail;
use crate::southbridge::{self, DoorKind, SouthbridgeProcess};
use crate::synapse::{self, AppService, Outbound, SynapseProcess, delegated_name};

/// What a household is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server name; unique.
    pub server_name: String,
    /// How its Synapse reaches its Southbridge.
    pub door: DoorKind,
}

impl Plan {
    /// A household with this server name.
    pub fn new(server_name: &str, door: DoorKind) -> Self {
        Self { server_name: server_name.to_owned(), door }
    }
}

/// One Synapse with its Southbridge.
#[derive(Debug)]
pub struct Household {
    /// The homeserver.
    pub synapse: SynapseProcess,
    /// Its outbound side.
    pub southbridge: SouthbridgeProcess,
}

/// All of it; everything stops when dropped, and a test that is failing gets to see the logs.
#[derive(Debug)]
pub struct Federation {
    /// In the order of the plans.
    pub households: Vec<Household>,
    /// Fake homeservers: they serve everybody's `.well-known`, and are whoever else a test makes of them.
    pub others: Homeservers,
    /// Names. [`Federation::add_host`] is short for a host on loopback.
    pub dns: DnsServer,
    /// An HTTP server called [`TRAP`]; every Synapse knows an application service there.
    pub trap: HttpTrap,
    dir: TempDir,
}

impl Federation {
    /// Starts everything at once, and waits until all of it works.
    ///
    /// # Errors
    /// Something is missing on this machine, or a process does not start.
    pub async fn start(plans: &[Plan]) -> Result<Self> {
        let binary = southbridge::daemon()?;
        let dir = tempfile::Builder::new().prefix("southbridge-").tempdir().while_doing("directory")?;
        let authority = Authority::new();
        let ca_file = dir.path().join(CA_FILE);
        authority.write_ca(&ca_file).while_doing(ca_file.display())?;
        let mut federation = Self {
            households: Vec::new(),
            others: Homeservers::start(Arc::clone(&authority)).await.while_doing("fake homeservers")?,
            dns: DnsServer::start().await.while_doing("DNS server")?,
            trap: HttpTrap::start().await?,
            dir,
        };
        federation.add_host(TRAP);
        for plan in plans {
            federation.move_in(plan, &binary, &ca_file, &authority)?;
        }
        for household in &mut federation.households {
            household.southbridge.start().await?;
        }
        for household in &mut federation.households {
            household.synapse.ready().await?;
        }
        Ok(federation)
    }

    /// The household number `index`.
    pub fn home(&self, index: usize) -> &Household {
        &self.households[index]
    }

    /// The certificates that everybody trusts.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(CA_FILE)
    }

    /// Gives `name` an address on loopback.
    pub fn add_host(&self, name: &str) {
        self.dns.host(name, &[IpAddr::V4(Ipv4Addr::LOCALHOST)], 300);
    }

    /// Makes a fake homeserver that is reached by delegation to its own name.
    pub fn add_fake(&self, name: &str, script: HostScript) {
        self.add_host(name);
        let delegate = format!("{name}:{}", self.others.port());
        self.others.set(name, HostScript { well_known: WellKnown::Delegate(delegate), ..script });
    }

    fn move_in(&mut self, plan: &Plan, binary: &Path, ca_file: &Path, authority: &Authority) -> Result<()> {
        let dir = self.dir.path().join(&plan.server_name);
        std::fs::create_dir(&dir).while_doing(dir.display())?;
        let secret = format!("secret-of-{}", plan.server_name);
        let surroundings = southbridge::Surroundings {
            dir: dir.clone(),
            secret: secret.clone(),
            dns: self.dns.address(),
            ca_file: ca_file.to_owned(),
            well_known_port: self.others.port(),
            forbidden: FORBIDDEN,
        };
        let southbridge = SouthbridgeProcess::prepare(&surroundings, binary, plan.door)?;
        let surroundings = synapse::Surroundings {
            server_name: plan.server_name.clone(),
            dir,
            outbound: Outbound::Southbridge {
                door: southbridge.door().clone(),
                secret,
                forward_proxy: southbridge.forward_proxy(),
            },
            ca_file: ca_file.to_owned(),
            app_service: Some(AppService { id: "trap".into(), url: self.trap_url() }),
        };
        let synapse = SynapseProcess::start(surroundings, authority)?;
        self.add_host(&plan.server_name);
        self.add_host(&delegated_name(&plan.server_name));
        let well_known = WellKnown::Delegate(synapse.delegate());
        self.others.set(&plan.server_name, HostScript { well_known, ..HostScript::default() });
        self.households.push(Household { synapse, southbridge });
        Ok(())
    }

    fn trap_url(&self) -> String {
        format!("http://{TRAP}:{}", self.trap.address().port())
    }

    fn logs(&self) -> impl Iterator<Item = PathBuf> {
        self.households.iter().flat_map(|home| [home.southbridge.log(), home.synapse.log()])
    }
}

impl Drop for Federation {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.dir.disable_cleanup(true);
        for log in self.logs() {
            eprintln!("\n==== the end of {}\n{}", log.display(), tail(&log, LINES_SHOWN));
        }
    }
}

/// The name of the HTTP server that Synapse's other HTTP leads to; only Southbridge can look it up.
pub const TRAP: &str = "trap.test";
/// The address on loopback that no Southbridge may connect to.
pub const FORBIDDEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const CA_FILE: &str = "ca.pem";
const LINES_SHOWN: usize = 60;
