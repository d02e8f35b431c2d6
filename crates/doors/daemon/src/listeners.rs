//! The listening sockets of all doors: inherited where somebody passed them, bound where nobody did.
//!
//! They are open before anything slow is begun, so that callers wait in the backlog while Southbridge starts.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::activation::{InheritedSocket, Origin};
use crate::config::{Config, Listen, ListenAddress};
use crate::door::Door;
use crate::occupant::occupant_of;

/// One listening socket of a door.
#[derive(Debug)]
pub struct Listener {
    /// Which door.
    pub door: Door,
    /// Where it listens, and whether TLS is spoken there.
    pub listen: Listen,
    /// The socket. Does not block.
    pub socket: OwnedFd,
    /// Who opened it.
    pub origin: Origin,
}

/// All listening sockets.
#[derive(Debug, Default)]
pub struct Listeners {
    /// In the order of the configuration, door by door.
    pub list: Vec<Listener>,
    /// What an operator should know: passed sockets that nobody wanted, or wanted by others.
    pub warnings: Vec<String>,
}

impl Listeners {
    /// Opens what `config` names, taking from `inherited` what is there already.
    ///
    /// A passed socket stands for the entry that has its address. One from systemd that stands for none stands for
    /// the next entry of its door in order, and beyond the last one for itself; a socket without a name that we know
    /// is for the door of Synapse.
    ///
    /// # Errors
    /// Every socket that could not be opened, each with the reason and what to do.
    pub fn open(config: &Config, inherited: Vec<InheritedSocket>) -> Result<Self, Vec<String>> {
        let mut listeners = Self::default();
        let mut errors = Vec::new();
        let mut left = inherited;
        for door in Door::ALL {
            let (listen, mode, backlog) = wanted(config, door);
            let mut passed = take_passed(&mut left, door, listen);
            for (entry, passed) in listen.iter().zip(passed.by_entry.iter_mut()) {
                let opened = match passed.take() {
                    Some(passed) => adopt(passed, entry, &mut listeners.warnings),
                    None => bind(&entry.address, mode, backlog).map(|socket| (socket, Origin::Own)),
                };
                match opened {
                    Ok((socket, origin)) => {
                        listeners.list.push(Listener { door, listen: entry.clone(), socket, origin });
                    }
                    Err(reason) => errors.push(format!("{door}.listen: {reason}")),
                }
            }
            for extra in passed.beyond {
                let listen = Listen { address: extra.address, tls: false };
                listeners.list.push(Listener { door, listen, socket: extra.fd, origin: extra.origin });
            }
        }
        for socket in left {
            listeners.warnings.push(format!(
                "the inherited socket at {} is no longer wanted and was closed",
                socket.address
            ));
        }
        listeners.make_nonblocking(&mut errors);
        listeners.warnings.extend(short_queue(config));
        if errors.is_empty() { Ok(listeners) } else { Err(errors) }
    }

    /// The sockets of `door`.
    pub fn of(&self, door: Door) -> impl Iterator<Item = &Listener> {
        self.list.iter().filter(move |listener| listener.door == door)
    }

    fn make_nonblocking(&self, errors: &mut Vec<String>) {
        for listener in &self.list {
            if let Err(error) = rustix::io::ioctl_fionbio(&listener.socket, true) {
                errors.push(format!(
                    "{}.listen: {} cannot be made non-blocking: {error}",
                    listener.door, listener.listen
                ));
            }
        }
    }
}

/// The system cuts longer queues than its own bound without a word.
fn short_queue(config: &Config) -> Option<String> {
    let bound: u32 = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()?;
    let wanted = config.synapse.backlog;
    (wanted > bound).then(|| {
        format!(
            "synapse.backlog is {wanted} and the system allows {bound}: callers beyond that are refused while Southbridge \
             restarts; raise it with `sysctl net.core.somaxconn={wanted}`"
        )
    })
}

fn wanted(config: &Config, door: Door) -> (&[Listen], u32, u32) {
    match door {
        Door::Synapse => (&config.synapse.listen, config.synapse.mode, config.synapse.backlog),
        Door::ForwardProxy => {
            (&config.forward_proxy.listen, config.forward_proxy.mode, config.forward_proxy.backlog)
        }
        Door::Bus => (&config.bus.listen, config.bus.mode, config.bus.backlog),
        Door::Module => (&config.module.listen, config.module.mode, MODULE_BACKLOG),
        Door::Admin => (&config.admin.listen, config.admin.mode, ADMIN_BACKLOG),
    }
}

