//! People who ask and wait: at the Synapse door, as Synapse asks for them. One connection a request,
//! `matrix-federation://` in absolute form.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

/// The Synapse door of a running Southbridge.
#[derive(Clone)]
pub struct Door {
    path: Rc<PathBuf>,
    secret: Rc<str>,
}

/// What became of the questions of some people.
#[derive(Debug, Default)]
pub struct Asked {
    /// Those that were answered well.
    pub good: usize,
    /// The others.
    pub failed: usize,
    /// How long the good ones took, the soonest first.
    pub took: Vec<Duration>,
}

impl Door {
    /// The door at `path`, opened by `secret`.
    pub fn new(path: PathBuf, secret: &str) -> Self {
        Self { path: Rc::new(path), secret: secret.into() }
    }

    /// Asks `host` for a profile; how long a good answer took, from connecting to the last byte.
    async fn profile(&self, host: &str) -> Option<Duration> {
        let begun = Instant::now();
        let request = format!(
            "GET matrix-federation://{host}/_matrix/federation/v1/query/profile?user_id=%40a%3A{host} HTTP/1.1\r\n\
             Connection: close\r\nUser-Agent: Southbridge-demo\r\n\
             Authorization: X-Matrix origin=\"demo.test\",destination=\"{host}\",key=\"ed25519:demo\",sig=\"unsigned\"\r\n\
             Proxy-Authorization: Bearer {}\r\nHost: {host}\r\n\r\n",
            self.secret
        );
        let status = self.exchange(request.as_bytes()).await.unwrap_or(0);
        (200..300).contains(&status).then(|| begun.elapsed())
    }

    async fn exchange(&self, request: &[u8]) -> std::io::Result<u16> {
        let mut stream = UnixStream::connect(&*self.path).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(1024);
        stream.read_to_end(&mut answer).await?;
        // "HTTP/1.1 200 …"
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        status.and_then(|digits| digits.parse().ok()).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}

/// Asks one of `hosts` after the other, [`RATE`] times a second, whether or not the one before has answered.
pub async fn ask(door: Door, hosts: Vec<String>, time: Duration) -> Asked {
    let mut tasks = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let questions = (time.as_secs_f64() * f64::from(RATE)) as usize;
    for host in hosts.iter().cycle().take(questions) {
        tick.tick().await;
        let (door, host) = (door.clone(), host.clone());
        tasks.spawn_local(async move { door.profile(&host).await });
    }
    let answers = tasks.join_all().await;
    let mut took: Vec<Duration> = answers.iter().copied().flatten().collect();
    took.sort();
    Asked { good: took.len(), failed: answers.len() - took.len(), took }
}

/// Questions a second: what a busy small homeserver's users ask.
const RATE: u32 = 50;
