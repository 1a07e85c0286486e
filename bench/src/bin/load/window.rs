//! The stretch of time that counts: a warm-up before it, CPU time read at both of its edges.
//! It also holds the report, so that every measure prints the same fields.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu;

/// How long to warm up and to count, and whose CPU time is read at the edges of the counting.
pub struct Window {
    warm_up: Duration,
    lasts: Duration,
    processes: Vec<u32>,
    started: Option<Instant>,
    opened: Option<Instant>,
    cpu_at_opening: f64,
}

/// What a loop has to do now.
#[derive(PartialEq)]
pub enum Phase {
    Go,
    /// Counting starts now: set every counter to zero.
    Open,
    Close,
}

impl Window {
    pub fn new(warm_up: Duration, lasts: Duration, processes: Vec<u32>) -> Window {
        Window { warm_up, lasts, processes, started: None, opened: None, cpu_at_opening: 0.0 }
    }

    /// What to do now; the first call starts the warm-up.
    pub fn phase(&mut self, now: Instant) -> Phase {
        let started = *self.started.get_or_insert(now);
        match self.opened {
            None if now < started + self.warm_up => Phase::Go,
            None => {
                self.cpu_at_opening = cpu::seconds_of(&self.processes);
                self.opened = Some(Instant::now());
                Phase::Open
            }
            Some(opened) if now < opened + self.lasts => Phase::Go,
            Some(_) => Phase::Close,
        }
    }

    /// Reads the CPU time again and sums up.
    pub fn close(self, count: u64, failed: u64, times: &Histogram<u64>) -> Report {
        let cpu_seconds = cpu::seconds_of(&self.processes) - self.cpu_at_opening;
        let seconds = self.opened.map_or(0.0, |opened| opened.elapsed().as_secs_f64());
        let us = |quantile| times.value_at_quantile(quantile) as f64 / 1e3;
        Report {
            seconds,
            count,
            failed,
            rate: if seconds > 0.0 { count as f64 / seconds } else { 0.0 },
            cpu_seconds,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
        }
    }
}

/// What one run found. `count` is messages, connections or bytes, as the command says.
#[derive(Serialize)]
pub struct Report {
    seconds: f64,
    count: u64,
    failed: u64,
    /// `count` a second.
    rate: f64,
    /// Of the processes named by --cpu-of, while counting.
    cpu_seconds: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

impl Report {
    pub fn count(&self) -> u64 {
        self.count
    }

    /// This one held against another: the slowest of each, and how many times as slow these are.
    pub fn against(self, other: &Report) -> Report {
        let rate = self.p99_us / other.p99_us.max(1.0);
        Report { rate, p50_us: other.p99_us, ..self }
    }
}

/// Nanoseconds up to a minute, three digits.
pub fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("constant bounds are valid")
}

/// Notes one time; more than a minute counts as a minute.
pub fn note(times: &mut Histogram<u64>, taken: Duration) {
    times.saturating_record(taken.as_nanos().min(60_000_000_000) as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_once_and_then_closes() {
        let mut window = Window::new(Duration::ZERO, Duration::from_secs(1), Vec::new());
        let now = Instant::now();
        assert!(window.phase(now) == Phase::Open);
        assert!(window.phase(now) == Phase::Go);
        assert!(window.phase(now + Duration::from_secs(2)) == Phase::Close);
    }
}
