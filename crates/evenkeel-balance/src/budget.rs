//! How many retries there may be: a share of the requests of the last seconds, and a few in any case.
//! When everything fails, retries must not double what already cannot be carried.
//!
//! It takes no lock and reads no clock. A retry is counted before it is allowed, and taken back when
//! it is one too many: so many threads asking at once may be told no a little early, never yes too often.

use std::time::Duration;

use crate::window::Window;

/// How many retries there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Retries for every 100 requests.
    pub percent: u8,
    /// Retries a second that there may be however few the requests are.
    pub per_second_min: u32,
    /// The time over which both are counted.
    pub within: Duration,
}

/// The retries of one upstream, or of one route.
#[derive(Debug)]
pub struct Budget {
    rules: Rules,
    /// Requests, and retries as the marks beside them.
    window: Window,
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(rules: Rules) -> Budget {
        Budget { rules, window: Window::new(rules.within) }
    }

    /// Counts a request on its first try.
    pub fn note_request(&self, now: Duration) {
        self.window.add(now, 1, 0);
    }

    /// Whether one more retry may be; it is counted then.
    pub fn take(&self, now: Duration) -> bool {
        self.window.add(now, 0, 1);
        let counted = self.window.counted(now);
        let allowed = self.allowed(counted.all);
        // One full step holds a million and counts no further: what is not counted is not allowed.
        if u64::from(counted.marked) <= allowed && counted.marked > 0 {
            return true;
        }
        self.window.unmark(now);
        false
    }

    fn allowed(&self, requests: u32) -> u64 {
        let of_requests = u64::from(requests) * u64::from(self.rules.percent) / 100;
        let least = u128::from(self.rules.per_second_min) * self.rules.within.as_millis() / 1000;
        of_requests.saturating_add(u64::try_from(least).unwrap_or(u64::MAX)).min(1_000_000)
    }
}
