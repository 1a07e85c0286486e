//! Backends that answer HTTP requests wrongly, or much later than the others, and are left out for it. Counting is atomic
//! and takes no lock, as it comes with every answer; a lock is taken where a limit is passed, ten times a second at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use evenkeel_balance::Algorithm;
use evenkeel_balance::health::Cause;
use evenkeel_balance::latency::{Latencies, TooSlow};
use evenkeel_balance::window::{TooManyErrors, Window};
use tokio::time::Instant;

use super::{Backend, Upstream};
use crate::observe::sheets::Exchanged;

/// How often a backend with too many errors may be brought to judgement, and slow ones are looked for at most.
const JUDGE_EVERY: Duration = Duration::from_millis(100);

/// What was configured.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct OutlierRules {
    pub(crate) errors: Option<ErrorRules>,
    pub(crate) latency: Option<LatencyRules>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ErrorRules {
    pub(crate) too_many: TooManyErrors,
    pub(crate) within: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LatencyRules {
    pub(crate) too_slow: TooSlow,
    /// Answers a backend must have given before it is judged.
    pub(crate) answers: u32,
    pub(crate) within: Duration,
}

/// What is known of the last answers of one backend.
#[derive(Debug)]
pub(super) struct Answers {
    errors: Option<Window>,
    latencies: Option<Box<Latencies>>,
    judged: AtomicU64,
}

impl Answers {
    pub(super) fn new(rules: &OutlierRules) -> Answers {
        Answers {
            errors: rules.errors.as_ref().map(|rules| Window::new(rules.within)),
            latencies: rules.latency.as_ref().map(|rules| Box::new(Latencies::new(rules.within))),
            judged: AtomicU64::new(0),
        }
    }

    fn may_be_judged(&self, now: Duration) -> bool {
        let moment = (now.as_millis() / JUDGE_EVERY.as_millis()) as u64 + 1;
        self.judged.swap(moment, Relaxed) != moment
    }
}

impl Upstream {
    /// Tells that a backend began to answer an HTTP request at `at`, and after what time.
    pub(crate) fn note_answer(&self, backend: &Backend, status: u16, at: Instant, took: Duration) {
        let (answered, first_byte) = (Some(status), Some(took));
        backend.exchanged(&Exchanged { status: answered, first_byte, ..Exchanged::default() });
        self.note_traffic(backend, true);
        let now = at.saturating_duration_since(self.lasting.started);
        // Nobody else asks for it.
        if self.rules.balance == Algorithm::LeastLatency {
            backend.answered(now, took);
        }
        if let Some(latencies) = &backend.answers.latencies {
            latencies.note(now, took);
        }
        self.count(backend, now, status >= 500);
    }

    /// Tells that a backend took an HTTP request and gave no answer that can be used.
    pub(crate) fn note_no_answer(&self, backend: &Backend) {
        self.count(backend, self.now(), true);
    }

    fn count(&self, backend: &Backend, now: Duration, failed: bool) {
        let (Some(rules), Some(window)) = (&self.rules.outliers.errors, &backend.answers.errors)
        else {
            return;
        };
        window.note(now, failed);
        if !failed {
            return;
        }
        let counted = window.counted(now);
        if rules.too_many.are(counted) && backend.answers.may_be_judged(now) {
            let cause = Cause::Errors { failed: counted.marked, answers: counted.all };
            self.eject(backend, now, cause);
        }
    }

    /// Waits until backends should be held against each other: for ever, where latency does not count.
    pub(super) async fn next_comparison(&self) {
        match &self.rules.outliers.latency {
            Some(rules) => {
                let pause = (rules.within / 10).clamp(JUDGE_EVERY, Duration::from_secs(1));
                tokio::time::sleep(pause).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Holds the backends that are in use against each other, and ejects the one that is too slow.
    pub(super) fn compare(&self) {
        let Some(rules) = &self.rules.outliers.latency else { return };
        let now = self.now();
        let in_use = |backend: &Arc<Backend>| backend.weight > 0 && backend.verdict().usable();
        let backends: Vec<_> = self.backends().into_iter().filter(in_use).collect();
        let median = |backend: &Arc<Backend>| {
            let latencies = backend.answers.latencies.as_ref()?;
            latencies.median(now, rules.answers)
        };
        let medians: Vec<_> = backends.iter().map(median).collect();
        if let Some((slowest, others)) = rules.too_slow.worst(&medians)
            && let Some(backend) = backends.get(slowest)
        {
            let median = medians.get(slowest).copied().flatten().unwrap_or_default();
            self.eject(backend, now, Cause::Slow { median, others });
        }
    }

    /// Ejects, if the others allow it; what it is ejected for is then forgotten.
    fn eject(&self, backend: &Backend, now: Duration, cause: Cause) {
        let change = self.judge(backend, |rules, verdict, may_eject| {
            verdict.eject(rules, now, cause, may_eject)
        });
        if change.is_some() {
            backend.answers.errors.iter().for_each(Window::clear);
            backend.answers.latencies.iter().for_each(|latencies| latencies.clear());
        }
    }
}
