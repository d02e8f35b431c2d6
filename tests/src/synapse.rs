//! One unpatched Synapse from PyPI: a single process on SQLite, whose outbound federation goes through Southbridge.

mod homeserver_yaml;

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aws_lc_rs::hmac;
use http::Method;
use serde_json::{Value, json};
use southbridge_testkit::certificates::{Authority, CertificateKind};

use crate::client_api::ClientApi;
use crate::failure::{Failure, Result, While};
use crate::http_client::get;
use crate::patience::eventually;
use crate::process::{Process, checkout, usage};
use crate::sockets::{DoorAddress, free_port};
pub use homeserver_yaml::AppService;

/// What a Synapse is told about its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Its server name.
    pub server_name: String,
    /// A directory of its own that exists.
    pub dir: PathBuf,
    /// Who carries what it sends.
    pub outbound: Outbound,
    /// The certificates it trusts.
    pub ca_file: PathBuf,
    /// An application service that it knows.
    pub app_service: Option<AppService>,
}

/// Who carries what a Synapse sends.
#[derive(Clone, Debug)]
pub enum Outbound {
    /// Southbridge.
    Southbridge {
        /// For its federation.
        door: DoorAddress,
        /// The secret of that door.
        secret: String,
        /// For its other HTTP.
        forward_proxy: SocketAddr,
    },
    /// Itself, as it comes from PyPI. It may reach loopback.
    Itself,
}

/// A running Synapse.
#[derive(Debug)]
pub struct SynapseProcess {
    process: Process,
    surroundings: Surroundings,
    ports: Ports,
}

/// Where a Synapse listens on loopback.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Plain HTTP for clients.
    pub client: u16,
    /// TLS for other homeservers.
    pub federation: u16,
}

impl SynapseProcess {
    /// Writes the configuration and starts the process. [`SynapseProcess::ready`] waits until it works.
    ///
    /// # Errors
    /// There is no Synapse on this machine, or a file cannot be written.
    pub fn start(surroundings: Surroundings, authority: &Authority) -> Result<Self> {
        let python = python()?;
        let ports = Ports { client: free_port()?, federation: free_port()? };
        let delegated = delegated_name(&surroundings.server_name);
        let certificate = authority.pem_pair(&delegated, CertificateKind::Good);
        let dir = &surroundings.dir;
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).while_doing(name);
        write("tls.crt", &certificate.chain)?;
        write("tls.key", &certificate.key)?;
        write(SIGNING_KEY_FILE, SIGNING_KEY)?;
        let registration = surroundings.app_service.as_ref().map(AppService::registration);
        write("app_service.yaml", &registration.unwrap_or_default().to_string())?;
        write("homeserver.yaml", &homeserver_yaml::text(&surroundings, ports).to_string())?;
        let mut command = Command::new(python);
        command.args(["-m", "synapse.app.homeserver", "-c"]).arg(dir.join("homeserver.yaml"));
        command.env_clear().current_dir(dir).env("PATH", env::var_os("PATH").unwrap_or_default());
        // Where OpenSSL looks for the roots of all that is not federation, such as push gateways.
        command.env("SSL_CERT_FILE", &surroundings.ca_file).env("HOME", dir);
        let name = format!("Synapse of {}", surroundings.server_name);
        let process = Process::start(&name, &mut command, &log_of(dir))?;
        Ok(Self { process, surroundings, ports })
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ends, or takes longer than a slow machine needs.
    pub async fn ready(&mut self) -> Result<()> {
        let address = self.client_address();
        let process = &mut self.process;
        eventually(START_MAX, &format!("Synapse answers at {address}"), || {
            let alive = process.check_alive();
            async move {
                alive?;
                let healthy = get(address, "/health").await.is_ok_and(|reply| reply.status.is_success());
                Ok(healthy.then_some(()))
            }
        })
        .await
    }

    /// `alpha.test`.
    pub fn server_name(&self) -> &str {
        &self.surroundings.server_name
    }

    /// What `.well-known` must say: where other homeservers reach it.
    pub fn delegate(&self) -> String {
        format!("{}:{}", delegated_name(self.server_name()), self.ports.federation)
    }

