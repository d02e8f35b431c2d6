//! Secrets: where they come from, and who else may read them.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use southbridge_words::Secret;

/// Where the secret of a door comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// It is known.
    Known(Secret),
    /// It lies in this file, which is made when there is none.
    Made(PathBuf),
}

impl SecretSource {
    /// The secret, made and stored first where it must be.
    ///
    /// # Errors
    /// Says what could not be read or written.
    pub fn resolve(&self) -> Result<(Secret, Created), String> {
        match self {
            Self::Known(secret) => Ok((secret.clone(), Created::Before)),
            Self::Made(path) => read_or_create_secret(path),
        }
    }
}

/// Reads a secret from a file. One newline at its end is not part of it.
///
/// The file may be readable by its owner and its group (0640: Synapse reads the same file), and writable by its
/// owner; anything wider is refused, because whoever reads the secret can speak for the homeserver.
///
/// # Errors
/// Says what is wrong and which command puts it right.
pub fn read_secret_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let mut bytes = read_private_file("secret file", path, SECRET_BYTES_MAX + 1).map_err(|found| match found {
        Unreadable::Missing => format!(
            "secret file {shown} does not exist; make one with `(umask 077; head -c 32 /dev/urandom | base64 > {shown})`"
        ),
        Unreadable::Otherwise(reason) => reason,
    })?;
    trim_newline(&mut bytes);
    check_secret(&bytes).map_err(|reason| format!("secret file {shown} {reason}"))?;
    Ok(Secret::new(bytes))
}

/// Reads a password for another program from a file, under the same rules; it may have any sign that is text.
///
/// # Errors
/// Says what is wrong and which command puts it right.
pub fn read_password_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let mut bytes =
        read_private_file("password file", path, SECRET_BYTES_MAX + 1).map_err(|found| match found {
            Unreadable::Missing => format!("password file {shown} does not exist"),
            Unreadable::Otherwise(reason) => reason,
        })?;
    trim_newline(&mut bytes);
    check_password(&bytes).map_err(|reason| format!("password file {shown} {reason}"))?;
    Ok(Secret::new(bytes))
}

/// Whether `bytes` can be a password.
///
/// # Errors
/// Says what is wrong, and never repeats the bytes.
pub fn check_password(bytes: &[u8]) -> Result<(), String> {
    match bytes.len() as u64 {
        0 => return Err("is empty".to_owned()),
        1..=SECRET_BYTES_MAX => {}
        _ => return Err(format!("has more than {SECRET_BYTES_MAX} bytes")),
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(()),
        _ => Err("is not text".to_owned()),
    }
}

/// Reads the text of a file with signing keys, under the same rules as a secret.
///
/// # Errors
/// Says what is wrong and which command puts it right, and never repeats what stands in the file.
pub fn read_key_file(path: &Path) -> Result<Secret, String> {
    let shown = path.display();
    let bytes = read_private_file("key file", path, KEYS_BYTES_MAX + 1).map_err(|found| match found {
        Unreadable::Missing => {
            format!("key file {shown} does not exist; name the file of Synapse's `signing_key_path`")
        }
        Unreadable::Otherwise(reason) => reason,
    })?;
    if bytes.len() as u64 > KEYS_BYTES_MAX {
        return Err(format!("key file {shown} has more than {KEYS_BYTES_MAX} bytes; this is not a key file"));
    }
    Ok(Secret::new(bytes))
}

/// Why a file is not read.
enum Unreadable {
    /// There is none.
    Missing,
    /// What is wrong with it.
    Otherwise(String),
}

/// At most `bytes_max` bytes of a file that only its owner and its group can read.
fn read_private_file(what: &str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Unreadable> {
    let shown = path.display();
    let otherwise = |reason: String| Unreadable::Otherwise(format!("{what} {shown} {reason}"));
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => otherwise(format!("cannot be opened: {error}")),
    })?;
    let metadata = file.metadata().map_err(|error| otherwise(format!("cannot be examined: {error}")))?;
    if !metadata.is_file() {
        return Err(otherwise("is not a regular file".to_owned()));
    }
    let mode = metadata.mode() & 0o777;
    if mode & TOO_WIDE != 0 {
        let who = if mode & 0o007 != 0 { "everybody" } else { "its group for writing" };
        return Err(otherwise(format!(
            "has mode {mode:04o}, which opens it to {who}; run `chmod 0640 {shown}` (or 0600)"
        )));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max)
        .read_to_end(&mut bytes)
        .map_err(|error| otherwise(format!("cannot be read: {error}")))?;
    Ok(bytes)
}

