//! A Southbridge that serves nothing but the bus, and a homeserver's side of its door.

use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::failure::{Failure, Result, While};
use crate::http_client::Reply;
use crate::patience::eventually;
use crate::process::{Process, tail};

/// The name that the bus signs for.
pub const ORIGIN: &str = "origin.test";
/// The seed of its key: that of the specification's test vectors.
pub const SIGNING_KEY: &str = "ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1\n";

/// A daemon with a bus door on a unix socket; it is killed when dropped.
#[derive(Debug)]
pub struct BusProcess {
    dir: PathBuf,
    binary: PathBuf,
    running: Option<Process>,
}

impl BusProcess {
    /// Writes the configuration into `dir`, with `tables` for what is to be different; starts nothing.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn prepare(dir: &Path, binary: &Path, tables: &Value) -> Result<Self> {
        for (name, content) in [("signing.key", SIGNING_KEY), ("bus.secret", SECRET)] {
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).create(true).truncate(true).mode(0o600).open(dir.join(name));
            let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, content.as_bytes()));
            written.while_doing(name)?;
        }
        let mut config = json!({
            "synapse": {"listen": []},
            "forward_proxy": {"listen": []},
            "admin": {"listen": "unix:admin.sock"},
            "bus": {
                "listen": ["unix:bus.sock"],
                "server_name": ORIGIN,
                "signing_key_file": "signing.key",
                "secret_file": "bus.secret",
            },
            "storage": {"path": "southbridge.db"},
        });
        merge(&mut config, tables);
        let text = toml::to_string(&config).while_doing(CONFIG)?;
        std::fs::write(dir.join(CONFIG), text).while_doing(CONFIG)?;
        Ok(Self { dir: dir.to_owned(), binary: binary.to_owned(), running: None })
    }

    /// Starts a process and waits until its door answers.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub async fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--config", CONFIG]).current_dir(&self.dir);
        command.env("STATE_DIRECTORY", &self.dir).env("RUST_BACKTRACE", "1");
        let mut process = Process::start("southbridge", &mut command, &self.log())?;
        let door = self.door();
        let started = eventually(START_MAX, "the bus door opens", || {
            let alive = process.check_alive();
            let door = &door;
            async move {
                alive?;
                Ok(UnixStream::connect(door).await.ok())
            }
        });
        if let Err(failure) = started.await {
            return Err(Failure::new(format!("{failure}:\n{}", tail(&self.log(), LINES_SHOWN))));
        }
        self.running = Some(process);
        Ok(())
    }

    /// Ends the process at once, as a power failure would.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.running.take().while_doing("southbridge runs")?.kill()
    }

    /// The process.
    ///
    /// # Errors
    /// It does not run.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.running.as_mut().while_doing("southbridge runs")
    }

    /// Starts a process that is to end by itself: its exit code, and what it said.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn fails(&self) -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&self.binary);
        command.args(["serve", "--config", CONFIG]).current_dir(&self.dir).env("STATE_DIRECTORY", &self.dir);
        let mut process = Process::start("southbridge", &mut command, &self.log())?;
        let status = process.wait(START_MAX).await?;
        Ok((status.code(), tail(&self.log(), LINES_SHOWN)))
    }

    /// Where its door is.
    pub fn door(&self) -> PathBuf {
        self.dir.join("bus.sock")
    }

    /// What it has said.
    pub fn log(&self) -> PathBuf {
        self.dir.join("southbridge.log")
    }

    /// One request at its door, on a connection of its own.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn ask(&self, method: Method, target: &str, body: &Value) -> Result<Reply> {
        ask(&self.door(), method, target, body).await
    }
}

/// A page of the admin socket `socket`.
///
/// # Errors
/// Nobody answers, or it is not to be had.
pub async fn page(socket: &Path, target: &str) -> Result<String> {
    let request = Request::builder().uri(target).header("host", "localhost").body(Full::default());
    let reply = converse(socket, request.while_doing(target)?).await?;
    if reply.status != StatusCode::OK {
        return Err(Failure::new(format!("{target}: {}", reply.status)));
    }
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

/// One request at the bus door `door`, on a connection of its own.
///
/// # Errors
/// Nobody answers.
pub async fn ask(door: &Path, method: Method, target: &str, body: &Value) -> Result<Reply> {
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", "bus")
        .header("authorization", format!("Bearer {SECRET}"))
        .header("content-type", "application/json")
        .body(Full::new(body))
        .while_doing(target)?;
    converse(door, request).await
}

async fn converse(socket: &Path, request: Request<Full<Bytes>>) -> Result<Reply> {
    let target = request.uri().to_string();
    let stream = UnixStream::connect(socket).await.while_doing(&target)?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream)).await.while_doing(&target)?;
    let driver = tokio::spawn(driver);
    let (head, body) = sender.send_request(request).await.while_doing(&target)?.into_parts();
    let body = body.collect().await.while_doing(&target)?.to_bytes();
    driver.abort();
    Ok(Reply { status: head.status, headers: head.headers, body })
}

/// Hands `submission` in at `door`, again and again until somebody acknowledges it, and answers where it stands. With
/// a key it is accepted once however often it is handed in.
///
/// # Errors
/// It is refused, or nobody answers for `limit`.
pub async fn accepted(door: &Path, submission: &Value, limit: Duration) -> Result<u64> {
    let body = json!({ "submissions": [submission] });
    eventually(limit, "somebody acknowledges a submission", || async {
        let Ok(reply) = ask(door, Method::POST, "/bus/v1/send", &body).await else { return Ok(None) };
        if reply.status == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(None);
        }
        let told = reply.json()?;
        let result = &told["results"][0];
        if result["acknowledgement"] == "durable" {
            return Ok(result["seq"].as_u64());
        }
        Err(Failure::new(format!("refused: {told}")))
    })
    .await
}

fn merge(config: &mut Value, tables: &Value) {
    match (config, tables) {
        (Value::Object(config), Value::Object(tables)) => {
            for (key, value) in tables {
                merge(config.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (config, value) => *config = value.clone(),
    }
}

const CONFIG: &str = "southbridge.toml";
const SECRET: &str = "a-secret-of-the-test";
const LINES_SHOWN: usize = 15;
const START_MAX: Duration = Duration::from_secs(20);