    /// Where clients reach it.
    pub fn client_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.client).into()
    }

    /// The file of the key that it signs with.
    pub fn signing_key_file(&self) -> PathBuf {
        self.surroundings.dir.join(SIGNING_KEY_FILE)
    }

    /// What it has said.
    pub fn log(&self) -> PathBuf {
        log_of(&self.surroundings.dir)
    }

    /// CPU time that it has used, and memory that it holds, in bytes.
    ///
    /// # Errors
    /// It has ended.
    pub fn usage(&self) -> Result<(Duration, u64)> {
        usage(self.process.id())
    }

    /// Registers `name` with the shared secret, and logs in.
    ///
    /// # Errors
    /// It refused.
    pub async fn register(&self, name: &str) -> Result<ClientApi> {
        let nobody = ClientApi::of_token(self.client_address(), "nobody", "");
        let nonce = nobody.call(Method::GET, REGISTER, None).await?["nonce"].clone();
        let nonce = nonce.as_str().while_doing("nonce")?;
        let proof = format!("{nonce}\0{name}\0{PASSWORD}\0notadmin");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, REGISTRATION_SECRET.as_bytes());
        let mac: String =
            hmac::sign(&key, proof.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let body =
            json!({"nonce": nonce, "username": name, "password": PASSWORD, "admin": false, "mac": mac});
        let login = nobody.call(Method::POST, REGISTER, Some(&body)).await?;
        ClientApi::of_login(self.client_address(), &login)
    }

    /// Has Synapse ping the application service, as that service would ask it to; answers how it went.
    ///
    /// # Errors
    /// There is none, or the ping failed.
    pub async fn ping_app_service(&self) -> Result<Value> {
        let app_service = self.surroundings.app_service.as_ref().while_doing("application service")?;
        let bot = ClientApi::of_token(self.client_address(), "bot", AppService::TOKEN);
        let target = format!("/_matrix/client/v1/appservice/{}/ping", app_service.id);
        bot.call(Method::POST, &target, Some(&json!({"transaction_id": "ping-1"}))).await
    }

    /// Every destination in Synapse's table, with its back-off in milliseconds.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn backoffs(&self) -> Result<Vec<(String, i64)>> {
        let path = self.surroundings.dir.join(homeserver_yaml::DATABASE);
        let read = Command::new(python()?).arg("-c").arg(READ_BACKOFFS).arg(path).output();
        let read = read.while_doing("table of destinations")?;
        if !read.status.success() {
            return Err(Failure::new(String::from_utf8_lossy(&read.stderr)));
        }
        serde_json::from_slice(&read.stdout).while_doing("table of destinations")
    }
}

/// The interpreter that has Synapse: named by the environment, or in the checkout's `.venv`.
///
/// # Errors
/// There is none; says how to get it.
pub fn python() -> Result<PathBuf> {
    let python = env::var_os("SOUTHBRIDGE_SYNAPSE_PYTHON").map(PathBuf::from);
    let python = python.unwrap_or_else(|| checkout().join(".venv/bin/python"));
    if python.exists() {
        return Ok(python);
    }
    Err(Failure::new(format!(
        "there is no Python with Synapse at {}: run `cargo xtask test`, which installs it, or set SOUTHBRIDGE_SYNAPSE_PYTHON",
        python.display()
    )))
}

/// Where `server_name` delegates to: another name, so that what is verified shows that delegation was heeded.
pub fn delegated_name(server_name: &str) -> String {
    format!("matrix.{server_name}")
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join("synapse.log")
}

const REGISTER: &str = "/_synapse/admin/v1/register";
const REGISTRATION_SECRET: &str = "registration secret of a test";
const PASSWORD: &str = "wonderland";
/// In the directory of the Synapse.
const SIGNING_KEY_FILE: &str = "signing.key";
/// Any 32 bytes will do; the servers of a test live for seconds.
const SIGNING_KEY: &str = "ed25519 a_test c291dGhicmlkZ2UgdGVzdCBzaWduaW5nIGtleSAwMDE\n";
/// Creating the database and importing Python modules takes five seconds on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);
/// Synapse's own Python has what it takes to read its database.
const READ_BACKOFFS: &str = "\
import json, sqlite3, sys
database = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True, timeout=5)
rows = database.execute('SELECT destination, coalesce(retry_interval, 0) FROM destinations')
print(json.dumps(rows.fetchall()))";
