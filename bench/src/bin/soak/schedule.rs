//! Which backend is killed or stopped when, for the whole run, worked out from the seed alone.
//! At every moment at least one backend is up, and has been for long enough that the proxy knows.

use std::time::Duration;

use crate::random::Random;

pub const BACKENDS: usize = 3;

/// A backend that is back counts as healthy after this: an ejection of three seconds may have to
/// end, and two checks in a row must succeed.
pub const SETTLE: Duration = Duration::from_secs(5);

const FIRST: Duration = Duration::from_secs(3);
const GAP_MS: (u64, u64) = (1_000, 6_000);
const DOWN_MS: (u64, u64) = (1_000, 10_000);
const STOPPED_MS: (u64, u64) = (500, 2_500);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// SIGKILL, and a new start after `lasts`.
    Kill,
    /// SIGSTOP, and SIGCONT after `lasts`.
    Stop,
}

/// One thing done to one backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    pub at: Duration,
    pub backend: usize,
    pub act: Act,
    pub lasts: Duration,
}

/// Everything that will be done in a run of this length.
pub fn plan(seed: u64, length: Duration) -> Vec<Event> {
    let mut random = Random::new(seed);
    let mut up_from = [Duration::ZERO; BACKENDS];
    let mut settled_from = [Duration::ZERO; BACKENDS];
    let mut events = Vec::new();
    let mut at = FIRST;
    while at < length {
        let may = |backend: usize| {
            let spared = |other| other != backend && settled_from[other] <= at;
            up_from[backend] <= at && (0..BACKENDS).any(spared)
        };
        let candidates: Vec<usize> = (0..BACKENDS).filter(|&backend| may(backend)).collect();
        if !candidates.is_empty() {
            let backend = candidates[random.between(0, candidates.len() as u64) as usize];
            let act = if random.once_in(3) { Act::Stop } else { Act::Kill };
            let (low, high) = if act == Act::Kill { DOWN_MS } else { STOPPED_MS };
            let lasts = random.pause(low, high);
            up_from[backend] = at + lasts;
            settled_from[backend] = at + lasts + SETTLE;
            events.push(Event { at, backend, act, lasts });
        }
        at += random.pause(GAP_MS.0, GAP_MS.1);
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_backend_is_always_up_and_settled() {
        for seed in 0..50 {
            let events = plan(seed, Duration::from_secs(600));
            assert!(events.len() > 60, "{} events", events.len());
            let away = |event: &Event, at| event.at <= at && at < event.at + event.lasts + SETTLE;
            for at in events.iter().map(|event| event.at) {
                let settled = (0..BACKENDS)
                    .filter(|&backend| !events.iter().any(|e| e.backend == backend && away(e, at)));
                assert!(settled.count() > 0, "seed {seed} at {at:?}");
            }
        }
    }

    #[test]
    fn a_seed_repeats_its_schedule() {
        let length = Duration::from_secs(60);
        assert_eq!(plan(7, length), plan(7, length));
        assert_ne!(plan(7, length), plan(8, length));
    }
}
