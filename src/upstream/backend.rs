//! One backend while running: its open connections, its verdict, its latency, its counts.
//! It is found by its address and lives as long as any connection to it, also after it left the config.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use evenkeel_balance::PeakEwma;
use evenkeel_balance::health::{State, Verdict, VerdictParts};
use serde::{Deserialize, Serialize};

use super::cookie::Identity;
use super::counted::Counted;
use super::handed::StandingPast;
use super::outliers::Answers;
use super::{Entry, EntryPlace, Said, Upstream, Word};
use crate::observe::counts::BackendCounts;
use crate::observe::ended::Why;

/// How long a latency peak takes to fade to a third: long enough to matter to the next connections, short
/// enough to forgive (Finagle's default for peak EWMA).
const LATENCY_DECAY_NS: u64 = 10_000_000_000;

/// A reset this soon after connecting, before any byte passed, counts as a failure of the backend.
pub(crate) const INSTANT_RESET: Duration = Duration::from_secs(1);

/// Where a backend listens; never mixed up with a client's address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BackendAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackendAddress::Ip(address) => address.fmt(f),
            BackendAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One backend, shared by all workers.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) address: BackendAddress,
    pub(crate) name: Arc<str>,
    /// What HTTP may call it by: its name in the config, or its address, with its port.
    pub(crate) authority: Box<str>,
    /// The one that counts: what is drained or down by an operator's word has none.
    pub(crate) weight: u32,
    /// The one in the config.
    configured: u32,
    /// What an operator has said of it.
    pub(crate) word: Word,
    pub(crate) backup: bool,
    /// What stands for it in a sticky cookie.
    pub(crate) identity: Option<Identity>,
    pub(super) answers: Answers,
    connections_max: u32,
    standing: Arc<Standing>,
    /// Whose kept connections may be used: those that were made in the same way.
    channel: Arc<Channel>,
}

/// What a backend is known by, and stays with it while its role changes: in a new config, or behind another name.
#[derive(Debug)]
pub(super) struct Standing {
    open: AtomicU32,
    connections: AtomicU64,
    failures: AtomicU64,
    requests: AtomicU64,
    /// The last news was bad: good news must then reach the verdict, and otherwise need not.
    suspect: AtomicBool,
    /// When it was last connected, and when it last failed, in milliseconds of the upstream's clock.
    connected_at: AtomicU64,
    failed_at: AtomicU64,
    /// The parts of a [`PeakEwma`].
    latency_stamp: AtomicU64,
    latency_value: AtomicU64,
    verdict: Mutex<Verdict>,
    counted: Counted,
}

/// Stands for a way to a backend. It is known by its place in memory.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// Connections that workers keep, as they have said last.
    idle: AtomicU32,
}

impl Channel {
    /// How many connections are kept, as of a second ago.
    pub(super) fn idle(&self) -> u64 {
        self.idle.load(Relaxed).into()
    }

    /// A worker keeps so many now, and has said another number before.
    pub(crate) fn note_idle(&self, before: u32, now: u32) {
        // Two's complement: what is taken away wraps around.
        self.idle.fetch_add(now.wrapping_sub(before), Relaxed);
    }
}

impl Standing {
    /// Of one that nothing is known of.
    pub(super) fn new(verdict: Verdict) -> Arc<Standing> {
        Arc::new(Standing {
            open: AtomicU32::new(0),
            connections: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            connected_at: AtomicU64::new(0),
            failed_at: AtomicU64::new(0),
            latency_stamp: AtomicU64::new(0),
            latency_value: AtomicU64::new(0),
            verdict: Mutex::new(verdict),
            counted: Counted::default(),
        })
    }

    /// Of one that another process knew. Its connections are counted as they are handed over.
    pub(super) fn from_past(past: &StandingPast) -> Arc<Standing> {
        Arc::new(Standing {
            open: AtomicU32::new(0),
            connections: AtomicU64::new(past.connections),
            failures: AtomicU64::new(past.failures),
            requests: AtomicU64::new(past.requests),
            suspect: AtomicBool::new(past.suspect),
            connected_at: AtomicU64::new(past.connected_at),
            failed_at: AtomicU64::new(past.failed_at),
            latency_stamp: AtomicU64::new(past.latency_stamp),
            latency_value: AtomicU64::new(past.latency.to_bits()),
            verdict: Mutex::new(Verdict::from(past.verdict.clone())),
            counted: Counted::default(),
        })
    }
}

