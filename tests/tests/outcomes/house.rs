//! A daemon with its doors open, the fake Internet around it, and its service manager.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use southbridge_testkit::certificates::{Alpn, Authority};
use southbridge_testkit::dns::DnsServer;
use southbridge_testkit::homeserver::{Homeservers, HostScript};
use southbridge_testkit::raw::{RawPeer, Step};
use tokio::net::{TcpStream, UnixDatagram};
use tokio::time::timeout;

use crate::caller::{Answer, SECRET, ask_on, ask_tcp, knock, request};

/// What a test wants different.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    /// Keys of `[synapse]`.
    pub synapse: &'static str,
    /// Keys of `[forward_proxy]`.
    pub forward_proxy: &'static str,
    /// What stands in `[addresses]`.
    pub addresses: &'static str,
    /// Whole tables.
    pub tables: &'static str,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { synapse: "", forward_proxy: "", addresses: "allow = [\"127.0.0.0/8\"]", tables: "" }
    }
}

/// A daemon, and everything around it. The listening sockets are the test's and outlive the daemon.
pub struct House {
    pub servers: Homeservers,
    pub dns: DnsServer,
    pub authority: Arc<Authority>,
    /// The TCP door for Synapse.
    pub tcp: SocketAddr,
    /// The forward proxy.
    pub proxy: SocketAddr,
    sockets: [OwnedFd; 3],
    manager: UnixDatagram,
    daemon: Option<Child>,
    dir: tempfile::TempDir,
}

/// Runs `test` in a house set up as it wishes.
pub async fn in_house<F: Future<Output = ()>>(wishes: Wishes, test: impl FnOnce(House) -> F) {
    let whole = async {
        let house = House::build(wishes).await;
        test(house).await;
    };
    timeout(Duration::from_secs(60), whole).await.expect("the test does not hang");
}

/// Runs `test` in a house with no special wishes.
pub async fn at_home<F: Future<Output = ()>>(test: impl FnOnce(House) -> F) {
    in_house(Wishes::default(), test).await;
}

impl House {
    async fn build(wishes: Wishes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write_ca(&dir.path().join("ca.pem")).unwrap();
        let servers = Homeservers::start(Arc::clone(&authority)).await.unwrap();
        let dns = DnsServer::start().await.unwrap();
        for name in ["a.test", "b.test", "c.test", "d.test", "cdn.test", "peer.test"] {
            dns.host(name, &[Ipv4Addr::LOCALHOST.into()], 60);
        }
        let (unix, tcp, proxy) = (listen_unix(&dir.path().join("sb.sock")), listen_tcp(), listen_tcp());
        let manager = UnixDatagram::bind(dir.path().join("notify.sock")).unwrap();
        let addresses = (tcp.1, proxy.1);
        let sockets = [unix, tcp.0, proxy.0];
        let (tcp, proxy) = addresses;
        let mut house = Self { servers, dns, authority, tcp, proxy, sockets, manager, daemon: None, dir };
        house.configure(wishes);
        house.start().await;
        house
    }

    fn configure(&self, wishes: Wishes) {
        let mut secret = fs::OpenOptions::new();
        let secret =
            secret.write(true).create(true).truncate(true).mode(0o600).open(self.path("proxy.secret"));
        io::Write::write_all(&mut secret.unwrap(), SECRET.as_bytes()).unwrap();
        let Wishes { synapse, forward_proxy, addresses, tables } = wishes;
        let (tcp, proxy, dns, port) = (self.tcp, self.proxy, self.dns.address(), self.servers.port());
        let config = format!(
            "[synapse]\nlisten = [\"unix:sb.sock\", \"{tcp}\"]\nsecret_file = \"proxy.secret\"\n{synapse}\n\
             [forward_proxy]\nlisten = [\"{proxy}\"]\n{forward_proxy}\n\
             [admin]\nlisten = \"unix:admin.sock\"\n[dns]\nservers = [\"{dns}\"]\n\
             [tls]\nca_files = [\"ca.pem\"]\n[addresses]\n{addresses}\n[storage]\npath = \"sb.db\"\n\
             [testing]\nwell_known_port = {port}\ndefault_port = {port}\n{tables}\n"
        );
        // A table may be wished for that stands there already: its keys belong together.
        fs::write(self.path("southbridge.toml"), merge_tables(&config)).unwrap();
    }

    /// Starts a daemon on the sockets, as systemd would, and waits until it is ready.
    pub async fn start(&mut self) {
        self.spawn();
        let mut daemon = self.daemon.take().expect("it has been started");
        let early = async {
            loop {
                match daemon.try_wait().unwrap() {
                    Some(status) => return status,
                    None => tokio::time::sleep(TICK).await,
                }
            }
        };
        tokio::select! {
            _ = self.wait_for("READY=1") => {}
            status = early => panic!("the daemon ended with {status}:\n{}", self.log()),
        }
        self.daemon = Some(daemon);
    }

    fn spawn(&mut self) {
        let [unix, tcp, proxy] = &self.sockets;
        let pass = |fd: &OwnedFd| Stdio::from(fd.as_fd().try_clone_to_owned().unwrap());
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(PASS_ON).arg(self.path("log")).arg(program());
        command.args(["serve", "--config", "southbridge.toml"]).current_dir(self.dir.path()).env_clear();
        command.env("LISTEN_FDS", "3").env("LISTEN_FDNAMES", "synapse:synapse:forward_proxy");
        command.env("NOTIFY_SOCKET", self.path("notify.sock")).env("STATE_DIRECTORY", self.dir.path());
        command.stdin(pass(unix)).stdout(pass(tcp)).stderr(pass(proxy));
        self.daemon = Some(command.spawn().unwrap());
    }

