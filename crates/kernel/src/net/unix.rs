//! Binds unix sockets: with the right mode before anybody can connect, and never over somebody who listens.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::io::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

use super::ListenError;

/// A socket that listens at `path`, with the permission bits `mode`.
pub(super) fn bind(path: &Path, mode: u32, backlog: i32) -> Result<Socket, ListenError> {
    clear_place(path)?;
    let bound = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // Until it listens nobody can connect, so nobody ever meets other permissions than these.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        socket.listen(backlog)?;
        Ok(socket)
    };
    bound().map_err(|source| ListenError::Failed { address: name(path), source })
}

/// Makes sure that the place is free: a socket that nobody listens at is removed, and nothing else.
fn clear_place(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Failed { address: name(path), source };
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !found.file_type().is_socket() {
        return Err(ListenError::NotASocket { path: path.to_owned() });
    }
    match knock(path) {
        // Nobody listens; the file was left behind.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::CONNREFUSED) => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Somebody does: at once, with a full queue, or with a mode that keeps us out.
        _ => Err(ListenError::InUse { address: name(path) }),
    }
}

fn knock(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn name(path: &Path) -> String {
    format!("unix:{}", path.display())
}
