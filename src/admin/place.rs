//! Where the admin socket of an instance is when its config does not say: in a folder of the user's, under a name that follows
//! from the path of the config file. So commands find the process by the same file that it was started with.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest;

use crate::config::{Admin, AdminListen};

/// As much of a config file's name is in the name of the socket, whose whole path has at most 107 bytes.
const STEM_MAX: usize = 24;

/// Every path where the socket of a config file may be, the likeliest first.
///
/// A process takes the first that it can have. A command looks at all: systemd tells `RUNTIME_DIRECTORY` to the service alone.
pub(crate) fn of(config_file: &Path) -> Vec<PathBuf> {
    of_user(config_file, rustix::process::geteuid().as_raw())
}

fn of_user(config_file: &Path, user: u32) -> Vec<PathBuf> {
    let name = name(config_file);
    folders(user).into_iter().map(|folder| folder.join(&name)).collect()
}

/// The sockets that a process of this config may open which is this user, or will be; the likeliest first.
pub(crate) fn sockets(admin: &Admin, config_file: &Path, user: u32) -> Vec<PathBuf> {
    match AdminListen::socket(&admin.listen) {
        Some(AdminListen::Unix(path)) => vec![path.clone()],
        Some(_) => Vec::new(),
        None => of_user(config_file, user),
    }
}

/// Has the folder of the first that can be had be there, while it can be made.
pub(crate) fn make_room(sockets: &[PathBuf]) {
    let _ = sockets.iter().find(|socket| prepare(socket).is_ok());
}

/// `FILE-1a2b3c4d.sock`.
fn name(config_file: &Path) -> String {
    let path = plain(config_file);
    let digest = digest::digest(&digest::SHA256, path.as_os_str().as_encoded_bytes());
    let short: String = digest.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let spelled = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let stem: String = stem.chars().take(STEM_MAX).map(spelled).collect();
    format!("{stem}-{short}.sock")
}

/// The absolute path without `.` and `..`. Links stay as they are: they may lead elsewhere tomorrow, to the next release.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

fn folders(user: u32) -> Vec<PathBuf> {
    let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let mut all = Vec::new();
    // systemd separates several by a colon.
    if let Some(service) = named("RUNTIME_DIRECTORY")
        && let Some(first) = service.to_string_lossy().split(':').next()
    {
        all.push(PathBuf::from(first));
    }
    if let Some(user) = named("XDG_RUNTIME_DIR") {
        all.push(PathBuf::from(user).join("evenkeel"));
    }
    all.push(PathBuf::from("/run/evenkeel"));
    all.push(in_temp_of(user));
    all
}

fn in_temp() -> PathBuf {
    in_temp_of(rustix::process::geteuid().as_raw())
}

fn in_temp_of(user: u32) -> PathBuf {
    std::env::temp_dir().join(format!("evenkeel-{user}"))
}

/// Has the folder of a socket be there. One that is made is for its user alone, and so is the one in the temp folder, where
/// anybody may have been first.
pub(super) fn prepare(socket: &Path) -> io::Result<()> {
    let Some(folder) = socket.parent() else { return Ok(()) };
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    if folder == in_temp() { is_own(folder) } else { Ok(()) }
}

/// Leaves the folders of sockets to whoever this process becomes, while it has the right to: the one that the service manager made
/// for this service, and one that is made here. A folder that was there before stays whose it is.
pub(crate) fn leave_to(user: u32, group: u32) {
    let service = std::env::var_os("RUNTIME_DIRECTORY").filter(|value| !value.is_empty());
    let folder = match &service {
        Some(service) => {
            PathBuf::from(service.to_string_lossy().split(':').next().unwrap_or_default())
        }
        None => PathBuf::from("/run/evenkeel"),
    };
    let is_made = DirBuilder::new().mode(0o700).create(&folder).is_ok();
    let mut left = (is_made || service.is_some()).then_some(folder.clone());
    if left.is_none() && std::fs::metadata(&folder).map_or(true, |about| about.uid() != user) {
        // It is somebody else's: the next place is in the temp folder, where it cannot be made later.
        let own = in_temp_of(user);
        left = DirBuilder::new().mode(0o700).create(&own).is_ok().then_some(own);
    }
    if let Some(folder) = left
        && let Err(error) = std::os::unix::fs::chown(&folder, Some(user), Some(group))
    {
        tracing::warn!("{} cannot be left to user {user}: {error}", folder.display());
    }
}

/// Whether a socket may be trusted to be of whom it seems to be.
pub(crate) fn is_trusted(socket: &Path) -> bool {
    socket.parent() != Some(&in_temp()) || is_own(&in_temp()).is_ok()
}

fn is_own(folder: &Path) -> io::Result<()> {
    let about = std::fs::symlink_metadata(folder)?;
    let user = rustix::process::geteuid().as_raw();
    if !about.is_dir() || about.uid() != user || about.mode() & 0o077 != 0 {
        let said = "the folder is not this user's alone; remove it, or set `listen` in [admin]";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_the_path_and_differs_for_files_of_one_name() {
        let one = name(Path::new("/etc/a/evenkeel.toml"));
        assert_eq!(one, name(Path::new("/etc/b/../a/./evenkeel.toml")));
        assert_ne!(one, name(Path::new("/etc/b/evenkeel.toml")));
        assert!(one.starts_with("evenkeel-") && one.ends_with(".sock") && one.len() == 22);
        assert!(name(&Path::new("/etc").join("ü".repeat(80))).is_ascii());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let allow = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(folder.path(), mode).unwrap();
        };
        allow(0o700);
        assert!(is_own(folder.path()).is_ok());
        allow(0o777);
        assert!(is_own(folder.path()).is_err());
    }
}
