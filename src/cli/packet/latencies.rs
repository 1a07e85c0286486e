//! How long replies took, in constant memory: counts in ranges that are 3 % wide, as a run may have any number of them.

use std::time::Duration;

/// Ranges for each doubling.
const STEPS: u64 = 32;
/// Doublings of a nanosecond that a u64 has, and the one range below them all.
const RANGES: usize = 65 * STEPS as usize;

/// How long something took, many times.
#[derive(Debug)]
pub(super) struct Latencies {
    ranges: Box<[u64]>,
    count: u64,
    least: Duration,
    most: Duration,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies {
            ranges: vec![0; RANGES].into(),
            count: 0,
            least: Duration::MAX,
            most: Duration::ZERO,
        }
    }
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let range = range_of(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if let Some(count) = self.ranges.get_mut(range) {
            *count += 1;
        }
        self.count += 1;
        self.least = self.least.min(took);
        self.most = self.most.max(took);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// What so many percent stayed below, 3 % more at most.
    fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= wanted
        };
        let range = self.ranges.iter().position(reaches).unwrap_or(RANGES);
        Duration::from_nanos(end_of(range)).clamp(self.least, self.most)
    }

    /// In words; none if there was nothing.
    pub(super) fn summary(&self) -> Option<String> {
        if self.count == 0 {
            return None;
        }
        let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1000.0);
        Some(format!(
            "latency: min {}, median {}, p90 {}, p99 {}, max {}",
            ms(self.least),
            ms(self.percentile(50)),
            ms(self.percentile(90)),
            ms(self.percentile(99)),
            ms(self.most)
        ))
    }
}

/// Up to 2 * STEPS, each value has its own range; beyond, each doubling has STEPS of them.
fn range_of(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS.ilog2() + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The largest value of a range.
fn end_of(range: usize) -> u64 {
    let range = range as u64;
    let shift = (range / STEPS).saturating_sub(1).min(58);
    let start = range - shift * STEPS;
    ((u128::from(start + 1) << shift) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_what_it_says_and_is_narrow() {
        for value in (0..200).chain([1000, 123_456, 987_654_321, u64::MAX / 3, u64::MAX]) {
            let (range, end) = (range_of(value), end_of(range_of(value)));
            assert!(range < RANGES, "{value}");
            assert!(end >= value && end - value <= value / 31, "{value} {end}");
            assert!(end == u64::MAX || range_of(end + 1) == range + 1, "{value}");
        }
    }

    #[test]
    fn percentiles_are_those_of_all_values() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.summary(), None);
        (1..=1000).for_each(|n| latencies.add(Duration::from_micros(n)));
        let near = |percent, micros: f64| {
            let found = latencies.percentile(percent).as_secs_f64() * 1e6;
            assert!((micros..micros * 1.04).contains(&found), "{percent} {found}");
        };
        near(50, 500.0);
        near(90, 900.0);
        near(99, 990.0);
        let said = latencies.summary().unwrap();
        assert!(said.starts_with("latency: min 0.001 ms, median 0.5"), "{said}");
        assert!(said.ends_with("max 1.000 ms"), "{said}");
    }
}
