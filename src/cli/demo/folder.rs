//! The folder of one demo: its config file, its admin socket, its token, its journal and a link to this program, so that commands which
//! are pasted elsewhere find all of them. It is for its user alone and is taken away with the demo; nothing else is ever written.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand;

use crate::process::program;

/// The config file: commands that name none look for this one.
const CONFIG: &str = super::super::DEFAULT_FILE;
/// A longer path leaves a command no room in a line of 80.
const PARENT_MAX: usize = 24;
/// Names that are tried, each one at random.
const TRIES: u32 = 100;

/// A folder of this run. Dropping it takes it away with all that is in it.
pub(super) struct Folder {
    path: PathBuf,
    token: String,
}

impl Folder {
    /// Makes it, with a new token and the link in it.
    pub(super) fn make() -> io::Result<Folder> {
        let folder = Folder { path: make_in(&parents())?, token: random::<16>()? };
        let program = program::path().ok_or(io::ErrorKind::NotFound)?;
        symlink(program, folder.path.join("evenkeel"))?;
        write(&folder.token_file(), &folder.token)?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the dashboard has to be shown.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.path.join("token")
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// Writes the config file, for the first time or anew.
    pub(super) fn write_config(&self, config: &str) -> io::Result<()> {
        write(&self.config_file(), config)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Where it may be: in the folder for temporary files, if that has a short name which can be pasted anywhere without quotes; and on
/// memory, where nothing else can be written to.
fn parents() -> Vec<PathBuf> {
    let is_plain = |text: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
        text.starts_with('/') && text.len() <= PARENT_MAX && text.bytes().all(is_plain)
    };
    let wished = std::env::temp_dir();
    let wished = wished.to_str().filter(|text| is_plain(text)).unwrap_or("/tmp");
    [wished, "/dev/shm"].map(PathBuf::from).to_vec()
}

fn make_in(parents: &[PathBuf]) -> io::Result<PathBuf> {
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    for parent in parents {
        for _ in 0..TRIES {
            let path = parent.join(format!("evenkeel.{}", random::<2>()?));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(path),
                Err(error) => failed = error,
            }
            // Somebody else's is never taken, whatever it is.
            if failed.kind() != io::ErrorKind::AlreadyExists {
                break;
            }
        }
        let said = format!("make a folder in {}: {failed}", parent.display());
        failed = io::Error::new(failed.kind(), said);
    }
    Err(failed)
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// So many random bytes, in hexadecimal digits.
fn random<const BYTES: usize>() -> io::Result<String> {
    let mut bytes = [0; BYTES];
    rand::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn where_nothing_can_be_made_the_next_place_is_taken() {
        let (nowhere, good) = ("/proc/self/none".into(), tempfile::tempdir().unwrap());
        let made = make_in(&[nowhere, good.path().to_owned()]).unwrap();
        assert_eq!(made.parent(), Some(good.path()));
        let error = make_in(&["/proc/self/none".into()]).unwrap_err().to_string();
        assert!(error.starts_with("make a folder in /proc/self/none: "), "{error}");
    }

    #[test]
    fn the_folder_is_for_its_user_alone_and_goes_with_what_is_in_it() {
        let (first, second) = (Folder::make().unwrap(), Folder::make().unwrap());
        assert_ne!((first.path(), first.token()), (second.path(), second.token()));
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(first.path()), mode(&first.token_file())), (0o700, 0o600));
        first.write_config("# longer\n").unwrap();
        first.write_config("# short\n").unwrap();
        assert_eq!(std::fs::read_to_string(first.config_file()).unwrap(), "# short\n");
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().exists());
    }
}
