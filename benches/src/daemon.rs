//! The daemon, in a process of its own, set up against a federation of peers.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::peers::{Host, Peers};
use crate::{Done, Options};

/// A daemon that is ready; it ends when this is dropped.
pub struct Daemon {
    child: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts the daemon, and waits until it says that it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(options: &Options, peers: &Peers) -> Done<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("southbridge.toml");
        std::fs::File::create(&config)?.write_all(settings(peers).as_bytes())?;
        let child = Command::new(program(options)?)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let daemon = Self { child, directory };
        let until = Instant::now() + START_MAX;
        while !daemon.is_ready().await {
            if Instant::now() > until {
                return Err("the daemon does not become ready".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(daemon)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its door for Synapse.
    pub fn door(&self) -> PathBuf {
        self.directory.path().join("door.sock")
    }

    /// Asks `host` for `path` through the door, on a connection of its own; bytes of the whole answer.
    ///
    /// # Errors
    /// The door refused, or did not answer 200.
    pub async fn get(&self, host: &Host, path: &str) -> Done<usize> {
        let name = &host.name;
        let head = format!(
            "GET matrix-federation://{name}{path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\
             Proxy-Authorization: Bearer {SECRET}\r\nAuthorization: X-Matrix origin=\"a\",destination=\"{name}\",\
             key=\"ed25519:1\",sig=\"c2ln\"\r\nUser-Agent: bench\r\n\r\n"
        );
        let answer = ask(&self.door(), &head).await?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            let text = String::from_utf8_lossy(&answer);
            return Err(format!("the door said {:?}", text.get(..300).unwrap_or(&text)).into());
        }
        Ok(answer.len())
    }

    async fn is_ready(&self) -> bool {
        let head = "GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n";
        let answer = ask(&self.directory.path().join("admin.sock"), head).await;
        answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

async fn ask(socket: &std::path::Path, head: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::with_capacity(2048);
    stream.read_to_end(&mut answer).await?;
    Ok(answer)
}

fn program(options: &Options) -> Done<PathBuf> {
    if let Some(daemon) = &options.daemon {
        return Ok(daemon.clone());
    }
    let beside = std::env::current_exe()?.with_file_name("southbridge");
    if beside.exists() { Ok(beside) } else { Err(format!("{} is not built", beside.display()).into()) }
}

fn settings(peers: &Peers) -> String {
    let Peers { dns, ca, well_known_port, default_port, .. } = peers;
    format!(
        "[synapse]\nlisten = [\"unix:door.sock\"]\nsecret = \"{SECRET}\"\n\
         [admin]\nlisten = \"unix:admin.sock\"\n\
         [dns]\nservers = [\"{dns}\"]\n\
         [tls]\nca_files = [{ca:?}]\n\
         [addresses]\nallow = [\"127.0.0.0/8\"]\n\
         [storage]\npath = \"southbridge.db\"\n\
         [testing]\nwell_known_port = {well_known_port}\ndefault_port = {default_port}\n"
    )
}

const SECRET: &str = "the-secret-of-the-benchmark";
const START_MAX: Duration = Duration::from_secs(20);
