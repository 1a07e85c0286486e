//! One run: a proxy, everything connected through it, windows in which gaps are noted, with an upgrade at the beginning of each
//! or without, and a reckoning at the end. A run without upgrades differs in nothing else.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};

use super::ends::{End, Found, Load};
use super::newcomers::{self, Newcomers};
use super::proxy::{Held, Proxy, Upgrade};
use super::shared::Shared;
use crate::peer::{Installed, Peer};
use crate::process::Launcher;

const TIME_TO_CONNECT: Duration = Duration::from_secs(60);
/// From when everything is connected until the first window.
const SETTLE: Duration = Duration::from_millis(1500);
/// What is on its way when the run is over has so long to arrive.
const TIME_TO_ARRIVE: Duration = Duration::from_secs(20);

/// How fast transfers go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pace {
    Full,
    Rate,
}

/// What a run is made of.
pub struct Plan<'a> {
    pub launcher: &'a Launcher,
    pub installed: &'a Installed,
    pub threads: usize,
    pub load: Load,
    pub pace: Pace,
    pub round: usize,
    pub windows: usize,
    pub window: Duration,
    /// Whether a window begins with an upgrade.
    pub upgrades: bool,
    pub is_stopped: &'a AtomicBool,
}

/// What it found. Times are in milliseconds.
#[derive(Serialize, Deserialize)]
pub struct Sample {
    pub peer: Peer,
    pub pace: Pace,
    pub round: usize,
    pub with_upgrades: bool,
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
    /// The longest that a byte of an idle connection took there and back.
    pub answer: f64,
    /// Bytes a second that arrived, both ways together.
    pub rate: f64,
    pub upgrades: Vec<Upgrade>,
    pub newcomers: u64,
    pub newcomers_failed: usize,
    pub newcomer_longest: f64,
    pub closed: u64,
    pub wrong: u64,
    pub lost: u64,
    pub unanswered: u64,
    pub fewest_answers: u64,
    pub before: Vec<Held>,
    pub after: Vec<Held>,
    /// Seconds from the first upgrade until `after`.
    pub since_first: f64,
    pub notes: Vec<String>,
}