/// Whether `bytes` can be sent as a bearer token or password.
///
/// # Errors
/// Says what is wrong, and never repeats the bytes.
pub fn check_secret(bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(format!("has more than {SECRET_BYTES_MAX} bytes"));
    }
    match bytes.iter().position(|byte| !byte.is_ascii_graphic()) {
        Some(at) => Err(format!(
            "has a byte at position {at} that cannot stand in a header; use letters, digits and signs"
        )),
        None => Ok(()),
    }
}

/// The secret at `path`, which is made first if there is none: 32 random bytes in hexadecimal, mode 0600.
///
/// # Errors
/// Says what could not be read or written.
pub fn read_or_create_secret(path: &Path) -> Result<(Secret, Created), String> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)
            .map_err(|error| format!("directory {} cannot be made: {error}", dir.display()))?;
    }
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let secret = random_secret();
            file.write_all(&secret)
                .and_then(|()| file.write_all(b"\n"))
                .and_then(|()| file.sync_all())
                .map_err(|error| format!("secret file {} cannot be written: {error}", path.display()))?;
            Ok((Secret::new(secret), Created::Now))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            read_secret_file(path).map(|secret| (secret, Created::Before))
        }
        Err(error) => Err(format!("secret file {} cannot be made: {error}", path.display())),
    }
}

/// Whether a secret file was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It was made just now.
    Now,
    /// It was there.
    Before,
}

fn random_secret() -> Vec<u8> {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn trim_newline(bytes: &mut Vec<u8>) {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
}

/// Anything for others, and write or execute for the group.
const TOO_WIDE: u32 = 0o037;
/// A header line of this length passes every HTTP implementation.
const SECRET_BYTES_MAX: u64 = 4096;
/// A key has 60 bytes; nobody has a thousand of them.
const KEYS_BYTES_MAX: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(dir: &tempfile::TempDir, content: &str, mode: u32) -> PathBuf {
        let path = dir.path().join("proxy.secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_newline_at_the_end_is_not_part_of_the_secret() {
        let dir = tempfile::tempdir().unwrap();
        for (content, secret) in
            [("hunter2\n", "hunter2"), ("hunter2\r\n", "hunter2"), ("hunter2", "hunter2")]
        {
            assert_eq!(read_secret_file(&file(&dir, content, 0o600)).unwrap().expose(), secret.as_bytes());
        }
    }

    /// Synapse runs as another user and reads the same file, so its group may read it; nobody else may.
    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        for mode in [0o600, 0o400, 0o640, 0o440] {
            assert!(read_secret_file(&file(&dir, "hunter2", mode)).is_ok(), "{mode:o}");
        }
        for mode in [0o644, 0o604, 0o660, 0o666, 0o777] {
            let error = read_secret_file(&file(&dir, "hunter2", mode)).unwrap_err();
            assert!(error.contains(&format!("mode {mode:04o}")) && error.contains("chmod 0640"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn missing_empty_and_unprintable_secrets_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| read_secret_file(path).unwrap_err();
        assert!(error(&dir.path().join("none")).contains("does not exist"));
        assert!(error(dir.path()).contains("not a regular file"));
        assert!(error(&file(&dir, "\n", 0o600)).contains("is empty"));
        assert!(error(&file(&dir, "two words", 0o600)).contains("position 3"));
        assert!(error(&file(&dir, &"a".repeat(5000), 0o600)).contains("more than 4096"));
    }

    #[test]
    fn a_made_secret_is_for_its_owner_alone_and_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/proxy.secret");
        let (first, created) = read_or_create_secret(&path).unwrap();
        assert_eq!((created, first.expose().len()), (Created::Now, 64));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let (second, created) = read_or_create_secret(&path).unwrap();
        assert_eq!((created, second), (Created::Before, first));
    }
}
