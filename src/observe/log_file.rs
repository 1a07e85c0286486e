//! Log files: opened to be appended to, moved away when they are full, and given to the user that the process will become, who has to be able to open them
//! anew. Only a file that is made here changes hands: one that was there could be anybody's, by a link as well.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::keeper;

/// The most files that are kept.
const KEEP_MAX: u32 = 999;

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

/// Moves a log file away and opens a new one in its place, by whoever keeps the rights where this process may not: `a.log` becomes
/// `a.log.1`, and of these `keep` are left.
pub(crate) fn rotate(path: &Path, keep: u32) -> io::Result<File> {
    keeper::rotated_log(rotate_here(path, keep, None), path, keep)
}

/// The same with the rights of this process.
pub(crate) fn rotate_here(path: &Path, keep: u32, owner: Option<Owner>) -> io::Result<File> {
    // Where a link leads is what is moved, and not the link.
    let there = path.canonicalize();
    let path = there.as_deref().unwrap_or(path);
    let aside = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    // Up to the first gap, so that a second try after one that failed half way moves nothing twice.
    let free = (1..keep).find(|number| !aside(*number).exists()).unwrap_or(keep);
    for number in (1..free).rev() {
        std::fs::rename(aside(number), aside(number + 1))?;
    }
    match std::fs::rename(path, aside(1)) {
        // Made anew, also when a try before this one came no further.
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Those of a time when more were kept.
    (keep + 1..=KEEP_MAX).take_while(|number| std::fs::remove_file(aside(*number)).is_ok()).count();
    open_here(path, owner)
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
    #[test]
    fn older_files_move_on_by_one_and_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let all = || {
            let files = std::fs::read_dir(folder.path()).unwrap().flatten();
            let files = files.map(|file| {
                let name = file.file_name().into_string().unwrap();
                (name, std::fs::read_to_string(file.path()).unwrap())
            });
            let mut files: Vec<_> = files.collect();
            files.sort();
            files.into_iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>()
        };
        for number in 1..=5 {
            std::fs::write(&path, number.to_string()).unwrap();
            rotate(&path, 3).unwrap();
        }
        assert_eq!(all(), ["a.log=", "a.log.1=5", "a.log.2=4", "a.log.3=3"]);
        // One that has failed half way has left a gap, and what is behind it stays.
        std::fs::write(&path, "6").unwrap();
        std::fs::remove_file(folder.path().join("a.log.1")).unwrap();
        rotate(&path, 3).unwrap();
        assert_eq!(all(), ["a.log=", "a.log.1=6", "a.log.2=4", "a.log.3=3"]);
        std::fs::write(&path, "7").unwrap();
        rotate(&path, 1).unwrap();
        assert_eq!(all(), ["a.log=", "a.log.1=7"]);
    }

    #[test]
    fn what_a_link_leads_to_is_moved_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (there, link) = (folder.path().join("there.log"), folder.path().join("link.log"));
        std::fs::write(&there, "1").unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        rotate(&link, 3).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("there.log.1")).unwrap(), "1");
        assert!(link.is_symlink() && std::fs::read_to_string(&link).unwrap().is_empty());
    }
}
