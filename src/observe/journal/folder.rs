//! Where a journal is: in a folder of its process, on memory (tmpfs) unless the config names another, so that no disk can be full or
//! slow. A process that ends in order takes its folder away; of those that did not, the newest is kept to be looked at.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};

/// The beginning of a folder's name; the process and a number follow.
pub(super) const PREFIX: &str = "journal-";

/// `f_type` of a tmpfs (statfs(2)).
const TMPFS: u64 = 0x0102_1994;

/// The file that a process holds locked for as long as it lives.
const LOCK: &str = "lock";

/// A folder without that file is somebody's who has just begun, or died within its first moments.
const FIRST_MOMENTS: Duration = Duration::from_secs(60);

/// A folder of this process.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    _lock: File,
}

/// A ring that is smaller would forget what it is asked for.
const RING_BYTES_MIN: u64 = 64 << 10;

impl Folder {
    /// How large each of so many rings can be: as wished for, or less where they would take more than half of what is free there, as
    /// in a container whose memory for this is small.
    pub(crate) fn fitting(&self, wanted: u64, count: u64) -> u64 {
        let about = rustix::fs::statvfs(&self.path);
        let free = about.map_or(u64::MAX, |about| about.f_bavail.saturating_mul(about.f_frsize));
        let most = (free / 2 / count.max(1)).max(RING_BYTES_MIN);
        if most < wanted {
            let (folder, kib) = (self.path.display(), most >> 10);
            tracing::info!("journal: {kib} KiB a worker, as there is little room in {folder}");
        }
        wanted.min(most)
    }
}

/// Makes a folder for this process, and takes away what others have left that are dead, but for the newest.
pub(crate) fn make(wanted: Option<&Path>) -> io::Result<Folder> {
    let parents = match wanted {
        Some(folder) => vec![folder.to_owned()],
        None => in_memory(),
    };
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "there is no folder on tmpfs");
    for parent in parents {
        match make_in(&parent) {
            Ok(path) => {
                let _lock = hold(&path)?;
                clean(&parent);
                return Ok(Folder { path, _lock });
            }
            Err(error) => {
                failed = io::Error::new(error.kind(), format!("{}: {error}", parent.display()));
            }
        }
    }
    Err(failed)
}

/// Folders on memory, the likeliest first.
fn in_memory() -> Vec<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let service = named("RUNTIME_DIRECTORY");
    let service = service.as_ref().map(|value| value.to_string_lossy());
    let service = service.and_then(|value| value.split(':').next().map(PathBuf::from));
    let user = named("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("evenkeel"));
    let id = rustix::process::geteuid().as_raw();
    let shared = PathBuf::from(format!("/dev/shm/evenkeel-{id}"));
    let all = service.into_iter().chain(user).chain([shared]);
    all.filter(|folder| is_in_memory(folder)).collect()
}

/// Whether a folder, or the one it would be made in, is on a tmpfs.
fn is_in_memory(folder: &Path) -> bool {
    let existing = folder.ancestors().find(|folder| folder.exists());
    let about = existing.and_then(|folder| rustix::fs::statfs(folder).ok());
    about.is_some_and(|about| u64::try_from(about.f_type) == Ok(TMPFS))
}

fn make_in(parent: &Path) -> io::Result<PathBuf> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    match builder.create(parent) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // In a folder that anybody can write to, somebody else may have been first.
    let about = std::fs::symlink_metadata(parent)?;
    let is_ours = about.uid() == rustix::process::geteuid().as_raw();
    if !about.is_dir() || !is_ours || about.mode() & 0o022 != 0 {
        let said = "it is not this user's own folder";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    let process = std::process::id();
    // A process may carry several proxies.
    for number in 0..1000 {
        let folder = parent.join(format!("{PREFIX}{process}-{number}"));
        match builder.create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| folder),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many journals of one process"))
}

/// Locks a folder of ours, so that others see that its process lives: by its number they could not, where each container has
/// numbers of its own.
fn hold(folder: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let lock = options.write(true).create_new(true).mode(0o600).open(folder.join(LOCK))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Takes away what processes have left that have died, but for the newest.
fn clean(parent: &Path) {
    let mut left: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_one = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let Some(changed) = entry.metadata().and_then(|about| about.modified()).ok() else {
            continue;
        };
        if is_one && is_left(&entry.path(), changed) {
            left.push((changed, entry.path()));
        }
    }
    left.sort();
    left.pop();
    for (_, folder) in left {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Whether the process of a folder has died.
fn is_left(folder: &Path, changed: SystemTime) -> bool {
    match File::open(folder.join(LOCK)) {
        // The lock is given back at once, with the file.
        Ok(lock) => flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        Err(_) => changed.elapsed().is_ok_and(|age| age > FIRST_MOMENTS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_who_died_the_newest_is_kept() {
        let parent = tempfile::tempdir().unwrap();
        let left = |number: u32| parent.path().join(format!("journal-{number}-0"));
        for number in 1..=3 {
            std::fs::create_dir(left(number)).unwrap();
            std::fs::write(left(number).join(LOCK), "").unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(number));
            File::open(left(number)).unwrap().set_modified(at).unwrap();
        }
        // Somebody lives whose number means nothing here.
        std::fs::create_dir(left(4)).unwrap();
        let lock = hold(&left(4)).unwrap();
        std::fs::create_dir(parent.path().join("something-else")).unwrap();
        let own = make(Some(parent.path())).unwrap();
        let second = make(Some(parent.path())).unwrap();
        assert_ne!(own.path, second.path);
        assert!(own.path.is_dir() && parent.path().join("something-else").is_dir());
        assert_eq!([1, 2, 3, 4].map(|number| left(number).exists()), [false, false, true, true]);
        drop(lock);
    }

    #[test]
    fn a_folder_of_others_or_none_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let open = parent.path().join("open");
        std::fs::create_dir(&open).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&open, mode).unwrap();
        assert!(make(Some(&open)).is_err());
        assert!(make(Some(&parent.path().join("a/b"))).is_err());
    }
}
