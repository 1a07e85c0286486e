//! The state directory: the account, certificates, answers to challenges, and how often asking has failed. Several nodes
//! may share it: only one of them asks at a time, and what it gets is there for all. Nothing in it is for other users.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::due::Held;
use super::{FAILURE_PAUSE, FAILURE_PAUSE_MAX, Failed, Managed};

/// Looks at the lock of an account, a quarter of a second from one to the next.
const ACCOUNT_TRIES: u32 = 240;

/// The state directory as one certificate sees it.
#[derive(Debug, Clone)]
pub(in crate::tls) struct State {
    folder: PathBuf,
    certificate: PathBuf,
    failures: PathBuf,
    account: PathBuf,
    lock: PathBuf,
}

/// Whoever has it may ask; it is given back when this is dropped, or the process ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl State {
    pub(super) fn of(managed: &Managed) -> State {
        let (folder, name) = (managed.folder(), managed.file_name());
        State {
            certificate: managed.file(),
            failures: folder.join(format!("{name}.failures")),
            account: folder.join("account.json"),
            lock: folder.join(format!("{name}.lock")),
            folder,
        }
    }

    /// The certificate that is there.
    pub(super) async fn held(&self) -> Option<Held> {
        let path = self.certificate.clone();
        away(move || {
            let pem = fs::read(path)?;
            let first = CertificateDer::from_pem_slice(&pem).ok();
            Ok(first.and_then(Held::of))
        })
        .await
        .ok()
        .flatten()
    }

    /// How long ago the certificate that is there was written.
    pub(super) async fn age(&self) -> Duration {
        let path = self.certificate.clone();
        let written = away(move || fs::metadata(path)?.modified()).await;
        written.ok().and_then(|at| at.elapsed().ok()).unwrap_or(Duration::MAX)
    }

    pub(super) async fn write_certificate(&self, pem: String) -> Result<(), Failed> {
        let (path, failures) = (self.certificate.clone(), self.failures.clone());
        let written = away(move || {
            write(&path, pem.as_bytes())?;
            forget(&failures)
        });
        written.await.map_err(|error| Failed::at("keep the certificate")(error.into()))
    }

    /// The account there is with this authority.
    pub(super) async fn account(&self) -> Option<Vec<u8>> {
        let path = self.account.clone();
        away(move || fs::read(path)).await.ok()
    }

    pub(super) async fn write_account(&self, account: Vec<u8>) -> Result<(), Failed> {
        let path = self.account.clone();
        let written = away(move || write(&path, &account));
        written.await.map_err(|error| Failed::at("keep the account")(error.into()))
    }

    /// The right to ask; none while another node has it.
    pub(super) async fn lock(&self) -> Result<Option<Lock>, Failed> {
        self.lock_at(self.lock.clone()).await
    }

    /// The right to make an account, which all certificates share. It is waited for.
    pub(super) async fn lock_account(&self) -> Result<Lock, Failed> {
        for _ in 0..ACCOUNT_TRIES {
            if let Some(lock) = self.lock_at(self.folder.join("account.lock")).await? {
                return Ok(lock);
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Err(Failed::at("use the account")("somebody else is making it, for very long".into()))
    }

    async fn lock_at(&self, path: PathBuf) -> Result<Option<Lock>, Failed> {
        let folder = self.folder.clone();
        let locked = away(move || {
            make_folder(&folder)?;
            let file = private().open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => Ok(Some(Lock { _file: file })),
                Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
                Err(error) => Err(error.into()),
            }
        });
        locked.await.map_err(|error| Failed::at("use the state directory")(error.into()))
    }

    /// Remembers that asking has failed; says how long to leave the authority alone.
    pub(super) async fn note_failure(&self, limited: bool) -> Duration {
        let path = self.failures.clone();
        let noted = away(move || {
            let count = failures(&path).saturating_add(1);
            // Whoever was told to ask less often waits as after many failures.
            let count = if limited { count.max(5) } else { count };
            write(&path, count.to_string().as_bytes()).map(|()| count)
        });
        pause_after(noted.await.unwrap_or(u32::MAX))
    }

    /// How long the authority is still to be left alone after failures, also those before a restart.
    pub(super) async fn penance(&self) -> Duration {
        let path = self.failures.clone();
        let left = away(move || {
            let since = fs::metadata(&path)?.modified()?;
            let until = since + pause_after(failures(&path));
            Ok(until.duration_since(SystemTime::now()).unwrap_or_default())
        });
        left.await.unwrap_or_default()
    }

    /// Writes the answer to a challenge, for every node that is asked for it.
    pub(super) async fn write_challenge(&self, name: &str, text: String) -> Result<(), Failed> {
        let folder = self.folder.join(CHALLENGES);
        let path = folder.join(name);
        let written = away(move || {
            make_folder(&folder)?;
            write(&path, text.as_bytes())
        });
        written.await.map_err(|error| Failed::at("write the answer to a challenge")(error.into()))
    }

    pub(super) async fn remove_challenge(&self, name: &str) {
        let path = self.folder.join(CHALLENGES).join(name);
        let _ = away(move || forget(&path)).await;
    }
}