    /// Waits for a message to the service manager with `text` in it.
    pub async fn wait_for(&self, text: &str) -> String {
        let mut buffer = [0; 1024];
        loop {
            let heard = timeout(Duration::from_secs(20), self.manager.recv(&mut buffer)).await;
            let Ok(Ok(length)) = heard else { panic!("nobody said {text:?}; the log has:\n{}", self.log()) };
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if message.contains(text) {
                return message;
            }
        }
    }

    /// Ends the daemon as `kill -9` does, and waits for its end.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// Waits for the end of a daemon that was told to stop.
    pub async fn ended(&mut self) -> ExitStatus {
        let daemon = self.daemon.as_mut().expect("a daemon runs");
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(TICK).await;
        }
    }

    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// What the daemon holds in memory, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * rustix::param::page_size() as u64
    }

    /// What the daemon has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The unix door for Synapse.
    pub fn unix(&self) -> PathBuf {
        self.path("sb.sock")
    }

    /// A server name with an explicit port, so that nothing but an address has to be found.
    pub fn name(&self, host: &str) -> String {
        format!("{host}:{}", self.servers.port())
    }

    /// From now on `host` is like this.
    pub fn set(&self, host: &str, change: impl FnOnce(&mut HostScript)) {
        let mut script = HostScript::default();
        change(&mut script);
        self.servers.set(host, script);
    }

    /// A peer behind TLS that plays `scripts`, and the server name that leads to it.
    pub async fn peer(&self, scripts: Vec<Vec<Step>>) -> (RawPeer, String) {
        let peer = RawPeer::tls(&self.authority, Alpn::Http1, scripts).await.unwrap();
        let name = format!("peer.test:{}", peer.address().port());
        (peer, name)
    }

    /// Sends `bytes` as they are to the unix door, and reads to the end.
    pub async fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        ask_on(&mut knock(&self.unix()).await, bytes).await
    }

    /// Asks as Synapse would.
    pub async fn ask(&self, method: &str, name: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, name, path, body)).await
    }

    pub async fn get(&self, name: &str, path: &str) -> Answer {
        self.ask("GET", name, path, "").await
    }

    /// The same through the TCP door.
    pub async fn ask_by_tcp(&self, method: &str, name: &str, path: &str, body: &str) -> Answer {
        ask_tcp(self.tcp, request(method, name, path, body)).await
    }

    /// Connects to the TCP door.
    pub async fn knock_by_tcp(&self) -> TcpStream {
        TcpStream::connect(self.tcp).await.expect("nobody is refused at the door")
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            eprintln!("the daemon has said:\n{}", self.log());
        }
    }
}

/// Sends `signal` to the process `pid`.
pub fn send_signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Waits until `condition` holds, for what a real process does in its own time; `limit` bounds it.
pub async fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(TICK).await;
        }
    };
    timeout(limit, waiting).await.unwrap_or_else(|_| panic!("not within {limit:?}: {what}"));
}

/// Puts the keys of tables that stand in `config` twice under the first of them.
fn merge_tables(config: &str) -> String {
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in config.lines().filter(|line| !line.trim().is_empty()) {
        if line.starts_with('[') {
            if !tables.iter().any(|(name, _)| *name == line) {
                tables.push((line, Vec::new()));
            }
            let at = tables.iter().position(|(name, _)| *name == line).unwrap();
            let table = tables.remove(at);
            tables.push(table);
        } else {
            tables.last_mut().unwrap().1.push(line);
        }
    }
    tables.iter().map(|(name, keys)| format!("{name}\n{}\n", keys.join("\n"))).collect()
}

/// The daemon to test: the one that `SOUTHBRIDGE_BIN` names, or this checkout's, brought up to date by cargo.
fn program() -> PathBuf {
    if let Some(given) = std::env::var_os("SOUTHBRIDGE_BIN") {
        return given.into();
    }
    // target/debug/deps/NAME for tests, target/debug/NAME for programs.
    let here = std::env::current_exe().unwrap();
    let profile = here.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).unwrap();
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--locked", "-p", "southbridge-daemon", "--bin", "southbridge"]);
    build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap());
    if profile.ends_with("release") {
        build.arg("--release");
    }
    assert!(build.status().unwrap().success(), "the daemon does not build");
    profile.join("southbridge")
}

fn listen_unix(path: &Path) -> OwnedFd {
    let fd = OwnedFd::from(std::os::unix::net::UnixListener::bind(path).unwrap());
    rustix::net::listen(&fd, BACKLOG).unwrap();
    fd
}

fn listen_tcp() -> (OwnedFd, SocketAddr) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let fd = OwnedFd::from(listener);
    rustix::net::listen(&fd, BACKLOG).unwrap();
    (fd, address)
}

/// The sockets travel as the standard streams of a shell, which becomes the daemon and so has its process id.
const PASS_ON: &str = r#"exec 3<&0 4<&1 5<&2 </dev/null >>"$0" 2>&1; export LISTEN_PID=$$; exec "$@""#;
/// What the book's socket unit asks for.
const BACKLOG: i32 = 4096;
/// How often the state of another process is looked at.
pub const TICK: Duration = Duration::from_millis(20);
