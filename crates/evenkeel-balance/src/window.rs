//! How many of the last answers were errors, over a time that slides: two counts in ten steps of an
//! array of atomics. It takes no lock and reads no clock; times are [`Duration`]s since any fixed start.
//!
//! A step that is over is forgotten whole, so what is counted spans between nine and ten tenths of
//! the time asked for. Each step is one word, with its number in it: whoever writes first after a
//! step has begun anew clears it by writing, and nobody can count into one that is past.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const STEPS: usize = 10;

/// Bits of each of the two counts in a step; a step that is full stops counting.
const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const NUMBER_MAX: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// Two counts over the last so many seconds: of all, and of some that are marked.
#[derive(Debug)]
pub struct Window {
    step_ns: u64,
    steps: [AtomicU64; STEPS],
}

/// The counts of a [`Window`] at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many there were.
    pub all: u32,
    /// How many of them were marked, or how many marks there were beside them.
    pub marked: u32,
}

impl Window {
    /// Over this time; one of less than 10 ns counts as 10 ns.
    pub fn new(within: Duration) -> Window {
        let step_ns = u64::try_from(within.as_nanos() / STEPS as u128).unwrap_or(u64::MAX).max(1);
        Window { step_ns, steps: Default::default() }
    }

    /// Counts one, marked or not.
    pub fn note(&self, now: Duration, marked: bool) {
        self.add(now, 1, u64::from(marked));
    }

    /// The counts as they stand at a time.
    pub fn counted(&self, now: Duration) -> Counted {
        let current = self.number(now);
        let mut counted = Counted::default();
        for step in &self.steps {
            let Step { number, all, marked } = Step::unpack(step.load(Relaxed));
            // Numbers go round after 16 million steps; a step that old and still there is empty or counts as past.
            if all + marked > 0 && current.wrapping_sub(number) & NUMBER_MAX < STEPS as u64 {
                counted.all = counted.all.saturating_add(all as u32);
                counted.marked = counted.marked.saturating_add(marked as u32);
            }
        }
        counted
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.steps.iter().for_each(|step| step.store(0, Relaxed));
    }

    pub(crate) fn add(&self, now: Duration, all: u64, marked: u64) {
        self.change(now, |step| Step {
            all: (step.all + all).min(COUNT_MAX),
            marked: (step.marked + marked).min(COUNT_MAX),
            ..step
        });
    }

    /// Takes a mark back that was counted at the same time.
    pub(crate) fn unmark(&self, now: Duration) {
        self.change(now, |step| Step { marked: step.marked.saturating_sub(1), ..step });
    }

    fn change(&self, now: Duration, change: impl Fn(Step) -> Step) {
        let number = self.number(now);
        let Some(step) = self.steps.get((self.turn(now) % STEPS as u64) as usize) else { return };
        let anew = |packed| {
            let found = Step::unpack(packed);
            let fresh = Step { number, all: 0, marked: 0 };
            Some(change(if found.number == number { found } else { fresh }).pack())
        };
        let _ = step.fetch_update(Relaxed, Relaxed, anew);
    }

    fn turn(&self, now: Duration) -> u64 {
        u64::try_from(now.as_nanos() / u128::from(self.step_ns)).unwrap_or(u64::MAX)
    }

    fn number(&self, now: Duration) -> u64 {
        self.turn(now) & NUMBER_MAX
    }
}

#[derive(Clone, Copy)]
struct Step {
    number: u64,
    all: u64,
    marked: u64,
}

impl Step {
    fn pack(self) -> u64 {
        self.number << (2 * COUNT_BITS) | self.all << COUNT_BITS | self.marked
    }

    fn unpack(packed: u64) -> Step {
        Step {
            number: packed >> (2 * COUNT_BITS),
            all: packed >> COUNT_BITS & COUNT_MAX,
            marked: packed & COUNT_MAX,
        }
    }
}

/// When a share of errors is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyErrors {
    /// The share in percent from which on it is; 0 counts as 1.
    pub percent: u8,
    /// Answers there must be before it is judged; 0 counts as 1.
    pub answers: u32,
}

impl TooManyErrors {
    /// Whether these are too many.
    pub fn are(&self, counted: Counted) -> bool {
        let share = u64::from(counted.marked) * 100;
        let allowed = u64::from(counted.all) * u64::from(self.percent.max(1));
        counted.all >= self.answers.max(1) && share >= allowed
    }
}
