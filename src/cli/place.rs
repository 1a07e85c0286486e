//! The place of this process in a row of processes that take over from each other: who was before it, and what is started after
//! it. Both are found out first of all, while the folder and the search path are still those of the start.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;

use crate::process::{Predecessor, Successor};

/// What a process is started with that takes over.
pub(super) const TAKE_OVER: &str = "--take-over";

/// Who was before, and who comes after.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) successor: Successor,
    pub(super) before: Option<Predecessor>,
    /// Listening sockets that whoever started this process has opened for it (sd_listen_fds(3)).
    pub(super) passed: Vec<OwnedFd>,
}

impl Place {
    /// As it is at the start of the process.
    pub(super) fn find(takes_over: bool) -> std::io::Result<Place> {
        let mut line = std::env::args_os();
        let called = line.next().unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = match program(&called, &path) {
            Some(program) => program,
            None => std::env::current_exe()?,
        };
        let before = takes_over.then(Predecessor::at_stdin).transpose()?;
        let successor =
            Successor { program, arguments: arguments(line), folder: None, starter: None };
        Ok(Place { successor, before, passed: passed()? })
    }

    /// Says to whoever was before why this process cannot begin.
    pub(super) fn refuse(&self, why: &str) {
        if let Some(before) = &self.before {
            before.refuse(why);
        }
    }
}

/// Where a program stands that was called so. Links are left as they are: an upgrade may be a link that now leads elsewhere.
fn program(called: &OsStr, search: &OsStr) -> Option<PathBuf> {
    let runs = |path: &Path| {
        let about = std::fs::metadata(path);
        about.is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
    };
    let called = Path::new(called);
    let found = match called.components().count() {
        0 => None,
        1 if called.parent() == Some(Path::new("")) && !called.has_root() => {
            std::env::split_paths(search).map(|folder| folder.join(called)).find(|it| runs(it))
        }
        _ => Some(called.to_owned()),
    };
    std::path::absolute(found.filter(|it| runs(it))?).ok()
}

/// Takes what was passed, once, and out of the environment of what this process starts.
fn passed() -> std::io::Result<Vec<OwnedFd>> {
    let mut passed = ListenFd::from_env();
    let each = (0..passed.len()).map(|number| {
        let wrong = |kind| std::io::Error::other(format!("socket {number} of LISTEN_FDS: {kind}"));
        if let Ok(Some(listener)) = passed.take_tcp_listener(number) {
            return Ok(listener.into());
        }
        match passed.take_unix_listener(number) {
            Ok(Some(listener)) => Ok(listener.into()),
            _ => Err(wrong("it must be a stream socket, TCP or Unix")),
        }
    });
    each.collect()
}

fn arguments(line: impl Iterator<Item = OsString>) -> Vec<OsString> {
    line.filter(|argument| argument != TAKE_OVER).chain([TAKE_OVER.into()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_as_it_was_called_and_links_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("balancer");
        std::os::unix::fs::symlink("/bin/sh", &link).unwrap();
        assert_eq!(program("balancer".as_ref(), folder.path().as_os_str()), Some(link.clone()));
        assert_eq!(program(link.as_os_str(), "".as_ref()), Some(link));
        assert_eq!(program("balancer".as_ref(), "/nowhere".as_ref()), None);
        std::fs::write(folder.path().join("text"), "no program").unwrap();
        assert_eq!(program("text".as_ref(), folder.path().as_os_str()), None);
    }

    #[test]
    fn who_takes_over_is_told_so_once() {
        let line = ["run", "--take-over", "-c", "a.toml"].map(OsString::from);
        assert_eq!(arguments(line.into_iter()), ["run", "-c", "a.toml", "--take-over"]);
    }
}
