//! What is counted of an upstream and its backends, and what its checks have said last. It stays with them from config to config;
//! nothing goes by it, it is only shown.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use evenkeel_balance::Algorithm;
use evenkeel_balance::health::{Cause, Change};

use super::{Backend, Upstream};
use crate::observe::counts::BackendCounts;
use crate::observe::ended::Why;
use crate::observe::sheets::{BackendReading, BackendSheet, Exchanged};
use crate::observe::stripes::Striped;

/// Checks of a backend that are remembered.
const CHECKS: usize = 20;

/// The longest that is kept of what went wrong, in letters: it may be a backend's own words.
const SAID_MAX: usize = 200;

/// Counts of an upstream. They change where something went wrong, so that workers may share them.
#[derive(Debug, Default)]
pub(super) struct UpstreamCounts {
    retries: AtomicU64,
    queue_refused: AtomicU64,
    queue_timeouts: AtomicU64,
}

/// What is counted and remembered of a backend.
#[derive(Debug, Default)]
pub(super) struct Counted {
    sheets: Striped<BackendSheet>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    checks: VecDeque<Check>,
    /// Why it is not in use, in words.
    reason: Option<String>,
}

/// What one check of a backend came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) at: SystemTime,
    pub(crate) passed: bool,
    /// How long it took, or what went wrong.
    pub(crate) said: String,
}

/// A reading of one backend.
#[derive(Debug, Clone)]
pub(crate) struct BackendState {
    pub(crate) counts: BackendCounts,
    pub(crate) reading: BackendReading,
    pub(crate) backup: bool,
    /// Connections that are kept for the next request, as of a second ago.
    pub(crate) idle: u64,
    pub(crate) connections_max: Option<u32>,
    /// Why it is not in use, in words.
    pub(crate) reason: Option<String>,
    /// The last of them at the end.
    pub(crate) checks: Vec<Check>,
}

/// A reading of one upstream.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamState {
    pub(crate) name: Arc<str>,
    pub(crate) balance: &'static str,
    pub(crate) retries: u64,
    /// Connections and requests that wait for a place now.
    pub(crate) waiting: u64,
    pub(crate) queue_max: u32,
    pub(crate) queue_refused: u64,
    pub(crate) queue_timeouts: u64,
    pub(crate) backends: Vec<BackendState>,
}

impl Counted {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend {
    /// Counts what became of a request, a packet or a connection.
    pub(crate) fn exchanged(&self, it: &Exchanged) {
        self.counted().sheets.note(|sheet| sheet.exchanged(it));
    }

    /// Counts a connection that was made.
    pub(super) fn note_connected(&self, took: Duration) {
        self.counted().sheets.note(|sheet| sheet.connect_times.note(took));
    }

    /// Counts one that was not.
    pub(super) fn note_not_connected(&self, why: Why) {
        self.counted().sheets.note(|sheet| sheet.not_connected(why));
    }

    /// Remembers a change of its state, and why.
    pub(super) fn note_change(&self, change: &Change) {
        let mut seen = self.counted().seen();
        seen.reason = match change {
            Change::Ejected { cause, .. } => Some(cause.to_string()),
            Change::WentDown => {
                let last = seen.checks.back().filter(|check| !check.passed);
                Some(last.map_or_else(|| "failed its checks".to_owned(), |it| it.said.clone()))
            }
            Change::CameUp | Change::Returned => None,
        };
        drop(seen);
        if let Change::Ejected { cause, .. } = change {
            // In the order of EJECTION_CAUSES.
            let place = match cause {
                Cause::InARow(_) => 0,
                Cause::Errors { .. } => 1,
                Cause::Slow { .. } => 2,
            };
            self.counted().sheets.note(|sheet| sheet.ejections.count(place));
        }
    }

    fn note_check(&self, passed: bool, said: &str) {
        self.counted().sheets.note(|sheet| {
            if passed { &sheet.checks_passed } else { &sheet.checks_failed }.add(1);
        });
        let said = said.chars().take(SAID_MAX).collect();
        let mut seen = self.counted().seen();
        if seen.checks.len() >= CHECKS {
            seen.checks.pop_front();
        }
        seen.checks.push_back(Check { at: SystemTime::now(), passed, said });
    }

    fn state(&self, upstream: &str) -> BackendState {
        let seen = self.counted().seen();
        BackendState {
            counts: self.counts(upstream),
            reading: BackendReading::of(&self.counted().sheets),
            backup: self.backup,
            idle: self.channel().idle(),
            connections_max: self.connections_max(),
            reason: seen.reason.clone(),
            checks: seen.checks.iter().cloned().collect(),
        }
    }
}

impl Upstream {
    /// Counts a try after one that failed.
    pub(crate) fn note_retry(&self) {
        self.lasting.counts.retries.fetch_add(1, Relaxed);
    }

    pub(super) fn note_queue_full(&self) {
        self.lasting.counts.queue_refused.fetch_add(1, Relaxed);
    }

    pub(super) fn note_queue_timeout(&self) {
        self.lasting.counts.queue_timeouts.fetch_add(1, Relaxed);
    }

    /// Tells that a packet was answered, and how long that took.
    pub(crate) fn note_reply(&self, backend: &Backend, took: Duration) {
        backend.answered(self.now(), took);
        let first_byte = Some(took);
        backend.exchanged(&Exchanged { first_byte, total: first_byte, ..Exchanged::default() });
        self.note_traffic(backend, true);
    }

    /// Tells how an active check went.
    pub(crate) fn note_probe(&self, backend: &Backend, went_well: bool, what: &str) {
        let now = self.now();
        backend.note_check(went_well, what);
        let change = self.judge(backend, |rules, verdict, _| verdict.probe(rules, now, went_well));
        if change == Some(Change::WentDown) {
            tracing::warn!(upstream = %self.rules.name, backend = %backend.name, "failed its checks: {what}");
        }
    }

    /// Everything that is counted of it, and of its backends.
    pub(crate) fn state(&self) -> UpstreamState {
        let counts = &self.lasting.counts;
        let backends = self.backends();
        UpstreamState {
            name: Arc::clone(&self.rules.name),
            balance: name_of(&self.rules.balance),
            retries: counts.retries.load(Relaxed),
            waiting: self.lasting.queue.waiting(),
            queue_max: self.rules.queue_max,
            queue_refused: counts.queue_refused.load(Relaxed),
            queue_timeouts: counts.queue_timeouts.load(Relaxed),
            backends: backends.iter().map(|backend| backend.state(&self.rules.name)).collect(),
        }
    }
}

/// The word in the config.
fn name_of(algorithm: &Algorithm) -> &'static str {
    match algorithm {
        Algorithm::RoundRobin => "round-robin",
        Algorithm::Random => "random",
        Algorithm::LeastConnections => "least-connections",
        Algorithm::PowerOfTwo => "power-of-two",
        Algorithm::LeastLatency => "least-latency",
        Algorithm::First => "first",
        Algorithm::Hash { .. } => "hash",
    }
}
