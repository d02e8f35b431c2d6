//! An Internet of our own, in namespaces: an unpatched Synapse asks for `.well-known` on port 443 and looks names up where
//! `/etc/resolv.conf` says, and neither can be told otherwise.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use southbridge_testkit::certificates::{Alpn, Authority};
use southbridge_testkit::dns::{Answer, DnsServer, RecordType};
use southbridge_testkit::homeserver::{Homeservers, HostScript, WellKnown};
use southbridge_tests::failure::While;
use southbridge_tests::{Failure, Result};
use tempfile::TempDir;

/// Fake homeservers, their names, and who vouches for them.
#[derive(Debug)]
pub struct Internet {
    /// Who signed the certificates.
    pub authority: Arc<Authority>,
    /// All homeservers but the two that are measured.
    pub others: Homeservers,
    dns: DnsServer,
    dir: TempDir,
}

impl Internet {
    /// Starts it, and has the name server of these namespaces be ours.
    ///
    /// # Errors
    /// A port is taken, or the namespaces are not ours to change.
    pub async fn start(hosts: u32) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("southbridge-").tempdir().while_doing("directory")?;
        move_in(dir.path())?;
        let authority = Authority::new();
        authority.write_ca(&dir.path().join(CA_FILE)).while_doing(CA_FILE)?;
        let dns = DnsServer::start_at(local(53)).await.while_doing("DNS server")?;
        dns.otherwise(answer);
        let others = Homeservers::start_at(local(DEFAULT_PORT), Arc::clone(&authority)).await;
        let others = others.while_doing("fake homeservers")?;
        for port in [WELL_KNOWN_PORT, FEDERATION_PORT] {
            others.listen_also(local(port)).await.while_doing(port)?;
        }
        others.keep_at_most(2 * hosts as usize);
        others.otherwise(|host| {
            let well_known = match Route::of(host) {
                Route::WellKnown => WellKnown::Delegate(format!("{host}:{FEDERATION_PORT}")),
                _ => WellKnown::Absent,
            };
            Arc::new(HostScript { well_known, alpn: Alpn::Http1, ..HostScript::default() })
        });
        Ok(Self { authority, others, dns, dir })
    }

    /// Where names are looked up.
    pub fn dns(&self) -> SocketAddr {
        self.dns.address()
    }

    /// The certificates to trust.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join(CA_FILE)
    }

    /// A directory for one process.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).while_doing(dir.display())?;
        Ok(dir)
    }
}

/// Runs this program again with the same arguments, in a network of its own and with its own view of the file system.
///
/// # Errors
/// The system does not allow it, or the program failed.
pub fn run_inside() -> Result<()> {
    let allowed = run(unshare().arg("true"));
    allowed.while_doing("namespaces of its own, for which be root, or allow them to every user")?;
    let program = std::env::current_exe().while_doing("own path")?;
    run(unshare().arg(program).args(std::env::args_os().skip(1)).arg("--inside"))
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "--mount", "--"]);
    command
}

/// The loopback interface of a new network is down, and the name server is that of the world outside.
fn move_in(dir: &Path) -> Result<()> {
    let resolv_conf = dir.join("resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").while_doing(resolv_conf.display())?;
    run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    run(Command::new("mount").arg("--bind").arg(&resolv_conf).arg("/etc/resolv.conf"))
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().while_doing(&name)?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{name} ended with {status}"))) }
}

/// How a homeserver is found; its name begins with the letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    WellKnown,
    Srv,
    Port,
    Default,
}

impl Route {
    fn of(name: &str) -> Self {
        match name.as_bytes().first() {
            Some(b'w') => Self::WellKnown,
            Some(b's') => Self::Srv,
            Some(b'p') => Self::Port,
            _ => Self::Default,
        }
    }
}

/// The server name of the homeserver number `n`: of ten, five have `.well-known`, two SRV, two a port, and one nothing.
pub fn name(n: u32) -> String {
    match n % 10 {
        0..=4 => format!("w{n}.fed.test"),
        5..=6 => format!("s{n}.fed.test"),
        7..=8 => format!("p{n}.fed.test:{FEDERATION_PORT}"),
        _ => format!("d{n}.fed.test"),
    }
}

fn answer(name: &str, kind: RecordType) -> Option<Answer> {
    if let Some(host) = name.strip_prefix("_matrix-fed._tcp.") {
        let is_there = kind == RecordType::SRV && Route::of(host) == Route::Srv;
        return is_there.then(|| Answer::srv(10, 0, FEDERATION_PORT, host, TTL));
    }
    if name.starts_with('_') || !name.ends_with(".fed.test") {
        return None;
    }
    Some(match kind {
        RecordType::A => Answer::addresses(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], TTL),
        _ => Answer::NoData { ttl: Some(TTL) },
    })
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

const WELL_KNOWN_PORT: u16 = 443;
const DEFAULT_PORT: u16 = 8448;
/// Where `.well-known`, SRV and the ports of names lead.
const FEDERATION_PORT: u16 = 8449;
const TTL: u32 = 3600;
const CA_FILE: &str = "ca.pem";
