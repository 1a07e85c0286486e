//! Whether a backend may be used: verdicts from probes and from real traffic, ejections that end
//! by themselves, and the slow start after a return. It computes and never probes: results and the
//! time are arguments, as a [`Duration`] since any fixed start.
//!
//! Two opinions are kept apart. Probes (active) say healthy or unhealthy, after `rise` or `fall`
//! results in a row. Traffic (passive) ejects for a while after `eject_after` failures in a row. A
//! backend is usable if it is healthy and not ejected.

use std::fmt;
use std::time::Duration;

/// By how many steps a slow start asks to be looked at again.
const RAMP_STEPS: u32 = 10;

/// What makes a backend healthy, unhealthy or ejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Probes that must succeed in a row before an unhealthy backend is healthy; 0 counts as 1.
    pub rise: u32,
    /// Probes that must fail in a row before a healthy backend is unhealthy; 0 counts as 1.
    pub fall: u32,
    /// Failures of real traffic in a row that eject; 0 counts as 1.
    pub eject_after: u32,
    /// How long the first ejection lasts; the second in a row lasts twice that, and so on.
    pub eject_time: Duration,
    /// How long an ejection lasts at most.
    pub eject_time_max: Duration,
    /// Over what time a backend that came back grows to its full weight; zero for at once.
    pub slow_start: Duration,
    /// Whether probes count.
    pub active: bool,
    /// Whether real traffic counts.
    pub passive: bool,
}

/// What is thought of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may be used.
    Healthy,
    /// Probes fail. Stands above an ejection, which may run underneath.
    Unhealthy,
    /// Probes do not object, but real traffic failed too often.
    Ejected {
        /// When [`Verdict::tick`] will let it return.
        until: Duration,
    },
}

/// What a result changed, for the log and for building tables anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Probes failed: healthy or ejected before, unhealthy now.
    WentDown,
    /// Probes succeed again: usable now.
    CameUp,
    /// Real traffic failed: not usable for a while.
    Ejected {
        /// When [`Verdict::tick`] will let it return.
        until: Duration,
        /// What it is ejected for.
        cause: Cause,
    },
    /// An ejection is over: usable now.
    Returned,
}

/// What a backend is ejected for, with the figures that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// So many failures in a row.
    InARow(u32),
    /// Too large a share of its answers were errors.
    Errors {
        /// Answers that were errors, or requests without one.
        failed: u32,
        /// Of so many.
        answers: u32,
    },
    /// It answered much later than the others.
    Slow {
        /// What half of its answers took at most.
        median: Duration,
        /// The same of the others: the median of theirs.
        others: Duration,
    },
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: &Duration| time.as_secs_f64() * 1000.0;
        match self {
            Cause::InARow(count) => write!(f, "it failed {count} times in a row"),
            Cause::Errors { failed, answers } => {
                write!(f, "{failed} of {answers} answers were 5xx")
            }
            Cause::Slow { median, others } => {
                let (median, others) = (millis(median), millis(others));
                write!(
                    f,
                    "its median answer took {median:.0} ms, that of the others {others:.0} ms"
                )
            }
        }
    }
}

/// The health of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    healthy: bool,
    probes_ok: u32,
    probes_failed: u32,
    traffic_failed: u32,
    ejected_until: Option<Duration>,
    /// How many ejections in a row count, before what has been forgotten since `usable_since`.
    ejections: u32,
    usable_since: Duration,
    /// When a slow start began; `None` for a backend that has never been away.
    ramp_since: Option<Duration>,
}

/// What a [`Verdict`] consists of, for keeping it outside of this process. Every moment is on the clock of the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictParts {
    /// What probes say.
    pub healthy: bool,
    /// Probes that succeeded in a row.
    pub probes_ok: u32,
    /// Probes that failed in a row.
    pub probes_failed: u32,
    /// Failures of real traffic in a row.
    pub traffic_failed: u32,
    /// When an ejection ends.
    pub ejected_until: Option<Duration>,
    /// How many ejections in a row count.
    pub ejections: u32,
    /// Since when it has been usable.
    pub usable_since: Duration,
    /// When a slow start began.
    pub ramp_since: Option<Duration>,
}

