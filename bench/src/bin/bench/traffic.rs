//! Runs one measure against one address and turns the load generator's report into figures.
//! Every run is bounded in time; a run that hangs is ended and counts as failed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::measure::{Door, Measure};
use crate::process::{Launcher, Started};
use crate::site;
use crate::suite::Suite;

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
    /// Where handshakes go, for the measure that needs both.
    pub tls: Option<SocketAddr>,
    pub seconds: f64,
    pub processes: &'a [u32],
    /// Messages or requests a second, for the latency measure.
    pub rate: f64,
}

impl Run<'_> {
    pub fn measure(&self, measure: Measure) -> Result<Values, String> {
        let mut words: Vec<String> = words_of(measure.facts().load);
        if measure.is_latency() {
            words.extend(["--rate".to_owned(), format!("{:.0}", self.rate)]);
        }
        if let Some(tls) = self.tls.filter(|_| measure == Measure::Crowd) {
            words.extend(["--tls".to_owned(), tls.to_string()]);
        }
        let words = with_root(self.launcher, measure, words);
        let report = self.report(&words)?;
        if report.count < 1.0 {
            return Err("nothing came back".to_owned());
        }
        if report.failed > report.count / 100.0 {
            return Err(format!("{} of {} failed", report.failed, report.count));
        }
        if measure.is_latency() && report.rate < 0.95 * self.rate {
            return Err(format!("carried {:.0}/s of {:.0}/s", report.rate, self.rate));
        }
        Ok(self.values(measure, &report))
    }

    fn values(&self, measure: Measure, report: &Report) -> Values {
        let has_cpu = !self.processes.is_empty();
        let value = |key| match key {
            "rate" => Some(report.rate),
            "cpu" => has_cpu.then(|| report.cpu_seconds / report.count),
            "per-cpu" => has_cpu.then(|| report.count / report.cpu_seconds),
            "p50" => Some(report.p50_us / 1e6),
            "p99" => Some(report.p99_us / 1e6),
            "p999" => Some(report.p999_us / 1e6),
            _ => None,
        };
        let figures = measure.figures().iter();
        let known = figures.filter_map(|f| Some((f.key.to_owned(), value(f.key)? * f.scale)));
        known.collect()
    }

    fn report(&self, words: &[String]) -> Result<Report, String> {
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
        let longest = Duration::from_secs_f64(2.0 * self.seconds + WARM_UP) + SLACK;
        let (out, err) = await_end(&mut child, longest);
        serde_json::from_str(&out).map_err(|_| err.trim().to_owned())
    }
}

/// Adds the certificate to trust, for a measure through TLS.
fn with_root(launcher: &Launcher, measure: Measure, mut words: Vec<String>) -> Vec<String> {
    if measure.facts().door == Door::Tls || measure == Measure::Crowd {
        let root = launcher.folder.join(site::below(site::CERTIFICATE));
        words.extend(["--root".to_owned(), root.display().to_string()]);
    }
    words
}

fn words_of(load: &str) -> Vec<String> {
    load.split_whitespace().map(str::to_owned).collect()
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
pub fn idle(
    launcher: &Launcher,
    suite: Suite,
    measure: Measure,
    proxy: &Started,
) -> Result<Values, String> {
    let to = proxy.at(measure.facts().door)?;
    let warm = Run { launcher, to, tls: None, seconds: 0.2, processes: &[], rate: 0.0 };
    let trust = |words: Vec<String>| with_root(launcher, measure, words);
    warm.report(&trust(words_of(suite.touch())))?;
    std::thread::sleep(Duration::from_millis(300));
    let before = proxy.memory_bytes();
    let mut command = launcher.tied(&launcher.load, &launcher.other_cpus);
    command.args(trust(words_of(measure.facts().load))).arg("--to").arg(to.to_string());
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
    let each = (after - before) / IDLE_CONNECTIONS as f64;
    Ok(measure
        .figures()
        .iter()
        .map(|figure| (figure.key.to_owned(), each * figure.scale))
        .collect())
}
