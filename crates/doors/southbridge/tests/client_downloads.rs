//! Downloads: whole or not at all, whatever the peer or the disk does.

mod programs;

use std::fs;
use std::path::{Path, PathBuf};

use http::Method;
use programs::{Program, answering, received, url};
use southbridge::client::{Answer, Beginning, ClientError, Download, Downloading, Request, Saved};
use southbridge_testkit::raw::Step;
use southbridge_words::Step as Stage;

/// A directory with a file to be in it.
struct Place {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("file");
        Self { directory, path }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("it can be read");
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    }
}

fn begin(program: &Program, at: &str, path: &Path, beginning: Beginning) -> Downloading {
    let request = Request::new(Method::GET, at).expect("a URL");
    let download = Download { path: path.to_owned(), beginning, bytes_max: None };
    program.client.download(&program.port, request, download).expect("there is room")
}

fn save(program: &mut Program, at: &str, path: &Path, beginning: Beginning) -> Result<Saved, ClientError> {
    let begun = begin(program, at, path, beginning);
    match program.answer(begun.ticket)? {
        Answer::Saved(saved) => Ok(*saved),
        other => panic!("not saved: {other:?}"),
    }
}

/// A body of ten bytes that breaks off after five.
fn breaking_off() -> Vec<Step> {
    let head = "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: 10\r\n\r\n01234";
    vec![Step::ReadRequest, Step::write(head), Step::Drop]
}

#[test]
fn a_download_replaces_a_file_when_it_is_whole() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("200 OK", vec![b'x'; 1 << 20])]);
    let place = Place::new();
    fs::write(&place.path, "what was there").unwrap();
    let begun = begin(&program, &url(peer.address(), "/"), &place.path, Beginning::Anew);
    let Answer::Saved(saved) = program.answer(begun.ticket).unwrap() else { panic!("not saved") };
    assert_eq!((saved.bytes, saved.resumed_at), (1 << 20, 0));
    assert_eq!((begun.progress.done(), begun.progress.total()), (1 << 20, Some(1 << 20)));
    assert_eq!(fs::read(&place.path).unwrap(), vec![b'x'; 1 << 20]);
    assert_eq!(place.names(), ["file"]);
    assert!(received(&peer, 0).to_ascii_lowercase().contains("accept-encoding: identity\r\n"));
    drop(begun);
    assert_eq!(program.port.held(), 0);
}

/// Neither a peer that breaks off nor a status that is none leaves anything behind, or touches what was there.
#[test]
fn half_a_download_is_none() {
    let mut program = Program::start();
    let peer = program.peer(vec![breaking_off()]);
    let place = Place::new();
    fs::write(&place.path, "what was there").unwrap();
    let error = save(&mut program, &url(peer.address(), "/"), &place.path, Beginning::Anew).unwrap_err();
    assert_eq!((error.name(), error.step()), ("Cut", Stage::Body));
    let refusing = program.peer(vec![answering("404 Not Found", "not here")]);
    let begun = begin(&program, &url(refusing.address(), "/"), &place.path, Beginning::Anew);
    let Answer::Response(response) = program.answer(begun.ticket).unwrap() else { panic!("it is a refusal") };
    assert_eq!((response.status.as_u16(), &response.body[..]), (404, &b"not here"[..]));
    // It is put away on the thread for files.
    program.pump_until(|_| (place.names() == ["file"]).then_some(()));
    assert_eq!(fs::read(&place.path).unwrap(), b"what was there");
}

#[test]
fn a_download_that_broke_off_is_gone_on_with() {
    let mut program = Program::start();
    let rest = answering("206 Partial Content\r\nContent-Range: bytes 5-9/10\r\nETag: \"one\"", "56789");
    let peer = program.peer(vec![breaking_off(), rest]);
    let place = Place::new();
    let at = url(peer.address(), "/");
    save(&mut program, &at, &place.path, Beginning::Resume).unwrap_err();
    program.pump_until(|_| (place.names() == ["file.part", "file.part.tag"]).then_some(()));
    let saved = save(&mut program, &at, &place.path, Beginning::Resume).unwrap();
    assert_eq!((saved.bytes, saved.resumed_at), (10, 5));
    assert_eq!(fs::read(&place.path).unwrap(), b"0123456789");
    assert_eq!(place.names(), ["file"]);
    let asked = received(&peer, 1).to_ascii_lowercase();
    assert!(asked.contains("range: bytes=5-\r\n") && asked.contains("if-range: \"one\"\r\n"), "{asked}");
}

