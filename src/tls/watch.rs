//! Reads certificates, keys and what else stands in files anew when they have changed. What cannot be used changes nothing:
//! what served before goes on serving, and the log says why.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;

use super::Acceptor;

/// How often files are looked at. One that has changed is read when it has stayed the same for as long again, so that a
/// certificate and its key need not come at the same moment.
const LOOK: Duration = Duration::from_secs(1);

/// Looks after the files of all listeners.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    now: Notify,
}

/// What tells one state of a file from another: device and number, length, time of the last change. None is no file.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// The files of one listener.
struct Watched {
    section: String,
    acceptor: Arc<Acceptor>,
    /// As they were when they were last read, or tried to be.
    read: Vec<Stamp>,
    /// As they were when they were last looked at.
    seen: Vec<Stamp>,
    /// When the last key for tickets was made.
    keys_born: Instant,
    /// What is out of date by itself was read anew at this time.
    renewed: Option<SystemTime>,
}

impl Watch {
    /// Has all files read anew soon, changed or not.
    pub(crate) fn read_now(&self) {
        self.now.notify_one();
    }

    /// Looks after the files of these listeners for ever.
    pub(crate) async fn keep_up(self: Arc<Self>, acceptors: Vec<(String, Arc<Acceptor>)>) {
        let mut all: Vec<_> = acceptors.into_iter().map(Watched::new).collect();
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
    fn new((section, acceptor): (String, Arc<Acceptor>)) -> Watched {
        let read = stamps(&acceptor);
        let seen = read.clone();
        Watched { section, acceptor, read, seen, keys_born: Instant::now(), renewed: None }
    }

    fn look(&mut self, asked: bool) {
        let now = stamps(&self.acceptor);
        let changed = now != self.read && now == self.seen;
        self.seen = now;
        let until = self.acceptor.offer().until;
        let is_over =
            until.is_some_and(|until| SystemTime::now() >= until && self.renewed != Some(until));
        if is_over {
            self.renewed = until;
        }
        if asked || changed || is_over {
            self.read_anew();
        }
        match self.acceptor.keys().keep_fresh(self.keys_born.elapsed()) {
            Ok(true) => self.keys_born = Instant::now(),
            Ok(false) => {}
            Err(flaw) => tracing::error!("[{}] tls: no new key for tickets: {flaw}", self.section),
        }
    }

    fn read_anew(&mut self) {
        self.read.clone_from(&self.seen);
        let section = &self.section;
        match self.acceptor.reload() {
            Ok(out_of_date) => {
                tracing::info!("[{section}] tls: certificates and keys were read anew");
                for (_, said) in out_of_date {
                    tracing::warn!("[{section}] tls: {said}");
                }
            }
            Err(flaw) => tracing::error!(
                "[{section}] tls: {flaw}; what served before goes on serving: {}",
                flaw.advice
            ),
        }
    }
}

fn stamps(acceptor: &Acceptor) -> Vec<Stamp> {
    acceptor.settings().files().into_iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Stamp {
    let about = std::fs::metadata(path).ok()?;
    Some((about.dev(), about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}
