//! Listening sockets that this process was started with: from systemd, or from its own predecessor.
//!
//! A socket that stays open while the program behind it is replaced never refuses a connection: the system parks
//! callers in its backlog. That matters because Synapse takes one refused connection for a dead destination, and
//! leaves that alone for ten minutes.
//!
//! # Source
//! `sd_listen_fds(3)`: `LISTEN_PID` names us, `LISTEN_FDS` counts descriptors from 3 on, `LISTEN_FDNAMES` names them.
//! The hand-over between two Southbridges is our own: `SOUTHBRIDGE_HANDOVER` has the predecessor's process id and
//! words such as `synapse=5`, `admin=7`, `ready=8`; a `+` behind a number says that the socket is systemd's.
#![allow(
    unsafe_code,
    reason = "descriptors come as numbers, and only unsafe code can take them for what they are"
)]

use std::env;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt::{socket_acceptconn, socket_type};
use rustix::net::{AddressFamily, SocketType, getsockname};

use crate::config::ListenAddress;
use crate::door::Door;

/// What this process was started with.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Listening sockets, in the order they were passed.
    pub sockets: Vec<InheritedSocket>,
    /// Where to tell the predecessor that this process is ready, if there is one.
    pub ready: Option<OwnedFd>,
}

/// One listening socket.
#[derive(Debug)]
pub struct InheritedSocket {
    /// The socket.
    pub fd: OwnedFd,
    /// Which door it is for, if its name says so.
    pub door: Option<Door>,
    /// Where it listens.
    pub address: ListenAddress,
    /// Who opened it.
    pub origin: Origin,
}

/// Who opened a listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// systemd, or whoever speaks its protocol: it stays open there when we close it.
    Activated,
    /// Southbridge.
    Own,
}

/// Why what was passed cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ActivationError {
    /// A variable does not say what it should.
    #[error("{variable} is {value:?}, which is not what {variable} looks like")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What it says.
        value: String,
    },
    /// The number of a descriptor that is not open.
    #[error("descriptor {fd} was announced and is not open")]
    NotOpen {
        /// The number.
        fd: RawFd,
    },
    /// Something else than a listening stream socket.
    #[error(
        "descriptor {fd} ({name:?}) is not a listening TCP or unix stream socket; a socket unit needs ListenStream="
    )]
    WrongKind {
        /// The number.
        fd: RawFd,
        /// Its name.
        name: String,
    },
}

/// Takes what the environment announces, and takes it out of the environment.
///
/// Must be called first of all, before any thread is started and any descriptor opened, and once.
///
/// # Errors
/// [`ActivationError`] when something is announced that is not there, or not a listening socket.
pub fn take() -> Result<Inheritance, ActivationError> {
    let announced =
        Announced::read(|name| env::var(name).ok(), rustix::process::getpid(), rustix::process::getppid());
    for variable in VARIABLES {
        // SAFETY: the caller promises that no other thread runs yet, so nobody reads the environment meanwhile.
        unsafe { env::remove_var(variable) };
    }
    let announced = announced?;
    let sockets = announced.sockets.iter().map(take_socket).collect::<Result<_, _>>()?;
    let ready = announced.ready.map(take_fd).transpose()?;
    Ok(Inheritance { sockets, ready })
}

/// What the environment says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Announced {
    sockets: Vec<(RawFd, String, Origin)>,
    ready: Option<RawFd>,
}

impl Announced {
    fn read(
        variable: impl Fn(&str) -> Option<String>,
        own: rustix::process::Pid,
        parent: Option<rustix::process::Pid>,
    ) -> Result<Self, ActivationError> {
        if let Some(handover) = variable(HANDOVER) {
            let predecessor = handover.split_whitespace().next().and_then(|pid| pid.parse().ok());
            // A grandchild that merely inherited the variable must not touch descriptors it knows nothing of.
            if predecessor.is_some() && predecessor == parent.map(|pid| pid.as_raw_nonzero().get()) {
                return Self::read_handover(&handover);
            }
        }
        let addressee = variable(LISTEN_PID).and_then(|pid| pid.parse().ok());
        if addressee != Some(own.as_raw_nonzero().get()) {
            return Ok(Self::default());
        }
        let wrong = |variable, value: &str| ActivationError::Variable { variable, value: value.to_owned() };
        let count = variable(LISTEN_FDS).unwrap_or_default();
        let number: RawFd = count.parse().map_err(|_| wrong(LISTEN_FDS, &count))?;
        if !(0..=SOCKETS_MAX).contains(&number) {
            return Err(wrong(LISTEN_FDS, &count));
        }
        let names = variable(LISTEN_FDNAMES).unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned).collect::<Vec<_>>();
        rejoin_numbers(&mut names);
        let sockets = (0..number).map(|index| {
            let name = names.get(index as usize).cloned().unwrap_or_default();
            (FIRST + index, name, Origin::Activated)
        });
        Ok(Self { sockets: sockets.collect(), ready: None })
    }

    fn read_handover(text: &str) -> Result<Self, ActivationError> {
        let wrong = || ActivationError::Variable { variable: HANDOVER, value: text.to_owned() };
        let mut announced = Self::default();
        for word in text.split_whitespace().skip(1) {
            let (name, number) = word.split_once('=').ok_or_else(wrong)?;
            let (number, origin) = match number.strip_suffix('+') {
                Some(number) => (number, Origin::Activated),
                None => (number, Origin::Own),
            };
            let number: RawFd = number.parse().ok().filter(|number| *number >= FIRST).ok_or_else(wrong)?;
            match name {
                "ready" => announced.ready = Some(number),
                _ => announced.sockets.push((number, name.to_owned(), origin)),
            }
        }
        Ok(announced)
    }
}