/// The peer has another version by now: it sends all of it, and nothing of the old one is kept.
#[test]
fn a_file_that_has_changed_is_downloaded_anew() {
    let mut program = Program::start();
    let peer = program.peer(vec![breaking_off(), answering("200 OK\r\nETag: \"two\"", "another")]);
    let place = Place::new();
    let at = url(peer.address(), "/");
    save(&mut program, &at, &place.path, Beginning::Resume).unwrap_err();
    let saved = save(&mut program, &at, &place.path, Beginning::Resume).unwrap();
    assert_eq!((saved.bytes, saved.resumed_at), (7, 0));
    assert_eq!(fs::read(&place.path).unwrap(), b"another");
}

/// What is there is shorter than what we have: asked again from its beginning. Or it is just that: then it is whole.
#[test]
fn a_range_that_is_none_is_asked_for_once() {
    for (total, expected) in [("3", "new"), ("5", "01234")] {
        let mut program = Program::start();
        let refusal = answering(&format!("416 Range\r\nContent-Range: bytes */{total}"), "");
        let peer = program.peer(vec![breaking_off(), [&refusal[..2], &answering("200 OK", "new")].concat()]);
        let place = Place::new();
        let at = url(peer.address(), "/");
        save(&mut program, &at, &place.path, Beginning::Resume).unwrap_err();
        let saved = save(&mut program, &at, &place.path, Beginning::Resume).unwrap();
        assert_eq!(fs::read_to_string(&place.path).unwrap(), expected);
        assert_eq!(saved.bytes as usize, expected.len());
        assert_eq!(place.names(), ["file"]);
    }
}

/// A peer that sends another range than it was asked for would leave a hole.
#[test]
fn a_range_that_was_not_asked_for_is_refused() {
    let mut program = Program::start();
    let wrong = answering("206 Partial Content\r\nContent-Range: bytes 7-9/10\r\nETag: \"one\"", "789");
    let peer = program.peer(vec![breaking_off(), wrong]);
    let place = Place::new();
    let at = url(peer.address(), "/");
    save(&mut program, &at, &place.path, Beginning::Resume).unwrap_err();
    let error = save(&mut program, &at, &place.path, Beginning::Resume).unwrap_err();
    assert_eq!(error.name(), "PeerMisbehaved");
}

#[test]
fn a_file_that_cannot_be_written_fails_before_anything_is_asked() {
    let mut program = Program::start();
    let peer = program.peer(vec![answering("200 OK", "x")]);
    let place = Place::new();
    let at = url(peer.address(), "/");
    for path in [place.directory.path().to_owned(), place.path.join("below"), place.path.join("..")] {
        let error = save(&mut program, &at, &path, Beginning::Anew).unwrap_err();
        assert_eq!(error.name(), "FileFailed", "{error}");
    }
    assert_eq!(place.names(), [""; 0]);
    assert!(peer.received(0).is_empty());
}

#[test]
fn a_file_has_no_more_bytes_than_it_may() {
    let mut program = Program::start();
    let announced = answering("200 OK", vec![b'x'; 100]);
    let chunks =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n".to_owned() + &"x".repeat(0x32) + "\r\n";
    let unannounced = vec![Step::ReadRequest, Step::write(chunks), Step::write("1\r\nx\r\n0\r\n\r\n")];
    for script in [announced, unannounced] {
        let peer = program.peer(vec![script]);
        let place = Place::new();
        let request = Request::new(Method::GET, &url(peer.address(), "/")).unwrap();
        let beginning = Beginning::Anew;
        let download = Download { path: place.path.clone(), beginning, bytes_max: Some(50) };
        let begun = program.client.download(&program.port, request, download).unwrap();
        assert_eq!(program.answer(begun.ticket).unwrap_err().name(), "TooLarge");
        program.pump_until(|_| place.names().is_empty().then_some(()));
    }
}

/// Given up in the middle: nothing stays, neither a file nor a place at the port.
#[test]
fn a_download_that_is_given_up_leaves_nothing() {
    let mut program = Program::start();
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let peer = program.peer(vec![vec![
        Step::ReadRequest,
        Step::write(head),
        Step::write([b'x'; 1000]),
        Step::Stall,
    ]]);
    let place = Place::new();
    let begun = begin(&program, &url(peer.address(), "/"), &place.path, Beginning::Anew);
    program.pump_until(|_| (!place.names().is_empty()).then_some(()));
    program.port.cancel(begun.ticket);
    assert_eq!(program.answer(begun.ticket).unwrap_err(), ClientError::Cancelled);
    drop(begun);
    program.pump_until(|program| (program.port.held() == 0 && place.names().is_empty()).then_some(()));
}
