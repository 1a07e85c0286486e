//! What one thread counts and others read: numbers and distributions of times. Adding is a load and a store, with no locked
//! instruction, which is right for one writer only: [`Striped`](super::stripes::Striped) is what sees to that.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::Duration;

/// A number that only grows, with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    pub(crate) fn add(&self, more: u64) {
        // Whoever sees an end has to see the beginning: what is counted first is seen first.
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Release);
    }

    /// What it has come to.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Acquire)
    }

    /// Raises it to this, if it is lower.
    pub(crate) fn raise(&self, to: u64) {
        if self.0.load(Relaxed) < to {
            self.0.store(to, Release);
        }
    }
}

/// Upper ends of the steps that times are sorted into: fine around what a network takes, up to what a person waits.
pub(crate) const STEPS: [Duration; 18] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
];

/// The same in nanoseconds, in which they are compared.
const STEPS_NS: [u64; STEPS.len()] = {
    let mut ends = [0; STEPS.len()];
    let mut at = 0;
    while at < ends.len() {
        ends[at] = nanos(STEPS[at]);
        at += 1;
    }
    ends
};

/// At most 584 years.
const fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos() as u64)
}

/// How long things took, with one writer.
#[derive(Debug, Default)]
pub(crate) struct Times {
    steps: [Count; STEPS.len() + 1],
    sum_ns: Count,
}

impl Times {
    /// Takes one in.
    pub(crate) fn note(&self, took: Duration) {
        let took = nanos(took);
        self.sum_ns.add(took);
        self.steps[STEPS_NS.partition_point(|end| *end < took)].add(1);
    }
}

/// A reading of times, added up over all who noted them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Distribution {
    /// By the steps, and at last those above all of them.
    pub(crate) steps: [u64; STEPS.len() + 1],
    pub(crate) sum: Duration,
}

impl Distribution {
    /// Adds what somebody has noted.
    pub(crate) fn add(&mut self, times: &Times) {
        for (sum, step) in self.steps.iter_mut().zip(&times.steps) {
            *sum += step.value();
        }
        self.sum += Duration::from_nanos(times.sum_ns.value());
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// The time that this share of them took at most, between the ends of its step as if they lay evenly there; the last end, where
    /// it lies above. None without any.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = share * self.count() as f64;
        let (mut before, mut from) = (0.0, Duration::ZERO);
        for (step, end) in self.steps.iter().zip(STEPS) {
            let here = *step as f64;
            if here > 0.0 && before + here >= wanted {
                let within = ((wanted - before) / here).clamp(0.0, 1.0);
                return Some(from + (end - from).mul_f64(within));
            }
            (before, from) = (before + here, end);
        }
        (self.count() > 0).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(times: &[Duration]) -> Distribution {
        let noted = Times::default();
        times.iter().for_each(|time| noted.note(*time));
        let mut all = Distribution::default();
        all.add(&noted);
        all
    }

    #[test]
    fn a_time_stands_in_the_step_that_it_does_not_pass() {
        let micros = Duration::from_micros;
        let all = of(&[Duration::ZERO, micros(100), micros(101), Duration::from_secs(61)]);
        assert_eq!((all.steps[0], all.steps[1], all.steps[STEPS.len()]), (2, 1, 1));
        assert_eq!(all.count(), 4);
        assert_eq!(all.sum, Duration::from_secs(61) + micros(201));
        assert!(STEPS.is_sorted());
    }

    #[test]
    fn quantiles_lie_within_their_step_and_never_above_the_last() {
        let millis = Duration::from_millis;
        let all = of(&[[millis(2); 90].as_slice(), &[millis(70); 10]].concat());
        let half = all.quantile(0.5).unwrap();
        assert!(half > millis(1) && half < Duration::from_micros(2500), "{half:?}");
        let most = all.quantile(0.99).unwrap();
        assert!(most > millis(50) && most <= millis(100), "{most:?}");
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(of(&[Duration::from_secs(90)]).quantile(0.5), Some(Duration::from_secs(60)));
    }
}
