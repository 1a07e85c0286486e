//! How long the answers of one backend take, as a median of the last seconds, and who is much slower than
//! the others. Not an average: one report that takes half a minute says nothing about its backend.
//!
//! Counting is one addition to an atomic: it takes no lock and reads no clock. Times fall into classes a
//! fifth apart, and two halves of the window take turns, so that what is counted spans between one half
//! and the whole of it. Two threads at the turn of a half may lose a few counts, which a median survives.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Classes of time, four for each doubling.
const CLASSES: usize = 96;

/// The upper end of the first class; the last one ends 24 doublings above it, at 268 s.
const FIRST_NS: f64 = 16_000.0;

/// The answers of one backend, by how long they took.
#[derive(Debug)]
pub struct Latencies {
    half_ns: u64,
    halves: [Half; 2],
}

#[derive(Debug)]
struct Half {
    /// Which half of all time it counts, from 1 on.
    number: AtomicU64,
    classes: [AtomicU32; CLASSES],
}

impl Latencies {
    /// Over this time; one of less than 2 ns counts as 2 ns.
    pub fn new(within: Duration) -> Latencies {
        let half_ns = u64::try_from(within.as_nanos() / 2).unwrap_or(u64::MAX).max(1);
        let half = || Half { number: AtomicU64::new(0), classes: [const { AtomicU32::new(0) }; _] };
        Latencies { half_ns, halves: [half(), half()] }
    }

    /// Counts an answer that took so long.
    pub fn note(&self, now: Duration, took: Duration) {
        let number = self.number(now);
        let [even, odd] = &self.halves;
        let half = if number.is_multiple_of(2) { even } else { odd };
        let found = half.number.load(Relaxed);
        if found > number {
            return;
        }
        if found < number && half.number.compare_exchange(found, number, Relaxed, Relaxed).is_ok() {
            half.classes.iter().for_each(|class| class.store(0, Relaxed));
        }
        if let Some(class) = half.classes.get(class_of(took)) {
            class.fetch_add(1, Relaxed);
        }
    }

    /// What half of the answers took at most, if there are as many as `answers`; to a fifth.
    pub fn median(&self, now: Duration, answers: u32) -> Option<Duration> {
        let number = self.number(now);
        let mut counts = [0_u64; CLASSES];
        for half in &self.halves {
            if number.saturating_sub(half.number.load(Relaxed)) < 2 {
                let classes = counts.iter_mut().zip(&half.classes);
                classes.for_each(|(count, class)| *count += u64::from(class.load(Relaxed)));
            }
        }
        let all: u64 = counts.iter().sum();
        if all < u64::from(answers.max(1)) {
            return None;
        }
        let mut passed = 0;
        let class = counts.iter().position(|count| {
            passed += count;
            passed * 2 >= all
        });
        class.map(end_of)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.halves.iter().for_each(|half| half.number.store(0, Relaxed));
    }

    fn number(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / u128::from(self.half_ns)).unwrap_or(u64::MAX - 1) + 1
    }
}

fn class_of(took: Duration) -> usize {
    let doublings = (took.as_nanos() as f64 / FIRST_NS).log2();
    // A float becomes a whole number by cutting, below 0 by 0.
    ((doublings * 4.0).ceil() as usize).min(CLASSES - 1)
}

fn end_of(class: usize) -> Duration {
    Duration::from_nanos((FIRST_NS * (class as f64 / 4.0).exp2()) as u64)
}

/// When a backend is too slow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TooSlow {
    /// How many times the median of the others its own must be.
    pub times: f64,
    /// What its own must be at least: of two that are fast, neither is too slow.
    pub at_least: Duration,
}

impl TooSlow {
    /// The slowest of those that are too slow, as its position and what the others' median is.
    ///
    /// Each is held against the median of the others' medians; one without a median takes no part.
    pub fn worst(&self, medians: &[Option<Duration>]) -> Option<(usize, Duration)> {
        let known = medians.iter().enumerate().filter_map(|(at, median)| Some((at, (*median)?)));
        let (worst, slowest) = known.max_by_key(|(_, median)| *median)?;
        let others = medians.iter().enumerate().filter(|(at, _)| *at != worst);
        let mut others: Vec<Duration> = others.filter_map(|(_, median)| *median).collect();
        others.sort_unstable();
        // Of an even number the lower one: with two others, half of them are enough to be fast.
        let middle = *others.get(others.len().checked_sub(1)? / 2)?;
        let is_slow = slowest >= self.at_least
            && slowest.as_secs_f64() > middle.as_secs_f64() * self.times.max(1.0);
        is_slow.then_some((worst, middle))
    }
}
