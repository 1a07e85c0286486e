//! Says on stderr which run is on and how long the rest will take.
//! The estimate starts from the plan and corrects itself by how long runs really take.

use std::time::{Duration, Instant};

/// Counts planned seconds against real ones.
pub struct Progress {
    began: Instant,
    planned: f64,
    done: f64,
}

impl Progress {
    pub fn new(planned_seconds: f64) -> Progress {
        Progress { began: Instant::now(), planned: planned_seconds, done: 0.0 }
    }

    /// One line for a run that took `planned_seconds` by plan.
    pub fn tell(&mut self, planned_seconds: f64, what: &str) {
        self.done += planned_seconds;
        let pace = self.began.elapsed().as_secs_f64() / self.done.max(0.1);
        let left = Duration::from_secs_f64((self.planned - self.done).max(0.0) * pace);
        eprintln!("[{:>2} min {:02} s left] {what}", left.as_secs() / 60, left.as_secs() % 60);
    }
}
