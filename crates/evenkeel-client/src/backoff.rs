//! How long to wait before connecting again. Computed from a number of failures and a random number that are handed in,
//! so that it can be tested without waiting.

use std::time::Duration;

/// How long to wait before connecting again: doubled with each connect that came to nothing, and spread at random, so that
/// a thousand clients of a server that restarts do not all come at the same moment.
///
/// ```
/// use std::time::Duration;
/// use evenkeel_client::Backoff;
///
/// let backoff = Backoff { most: Duration::from_secs(1), ..Backoff::default() };
/// # let _ = backoff;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Before the first connect after a loss (100 ms).
    pub first: Duration,
    /// The longest wait (10 s).
    pub most: Duration,
    /// By how much of itself a wait may be shorter, at random, in percent (50): 0 waits exactly, 100 perhaps not at all.
    pub jitter_percent: u8,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff {
            first: Duration::from_millis(100),
            most: Duration::from_secs(10),
            jitter_percent: 50,
        }
    }
}

impl Backoff {
    /// The wait after so many failures in a row; `random` is anything from 0 to 1.
    pub(crate) fn wait(&self, failures: u32, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let whole = self.first.saturating_mul(doubled).min(self.most);
        let parts = f64::from(self.jitter_percent.min(100)) * 1000.0 * random.clamp(0.0, 1.0);
        // Rounded down: never more than all of it.
        let part = whole.checked_div(100_000).unwrap_or_default();
        whole.saturating_sub(part.saturating_mul(parts as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_doubled_up_to_the_longest() {
        let backoff = Backoff::default();
        let waits: Vec<_> =
            [1, 2, 3, 7, 8, 1000].iter().map(|n| backoff.wait(*n, 0.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 6400, 10_000, 10_000]);
    }

    #[test]
    fn jitter_takes_away_its_share_and_no_more() {
        let backoff = Backoff { jitter_percent: 30, ..Backoff::default() };
        assert_eq!(backoff.wait(1, 0.0).as_millis(), 100);
        assert_eq!(backoff.wait(1, 1.0).as_millis(), 70);
        let at_worst = Backoff { first: Duration::MAX, most: Duration::MAX, jitter_percent: 255 };
        assert!(at_worst.wait(u32::MAX, 1.0) < Duration::MAX);
    }
}
