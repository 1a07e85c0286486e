//! Log files: opened to be appended to, and given to the user that the process will become, who has to be able to open them
//! anew. Only a file that is made here changes hands: one that was there could be anybody's, by a link as well.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::keeper;

/// Numbers of the user and the group that a new file is given to.
pub(crate) type Owner = (u32, u32);

/// Opens a log file, and makes it if it is not there; by whoever keeps the rights, where this process may not.
pub(crate) fn open(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    keeper::log_file(open_here(path, owner), path)
}

/// The same with the rights of this process.
pub(crate) fn open_here(path: &Path, owner: Option<Owner>) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    let Some((user, group)) = owner else {
        return options.create(true).open(path);
    };
    // This never follows a link.
    match options.clone().create_new(true).open(path) {
        Ok(file) => {
            std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_a_file_that_is_made_here_changes_hands() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new, link) = ["old", "new", "link"].map(|name| folder.path().join(name)).into();
        File::create(&old).unwrap();
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let ours = old.metadata().unwrap();
        // Whoever is not root can give a file to nobody but itself.
        let owner = match ours.uid() {
            0 => (4_000_000, 4_000_001),
            user => (user, ours.gid()),
        };
        for path in [&old, &new, &link] {
            open(path, Some(owner)).unwrap();
        }
        let owners = |path: &Path| path.metadata().map(|about| (about.uid(), about.gid())).unwrap();
        assert_eq!(owners(&new), owner);
        assert_eq!(owners(&old), (ours.uid(), ours.gid()));
    }
}