/// The passed sockets of one door.
struct Passed {
    by_entry: Vec<Option<InheritedSocket>>,
    beyond: Vec<InheritedSocket>,
}

fn take_passed(left: &mut Vec<InheritedSocket>, door: Door, listen: &[Listen]) -> Passed {
    let mine = |socket: &InheritedSocket| socket.door.unwrap_or(Door::Synapse) == door;
    let mut candidates: Vec<_> = left.extract_if(.., |socket| mine(socket)).collect();
    let mut by_entry: Vec<Option<InheritedSocket>> = Vec::new();
    for entry in listen {
        let at = candidates.iter().position(|socket| socket.address == entry.address);
        by_entry.push(at.map(|at| candidates.remove(at)));
    }
    let (activated, own): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|socket| socket.origin == Origin::Activated);
    left.extend(own);
    let mut activated = activated.into_iter();
    for place in by_entry.iter_mut().filter(|place| place.is_none()) {
        *place = activated.next();
    }
    Passed { by_entry, beyond: activated.collect() }
}

fn adopt(
    passed: InheritedSocket,
    entry: &Listen,
    warnings: &mut Vec<String>,
) -> Result<(OwnedFd, Origin), String> {
    if passed.address != entry.address {
        warnings.push(format!("the passed socket at {} stands for {entry}", passed.address));
    }
    if entry.tls && matches!(passed.address, ListenAddress::Unix(_)) {
        return Err(format!("the unix socket passed for {entry} cannot speak TLS"));
    }
    Ok((passed.fd, passed.origin))
}

/// Binds and listens.
///
/// # Errors
/// Says what is in the way and what to do about it.
pub fn bind(address: &ListenAddress, mode: u32, backlog: u32) -> Result<OwnedFd, String> {
    let bound = match address {
        ListenAddress::Tcp(address) => bind_tcp(*address, backlog),
        ListenAddress::Unix(path) => bind_unix(path, mode, backlog),
    };
    bound.map(OwnedFd::from).map_err(|error| explain(address, &error))
}

fn bind_tcp(address: std::net::SocketAddr, backlog: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of a predecessor that linger in TIME_WAIT must not keep us from starting.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

fn bind_unix(path: &Path, mode: u32, backlog: u32) -> io::Result<Socket> {
    remove_stale(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Nobody gets in before `listen`, so the permissions are right from the first connection on.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// Removes the file of a socket that nobody listens on any more. What is no socket, or alive, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => Err(io::ErrorKind::AddrInUse.into()),
        },
    }
}

fn explain(address: &ListenAddress, error: &io::Error) -> String {
    let advice = match (address, error.kind()) {
        (_, io::ErrorKind::AddrInUse) => match occupant_of(address) {
            Some(occupant) => format!("{occupant} listens there already; stop it, or choose another address"),
            None => "another program listens there already; stop it, or choose another address".to_owned(),
        },
        (ListenAddress::Unix(path), io::ErrorKind::AlreadyExists) => {
            format!("there is a file that is not a socket; remove {}, or choose another path", path.display())
        }
        (ListenAddress::Unix(path), io::ErrorKind::NotFound) => {
            let dir = path.parent().unwrap_or(path);
            format!("directory {0} does not exist; make it with `mkdir -p {0}`", dir.display())
        }
        (ListenAddress::Tcp(address), io::ErrorKind::PermissionDenied) if address.port() < 1024 => {
            "ports below 1024 need a privilege; choose a higher one, or let systemd pass the socket"
                .to_owned()
        }
        (ListenAddress::Unix(path), io::ErrorKind::PermissionDenied) => {
            let dir = path.parent().unwrap_or(path);
            format!("directory {} cannot be written by this user", dir.display())
        }
        (ListenAddress::Tcp(_), io::ErrorKind::AddrNotAvailable) => {
            "this machine does not have that address; see `ip address`".to_owned()
        }
        _ => error.to_string(),
    };
    format!("cannot listen on {address}: {advice}")
}

