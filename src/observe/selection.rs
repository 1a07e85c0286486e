//! Which ends have a line in the access log: a share of those that went well, and every failure.
//! It must never leave out what an operator searches for, so a failure can only be left out by naming it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::ended::Why;
use crate::config::{PathPattern, StatusRange};

/// 2^64 divided by the golden ratio. Adding it again and again, and letting it wrap, spreads evenly over all numbers, and
/// over those of every second or tenth addition alike (Knuth, The Art of Computer Programming 3, 6.4): traffic that
/// comes in a rhythm is sampled as fairly as any other.
const STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;

/// What is written and what is left out.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    sample_percent: u8,
    skip_paths: Vec<PathPattern>,
    skip_statuses: Vec<StatusRange>,
    /// Where in the sequence we are; it begins anywhere, so that nobody outside knows which request is next.
    position: Arc<AtomicU64>,
}

impl PartialEq for Selection {
    fn eq(&self, other: &Selection) -> bool {
        self.sample_percent == other.sample_percent
            && self.skip_paths == other.skip_paths
            && self.skip_statuses == other.skip_statuses
    }
}

impl Selection {
    /// A share in percent of what ends well, without the requests of these paths and statuses.
    pub(crate) fn new(
        sample_percent: u8,
        skip_paths: Vec<PathPattern>,
        skip_statuses: Vec<StatusRange>,
    ) -> Selection {
        let position = Arc::new(AtomicU64::new(RandomState::new().hash_one(0_u8)));
        Selection { sample_percent, skip_paths, skip_statuses, position }
    }

    /// Whether an end has a line; `target` is that of a request.
    pub(super) fn takes(&self, why: Why, status: Option<u16>, target: Option<&[u8]>) -> bool {
        if target.is_some_and(|target| self.skips(status, target)) {
            return false;
        }
        if self.sample_percent >= 100 || is_failure(why, status) {
            return true;
        }
        let position = self.position.fetch_add(STRIDE, Relaxed);
        position < u64::MAX / 100 * u64::from(self.sample_percent)
    }

    fn skips(&self, status: Option<u16>, target: &[u8]) -> bool {
        if self.skip_paths.is_empty() && self.skip_statuses.is_empty() {
            return false;
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let is_in = |range: &StatusRange| {
            status.is_some_and(|status| (range.0..=range.1).contains(&status))
        };
        let by_path = self.skip_paths.iter().any(|pattern| pattern.rest_of(path).is_some());
        (self.skip_paths.is_empty() || by_path)
            && (self.skip_statuses.is_empty() || self.skip_statuses.iter().any(is_in))
    }
}

/// Everything but the ends that are meant to be; an answer that says that a server failed is one of the failures.
fn is_failure(why: Why, status: Option<u16>) -> bool {
    let is_meant =
        matches!(why, Why::ClientFinished | Why::BackendFinished | Why::Answered | Why::Replied);
    !is_meant || status.is_some_and(|status| status >= 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_share_whatever_the_rhythm() {
        for (percent, rhythm) in [(10, 1), (10, 10), (50, 2), (1, 4), (0, 1), (100, 3)] {
            let selection = Selection::new(percent, Vec::new(), Vec::new());
            let mut taken = 0;
            for number in 0..20_000 * rhythm {
                let takes = selection.takes(Why::Answered, Some(200), None);
                taken += u32::from(takes && number % rhythm == 0);
            }
            let expected = 200 * u32::from(percent);
            assert!(taken.abs_diff(expected) <= 40, "{percent} % of {rhythm}: {taken}");
        }
    }

    #[test]
    fn a_failure_is_never_left_out_by_a_sample() {
        let selection = Selection::new(0, Vec::new(), Vec::new());
        for why in Why::ALL {
            let is_meant = ["client-finished", "backend-finished", "answered", "replied"];
            assert_eq!(selection.takes(*why, Some(200), None), !is_meant.contains(&why.as_str()));
            assert!(selection.takes(*why, Some(500), None));
        }
    }

    #[test]
    fn what_is_skipped_meets_all_conditions_that_are_written() {
        let paths = vec!["/healthz".parse().unwrap(), "/static/*".parse().unwrap()];
        let good = vec![StatusRange(200, 299)];
        let both = Selection::new(100, paths, good.clone());
        let takes =
            |status, target: &str| both.takes(Why::Answered, Some(status), Some(target.as_bytes()));
        assert!(!takes(200, "/healthz") && !takes(204, "/static/a?b") && !takes(200, "/healthz?x"));
        assert!(takes(503, "/healthz") && takes(200, "/healthzz") && takes(200, "/"));
        let by_status = Selection::new(100, Vec::new(), good);
        assert!(!by_status.takes(Why::Answered, Some(200), Some(b"/any")));
        assert!(by_status.takes(Why::Answered, None, Some(b"/any")));
        assert!(by_status.takes(Why::ClientFinished, None, None), "a TCP connection has no path");
    }
}
