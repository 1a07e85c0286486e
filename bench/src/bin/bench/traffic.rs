//! Runs one measure against one address and turns the load generator's report into figures.
//! Every run is bounded in time; a run that hangs is ended and counts as failed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::measure::Measure;
use crate::process::{Launcher, Started};

/// Seconds of the same traffic before counting begins.
pub const WARM_UP: f64 = 0.3;
pub const IDLE_CONNECTIONS: usize = 5000;
const SLACK: Duration = Duration::from_secs(20);

/// Values by the key of their figure.
pub type Values = BTreeMap<String, f64>;

/// What the load generator prints.
#[derive(Deserialize)]
struct Report {
    count: f64,
    failed: f64,
    rate: f64,
    cpu_seconds: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

/// One run: where to, for how long, and whose CPU time counts (none for direct).
pub struct Run<'a> {
    pub launcher: &'a Launcher,
    pub to: SocketAddr,
    pub seconds: f64,
    pub processes: &'a [u32],
    /// Messages a second, for the latency measure.
    pub rate: f64,
}

impl Run<'_> {
    pub fn measure(&self, measure: Measure) -> Result<Values, String> {
        let rate = format!("{:.0}", self.rate);
        let words: &[&str] = match measure {
            Measure::MessagesOne => &["messages", "--connections", "1"],
            Measure::MessagesMany => &["messages", "--connections", "64"],
            Measure::MessagesCrowd => &["messages", "--connections", "512", "--size", "1024"],
            Measure::BulkUp => &["bulk", "--direction", "up"],
            Measure::BulkDown => &["bulk", "--direction", "down"],
            Measure::BulkBoth => &["bulk", "--direction", "both"],
            Measure::Connects => &["connects", "--concurrency", "64"],
            Measure::Latency => &["messages", "--connections", "64", "--rate", &rate],
            Measure::Idle => return Err("idle needs a fresh proxy".to_owned()),
        };
        let report = self.report(words)?;
        if report.count < 1.0 {
            return Err("nothing came back".to_owned());
        }
        if report.failed > report.count / 100.0 {
            return Err(format!("{} of {} failed", report.failed, report.count));
        }
        if measure == Measure::Latency && report.rate < 0.95 * self.rate {
            return Err(format!("carried {:.0}/s of {rate}/s", report.rate));
        }
        Ok(self.values(measure, &report))
    }

    fn values(&self, measure: Measure, report: &Report) -> Values {
        let cpu = report.cpu_seconds / report.count;
        let mut values = match measure {
            Measure::Latency => {
                vec![("p50", report.p50_us), ("p99", report.p99_us), ("p999", report.p999_us)]
            }
            Measure::BulkUp | Measure::BulkDown | Measure::BulkBoth => {
                vec![("rate", report.rate * 8.0 / 1e9), ("cpu", cpu * 1e9)]
            }
            _ => vec![("rate", report.rate), ("cpu", cpu * 1e6)],
        };
        if self.processes.is_empty() {
            values.retain(|(key, _)| *key != "cpu");
        }
        values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn report(&self, words: &[&str]) -> Result<Report, String> {
        let processes: Vec<String> = self.processes.iter().map(u32::to_string).collect();
        let mut command = self.launcher.tied(&self.launcher.load, &self.launcher.other_cpus);
        command.args(words).arg("--to").arg(self.to.to_string());
        command.arg("--seconds").arg(self.seconds.to_string());
        command.arg("--warm-up").arg(WARM_UP.to_string());
        if !processes.is_empty() {
            command.arg("--cpu-of").arg(processes.join(","));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("start load: {error}"))?;
        let (out, err) =
            await_end(&mut child, Duration::from_secs_f64(self.seconds + WARM_UP) + SLACK);
        serde_json::from_str(&out).map_err(|_| err.trim().to_owned())
    }
}

/// Waits for the end, at most `limit`; what it prints fits a pipe, so nobody waits for a reader.
fn await_end(child: &mut Child, limit: Duration) -> (String, String) {
    let begun = Instant::now();
    while matches!(child.try_wait(), Ok(None)) {
        if begun.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return (String::new(), "it did not end in time".to_owned());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let (mut out, mut err) = (String::new(), String::new());
    let _ = child.stdout.take().map(|mut pipe| pipe.read_to_string(&mut out));
    let _ = child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut err));
    (out, err)
}

/// Memory of a fresh proxy per idle connection, above what it had before.
pub fn idle(launcher: &Launcher, proxy: &Started) -> Result<Values, String> {
    let warm = Run { launcher, to: proxy.address, seconds: 0.2, processes: &[], rate: 0.0 };
    warm.report(&["messages", "--connections", "8"])?;
    std::thread::sleep(Duration::from_millis(300));
    let before = proxy.memory_bytes();
    let mut command = launcher.tied(&launcher.load, &launcher.other_cpus);
    command.arg("idle").arg("--to").arg(proxy.address.to_string());
    command.arg("--connections").arg(IDLE_CONNECTIONS.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("start load: {error}"))?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        let _ = BufReader::new(out).read_line(&mut line);
    }
    std::thread::sleep(Duration::from_millis(700));
    let after = proxy.memory_bytes();
    let _ = child.stdin.take().map(|mut pipe| pipe.write_all(b"enough\n"));
    let (_, err) = await_end(&mut child, SLACK);
    if line.trim() != "ready" {
        return Err(err.trim().to_owned());
    }
    let kilobytes = (after - before) / IDLE_CONNECTIONS as f64 / 1e3;
    Ok(Values::from([("memory".to_owned(), kilobytes)]))
}
