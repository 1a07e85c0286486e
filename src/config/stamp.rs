//! Whether files have changed since they were looked at, by what the system says of them. It reads none of them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another: number, length, time of the last change. None is no file.
pub(crate) type Stamp = Option<(u64, u64, i64, i64)>;

/// Those of several files.
pub(crate) fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

/// That of one.
pub(crate) fn stamp(file: &Path) -> Stamp {
    let about = std::fs::metadata(file).ok()?;
    Some((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}
