//! Certificates that renew themselves, by ACME (RFC 8555): asked for when there is none, and again before the one there is
//! comes to its end. What is got is written to the state directory, where listeners find it like any other file. It must
//! never ask more often than an authority allows, whatever fails, and also not after a restart.

mod challenge;
mod due;
mod hook;
mod order;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

pub(super) use challenge::{ALPN, tls_identity};
pub(crate) use challenge::{answer_http, is_asked};
pub(super) use state::State;

/// How often it is looked whether something is to be done, at least.
const LOOK: Duration = Duration::from_secs(3600);

/// When another node is just asking, how long to wait for what it gets.
const BUSY: Duration = Duration::from_secs(15);

/// The first pause after a failure; each further one is twice as long. Let's Encrypt allows five failures an hour.
const FAILURE_PAUSE: Duration = Duration::from_secs(15 * 60);

/// The longest pause after failures.
const FAILURE_PAUSE_MAX: Duration = Duration::from_secs(12 * 3600);

/// How soon after a certificate the next one is asked for, whatever is suggested.
const RENEWAL_PAUSE: Duration = Duration::from_secs(3600);

/// How long what an authority has suggested is not asked for again: what RFC 9773 4.3 has for those that do not say.
const SUGGESTED_FOR: Duration = Duration::from_secs(6 * 3600);

/// One certificate that is got by ACME.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Managed {
    /// The names it is for.
    pub(crate) domains: Vec<String>,
    /// How the authority may reach whoever runs this, as `mailto:...`.
    pub(crate) contact: Vec<String>,
    /// Where the authority's directory is.
    pub(crate) directory: String,
    /// Who vouches for the authority's own server, in place of those that the system trusts.
    pub(crate) directory_ca: Option<PathBuf>,
    /// Where the account and what is got are kept.
    pub(crate) state: PathBuf,
    pub(crate) proof: Proof,
}

/// How it is shown that a name is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By an answer over HTTP, on port 80 (RFC 8555 8.3).
    Http,
    /// By a certificate in a handshake, on port 443 (RFC 8737).
    TlsAlpn,
    /// By a record in DNS (RFC 8555 8.4), which a command makes. It needs so long to be seen.
    Dns { hook: PathBuf, delay: Duration },
}

/// Why there is no new certificate.
#[derive(Debug)]
pub(super) struct Failed {
    step: &'static str,
    cause: Box<dyn std::error::Error + Send + Sync>,
    /// Whether the authority says that it was asked too often.
    limited: bool,
}

impl Failed {
    fn at(step: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> Failed {
        move |cause| Failed { step, cause, limited: false }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)
    }
}

impl Managed {
    /// Where its certificate and key stand once there are any, in one file, so that they change together.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder().join(format!("{}.pem", self.file_name()))
    }

    /// The folder of its authority: what one has issued is of no use with another.
    pub(crate) fn folder(&self) -> PathBuf {
        let host = self.directory.trim_start_matches("https://").split('/').next();
        let plain = |byte: char| byte.is_ascii_alphanumeric() || matches!(byte, '.' | '-');
        let name: String = host
            .unwrap_or_default()
            .chars()
            .map(|byte| if plain(byte) { byte } else { '_' })
            .collect();
        self.state.join(name)
    }

    fn file_name(&self) -> String {
        self.domains.first().map_or_else(String::new, |name| name.replace('*', "wildcard"))
    }

    /// Asks for the certificate whenever it is time, for ever.
    pub(crate) async fn keep_up(self: Arc<Self>, section: String) {
        let (state, mut hint) = (State::of(&self), None);
        loop {
            let pause = match self.turn(&state, &section, &mut hint).await {
                Ok(pause) => pause,
                Err(failed) => {
                    let pause = state.note_failure(failed.limited).await;
                    let domains = self.domains.join(", ");
                    tracing::error!(
                        "[{section}] acme: no new certificate for {domains}: {failed}; the next try is in {pause:?}"
                    );
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Looks whether it is time, and if so asks; says when to look again.
    async fn turn(
        &self,
        state: &State,
        section: &str,
        hint: &mut Option<Hint>,
    ) -> Result<Duration, Failed> {
        let wait = self.wait(state, hint).await;
        if !wait.is_zero() {
            return Ok(wait.min(LOOK));
        }
        let Some(_lock) = state.lock().await? else { return Ok(BUSY) };
        // Another node may have got one while we waited for the lock.
        let wait = self.wait(state, hint).await.max(state.penance().await);
        if !wait.is_zero() {
            return Ok(wait.min(LOOK));
        }
        tracing::info!(
            "[{section}] acme: asking for a certificate for {}",
            self.domains.join(", ")
        );
        let pem = order::order(self, state).await?;
        state.write_certificate(pem).await?;
        tracing::info!(
            "[{section}] acme: there is a new certificate for {}",
            self.domains.join(", ")
        );
        Ok(BUSY)
    }

    /// How long the certificate there is will do.
    async fn wait(&self, state: &State, hint: &mut Option<Hint>) -> Duration {
        let Some(held) = state.held().await else { return Duration::ZERO };
        // Whatever is suggested or configured: nobody asks twice within this time.
        let fresh = RENEWAL_PAUSE.saturating_sub(state.age().await);
        if !fresh.is_zero() {
            return fresh;
        }
        if !held.is_for(&self.domains) {
            return Duration::ZERO;
        }
        if hint.as_ref().is_none_or(|hint| !hint.is_of(&held)) {
            *hint = Some(Hint::new(&held, order::suggested(self, state, &held).await));
        }
        let due = hint.as_ref().and_then(|hint| hint.due).unwrap_or_else(|| held.two_thirds());
        due.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

/// What the authority has suggested, for as long as it is not to be asked again.
#[derive(Debug)]
struct Hint {
    certificate: [u8; 32],
    due: Option<SystemTime>,
    asked: Instant,
}

impl Hint {
    fn new(held: &due::Held, due: Option<SystemTime>) -> Hint {
        Hint { certificate: held.fingerprint(), due, asked: Instant::now() }
    }

    fn is_of(&self, held: &due::Held) -> bool {
        self.certificate == held.fingerprint() && self.asked.elapsed() < SUGGESTED_FOR
    }
}
