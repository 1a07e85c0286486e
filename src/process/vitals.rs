//! How the workers are: how much of the time they are busy, and how long what is to be done waits for its turn. Each is asked twice
//! a second anyway; nothing here is written for a connection or a byte.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::time::Instant;

use crate::observe::count::{Count, Distribution, Times};

/// What is known of one worker.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    /// From a question to its answer; only the worker writes it.
    delays: Times,
    longest_ns: Count,
    runtime: OnceLock<RuntimeMetrics>,
    /// Between the last two looks, in millionths.
    busy_share: AtomicU64,
}

/// A reading of one worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerState {
    /// Connections that it carries.
    pub(crate) open: u64,
    /// The share of the last half second in which it was not waiting.
    pub(crate) busy_share: f64,
    /// The time in which it was not waiting so far.
    pub(crate) busy: Duration,
    /// How long what was to be done has waited for its turn.
    pub(crate) delays: Distribution,
    pub(crate) longest_delay: Duration,
}

/// When the control thread has looked last, and how long the worker had been busy by then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Looked {
    at: Instant,
    busy: Duration,
}

impl Looked {
    pub(super) fn at(at: Instant) -> Looked {
        Looked { at, busy: Duration::ZERO }
    }
}

impl Vitals {
    /// From now on it is seen how busy the event loop of this thread is.
    pub(super) fn belong_here(&self) {
        let _ = self.runtime.set(Handle::current().metrics());
    }

    /// The worker has answered what it was asked at this moment.
    pub(super) fn answered(&self, asked: Instant) {
        let delay = asked.elapsed();
        self.delays.note(delay);
        self.longest_ns.raise(u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Sees how busy it was since the last look.
    pub(super) fn look(&self, last: &mut Looked, now: Instant) {
        let (busy, passed) = (self.busy(), now.duration_since(last.at));
        let share = (busy.saturating_sub(last.busy)).as_secs_f64() / passed.as_secs_f64().max(1e-3);
        self.busy_share.store((share.min(1.0) * 1e6) as u64, Relaxed);
        *last = Looked { at: now, busy };
    }

    fn busy(&self) -> Duration {
        self.runtime.get().map_or(Duration::ZERO, |runtime| runtime.worker_total_busy_duration(0))
    }

    pub(super) fn state(&self, open: u64) -> WorkerState {
        let mut delays = Distribution::default();
        delays.add(&self.delays);
        WorkerState {
            open,
            busy_share: self.busy_share.load(Relaxed) as f64 / 1e6,
            busy: self.busy(),
            delays,
            longest_delay: Duration::from_nanos(self.longest_ns.value()),
        }
    }
}
