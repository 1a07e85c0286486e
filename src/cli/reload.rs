//! The config file of a running process, and whether it has changed since it was read. It is only looked at here, never put into
//! force.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::admin::in_force::InForce;
use crate::config::Loaded;
use crate::config::stamp::{Stamp, stamp, stamps};

/// How often files are looked at. One that has changed is read when it has stayed the same for as long again.
const LOOK: Duration = Duration::from_secs(1);

/// Where a config came from.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    /// Those that it includes too.
    files: Vec<PathBuf>,
    is_watched: bool,
    /// What was read.
    in_force: Option<InForce>,
    /// As they were when they were last read, and looked at.
    read: Vec<Stamp>,
    seen: Vec<Stamp>,
}

impl Source {
    pub(super) fn new(path: &Path, loaded: &Loaded) -> Source {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (files, is_watched) = (watched(loaded), loaded.config.process.watch);
        let in_force = Some(InForce::of(loaded));
        let (read, seen) = (Vec::new(), Vec::new());
        let mut source = Source { path, files, is_watched, in_force, read, seen };
        source.note();
        source
    }

    /// Looks after other files, those known already as they were when they were read.
    fn watch_instead(&mut self, files: Vec<PathBuf>) {
        let known = |file: &PathBuf| self.files.iter().position(|known| known == file);
        let read = files.iter().map(|file| match known(file) {
            Some(at) => self.read[at],
            None => stamp(file),
        });
        (self.read, self.files) = (read.collect(), files);
        self.seen.clone_from(&self.read);
    }

    /// Takes the files as read in the state that they are in now, before they are: what is written meanwhile is read next time.
    /// A file that is wrong now is read again when it has changed once more.
    pub(super) fn note(&mut self) {
        self.read = stamps(&self.files);
        self.seen.clone_from(&self.read);
    }

    /// Waits until a file has changed, if that is to be noticed.
    pub(super) async fn changed(&mut self) {
        if !self.is_watched {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(LOOK).await;
            let now = stamps(&self.files);
            if now != self.read && now == self.seen {
                return;
            }
            self.seen = now;
        }
    }

    /// What was read at the start; once.
    pub(super) fn take_in_force(&mut self) -> Option<InForce> {
        self.in_force.take()
    }

    /// Where the config is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Every file that it was read from, and the folders in which more may come.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Whether changes are to be noticed from now on.
    pub(super) fn watch(&mut self, is_watched: bool) {
        self.is_watched = is_watched;
    }

    /// What was read is in force: its files are looked after from now on.
    pub(super) fn follow(&mut self, loaded: &Loaded) {
        self.watch_instead(watched(loaded));
        self.is_watched = loaded.config.process.watch;
    }
}

/// What is to be looked at: a folder changes when a file comes or goes in it. The working folder may become another one.
fn watched(loaded: &Loaded) -> Vec<PathBuf> {
    let all = loaded.files.iter().chain(&loaded.folders);
    // An empty path stands for the working folder, but cannot be made absolute as such.
    let absolute = |path: &PathBuf| std::path::absolute(Path::new(".").join(path));
    all.map(|path| absolute(path).unwrap_or_else(|_| path.clone())).collect()
}
