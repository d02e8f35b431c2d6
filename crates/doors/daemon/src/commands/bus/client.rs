//! Asks at the bus door: one request, one answer.
//!
//! # Source
//! RFC 9112, as far as our own door speaks it: it announces the length of every answer that is not a stream.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use southbridge_words::Secret;

use super::Trouble;
use crate::cli::BusPlace;
use crate::config::secret::{SecretSource, read_secret_file};
use crate::config::{Config, Environment, Listen, ListenAddress};

/// A caller of the bus door.
#[derive(Debug)]
pub struct Client {
    listen: Listen,
    secret: Secret,
}

impl Client {
    /// The door that `place` names, or that of the configuration.
    ///
    /// # Errors
    /// [`Trouble::Asked`] when there is none, or its secret cannot be read.
    pub fn find(place: &BusPlace) -> Result<Self, Trouble> {
        if let (Some(listen), Some(file)) = (&place.bus, &place.secret_file) {
            let secret = read_secret_file(file).map_err(Trouble::Asked)?;
            return Ok(Self { listen: listen.clone(), secret });
        }
        let config = Config::load(place.config.config.as_deref(), &Environment::of_process());
        let bus = config.map_err(|problems| Trouble::Asked(problems.to_string()))?.bus;
        let listen = place.bus.clone().or_else(|| bus.listen.first().cloned()).ok_or_else(|| {
            let text = "this configuration has no bus with a door: name one with --config FILE, or with --bus \
                        ADDRESS and --secret-file FILE";
            Trouble::Asked(text.to_owned())
        })?;
        let secret = match (&place.secret_file, bus.secret) {
            (Some(file), _) => read_secret_file(file),
            (None, SecretSource::Known(secret)) => Ok(secret),
            (None, SecretSource::Made(file)) => read_made(&file),
        };
        Ok(Self { listen, secret: secret.map_err(Trouble::Asked)? })
    }

    /// Asks, and gives the answer's JSON.
    ///
    /// # Errors
    /// [`Trouble::Met`] when nobody answers, or the answer is an error; it says which.
    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Result<Value, Trouble> {
        let (status, answer) = self.exchange(method, path, body).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => "; is Southbridge running?",
                io::ErrorKind::PermissionDenied => "; this user may not use that socket",
                _ => "",
            };
            Trouble::Met(format!("the bus at {} cannot be asked: {error}{hint}", self.listen))
        })?;
        let value: Option<Value> = serde_json::from_slice(&answer).ok();
        match value {
            Some(value) if (200..300).contains(&status) => Ok(value),
            Some(value) if value["errcode"].is_string() => {
                Err(Trouble::Met(format!("{}: {}", plain(&value["errcode"]), plain(&value["error"]))))
            }
            _ => Err(Trouble::Met(format!(
                "{} answered {status}, and not as a bus door does; is it one?",
                self.listen
            ))),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &[u8]) -> io::Result<(u16, Vec<u8>)> {
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\
             content-type: application/json\r\nauthorization: Bearer ",
            body.len()
        )
        .into_bytes();
        head.extend_from_slice(self.secret.expose());
        head.extend_from_slice(b"\r\n\r\n");
        let answer = match &self.listen.address {
            ListenAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                talk(stream, &head, body)
            }
            ListenAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                talk(stream, &head, body)
            }
        }?;
        split(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
    }
}

/// The secret that the daemon has made. It is not made here: one that the daemon does not know is of no use.
fn read_made(file: &Path) -> Result<Secret, String> {
    if file.exists() {
        return read_secret_file(file);
    }
    Err(format!(
        "there is no {}, which Southbridge makes when it serves; run as its user, or name its secret with --secret-file",
        file.display()
    ))
}

pub(in crate::commands) fn talk<S: Read + Write>(
    mut stream: S,
    head: &[u8],
    body: &[u8],
) -> io::Result<Vec<u8>> {
    stream.write_all(head)?;
    // A door that refuses a request may answer before it has read all of it.
    let written = stream.write_all(body);
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    if answer.is_empty() {
        written?;
        read?;
    }
    Ok(answer)
}

/// Status and body of an answer that was read to its end.
pub(in crate::commands) fn split(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, answer[end + 4..].to_vec()))
}

/// The text of a value, without control characters: what stands in it may come from afar.
pub(super) fn plain(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// The outbox is given 10 s by the bus to take something.
const PATIENCE: Duration = Duration::from_secs(60);
/// A page of a thousand queues has some 400 KB.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(split(answer), Some((404, b"{}".to_vec())));
        for nonsense in ["", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 2\r\n\r\n"] {
            assert_eq!(split(nonsense.as_bytes()), None, "{nonsense}");
        }
    }

    /// The words of a homeserver end up on a terminal.
    #[test]
    fn what_comes_from_afar_cannot_play_with_the_terminal() {
        assert_eq!(plain(&Value::from("a\u{1b}[31mb\n")), "a\u{fffd}[31mb\u{fffd}");
    }
}
