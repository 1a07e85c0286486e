//! Whether a file is what it seems to be, whatever a user may want instead: nobody but root, and the user we are, can put another one in
//! its place, or a link. Whoever has more rights than that user opens nothing else for him.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Where a path leads, if nobody else can change that on the way.
pub(super) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut links = 0;
    let mut left: Vec<PathBuf> = parts(path);
    let mut at = PathBuf::from("/");
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        // In it, something else could be put in the place of what comes next.
        is_closed(&at).or_else(|error| if is_kept(&at, &next) { Ok(()) } else { Err(error) })?;
        match std::fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                left.extend(parts(&target));
            }
            Err(_) => at = next,
        }
    }
    Ok(at)
}

/// Its steps, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let steps = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(PathBuf::from(name)),
        Component::ParentDir => Some(PathBuf::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut steps: Vec<_> = steps.collect();
    steps.reverse();
    steps
}

/// Whether what is in a folder of everybody's, such as /tmp, belongs to us, so that nobody else can move it away (the sticky bit, inode(7)).
fn is_kept(folder: &Path, file: &Path) -> bool {
    let is_sticky = std::fs::metadata(folder).is_ok_and(|about| about.mode() & 0o1000 != 0);
    is_sticky && std::fs::symlink_metadata(file).is_ok_and(|about| is_ours(about.uid()))
}

fn is_ours(user: u32) -> bool {
    [0, rustix::process::geteuid().as_raw()].contains(&user)
}

/// Whether nobody else can write here: neither its owner, nor a group but root's, nor everybody.
pub(super) fn is_closed(path: &Path) -> io::Result<()> {
    let about = std::fs::metadata(path)?;
    let by_group = about.mode() & 0o020 != 0 && about.gid() != 0;
    if !is_ours(about.uid()) || by_group || about.mode() & 0o002 != 0 {
        let said = format!("{} can be changed by others than root", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    Ok(())
}

/// Opens a file to read. It may be a pipe, which is not waited for.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32);
    options.open(resolved(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn what_others_can_put_in_its_place_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for made in ["own", "open"] {
            std::fs::create_dir(at(made)).unwrap();
            std::fs::write(at(made).join("file"), made).unwrap();
        }
        let open_to_all = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(at("open"), open_to_all).unwrap();
        symlink("own/file", at("link")).unwrap();
        symlink("open/file", at("bad")).unwrap();
        symlink(at("own/file"), at("open").join("out")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for fine in ["own/file", "link", "own/../own/./file"] {
            assert!(open(&at(fine)).is_ok(), "{fine}");
            assert_eq!(resolved(&at(fine)).unwrap(), at("own/file"), "{fine}");
        }
        for bad in ["open/file", "bad", "open/out", "open/../own/../open/file", "loop"] {
            assert!(open(&at(bad)).is_err(), "{bad}");
        }
        // What is not there yet may come, from us alone.
        assert_eq!(resolved(&at("own/new")).unwrap(), at("own/new"));
        assert!(resolved(&at("open/new")).is_err());
    }
}
