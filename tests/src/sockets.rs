//! Listening sockets that outlive the daemon, as a systemd socket unit's do, and how they are passed on.
//!
//! # Source
//! `sd_listen_fds(3)`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::failure::{Result, While};

/// Where the door for Synapse is.
#[derive(Clone, Debug)]
pub enum DoorAddress {
    /// TCP on loopback.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// The three listening sockets of one Southbridge.
#[derive(Debug)]
pub struct Sockets {
    synapse: OwnedFd,
    admin: OwnedFd,
    forward_proxy: OwnedFd,
    /// The door for Synapse's federation.
    pub door: DoorAddress,
    /// The admin socket.
    pub admin_address: SocketAddr,
    /// The forward proxy.
    pub forward_proxy_address: SocketAddr,
}

impl Sockets {
    /// Opens all three; the door for Synapse is a unix socket at `unix` if that is given.
    ///
    /// # Errors
    /// One cannot be opened.
    pub fn open(unix: Option<&Path>) -> Result<Self> {
        let (synapse, door) = match unix {
            Some(path) => {
                let listener = UnixListener::bind(path).while_doing(path.display())?;
                (OwnedFd::from(listener), DoorAddress::Unix(path.to_owned()))
            }
            None => open_tcp().map(|(fd, address)| (fd, DoorAddress::Tcp(address)))?,
        };
        // Longer than what the standard library asks for: one Synapse makes a connection for each request.
        rustix::net::listen(&synapse, BACKLOG).while_doing("backlog")?;
        let (admin, admin_address) = open_tcp()?;
        let (forward_proxy, forward_proxy_address) = open_tcp()?;
        Ok(Self { synapse, admin, forward_proxy, door, admin_address, forward_proxy_address })
    }

    /// A command that runs `program` with these sockets as descriptors 3, 4 and 5; what it says is appended to `log`.
    ///
    /// The sockets travel as the standard streams of a shell, which is the one way there is in safe Rust, and the
    /// shell knows the process id that `LISTEN_PID` must name before it becomes the program.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn command(&self, program: &Path, log: &Path) -> Result<Command> {
        let pass = |fd: &OwnedFd| fd.as_fd().try_clone_to_owned().map(Stdio::from).while_doing("descriptor");
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(SCRIPT).arg(log).arg(program).env_clear();
        command.env("LISTEN_FDS", "3").env("LISTEN_FDNAMES", "synapse:admin:forward_proxy");
        command.stdin(pass(&self.synapse)?).stdout(pass(&self.admin)?).stderr(pass(&self.forward_proxy)?);
        Ok(command)
    }
}

fn open_tcp() -> Result<(OwnedFd, SocketAddr)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).while_doing("listen on loopback")?;
    let address = listener.local_addr().while_doing("address of a socket")?;
    Ok((listener.into(), address))
}

/// A TCP port on loopback that is free now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    open_tcp().map(|(_, address)| address.port())
}

const SCRIPT: &str = r#"exec 3<&0 4<&1 5<&2 </dev/null >>"$0" 2>&1; export LISTEN_PID=$$; exec "$@""#;
const BACKLOG: i32 = 4096;
