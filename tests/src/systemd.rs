//! The side of systemd that a daemon tells how it is (`sd_notify(3)`).

use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

use crate::failure::{Failure, Result, While};

/// Listens to one daemon.
#[derive(Debug)]
pub struct Systemd {
    socket: UnixDatagram,
    path: PathBuf,
}

/// What a daemon has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `READY=1`: it works.
    pub is_ready: bool,
    /// `MAINPID`: the process that the service is now.
    pub main_pid: Option<u32>,
    /// `STATUS`: in words.
    pub status: String,
}

impl Systemd {
    /// Listens at `path`.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).while_doing(path.display())?;
        Ok(Self { socket, path: path.to_owned() })
    }

    /// What goes into `NOTIFY_SOCKET`.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next message in which the daemon says that it works.
    ///
    /// # Errors
    /// The socket fails, or the daemon says that a reload has failed.
    pub async fn ready(&self) -> Result<Message> {
        loop {
            let message = self.next().await?;
            if message.status.contains("reload failed") {
                return Err(Failure::new(message.status));
            }
            if message.is_ready {
                return Ok(message);
            }
        }
    }

    async fn next(&self) -> Result<Message> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).await.while_doing("notifications")?;
        Ok(Message::read(&String::from_utf8_lossy(&buffer[..length])))
    }
}

impl Message {
    fn read(text: &str) -> Self {
        let mut message = Self::default();
        for line in text.lines() {
            match line.split_once('=') {
                Some(("READY", value)) => message.is_ready = value == "1",
                Some(("MAINPID", value)) => message.main_pid = value.parse().ok(),
                Some(("STATUS", value)) => value.clone_into(&mut message.status),
                _ => {}
            }
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_over_names_the_new_process() {
        let message = Message::read("MAINPID=42\nREADY=1\nSTATUS=serving");
        assert_eq!(message, Message { is_ready: true, main_pid: Some(42), status: "serving".to_owned() });
    }
}
