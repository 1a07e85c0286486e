//! The config file of a running process: read again when it is asked for, or when the file has changed. A file that cannot be
//! used changes nothing, and the log says why.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Config, Loaded};
use crate::process::lacking;
use crate::{ReloadError, Running};

/// How often files are looked at. One that has changed is read when it has stayed the same for as long again.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of a file from another: number, length, time of the last change. None is no file.
type Stamp = Option<(u64, u64, i64, i64)>;

/// Where a config came from.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    /// Those that it includes too.
    files: Vec<PathBuf>,
    is_watched: bool,
    /// As they were when they were last read, and looked at.
    read: Vec<Stamp>,
    seen: Vec<Stamp>,
}

impl Source {
    pub(super) fn new(path: &Path, loaded: &Loaded) -> Source {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let (files, is_watched) = (watched(loaded), loaded.config.process.watch);
        let mut source = Source { path, files, is_watched, read: Vec::new(), seen: Vec::new() };
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

    fn note(&mut self) {
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

    /// Reads the file and puts it into force, or says why not; what came of it, in a line.
    pub(super) fn reload(&mut self, running: &Running) -> String {
        // As they are before they are read: what is written meanwhile is read next time. A file that is wrong now is read again
        // when it has changed once more.
        self.note();
        let file = self.path.display();
        let loaded = match Config::from_file(&self.path) {
            Ok(loaded) => loaded,
            Err(problems) => return refuse(&format!("{file}\n{problems}")),
        };
        if !loaded.warnings.is_empty() {
            tracing::warn!("{}", loaded.warnings);
        }
        let (files, is_watched) = (watched(&loaded), loaded.config.process.watch);
        match running.reload(loaded.config) {
            Err(ReloadError::HandedOver) => {
                let said = ReloadError::HandedOver.to_string();
                tracing::info!("reload: {said}");
                said
            }
            Err(error) => refuse(&error.to_string()),
            Ok(done) => {
                for change in &done.changes {
                    tracing::info!("reload: {change}");
                }
                for key in &done.after_restart {
                    tracing::warn!("reload: {key} takes effect with the next start only");
                }
                tracing::info!("reloaded {file}; {} changes", done.changes.len());
                self.watch_instead(files);
                self.is_watched = is_watched;
                format!("serving; reloaded with {} changes", done.changes.len())
            }
        }
    }
}

fn refuse(why: &str) -> String {
    tracing::error!("reload refused, nothing has changed: {why}");
    if let Some(reason) = lacking(why) {
        tracing::error!("{reason}");
    }
    "serving; a reload was refused, the log says why".to_owned()
}

/// What is to be looked at: a folder changes when a file comes or goes in it. The working folder may become another one.
fn watched(loaded: &Loaded) -> Vec<PathBuf> {
    let all = loaded.files.iter().chain(&loaded.folders);
    // An empty path stands for the working folder, but cannot be made absolute as such.
    let absolute = |path: &PathBuf| std::path::absolute(Path::new(".").join(path));
    all.map(|path| absolute(path).unwrap_or_else(|_| path.clone())).collect()
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|file| stamp(file)).collect()
}

fn stamp(file: &Path) -> Stamp {
    let about = std::fs::metadata(file).ok()?;
    Some((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}
