//! The latency of one backend as a single number: a moving average that believes bad news at once.
//! A slower sample replaces the value; faster ones, and time without any, bring it down slowly.
//!
//! After Finagle's `PeakEwma`, which weighs by elapsed time as samples come unevenly (Eckner,
//! "Algorithms for Unevenly Spaced Time Series", 2014). It must never read a clock: nanoseconds
//! since any fixed start are arguments.

/// A peak-sensitive, exponentially weighted moving average of round-trip times.
///
/// A new one stands at 0, "not measured". `least-latency` gives such a member one request, and
/// no second one before the first was answered, unless there is nobody better known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakEwma {
    tau_ns: u64,
    stamp_ns: u64,
    value_ns: f64,
}

impl PeakEwma {
    /// With its decay time: after `tau_ns` of silence, 37 % (1/e) of the value is left. A `tau_ns`
    /// of 0 keeps the last sample only. Finagle's default is 10 s.
    pub fn new(tau_ns: u64) -> PeakEwma {
        PeakEwma { tau_ns, stamp_ns: 0, value_ns: 0.0 }
    }

    /// Puts together what [`PeakEwma::parts`] took apart, for a caller who keeps it in atomics.
    ///
    /// A value that is negative or not a number counts as not measured.
    pub fn from_parts(tau_ns: u64, stamp_ns: u64, value_ns: f64) -> PeakEwma {
        PeakEwma { tau_ns, stamp_ns, value_ns: value_ns.max(0.0) }
    }

    /// When the last sample came, and the value in nanoseconds at that time.
    pub fn parts(&self) -> (u64, f64) {
        (self.stamp_ns, self.value_ns)
    }

    /// Takes in a round trip that ended at `now_ns`. Time running backwards counts as none passed.
    pub fn observe(&mut self, now_ns: u64, rtt_ns: u64) {
        // At least 1 ns: an answer is a measurement, and 0 would say there was none.
        let rtt = rtt_ns.max(1) as f64;
        let kept = self.kept_at(now_ns);
        self.value_ns =
            if rtt >= self.value_ns { rtt } else { self.value_ns * kept + rtt * (1.0 - kept) };
        self.stamp_ns = self.stamp_ns.max(now_ns);
    }

    /// The value at a time, in seconds, which is what [`crate::Loads::latency`] returns.
    ///
    /// It goes down while nothing is heard, so that a backend that was once slow is tried again.
    pub fn value_at(&self, now_ns: u64) -> f64 {
        self.value_ns * self.kept_at(now_ns) / 1e9
    }

    /// The part of the value that is left at a time.
    fn kept_at(&self, now_ns: u64) -> f64 {
        let passed = now_ns.saturating_sub(self.stamp_ns);
        match self.tau_ns {
            0 if passed == 0 => 1.0,
            0 => 0.0,
            tau => (-(passed as f64) / tau as f64).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_slow_answer_is_believed_at_once() {
        let mut ewma = PeakEwma::new(10_000 * MS);
        ewma.observe(0, 5 * MS);
        ewma.observe(1, 80 * MS);
        assert!((ewma.value_at(1) - 0.080).abs() < 1e-9);
    }

    #[test]
    fn fast_answers_bring_it_down_by_the_time_passed() {
        let mut ewma = PeakEwma::new(1_000 * MS);
        ewma.observe(0, 100 * MS);
        ewma.observe(1_000 * MS, 10 * MS);
        let expected = 0.1 * (-1f64).exp() + 0.01 * (1.0 - (-1f64).exp());
        assert!((ewma.value_at(1_000 * MS) - expected).abs() < 1e-9);
    }

    #[test]
    fn silence_forgives() {
        let mut ewma = PeakEwma::new(1_000 * MS);
        ewma.observe(0, 100 * MS);
        assert!((ewma.value_at(1_000 * MS) - 0.1 * (-1f64).exp()).abs() < 1e-9);
        assert!(ewma.value_at(60_000 * MS) < 1e-9);
    }

    #[test]
    fn a_clock_running_backwards_changes_nothing() {
        let mut ewma = PeakEwma::new(1_000 * MS);
        ewma.observe(500 * MS, 100 * MS);
        assert_eq!(ewma.value_at(0), ewma.value_at(500 * MS));
        ewma.observe(100 * MS, 10 * MS);
        assert_eq!(ewma.parts(), (500 * MS, 100.0 * MS as f64));
    }

    #[test]
    fn nothing_measured_is_zero_and_an_answer_never_is() {
        let mut ewma = PeakEwma::new(0);
        assert_eq!(ewma.value_at(7), 0.0);
        ewma.observe(7, 0);
        assert!(ewma.value_at(7) > 0.0);
        assert_eq!(PeakEwma::from_parts(1, 2, f64::NAN).value_at(2), 0.0);
    }
}
