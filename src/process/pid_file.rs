//! The pid file: whoever reads it may count on a living process of that number. A file that a dead process has left behind is
//! recognised and replaced; one of a living Evenkeel is respected. Nothing is removed that is not ours.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::observe::log_file::Owner;

/// A pid file of this process. Dropping it removes the file, if it has our number.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
}

impl PidFile {
    /// The file that a config names, if any: claimed, or that of a process which we take over from.
    pub(super) fn find(path: Option<&Path>, takes_over: bool) -> io::Result<Option<Arc<PidFile>>> {
        let Some(path) = path else { return Ok(None) };
        let file = match takes_over {
            true => PidFile { path: path.to_owned() },
            false => PidFile::claim(path)?,
        };
        Ok(Some(Arc::new(file)))
    }

    /// Sees to it that the file can be ours: it is not there, or whoever wrote it is gone. Nothing is written yet.
    pub(crate) fn claim(path: &Path) -> io::Result<PidFile> {
        if let Some(number) = living(path)? {
            let said = format!(
                "{}: evenkeel runs already, as process {number}; stop it first, or give this one a pid-file of its own",
                path.display()
            );
            return Err(io::Error::new(ErrorKind::AlreadyExists, said));
        }
        Ok(PidFile { path: path.to_owned() })
    }

    /// Writes our number over that of a process which leaves the file to us. Its folder may be out of our reach by now.
    pub(crate) fn take_over(&self) -> io::Result<()> {
        self.write(None).or_else(|_| fs::write(&self.path, format!("{}\n", std::process::id())))
    }

    /// Writes our number, as a whole or not at all.
    pub(crate) fn write(&self, owner: Option<Owner>) -> io::Result<()> {
        let own = std::process::id();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = self.path.with_file_name(format!(".{name}.{own}"));
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        };
        let written = write_new(&beside, own, owner).and_then(|()| fs::rename(&beside, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&beside);
            named(error)
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if number_in(&self.path).ok().flatten() != Some(std::process::id()) {
            return;
        }
        // A folder of root's is not ours any more after `user`; the file is, and an empty one names nobody.
        if fs::remove_file(&self.path).is_err() {
            let _ = File::options().write(true).truncate(true).open(&self.path);
        }
    }
}

fn write_new(path: &Path, own: u32, owner: Option<Owner>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = match options.write(true).create_new(true).mode(0o644).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // Left behind by a process that had our number and was killed meanwhile.
            fs::remove_file(path)?;
            options.open(path)
        }
        outcome => outcome,
    }?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::fchown(&file, Some(user), Some(group))?;
    }
    writeln!(file, "{own}")
}

/// What a pid file says; none if it says nothing.
fn number_in(path: &Path) -> io::Result<Option<u32>> {
    match fs::read(path) {
        Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(|text| text.trim().parse().ok())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
    }
}

/// The living Evenkeel that a pid file names.
fn living(path: &Path) -> io::Result<Option<u32>> {
    let Some(number) = number_in(path)? else { return Ok(None) };
    // In containers every start has the number of the one before.
    if number == std::process::id() || number == 0 {
        return Ok(None);
    }
    let its_own = fs::read_link(format!("/proc/{number}/exe"));
    let is_one = match its_own {
        Ok(program) => is_evenkeel(&program),
        // It belongs to somebody else; its name can be read.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let name = fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
            is_evenkeel(Path::new(name.trim()))
        }
        Err(_) => false,
    };
    Ok(is_one.then_some(number))
}

/// Whether a program is one like ours, by the name of its file.
fn is_evenkeel(program: &Path) -> bool {
    let name = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_suffix(super::program::DELETED).map(str::to_owned).unwrap_or(name)
    };
    let (name, own) = (name(program), super::program::path().map(name));
    name == "evenkeel" || own.is_some_and(|own| own == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sleeper(program: &Path) -> Ended {
        let mut command = Command::new(program);
        Ended(command.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn at(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pid");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn the_file_has_our_number_and_is_gone_at_the_end() {
        let (folder, path) = at("nonsense\n");
        let file = PidFile::claim(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nonsense\n", "claiming writes nothing");
        file.write(None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn a_file_that_has_become_another_processs_stays() {
        let (_folder, path) = at("");
        let file = PidFile::find(Some(&path), true).unwrap().unwrap();
        file.take_over().unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn a_file_is_stale_when_its_process_is_gone_or_another_program() {
        let mut gone = sleeper(Path::new("sleep"));
        let number = gone.0.id();
        gone.0.kill().unwrap();
        gone.0.wait().unwrap();
        let other = sleeper(Path::new("sleep"));
        let own = std::process::id();
        for text in [number, other.0.id(), own].map(|number| number.to_string()) {
            let (_folder, path) = at(&text);
            PidFile::claim(&path).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in ["", "0", "-1", "12 13", "999999999999"] {
            let (_folder, path) = at(text);
            PidFile::claim(&path).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn the_file_of_a_living_evenkeel_is_respected_also_when_its_binary_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("evenkeel");
        // By another process: what is open for writing here could be so in a child of another test, and cannot be run then.
        let copied = Command::new("cp").arg("/bin/sleep").arg(&program).status();
        assert!(copied.unwrap().success());
        let living = sleeper(&program);
        let (_folder, path) = at(&living.0.id().to_string());
        let refused = || PidFile::claim(&path).unwrap_err().to_string();
        assert!(refused().contains("evenkeel runs already"), "{}", refused());
        fs::remove_file(&program).unwrap();
        assert!(refused().contains("evenkeel runs already"), "{}", refused());
    }
}
