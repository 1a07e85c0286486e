//! Reads how much CPU time processes have used so far, from /proc.
//! Nanoseconds from each thread's schedstat where the kernel has it, else the ticks of stat.

use std::fs;

/// Linux reports stat in hundredths of a second on every architecture this runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU, user and system, that these processes used since they began.
pub fn seconds_of(processes: &[u32]) -> f64 {
    processes.iter().map(|&process| from_threads(process).unwrap_or(from_stat(process))).sum()
}

fn from_threads(process: u32) -> Option<f64> {
    let mut nanoseconds = 0u64;
    for thread in fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 / 1e9)
}

fn from_stat(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces: count fields after it. utime and stime are 14, 15.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2);
    ticks.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_done_here_shows_as_cpu_time() {
        let me = [std::process::id()];
        let before = seconds_of(&me);
        let started = std::time::Instant::now();
        while started.elapsed() < std::time::Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        assert!(seconds_of(&me) > before);
    }
}