impl Backend {
    pub(super) fn new(
        address: BackendAddress,
        entry: &Entry,
        word: Word,
        (standing, channel): (Arc<Standing>, Arc<Channel>),
        of: &Upstream,
    ) -> Backend {
        let name: Arc<str> = address.to_string().into();
        Backend {
            authority: authority(&entry.place, &address),
            identity: of.cookie.as_ref().map(|cookie| cookie.identity("backend", &name)),
            answers: Answers::new(&of.rules.outliers),
            name,
            address,
            weight: match word.said {
                Some(Said::Drained | Said::Down) => 0,
                Some(Said::Ready) | None => word.weight.unwrap_or(entry.weight),
            },
            configured: entry.weight,
            word,
            backup: entry.backup,
            connections_max: entry.connections_max.unwrap_or(u32::MAX),
            standing,
            channel,
        }
    }

    /// What stays with it.
    pub(super) fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.standing)
    }

    /// What another process is told of it.
    pub(super) fn past(&self) -> StandingPast {
        let standing = &self.standing;
        StandingPast {
            connections: standing.connections.load(Relaxed),
            failures: standing.failures.load(Relaxed),
            requests: standing.requests.load(Relaxed),
            suspect: standing.suspect.load(Relaxed),
            connected_at: standing.connected_at.load(Relaxed),
            failed_at: standing.failed_at.load(Relaxed),
            latency_stamp: standing.latency_stamp.load(Relaxed),
            latency: f64::from_bits(standing.latency_value.load(Relaxed)),
            verdict: VerdictParts::from(&*self.verdict()),
        }
    }

    /// The way to it.
    pub(crate) fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Whether it is the same, in whatever role.
    pub(crate) fn is(&self, other: &Backend) -> bool {
        Arc::ptr_eq(&self.standing, &other.standing)
    }

    /// A number that no other backend has while this one is known: its place in memory.
    pub(crate) fn mark(&self) -> usize {
        Arc::as_ptr(&self.standing).addr()
    }

    /// Its name in the config, or its address, without a port; nothing for a Unix socket.
    pub(crate) fn host(&self) -> &str {
        match self.address {
            BackendAddress::Ip(_) => {
                self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host)
            }
            BackendAddress::Unix(_) => "",
        }
    }

    pub(crate) fn open(&self) -> u32 {
        self.standing.open.load(Relaxed)
    }

    /// How many connections it may have, where that is limited.
    pub(super) fn limit(&self) -> Option<u32> {
        Some(self.connections_max).filter(|max| *max != u32::MAX)
    }

    /// How many connections it may have.
    pub(super) fn most(&self) -> u32 {
        self.connections_max
    }

    /// How many of them are taken, in step with [`Backend::take_place`].
    pub(super) fn taken(&self) -> u32 {
        self.standing.open.load(SeqCst)
    }

    pub(super) fn has_room(&self) -> bool {
        self.taken() < self.connections_max
    }

    /// Counts one more connection, unless the limit is reached.
    pub(super) fn take_place(&self) -> bool {
        let max = self.connections_max;
        self.standing
            .open
            .fetch_update(SeqCst, SeqCst, |open| (open < max).then_some(open + 1))
            .is_ok()
    }

    /// Counts one more connection, whatever the limit is.
    pub(super) fn take_one_more(&self) {
        self.standing.open.fetch_add(1, SeqCst);
    }

    pub(super) fn give_place_back(&self) {
        self.standing.open.fetch_sub(1, SeqCst);
    }

    /// What is counted of it.
    pub(super) fn counted(&self) -> &Counted {
        &self.standing.counted
    }

    /// How many connections it may have, where that is limited.
    pub(super) fn connections_max(&self) -> Option<u32> {
        Some(self.connections_max).filter(|max| *max != u32::MAX)
    }

    pub(super) fn connected(&self, since_start: Duration, took: Duration) {
        self.note_connected(took);
        self.standing.connections.fetch_add(1, Relaxed);
        self.standing.connected_at.store(since_start.as_millis() as u64, Relaxed);
    }

    /// Takes in how long it took: to connect, or with HTTP to begin an answer.
    pub(super) fn answered(&self, since_start: Duration, took: Duration) {
        let now = since_start.as_nanos() as u64;
        let mut latency = self.latency_parts();
        latency.observe(now, took.as_nanos() as u64);
        // Two workers at the same instant may lose one sample of an average, which is cheaper than a lock.
        let (stamp, value) = latency.parts();
        self.standing.latency_stamp.store(stamp, Relaxed);
        self.standing.latency_value.store(value.to_bits(), Relaxed);
    }

    fn latency_parts(&self) -> PeakEwma {
        let value = f64::from_bits(self.standing.latency_value.load(Relaxed));
        PeakEwma::from_parts(LATENCY_DECAY_NS, self.standing.latency_stamp.load(Relaxed), value)
    }

    pub(super) fn failed(&self, why: Why) {
        self.note_not_connected(why);
        self.standing.failures.fetch_add(1, Relaxed);
    }

    /// Counts an HTTP request that goes to it.
    pub(crate) fn asked(&self) {
        self.standing.requests.fetch_add(1, Relaxed);
    }

    /// Peak EWMA of the time it takes to answer, in seconds, as faded as it is now.
    pub(super) fn latency(&self, since_start: Duration) -> f64 {
        self.latency_parts().value_at(since_start.as_nanos() as u64)
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.standing.suspect.load(Relaxed)
    }

    /// Notes news about it, under the roster's lock; whether this is bad news after a connection that was made and lasted.
    pub(super) fn note_news(&self, now: Duration, suspect: bool) -> bool {
        self.standing.suspect.store(suspect, Relaxed);
        let now = now.as_millis() as u64;
        let since = if suspect { self.standing.failed_at.swap(now, Relaxed) } else { 0 };
        let connected = self.standing.connected_at.load(Relaxed);
        suspect && connected > since && connected + INSTANT_RESET.as_millis() as u64 <= now
    }

    /// Whether it has the weight, the role and the limit of this entry, and what was said of it is this.
    pub(super) fn serves_as(&self, entry: &Entry, word: Word) -> bool {
        self.configured == entry.weight
            && self.word == word
            && self.backup == entry.backup
            && self.connections_max == entry.connections_max.unwrap_or(u32::MAX)
    }

    /// Whether who has a session with it may go on with that, though it has no weight.
    pub(super) fn takes_sessions(&self) -> bool {
        self.word.said != Some(Said::Down) && self.verdict().usable()
    }

    pub(super) fn verdict(&self) -> MutexGuard<'_, Verdict> {
        self.standing.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn counts(&self, upstream: &str) -> BackendCounts {
        let state = match self.verdict().state() {
            _ if self.word.said == Some(Said::Down) => "down",
            _ if self.weight == 0 => "drained",
            State::Healthy => "healthy",
            State::Unhealthy => "unhealthy",
            State::Ejected { .. } => "ejected",
        };
        BackendCounts {
            upstream: upstream.to_owned(),
            address: self.name.to_string(),
            weight: self.word.weight.unwrap_or(self.configured),
            state,
            said: Some(self.word.to_string()).filter(|said| !said.is_empty()),
            open: self.open(),
            connections: self.standing.connections.load(Relaxed),
            failures: self.standing.failures.load(Relaxed),
            requests: self.standing.requests.load(Relaxed),
        }
    }
}

fn authority(place: &EntryPlace, address: &BackendAddress) -> Box<str> {
    match (place, address) {
        (EntryPlace::Named { host, port }, _) => format!("{host}:{port}").into(),
        (EntryPlace::At(_), BackendAddress::Ip(address)) => address.to_string().into(),
        // A Unix socket has neither.
        (EntryPlace::At(_), BackendAddress::Unix(_)) => "localhost".into(),
    }
}
