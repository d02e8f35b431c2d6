//! The commands as a person meets them: what they print, where, and with which exit code.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected should end at once")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn southbridge(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_southbridge"))
        .args(arguments)
        .env_clear()
        .env("STATE_DIRECTORY", dir.join("state"))
        .current_dir(dir)
        .output()
        .unwrap()
}

fn checked(dir: &Path, text: &str) -> (Option<i32>, String, String) {
    fs::write(dir.join("southbridge.toml"), text).unwrap();
    fs::set_permissions(dir.join("southbridge.toml"), fs::Permissions::from_mode(0o640)).unwrap();
    let output = southbridge(dir, &["check-config", "southbridge.toml"]);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_good_configuration_is_summed_up() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, err) =
        checked(dir.path(), "[synapse]\nlisten = \"127.0.0.1:9101\"\nsecret = \"hunter2-hunter2\"\n");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("OK: southbridge.toml\n") && out.contains("127.0.0.1:9101"), "{out}");
    assert!(!out.contains("hunter2"));
    assert!(!dir.path().join("state").exists(), "checking must not make anything");
}

/// The file is copied, shown, put under version control; whoever can read it can speak for the homeserver.
#[test]
fn a_secret_in_a_readable_configuration_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("southbridge.toml");
    fs::write(&file, "[admin]\nsecret = \"sesame\"\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let output = southbridge(dir.path(), &["check-config", "southbridge.toml"]);
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && err.contains("run `chmod 0640 southbridge.toml`"), "{err}");
}

#[test]
fn no_configuration_is_a_good_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let output = southbridge(dir.path(), &["check-config"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("the defaults hold"));
}

/// The bad inputs that the issue lists, as far as a configuration can have them. Occupied ports and a full disk are
/// met by `serve`.
#[test]
fn bad_input_is_refused_with_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("open.secret"), "hunter2\n").unwrap();
    fs::set_permissions(dir.path().join("open.secret"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(dir.path().join("empty.pem"), "not a certificate\n").unwrap();
    for (text, reason) in [
        (
            "[synapse]\nlisen = []\n",
            "southbridge.toml:2:1: unknown key `lisen` in [synapse]; did you mean `listen`?\n",
        ),
        (
            "[synapse]\nrequest_timeout = \"75 parsecs\"\n",
            "southbridge.toml:2:19: synapse.request_timeout: \"75 parsecs\" is not a duration",
        ),
        (
            "[synapse]\nsecret_file = \"open.secret\"\n",
            "open.secret has mode 0644, which opens it to everybody; run `chmod 0640 ",
        ),
        ("[synapse]\nsecret_file = \"none\"\n", "none does not exist; make one with"),
        ("[tls]\nca_files = [\"none.pem\"]\n", "none.pem cannot be read: No such file or directory"),
        ("[tls]\nca_files = [\"empty.pem\"]\n", "empty.pem has no certificate in it"),
        ("[storage]\npath = \"/dev/null/southbridge.db\"\n", "directory /dev/null does not exist"),
        (
            "[pool]\nconnections_max = 1000000\n[synapse]\nconnections_max = 1000000\n",
            "descriptors (pool.connections_max = 1000000",
        ),
        ("[synapse\n", "southbridge.toml:1:9: not TOML: "),
    ] {
        let (code, out, err) = checked(dir.path(), text);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{text}");
        assert!(
            err.replace(&format!("{}/", dir.path().display()), "").contains(reason),
            "{text}\n{err}\nlacks {reason}"
        );
        assert!(!err.contains("hunter2"));
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let output = southbridge(dir.path(), &["check-config", "--config", "none.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("none.toml: there is no such file"));
}

#[test]
fn the_reference_can_be_searched() {
    let dir = tempfile::tempdir().unwrap();
    let out = southbridge(dir.path(), &["config-reference", "request_timeout"]);
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.starts_with("[synapse]\n") && text.contains("request_timeout = \"75s\""), "{text}");
    assert_eq!(southbridge(dir.path(), &["config-reference", "nonsense"]).status.code(), Some(2));
}

/// `docs/book/src/configuration.md` is what `config-reference --markdown` prints. To bring it up to date, run the
/// test with `UPDATE_SNAPSHOTS=1`.
#[test]
fn the_book_has_the_reference_of_this_version() {
    let dir = tempfile::tempdir().unwrap();
    let out = southbridge(dir.path(), &["config-reference", "--markdown"]);
    snapshot("../../../docs/book/src/configuration.md", &String::from_utf8(out.stdout).unwrap());
}

#[test]
fn init_synapse_prints_everything_that_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = ["init", "synapse", "--dir", "/etc/southbridge", "--binary", "/usr/bin/southbridge"];
    let out = southbridge(dir.path(), &arguments);
    snapshot("tests/snapshots/init-synapse.txt", &String::from_utf8(out.stdout).unwrap());
    let out = southbridge(
        dir.path(),
        &[&arguments[..], &["--listen", "unix:/run/southbridge/synapse.sock"]].concat(),
    );
    snapshot("tests/snapshots/init-synapse-unix.txt", &String::from_utf8(out.stdout).unwrap());
}

/// What `--write` leaves behind is a configuration that works, with a secret that nobody else can read.
#[test]
fn init_synapse_writes_files_that_check_config_takes() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("etc");
    let arguments = ["init", "synapse", "--write", "--dir", target.to_str().unwrap()];
    assert!(southbridge(dir.path(), &arguments).status.success());
    let secret = target.join("proxy.secret");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read(&secret).unwrap();
    let config = fs::read_to_string(target.join("southbridge.toml")).unwrap();
    let here = config.replace("/var/lib/southbridge/", "");
    fs::write(target.join("southbridge.toml"), here).unwrap();
    let output = southbridge(&target, &["check-config", "southbridge.toml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let again = southbridge(dir.path(), &arguments);
    assert!(again.status.success());
    assert!(String::from_utf8_lossy(&again.stdout).contains("kept  "), "{again:?}");
    assert_eq!(fs::read(&secret).unwrap(), first);
}

#[test]
fn completions_and_manual_pages_are_made() {
    let dir = tempfile::tempdir().unwrap();
    let bash = southbridge(dir.path(), &["completions", "bash"]);
    assert!(String::from_utf8_lossy(&bash.stdout).contains("_southbridge"));
    assert!(southbridge(dir.path(), &["man", "--dir", "man"]).status.success());
    assert!(dir.path().join("man/southbridge-check-config.1").exists());
}

fn snapshot(file: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is out of date; run with UPDATE_SNAPSHOTS=1 and look at the difference\n{found}"
    );
}
