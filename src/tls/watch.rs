//! Reads certificates, keys and what else stands in files anew when they have changed. What cannot be used changes nothing:
//! what served before goes on serving, and the log says why.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::{Acceptor, Connector, Flaw};

/// How often files are looked at. One that has changed is read when it has stayed the same for as long again, so that a
/// certificate and its key need not come at the same moment.
const LOOK: Duration = Duration::from_secs(1);

/// What is made of files, and made anew when they change.
pub(crate) trait OfFiles: Send + Sync {
    fn files(&self) -> Vec<PathBuf>;

    /// As they were before they were read for the first time.
    fn first_read(&self) -> &[Stamp];

    /// Reads them anew, or changes nothing; says what is out of date.
    fn reload(&self) -> Result<Vec<String>, Flaw>;

    /// When it is no longer what it should be, without a file having changed.
    fn until(&self) -> Option<SystemTime>;

    /// Makes a fresh key of its own if the last one is of this age.
    fn keep_fresh(&self, age: Duration) -> Result<bool, Flaw>;
}

impl OfFiles for Acceptor {
    fn files(&self) -> Vec<PathBuf> {
        self.settings().files()
    }

    fn first_read(&self) -> &[Stamp] {
        Acceptor::first_read(self)
    }

    fn reload(&self) -> Result<Vec<String>, Flaw> {
        Acceptor::reload(self)
    }

    fn until(&self) -> Option<SystemTime> {
        self.offer().until
    }

    fn keep_fresh(&self, age: Duration) -> Result<bool, Flaw> {
        self.keys().keep_fresh(age)
    }
}

impl OfFiles for Connector {
    fn files(&self) -> Vec<PathBuf> {
        self.settings().files()
    }

    fn first_read(&self) -> &[Stamp] {
        Connector::first_read(self)
    }

    fn reload(&self) -> Result<Vec<String>, Flaw> {
        Connector::reload(self).map(|()| Vec::new())
    }

    fn until(&self) -> Option<SystemTime> {
        None
    }

    fn keep_fresh(&self, _: Duration) -> Result<bool, Flaw> {
        Ok(false)
    }
}

/// Something that is made of files, with the name of its section.
pub(crate) type Sectioned = (String, Arc<dyn OfFiles>);

/// Looks after the files of all listeners and upstreams.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    now: Notify,
}

/// After a failure, files are read again as often as this: what was wrong may have been no matter of the files.
const RETRY: Duration = Duration::from_secs(30);

/// What tells one state of a file from another: device and number, length, time of the last change, of what is in it and of
/// what is known about it. None is no file.
pub(super) type Stamp = Option<(u64, u64, u64, [i64; 4])>;

/// The files of one of them.
struct Watched {
    section: String,
    made: Arc<dyn OfFiles>,
    /// As they were when they were last read, or tried to be.
    read: Vec<Stamp>,
    /// As they were when they were last looked at.
    seen: Vec<Stamp>,
    /// When the last key for tickets was made.
    keys_born: Instant,
    /// What is out of date by itself was read anew at this time.
    renewed: Option<SystemTime>,
    /// When they could not be used, and why not.
    failed: Option<(Instant, String)>,
}

impl Watch {
    /// Has all files read anew soon, changed or not.
    pub(crate) fn read_now(&self) {
        self.now.notify_one();
    }

    /// Looks after the files of all these for ever.
    pub(crate) async fn keep_up(self: Arc<Self>, sections: Vec<Sectioned>) {
        let mut all: Vec<_> = sections.into_iter().map(Watched::new).collect();
        loop {
            let asked = tokio::select! {
                () = self.now.notified() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            // A disk that does not answer must not hold up anything else.
            let look = tokio::task::spawn_blocking(move || {
                all.iter_mut().for_each(|watched| watched.look(asked));
                all
            });
            match look.await {
                Ok(looked) => all = looked,
                Err(error) => {
                    tracing::error!("certificates are not looked after any more: {error}");
                    return;
                }
            }
        }
    }
}

impl Watched {
    fn new((section, made): Sectioned) -> Watched {
        let read = made.first_read().to_vec();
        let seen = read.clone();
        Watched {
            section,
            made,
            read,
            seen,
            keys_born: Instant::now(),
            renewed: None,
            failed: None,
        }
    }

    fn look(&mut self, asked: bool) {
        let now = stamps(&self.made.files());
        let changed = now != self.read && now == self.seen;
        self.seen = now;
        let until = self.made.until();
        let is_over =
            until.is_some_and(|until| SystemTime::now() >= until && self.renewed != Some(until));
        if is_over {
            self.renewed = until;
        }
        let is_due = self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() >= RETRY);
        if asked || changed || is_over || is_due {
            self.read_anew(asked || changed);
        }
        match self.made.keep_fresh(self.keys_born.elapsed()) {
            Ok(true) => self.keys_born = Instant::now(),
            Ok(false) => {}
            Err(flaw) => tracing::error!("[{}] tls: no new key for tickets: {flaw}", self.section),
        }
    }

    /// Reads the files; a failure is said once, and again when somebody asked or a file changed.
    fn read_anew(&mut self, is_news: bool) {
        self.read.clone_from(&self.seen);
        let section = &self.section;
        match self.made.reload() {
            Ok(out_of_date) => {
                self.failed = None;
                tracing::info!("[{section}] tls: certificates and keys were read anew");
                for said in out_of_date {
                    tracing::warn!("[{section}] tls: {said}");
                }
            }
            Err(flaw) => {
                let said = flaw.to_string();
                if is_news || self.failed.as_ref().is_none_or(|(_, before)| *before != said) {
                    tracing::error!(
                        "[{section}] tls: {said}; what served before goes on serving: {}",
                        flaw.advice
                    );
                }
                self.failed = Some((Instant::now(), said));
            }
        }
    }
}

/// How files are at this moment.
pub(super) fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    let times = [about.mtime(), about.mtime_nsec(), about.ctime(), about.ctime_nsec()];
    Some((about.dev(), about.ino(), about.size(), times))
}
