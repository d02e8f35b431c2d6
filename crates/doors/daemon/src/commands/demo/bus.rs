//! Hands in at the bus door as a homeserver does: JSON over HTTP, one connection a request.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::DemoError;

/// The bus door of a running Southbridge.
#[derive(Clone, Debug)]
pub struct Bus {
    path: PathBuf,
    secret: String,
}

impl Bus {
    /// The door at `path`, opened by `secret`.
    pub fn new(path: PathBuf, secret: &str) -> Self {
        Self { path, secret: secret.to_owned() }
    }

    /// From now on `name` stands for `destinations`.
    pub async fn name_set(&self, name: &str, destinations: &[String]) -> Result<(), DemoError> {
        let body = json!({ "destinations": destinations }).to_string();
        self.ask("PUT", &format!("/bus/v1/sets/{name}"), &body).await.map(drop)
    }

    /// Hands in `submissions` in one request, all of which must be acknowledged as `expected`; how long that took.
    pub async fn send(&self, submissions: &[String], expected: &str) -> Result<Duration, DemoError> {
        let begun = Instant::now();
        let body = format!(r#"{{"submissions":[{}]}}"#, submissions.join(","));
        let answer = self.ask("POST", "/bus/v1/send", &body).await?;
        let took = begun.elapsed();
        let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
        let refused = results.iter().find(|result| result["acknowledgement"] != expected);
        match refused {
            None if results.len() == submissions.len() => Ok(took),
            _ => {
                let text = format!("not {expected}: {}", refused.unwrap_or(&answer));
                Err(DemoError::new("the bus did not accept", text))
            }
        }
    }

    /// Tells the bus that something was heard of `destinations`.
    pub async fn wake(&self, destinations: &[String]) -> Result<(), DemoError> {
        self.ask("POST", "/bus/v1/wake", &json!({ "destinations": destinations }).to_string()).await.map(drop)
    }

    /// How many queues are in `state`.
    pub async fn queues_in(&self, state: &str) -> Result<usize, DemoError> {
        let answer = self.ask("GET", &format!("/bus/v1/queues?limit=1000&state={state}"), "").await?;
        Ok(answer["queues"].as_array().map_or(0, Vec::len))
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, DemoError> {
        let failed = |reason: String| DemoError::new("the bus door", format!("{method} {path}: {reason}"));
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: bus\r\nConnection: close\r\nContent-Length: {}\r\n\
             Content-Type: application/json\r\nAuthorization: Bearer {}\r\n\r\n{body}",
            body.len(),
            self.secret
        );
        let answer = self.exchange(request.as_bytes()).await.map_err(|error| failed(error.to_string()))?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match serde_json::from_str(body) {
            Ok(value) if head.starts_with("HTTP/1.1 200") => Ok(value),
            _ => Err(failed(format!("it answered {:?}: {body}", head.lines().next().unwrap_or_default()))),
        }
    }

    async fn exchange(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::with_capacity(4096);
        stream.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}