impl From<VerdictParts> for Verdict {
    fn from(parts: VerdictParts) -> Verdict {
        let VerdictParts { healthy, probes_ok, probes_failed, traffic_failed, .. } = parts;
        let VerdictParts { ejected_until, ejections, usable_since, ramp_since, .. } = parts;
        Verdict {
            healthy,
            probes_ok,
            probes_failed,
            traffic_failed,
            ejected_until,
            ejections,
            usable_since,
            ramp_since,
        }
    }
}

impl From<&Verdict> for VerdictParts {
    fn from(verdict: &Verdict) -> VerdictParts {
        VerdictParts {
            healthy: verdict.healthy,
            probes_ok: verdict.probes_ok,
            probes_failed: verdict.probes_failed,
            traffic_failed: verdict.traffic_failed,
            ejected_until: verdict.ejected_until,
            ejections: verdict.ejections,
            usable_since: verdict.usable_since,
            ramp_since: verdict.ramp_since,
        }
    }
}

impl Verdict {
    /// A backend nobody has heard of yet: usable, and at its full weight.
    pub fn new(now: Duration) -> Verdict {
        Verdict {
            healthy: true,
            probes_ok: 0,
            probes_failed: 0,
            traffic_failed: 0,
            ejected_until: None,
            ejections: 0,
            usable_since: now,
            ramp_since: None,
        }
    }

    /// A backend that joins others already at work: usable, and begins with a slow start.
    pub fn joining(now: Duration) -> Verdict {
        Verdict { ramp_since: Some(now), ..Verdict::new(now) }
    }

    /// Takes in the result of a probe.
    ///
    /// Successes do not end an ejection: a probe is not the traffic that failed. If it becomes
    /// healthy while ejected, nothing changes yet, and [`Verdict::tick`] returns it in time.
    pub fn probe(&mut self, rules: &Rules, now: Duration, ok: bool) -> Option<Change> {
        if !rules.active {
            return None;
        }
        if !ok {
            self.probes_ok = 0;
            self.probes_failed = self.probes_failed.saturating_add(1);
            if !self.healthy || self.probes_failed < rules.fall {
                return None;
            }
            self.leave(rules, now);
            self.healthy = false;
            return Some(Change::WentDown);
        }
        self.probes_failed = 0;
        self.probes_ok = self.probes_ok.saturating_add(1);
        if self.healthy || self.probes_ok < rules.rise {
            return None;
        }
        self.healthy = true;
        self.ejected_until.is_none().then(|| {
            self.come_back(now);
            Change::CameUp
        })
    }

    /// Takes in how a connection or request went.
    ///
    /// `may_eject` is what [`may_eject`] says of the whole group. While it says no, failures are
    /// still counted, and the next one after that ejects. What comes in while the backend is not
    /// usable is from before, or from failing open, and does not count.
    pub fn traffic(
        &mut self,
        rules: &Rules,
        now: Duration,
        ok: bool,
        may_eject: bool,
    ) -> Option<Change> {
        if !rules.passive || !self.usable() {
            return None;
        }
        if ok {
            self.traffic_failed = 0;
            return None;
        }
        self.traffic_failed = self.traffic_failed.saturating_add(1);
        if self.traffic_failed < rules.eject_after {
            return None;
        }
        self.eject(rules, now, Cause::InARow(self.traffic_failed), may_eject)
    }

    /// Ejects for what was found out by other means than failures in a row, such as a
    /// [`crate::window::Window`] of its answers. Not while it is not usable or `may_eject` says no.
    pub fn eject(
        &mut self,
        rules: &Rules,
        now: Duration,
        cause: Cause,
        may_eject: bool,
    ) -> Option<Change> {
        if !rules.passive || !self.usable() || !may_eject {
            return None;
        }
        self.leave(rules, now);
        self.ejections = self.ejections.saturating_add(1);
        let lasts = rules.eject_time.saturating_mul(self.ejections).min(rules.eject_time_max);
        let until = now.saturating_add(lasts);
        self.ejected_until = Some(until);
        Some(Change::Ejected { until, cause })
    }

