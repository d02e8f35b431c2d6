use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use tokio::task::LocalSet;

use super::*;
use crate::kernel::KernelConfig;

/// Runs `story` on a thread of its own while an I/O thread serves the debug socket in `dir`.
fn beside_a_kernel<T: Send + 'static>(
    config: DebugConfig,
    story: impl FnOnce(PathBuf) -> T + Send + 'static,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let kernel = Kernel::new(KernelConfig::default()).unwrap();
        let dir = config.directory.clone();
        open(&kernel, config).unwrap();
        let socket = sockets(&dir, rustix::process::geteuid().as_raw()).pop().unwrap();
        let (done, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || done.send(story(socket.path)));
        told.await.expect("the story does not fail")
    })
}

fn ask(path: &Path, page: &str) -> (u16, serde_json::Value) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let request = format!("GET {page} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn config(dir: &Path) -> DebugConfig {
    DebugConfig { directory: dir.join("sockets"), ..DebugConfig::default() }
}

#[test]
fn a_process_says_what_it_is_and_what_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let config = DebugConfig { facts: vec![("python", "3.11".to_owned())], ..config(dir.path()) };
    let pid = std::process::id();
    config.marks.enter("loading cart", pid, None).unwrap();
    let stack = Err("this is no program in Python".to_owned());
    config.stack.set(stack).unwrap();
    let directory = config.directory.clone();
    beside_a_kernel(config, move |path| {
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (status, process) = ask(&path, "/debug/process");
        assert_eq!((status, &process["pid"]), (200, &pid.into()));
        assert_eq!((&process["facts"]["python"], &process["mark"]), (&"3.11".into(), &"loading cart".into()));
        assert!(process["command"].as_str().unwrap().contains("kernel"), "{process}");
        let (_, marks) = ask(&path, "/debug/marks");
        assert_eq!(marks["marks"][0]["name"], "loading cart");
        let (status, stack) = ask(&path, "/debug/stack");
        assert_eq!(status, 503);
        assert!(stack["error"].as_str().unwrap().ends_with("this is no program in Python"));
        for page in ["/debug/requests", "/debug/pools", "/debug/hosts"] {
            assert_eq!(ask(&path, page).0, 200, "{page}");
        }
    });
    assert_eq!(sockets(&directory, rustix::process::geteuid().as_raw()), [], "it goes with its kernel");
}

/// Clients that say nothing, too much, or never end: whoever asks properly is answered, as long as there is a place.
#[test]
fn a_client_that_misbehaves_disturbs_nobody() {
    let dir = tempfile::tempdir().unwrap();
    beside_a_kernel(config(dir.path()), |path| {
        let silent: Vec<_> = (0..40).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let mut endless = UnixStream::connect(&path).unwrap();
        endless.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut written = 0;
        while endless.write_all(&[b'x'; 4096]).is_ok() {
            written += 4096;
            assert!(written < 16 * 1024 * 1024, "a head without end is not read to its end");
        }
        let mut half = UnixStream::connect(&path).unwrap();
        half.write_all(b"GET /debug/process HTTP/1.1\r\nhost: loc").unwrap();
        assert_eq!(ask(&path, "/debug/process").0, 200);
        assert_eq!(ask(&path, &format!("/debug/{}", "y".repeat(4000))).0, 404);
        drop((silent, half));
    });
}

#[test]
fn a_directory_that_is_not_ours_alone_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (open_dir, link) = (dir.path().join("open"), dir.path().join("link"));
    std::fs::create_dir(&open_dir).unwrap();
    std::fs::set_permissions(&open_dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    symlink(dir.path(), &link).unwrap();
    let now = southbridge_words::WallTime::from_unix_millis(1);
    for place in [&open_dir, &link] {
        let error = house::path_of_this(place, now).unwrap_err().to_string();
        assert!(error.contains("not for this user alone"), "{error}");
    }
    let _bait = UnixListener::bind(open_dir.join("1-1.debug")).unwrap();
    let uid = rustix::process::geteuid().as_raw();
    assert_eq!(sockets(&open_dir, uid), [], "anybody may have put it there");
    std::fs::set_permissions(&open_dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(sockets(&open_dir, uid).len(), 1);
    assert_eq!(sockets(&open_dir, uid + 1), [], "and it is somebody else's");
}

/// What a crash left is removed by the next that starts; the living, and what is no socket, stay.
#[test]
fn sockets_of_the_dead_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("sockets");
    let now = southbridge_words::WallTime::from_unix_millis(5);
    house::path_of_this(&place, now).unwrap();
    // No process has this number: it is above what the system gives.
    drop(UnixListener::bind(place.join("999999999-1.debug")).unwrap());
    let _of_another_container = UnixListener::bind(place.join("999999998-2.debug")).unwrap();
    drop(UnixListener::bind(place.join("1-3.debug")).unwrap());
    std::fs::write(place.join("4-4.debug"), "").unwrap();
    let path = house::path_of_this(&place, now).unwrap();
    assert_eq!(path, place.join(format!("{}-5.debug", std::process::id())));
    let left: Vec<u32> =
        sockets(&place, rustix::process::geteuid().as_raw()).iter().map(|socket| socket.pid).collect();
    assert_eq!(left, [999_999_998, 1]);
    assert!(place.join("4-4.debug").exists());
}

#[test]
fn who_is_somebody_else_is_not_answered() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let kernel = Kernel::new(KernelConfig::default()).unwrap();
        let own = rustix::process::geteuid().as_raw();
        let path = dir.path().join("socket");
        let address = ListenAddress::Unix(path.clone());
        let listener = Listener::bind(&address, &ListenOptions::default()).unwrap();
        let somebody = if own == 0 { None } else { Some(own + 1) };
        // Root is let in everywhere, so a test that root runs tells the story of a peer that nobody knows.
        let admin = Admin::new(kernel, Readiness::default(), Vec::new()).for_user(somebody.unwrap_or(1));
        tokio::task::spawn_local(async move { admin.serve(&listener).await });
        let (done, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let _refused = stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n");
            let mut answer = Vec::new();
            let _cut = stream.read_to_end(&mut answer);
            done.send(answer.is_empty())
        });
        assert_eq!(told.await, Ok(somebody.is_some()));
    });
}