/// `LISTEN_FDNAMES` is separated by colons, and so are names such as `synapse:0`.
fn rejoin_numbers(names: &mut Vec<String>) {
    let mut index = 1;
    while index < names.len() {
        let is_number = !names[index].is_empty() && names[index].bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            let number = names.remove(index);
            names[index - 1] = format!("{}:{number}", names[index - 1]);
        } else {
            index += 1;
        }
    }
}

fn take_socket((fd, name, origin): &(RawFd, String, Origin)) -> Result<InheritedSocket, ActivationError> {
    let wrong_kind = || ActivationError::WrongKind { fd: *fd, name: name.clone() };
    let owned = take_fd(*fd)?;
    let address = listening_address(owned.as_fd()).ok_or_else(wrong_kind)?;
    Ok(InheritedSocket { fd: owned, door: Door::from_socket_name(name), address, origin: *origin })
}

fn take_fd(fd: RawFd) -> Result<OwnedFd, ActivationError> {
    // SAFETY: the borrow ends within this statement, and asking for the flags of a number that is not open is
    // answered with an error.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(fd) });
    flags.map_err(|_| ActivationError::NotOpen { fd })?;
    // SAFETY: the descriptor is open, and it was passed to this process for this purpose: nothing else in it, which
    // has only just started, owns or will close it. `take` runs once.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC).map_err(|_| ActivationError::NotOpen { fd })?;
    Ok(owned)
}

/// Where the stream socket `fd` listens; `None` if it is none, or does not.
pub fn listening_address(fd: BorrowedFd<'_>) -> Option<ListenAddress> {
    if socket_type(fd).ok()? != SocketType::STREAM || !socket_acceptconn(fd).ok()? {
        return None;
    }
    let name = getsockname(fd).ok()?;
    match name.address_family() {
        AddressFamily::INET | AddressFamily::INET6 => {
            std::net::SocketAddr::try_from(name).ok().map(ListenAddress::Tcp)
        }
        AddressFamily::UNIX => {
            let name = rustix::net::SocketAddrUnix::try_from(name).ok()?;
            let path = name.path_bytes().unwrap_or_default();
            let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path);
            Some(ListenAddress::Unix(path.into()))
        }
        _ => None,
    }
}

/// Names the sockets that are handed over.
pub const HANDOVER: &str = "SOUTHBRIDGE_HANDOVER";
const LISTEN_PID: &str = "LISTEN_PID";
const LISTEN_FDS: &str = "LISTEN_FDS";
const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
const VARIABLES: [&str; 5] = [HANDOVER, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, "LISTEN_PIDFDID"];
/// The first descriptor that is passed, behind standard input, output and error.
const FIRST: RawFd = 3;
/// More doors than anybody has.
const SOCKETS_MAX: RawFd = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Pid;

    fn read(variables: &[(&str, &str)]) -> Result<Announced, ActivationError> {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Announced::read(find, Pid::from_raw(100).unwrap(), Pid::from_raw(99))
    }

    #[test]
    fn sockets_for_another_process_are_left_alone() {
        assert_eq!(read(&[]), Ok(Announced::default()));
        assert_eq!(read(&[("LISTEN_PID", "101"), ("LISTEN_FDS", "2")]), Ok(Announced::default()));
        assert_eq!(read(&[("SOUTHBRIDGE_HANDOVER", "98 synapse=3")]), Ok(Announced::default()));
    }

    #[test]
    fn names_may_be_numbered() {
        let found = read(&[
            ("LISTEN_PID", "100"),
            ("LISTEN_FDS", "4"),
            ("LISTEN_FDNAMES", "synapse:0:synapse:1:admin"),
        ])
        .unwrap();
        let names: Vec<_> = found.sockets.iter().map(|(fd, name, _)| (*fd, name.as_str())).collect();
        assert_eq!(names, [(3, "synapse:0"), (4, "synapse:1"), (5, "admin"), (6, "")]);
    }

    #[test]
    fn a_hand_over_says_who_opened_what() {
        let found = read(&[("SOUTHBRIDGE_HANDOVER", "99 synapse=5+ admin=6 ready=7")]).unwrap();
        let sockets =
            vec![(5, "synapse".to_owned(), Origin::Activated), (6, "admin".to_owned(), Origin::Own)];
        assert_eq!(found, Announced { sockets, ready: Some(7) });
    }

    #[test]
    fn nonsense_is_refused() {
        for value in ["x", "-1", "9999"] {
            let error = read(&[("LISTEN_PID", "100"), ("LISTEN_FDS", value)]).unwrap_err();
            assert_eq!(error, ActivationError::Variable { variable: "LISTEN_FDS", value: value.to_owned() });
        }
        assert!(read(&[("SOUTHBRIDGE_HANDOVER", "99 synapse=2")]).is_err());
        assert!(read(&[("SOUTHBRIDGE_HANDOVER", "99 synapse")]).is_err());
    }
}
