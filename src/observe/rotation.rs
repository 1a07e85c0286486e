//! A log file that is begun anew by itself, before it is too large or too old. Several may write to one file, as a process and the one
//! that takes over from it do: so whoever finds another file in its place goes on there, and one alone moves it away. No line is lost
//! by it, since what cannot be moved is written on.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::log_file::{self, Owner};
use crate::config::Rotation;

/// How long to write on before moving a file is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// A log file, open to be appended to.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    rotation: Option<Rotation>,
    /// Which of the spans of `every` was written in last; none in an empty file.
    span: Option<u64>,
    /// Since when it cannot be moved.
    failed: Option<Instant>,
}

impl LogFile {
    pub(super) fn open(
        path: &Path,
        rotation: Option<Rotation>,
        owner: Option<Owner>,
    ) -> io::Result<LogFile> {
        let file = log_file::open(path, owner)?;
        let span = span_of(&file, rotation.as_ref());
        Ok(LogFile { path: path.to_owned(), file, rotation, span, failed: None })
    }

    /// Goes on in the file that is at the path now, and makes it if there is none.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        // Whoever could give a file away has become somebody else by now.
        self.goes_on_in(log_file::open(&self.path, None)?);
        Ok(())
    }

    /// Begins a new file, if one is due before so many bytes; whether it did. An error is told once; the old file is written on.
    pub(super) fn make_room(&mut self, bytes: usize) -> Result<bool, String> {
        let Some(rotation) = self.rotation.clone() else { return Ok(false) };
        if self.failed.is_some_and(|since| since.elapsed() < AGAIN_AFTER) {
            return Ok(false);
        }
        match self.rotate_if_due(&rotation, bytes) {
            Ok(is_new) => {
                self.failed = None;
                Ok(is_new)
            }
            Err(error) => {
                let is_news = self.failed.replace(Instant::now()).is_none();
                let path = self.path.display();
                let said = || {
                    format!(
                        "rotate {path}: {error}; going on with the old file. Whoever Evenkeel runs as must \
                         be able to write in its folder"
                    )
                };
                if is_news { Err(said()) } else { Ok(false) }
            }
        }
    }

    fn rotate_if_due(&mut self, rotation: &Rotation, bytes: usize) -> io::Result<bool> {
        let held = self.file.metadata()?;
        // A pipe or a device has no size and no successor.
        if !held.is_file() {
            return Ok(false);
        }
        if self.is_elsewhere(&held)? {
            return self.reopen().map(|()| true);
        }
        let span = span_at(SystemTime::now(), rotation);
        let is_old = span.is_some() && self.span.is_some_and(|last| Some(last) != span);
        let is_large =
            rotation.size.is_some_and(|most| held.len() + bytes as u64 > most.0 && held.len() > 0);
        self.span = span;
        if (is_old && held.len() > 0) || is_large {
            return self.rotate(&held, rotation.keep);
        }
        Ok(false)
    }

    fn rotate(&mut self, held: &Metadata, keep: u32) -> io::Result<bool> {
        let locked = flock(&self.file, FlockOperation::NonBlockingLockExclusive);
        // Somebody else is at it. Any other error: not every file system has locks, and few files have two writers.
        if locked == Err(Errno::WOULDBLOCK) {
            return Ok(false);
        }
        if self.is_elsewhere(held)? {
            return self.reopen().map(|()| true);
        }
        // With the old file, its lock goes.
        self.goes_on_in(log_file::rotate(&self.path, keep)?);
        Ok(true)
    }

    /// Whether another file is at the path, or none.
    fn is_elsewhere(&self, held: &Metadata) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(there) => Ok((there.dev(), there.ino()) != (held.dev(), held.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            // Out of sight for this process; whoever keeps the rights sees more.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn goes_on_in(&mut self, file: File) {
        self.span = span_of(&file, self.rotation.as_ref());
        self.file = file;
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn span_of(file: &File, rotation: Option<&Rotation>) -> Option<u64> {
    let about = file.metadata().ok().filter(|about| about.len() > 0)?;
    span_at(about.modified().ok()?, rotation?)
}

/// The number of the span of `every` that a moment is in, since 1970.
fn span_at(moment: SystemTime, rotation: &Rotation) -> Option<u64> {
    let every = rotation.every?.0.as_millis().max(1);
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis() / every).ok()
}