    /// Lets time pass: ends an ejection that is over.
    ///
    /// Call it at [`Verdict::next_event`]; earlier or more often does no harm.
    pub fn tick(&mut self, rules: &Rules, now: Duration) -> Option<Change> {
        // Without passive checks, by a new config, nothing is left to be ejected for.
        let over = self.ejected_until.is_some_and(|until| until <= now || !rules.passive);
        if over {
            self.ejected_until = None;
        }
        if !rules.active && !self.healthy {
            self.healthy = true;
            self.probes_failed = 0;
            return self.usable().then(|| {
                self.come_back(now);
                Change::CameUp
            });
        }
        (over && self.healthy).then(|| {
            self.come_back(now);
            Change::Returned
        })
    }

    /// Takes note that it is put back to work by hand, after it was taken out so: it begins with a slow start.
    pub fn put_back(&mut self, now: Duration) {
        if self.usable() {
            self.come_back(now);
        }
    }

    /// Whether it may be picked.
    pub fn usable(&self) -> bool {
        self.healthy && self.ejected_until.is_none()
    }

    /// What is thought of it.
    pub fn state(&self) -> State {
        match (self.healthy, self.ejected_until) {
            (false, _) => State::Unhealthy,
            (true, Some(until)) => State::Ejected { until },
            (true, None) => State::Healthy,
        }
    }

    /// Its weight at a time: grows evenly over the slow start, but is at least 1 if it is not 0.
    ///
    /// The result is whole, so a weight of 1 has no ramp: pass `weight * 100` for every member.
    pub fn weight_at(&self, rules: &Rules, now: Duration, weight: u32) -> u32 {
        let Some(since) = self.ramp_since else { return weight };
        let passed = now.saturating_sub(since);
        if weight == 0 || passed >= rules.slow_start {
            return weight;
        }
        let grown = u128::from(weight) * passed.as_nanos() / rules.slow_start.as_nanos().max(1);
        (grown as u32).max(1)
    }

    /// When something changes by itself: an ejection ends, or a slow start is a tenth further.
    ///
    /// A time that has passed already means that [`Verdict::tick`] is due.
    pub fn next_event(&self, rules: &Rules, now: Duration) -> Option<Duration> {
        if self.ejected_until.is_some() {
            return self.ejected_until;
        }
        if !self.usable() {
            return None;
        }
        let since = self.ramp_since?;
        let passed = now.saturating_sub(since);
        if passed >= rules.slow_start {
            return None;
        }
        let step = (rules.slow_start / RAMP_STEPS).max(Duration::from_nanos(1));
        let steps = (passed.as_nanos() / step.as_nanos()) as u32 + 1;
        Some(since.saturating_add(step.saturating_mul(steps).min(rules.slow_start)))
    }

    /// Ends a time of being usable, for which it is forgiven: one ejection for every `eject_time`.
    fn leave(&mut self, rules: &Rules, now: Duration) {
        if self.usable() {
            let good = now.saturating_sub(self.usable_since).as_nanos();
            let forgiven = good.checked_div(rules.eject_time.as_nanos()).unwrap_or(u128::MAX);
            let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
            self.ejections = self.ejections.saturating_sub(forgiven);
        }
        self.traffic_failed = 0;
    }

    fn come_back(&mut self, now: Duration) {
        self.usable_since = now;
        self.ramp_since = Some(now);
        self.traffic_failed = 0;
    }
}

/// Whether one more backend may be ejected: never the last usable one, and no more than
/// `max_percent` of all are ejected at once, but one always may be unless that is 0.
pub fn may_eject(total: usize, ejected: usize, usable: usize, max_percent: u8) -> bool {
    let within = ejected.saturating_add(1).saturating_mul(100)
        <= total.saturating_mul(usize::from(max_percent));
    usable > 1 && max_percent > 0 && (ejected == 0 || within)
}

/// Whether so few are usable that all should be used: when the usable part of the total is below
/// `threshold_percent`. 0 turns this off. (Envoy calls it the panic threshold.)
pub fn fail_open(total: usize, usable: usize, threshold_percent: u8) -> bool {
    usable.saturating_mul(100) < total.saturating_mul(usize::from(threshold_percent))
}