/// Where answers to challenges stand within a state directory.
pub(super) const CHALLENGES: &str = "challenges";

fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        count => FAILURE_PAUSE.saturating_mul(1 << (count - 1).min(10)).min(FAILURE_PAUSE_MAX),
    }
}

fn failures(path: &Path) -> u32 {
    fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default()
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    options
}

/// Puts a whole file in the place of the old one, or changes nothing.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Several tasks, and several machines, may write here.
    let mut number = [0; 8];
    aws_lc_rs::rand::fill(&mut number).map_err(io::Error::other)?;
    let beside = path.with_extension(format!("new-{}", crate::tls::shown::hex(&number)));
    let mut file = private().open(&beside)?;
    file.set_len(0)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.and_then(|()| fs::rename(&beside, path)).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A disk that does not answer must not hold up anything else.
async fn away<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::acme::Proof;
    use std::os::unix::fs::PermissionsExt;

    fn state(folder: &Path) -> State {
        State::of(&Managed {
            domains: vec!["*.a.test".to_owned()],
            contact: Vec::new(),
            directory: "https://ca.test/dir".to_owned(),
            directory_ca: None,
            state: folder.join("acme"),
            proof: Proof::Http,
        })
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
    }

    #[test]
    fn only_one_asks_at_a_time_and_nobody_else_may_read_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (state(folder.path()), state(folder.path()));
        run(async {
            let lock = one.lock().await.unwrap();
            assert!(lock.is_some());
            assert!(other.lock().await.unwrap().is_none());
            drop(lock);
            assert!(other.lock().await.unwrap().is_some());
            one.write_account(b"secret".to_vec()).await.unwrap();
            one.write_certificate("secret".to_owned()).await.unwrap();
            one.write_challenge("token", "answer".to_owned()).await.unwrap();
        });
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&one.account), 0o600);
        assert_eq!(mode(&one.certificate), 0o600);
        assert_eq!(mode(&folder.path().join("acme")), 0o700);
        assert_eq!(mode(&folder.path().join("acme/ca.test")), 0o700);
        assert!(one.certificate.ends_with("wildcard.a.test.pem"));
    }

    #[test]
    fn failures_make_the_pauses_longer_and_outlive_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        make_folder(&folder.path().join("acme/ca.test")).unwrap();
        run(async {
            assert_eq!(state(folder.path()).penance().await, Duration::ZERO);
            let pauses = [
                state(folder.path()).note_failure(false).await,
                state(folder.path()).note_failure(false).await,
            ];
            assert_eq!(pauses, [FAILURE_PAUSE, 2 * FAILURE_PAUSE]);
            let left = state(folder.path()).penance().await;
            assert!(left > FAILURE_PAUSE && left <= 2 * FAILURE_PAUSE);
            assert_eq!(state(folder.path()).note_failure(true).await, 16 * FAILURE_PAUSE);
            for _ in 0..20 {
                let pause = state(folder.path()).note_failure(false).await;
                assert!(pause <= FAILURE_PAUSE_MAX);
            }
            state(folder.path()).write_certificate("x".to_owned()).await.unwrap();
            assert_eq!(state(folder.path()).penance().await, Duration::ZERO);
        });
    }
}
