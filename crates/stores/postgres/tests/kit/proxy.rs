//! A wire between an outbox and its server that can be cut at a commit.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

/// Where the wire is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never hears of the commit.
    BeforeCommit,
    /// The server has committed; its answer is lost.
    AfterCommit,
}

/// A socket that leads to the server.
pub struct Proxy {
    directory: TempDir,
    cut: Arc<Mutex<Option<Cut>>>,
}

impl Proxy {
    /// Leads to the server whose socket lies in `upstream`.
    pub fn start(upstream: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let cut = Arc::default();
        let (upstream, shared) = (upstream.join(SOCKET), Arc::clone(&cut));
        thread::spawn(move || {
            for client in listener.incoming() {
                lead(client.unwrap(), &upstream, &shared);
            }
        });
        Self { directory, cut }
    }

    /// Where its socket lies.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Cuts the wire at the next commit, once.
    pub fn cut(&self, cut: Cut) {
        *self.cut.lock().unwrap() = Some(cut);
    }

    /// Whether a cut is still to come.
    pub fn is_armed(&self) -> bool {
        self.cut.lock().unwrap().is_some()
    }
}

fn lead(client: UnixStream, upstream: &PathBuf, cut: &Arc<Mutex<Option<Cut>>>) {
    let server = UnixStream::connect(upstream).unwrap();
    let swallow = Arc::new(Mutex::new(false));
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (cut, swallowing) = (Arc::clone(cut), Arc::clone(&swallow));
    thread::spawn(move || {
        carry(from, to, |chunk| {
            let mut cut = cut.lock().unwrap();
            let is_commit = chunk.windows(7).any(|window| window == b"COMMIT\0");
            match if is_commit { cut.take() } else { None } {
                None => true,
                Some(Cut::BeforeCommit) => false,
                Some(Cut::AfterCommit) => {
                    *swallowing.lock().unwrap() = true;
                    true
                }
            }
        });
    });
    thread::spawn(move || carry(server, client, |_| !*swallow.lock().unwrap()));
}

/// Carries what comes, as long as `each` chunk is to be carried; then hangs up on both sides.
fn carry(mut from: UnixStream, mut to: UnixStream, mut each: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !each(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

const SOCKET: &str = ".s.PGSQL.5432";
