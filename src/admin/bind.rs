//! Binds the admin socket: under another name first, and moved to its place when only its user can reach it, so that there is
//! no moment at which anybody else could. The place of a process that lives is never taken away from it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::place;
use crate::listen::BoundAddress;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// The first of these places that can be had, also from another process that leaves them to us; where none can, the log says why.
pub(super) fn first(places: &[PathBuf], takes_over: bool) -> Option<(BoundAddress, UnixListener)> {
    let mut failed = Vec::new();
    for path in places {
        let bound = match takes_over {
            true => place::prepare(path).and_then(|()| take(path)),
            false => free(path),
        };
        match bound {
            Ok(bound) => return Some(bound),
            // It is another process of the same config: elsewhere nobody would look for this one.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                failed = vec![format!("{}: another process listens there", path.display())];
                break;
            }
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }
    if !failed.is_empty() {
        let failed = failed.join("; ");
        tracing::warn!(
            "no admin socket, so that `evenkeel reload` and others cannot be used: {failed}; \
             set `listen` in [admin] to a path, or to \"off\""
        );
    }
    None
}

/// Binds a place that nobody living has.
fn free(path: &Path) -> io::Result<(BoundAddress, UnixListener)> {
    place::prepare(path)?;
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let said = "a file that is not a socket is in its place";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, said));
        }
        Ok(_) if is_living(path)? => return Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) | Err(_) => {}
    }
    take(path)
}

fn is_living(path: &Path) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        // Its queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

/// Binds a place, whoever had it: those who connect from now on come here.
fn take(path: &Path) -> io::Result<(BoundAddress, UnixListener)> {
    let beside = path.with_file_name(format!(".{:x}", std::process::id()));
    // Of a process of the same number that did not come further.
    let _ = std::fs::remove_file(&beside);
    let bound = bind(&beside).and_then(|socket| {
        std::fs::rename(&beside, path)?;
        let about = std::fs::symlink_metadata(path)?;
        let file = Some((about.dev(), about.ino()));
        Ok((BoundAddress::Unix { path: path.to_owned(), file }, socket))
    });
    if bound.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    bound
}

/// Until it listens, nobody can connect.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_takes_the_place_and_who_left_does_not_remove_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (first, old) = free(&path).unwrap();
        assert_eq!(free(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let (second, new) = take(&path).unwrap();
        drop(old);
        first.remove_socket_file();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        new.accept().unwrap();
        second.remove_socket_file();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