impl Plan<'_> {
    pub fn run(&self) -> Result<Sample, String> {
        let words = |error: std::io::Error| format!("connect everything: {error}");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(words)?;
        let backend_address = listener.local_addr().map_err(words)?;
        let shared = Arc::new(Shared::new(self.load.transfers));
        let backend = End::backend(self.load, listener, Arc::clone(&shared)).map_err(words)?;
        let going = Going { backend: self.spawn(move || backend.run()), shared };
        let begun = Proxy::start(self.launcher, self.installed, backend_address, self.threads);
        let outcome = begun.and_then(|mut proxy| self.drive(&mut proxy, &going.shared));
        let (backend, sample) = (going.end(), outcome);
        let (client, newcomers, mut sample) = sample?;
        note_gaps(&mut sample, &backend, &client);
        sample.newcomers = newcomers.served;
        sample.newcomers_failed = newcomers.failures.len();
        sample.newcomer_longest = newcomers.longest.as_secs_f64() * 1e3;
        sample.notes = newcomers.failures;
        sample.notes.extend([backend.blocked_by, client.blocked_by].into_iter().flatten());
        sample.notes.dedup();
        Ok(sample)
    }

    fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let cpus = self.launcher.other_cpus.clone();
        std::thread::spawn(move || {
            if !cpus.is_empty() {
                let mut set = CpuSet::new();
                cpus.iter().for_each(|&cpu| set.set(cpu));
                // It runs anywhere then, and the figures say so.
                let _ = sched_setaffinity(None, &set);
            }
            work()
        })
    }

    fn drive(
        &self,
        proxy: &mut Proxy,
        shared: &Arc<Shared>,
    ) -> Result<(Found, Newcomers, Sample), String> {
        let client = self.connect(proxy.address, shared)?;
        let visiting = {
            let (shared, to) = (Arc::clone(shared), proxy.address);
            self.spawn(move || newcomers::run(to, &shared))
        };
        let measured = self.measure(proxy, shared);
        shared.is_over.store(true, Relaxed);
        let until = Instant::now() + TIME_TO_ARRIVE;
        while (shared.up.missing() > 0 || shared.down.missing() > 0) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Also the last byte of each idle connection comes back.
        std::thread::sleep(Duration::from_millis(300));
        shared.quit.store(true, Relaxed);
        let client = client.join().map_err(|_| "the clients panicked")?;
        let newcomers = visiting.join().map_err(|_| "the newcomers panicked")?;
        let mut sample = measured?;
        sample.lost = shared.up.missing() + shared.down.missing();
        Ok((client, newcomers, sample))
    }

    fn connect(&self, to: SocketAddr, shared: &Arc<Shared>) -> Result<JoinHandle<Found>, String> {
        let all = (self.load.transfers + self.load.idle) as usize;
        let clients = End::clients(self.load, to, Arc::clone(shared))
            .map_err(|error| format!("connect everything: {error}"))?;
        let until = Instant::now() + TIME_TO_CONNECT;
        while shared.arrived.load(Relaxed) < all {
            if Instant::now() > until {
                let arrived = shared.arrived.load(Relaxed);
                return Err(format!("{arrived} of {all} connections came to the backend"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let client = self.spawn(move || clients.run());
        self.pause(SETTLE)?;
        Ok(client)
    }

    fn measure(&self, proxy: &mut Proxy, shared: &Shared) -> Result<Sample, String> {
        let before = proxy.held();
        let (began, received) = (Instant::now(), shared.received());
        let mut upgrades = Vec::new();
        for _ in 0..self.windows {
            let window = Instant::now();
            shared.open_window();
            if self.upgrades {
                upgrades.push(proxy.upgrade());
            }
            self.pause(self.window.saturating_sub(window.elapsed()))?;
            shared.close_window();
            // The ends look at it once in a turn.
            self.pause(Duration::from_millis(250))?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let rate = (shared.received() - received) as f64 / seconds;
        let after = proxy.held();
        Ok(Sample {
            peer: self.installed.peer,
            pace: self.pace,
            round: self.round,
            with_upgrades: self.upgrades,
            p50: 0.0,
            p99: 0.0,
            max: 0.0,
            answer: 0.0,
            rate,
            upgrades,
            newcomers: 0,
            newcomers_failed: 0,
            newcomer_longest: 0.0,
            closed: 0,
            wrong: 0,
            lost: 0,
            unanswered: 0,
            fewest_answers: 0,
            before,
            after,
            since_first: seconds,
            notes: Vec::new(),
        })
    }

    fn pause(&self, pause: Duration) -> Result<(), String> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.is_stopped.load(Relaxed) {
                return Err("told to stop".to_owned());
            }
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// A backend that runs, and goes in any case.
struct Going {
    backend: JoinHandle<Found>,
    shared: Arc<Shared>,
}

impl Going {
    fn end(self) -> Found {
        self.shared.quit.store(true, Relaxed);
        self.backend.join().unwrap_or_default()
    }
}

fn note_gaps(sample: &mut Sample, backend: &Found, client: &Found) {
    let all = backend.gaps.iter().chain(&client.gaps).flatten();
    let mut gaps: Vec<f64> = all.map(|seconds| seconds * 1e3).collect();
    gaps.sort_by(f64::total_cmp);
    (sample.p50, sample.p99) = (quantile(&gaps, 0.5), quantile(&gaps, 0.99));
    sample.max = gaps.last().copied().unwrap_or(0.0);
    sample.answer = client.answers.iter().copied().fold(0.0, f64::max) * 1e3;
    // A connection that ends shows at both ends; idle ones at the client's alone.
    sample.closed = client.closed.max(backend.closed);
    sample.wrong = client.wrong + backend.wrong;
    (sample.unanswered, sample.fewest_answers) = (client.unanswered, client.fewest_answers);
}

/// The smallest of them that no more than the rest exceed.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_hundred_may_be_longer_than_the_p99() {
        let all: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(quantile(&all, 0.99), 198.0);
        assert_eq!(quantile(&all, 0.5), 100.0);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