impl Listener {
    /// The socket, for whoever wants to pass it on.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

const ADMIN_BACKLOG: u32 = 64;
/// As many as there are processes of homeservers on a machine.
const MODULE_BACKLOG: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use std::net::TcpListener;

    fn config(text: &str) -> Config {
        let environment =
            Environment { secret: None, postgres_password: None, state_dir: "/nonexistent".into() };
        Config::parse(&format!("{text}\n[admin]\nlisten = []\n"), None, &environment).unwrap()
    }

    fn passed(door: Option<Door>, origin: Origin) -> (InheritedSocket, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (InheritedSocket { fd: listener.into(), door, address: ListenAddress::Tcp(address), origin }, address)
    }

    /// The error names the program that is in the way: here, this test.
    #[test]
    fn an_occupied_port_names_its_occupant() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let errors =
            Listeners::open(&config(&format!("[synapse]\nlisten = \"{address}\"")), Vec::new()).unwrap_err();
        assert_eq!(errors.len(), 1);
        let pid = std::process::id();
        assert!(
            errors[0].starts_with(&format!("synapse.listen: cannot listen on {address}: ")),
            "{errors:?}"
        );
        assert!(
            errors[0].contains(&format!("process {pid}")) && errors[0].contains("choose another address"),
            "{errors:?}"
        );
    }

    #[test]
    fn a_unix_socket_replaces_its_dead_predecessor_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sb.sock");
        let address = ListenAddress::Unix(path.clone());
        let alive = bind(&address, 0o640, 16).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(bind(&address, 0o640, 16).unwrap_err().contains("listens there already"));
        drop(alive);
        drop(bind(&address, 0o640, 16).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(bind(&address, 0o640, 16).unwrap_err().contains("not a socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let lost = ListenAddress::Unix(dir.path().join("none/sb.sock"));
        assert!(bind(&lost, 0o640, 16).unwrap_err().contains("mkdir -p"));
    }

    /// Two entries, and systemd passes the second only: the first is ours to bind.
    #[test]
    fn a_passed_socket_stands_for_the_entry_with_its_address() {
        let (socket, address) = passed(None, Origin::Activated);
        let text = format!("[synapse]\nlisten = [\"127.0.0.1:0\", \"{address}\"]");
        let listeners = Listeners::open(&config(&text), vec![socket]).unwrap();
        let origins: Vec<_> = listeners.of(Door::Synapse).map(|listener| listener.origin).collect();
        assert_eq!(origins, [Origin::Own, Origin::Activated]);
    }

    #[test]
    fn passed_sockets_with_other_addresses_stand_for_the_entries_in_order() {
        let (first, a) = passed(Some(Door::Synapse), Origin::Activated);
        let (second, b) = passed(None, Origin::Activated);
        let listeners =
            Listeners::open(&config("[synapse]\nlisten = \"127.0.0.1:1\""), vec![first, second]).unwrap();
        let found: Vec<_> = listeners.list.iter().map(|listener| listener.listen.to_string()).collect();
        assert_eq!(found, ["127.0.0.1:1".to_owned(), b.to_string()]);
        assert!(listeners.warnings[0].contains(&a.to_string()), "{:?}", listeners.warnings);
    }

    /// After a reload with another address the predecessor's own socket is of no use; it is closed and said.
    #[test]
    fn a_predecessors_socket_that_is_no_longer_wanted_is_closed() {
        let (socket, address) = passed(Some(Door::Synapse), Origin::Own);
        let listeners =
            Listeners::open(&config("[synapse]\nlisten = \"127.0.0.1:0\""), vec![socket]).unwrap();
        assert_eq!(listeners.list[0].origin, Origin::Own);
        assert!(listeners.warnings[0].contains("no longer wanted"));
        TcpListener::bind(address).unwrap();
    }

    #[test]
    fn every_socket_that_cannot_be_opened_is_named() {
        let text = "[synapse]\nlisten = [\"unix:/nonexistent/a.sock\", \"203.0.113.1:9101\"]\n[forward_proxy]\nlisten = \"unix:/nonexistent/b.sock\"";
        let errors = Listeners::open(&config(text), Vec::new()).unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[1].contains("does not have that address"), "{errors:?}");
    }
}
