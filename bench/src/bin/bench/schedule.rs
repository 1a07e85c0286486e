//! The order of runs: for each number of threads, rounds; in a round, each measure; in a measure,
//! each peer. Another peer starts each time, so that a disturbance never hits one peer only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::configs::{self, Setting};
use crate::machine::{Machine, Ticks};
use crate::measure::{Door, Measure};
use crate::peer::{Installed, Peer};
use crate::process::{Launcher, Started};
use crate::progress::Progress;
use crate::results::{Results, Sample, ShownConfig};
use crate::site;
use crate::suite::Suite;
use crate::summary::{Summary, short};
use crate::tables::threads_in_words;
use crate::traffic::{self, Run, Values, WARM_UP};

/// Memory hardly varies, and every run of it needs a fresh proxy.
const MOST_IDLE_ROUNDS: usize = 3;
const SECONDS_OF_IDLE: f64 = 3.5;
const SECONDS_OF_START: f64 = 0.15;

/// What to run.
pub struct Plan {
    pub suite: Suite,
    pub peers: Vec<Installed>,
    pub measures: Vec<Measure>,
    pub threads: Vec<usize>,
    pub rounds: usize,
    pub seconds: f64,
    pub pin: bool,
}

impl Plan {
    pub fn run(&self) -> Result<Results, String> {
        let mut results = Results {
            suite: self.suite,
            machine: Machine::read(),
            versions: self.versions(),
            absent: Vec::new(),
            threads: self.threads.clone(),
            rounds: self.rounds,
            seconds: self.seconds,
            pinned: self.pin,
            latency_rates: BTreeMap::new(),
            configs: self
                .peers
                .iter()
                .filter_map(|found| shown(self.suite, found, &self.doors()))
                .collect(),
            samples: Vec::new(),
            failures: Vec::new(),
        };
        let before = Ticks::read();
        let mut progress = Progress::new(self.planned_seconds());
        for &threads in &self.threads {
            let launcher = Launcher::new(self.pin, threads)?;
            if self.suite.is_http() {
                site::write(&launcher.folder)?;
            }
            let outcome = Block::start(self, threads, &launcher)
                .and_then(|mut block| block.run(&mut results, &mut progress));
            launcher.remove_folder();
            outcome?;
        }
        before.note_since(&mut results.machine);
        Ok(results)
    }

    /// Which listeners the measures need; the one in clear text always, and what warming up takes.
    fn doors(&self) -> Vec<Door> {
        let mut doors: Vec<Door> = self.measures.iter().map(|m| m.facts().door).collect();
        doors.push(Door::Clear);
        // A measure may need one more than its own: the crowd's handshakes go where warming up goes.
        doors.push(self.suite.base().facts().door);
        doors.sort();
        doors.dedup();
        doors
    }

    /// Whether a peer can take part in a measure.
    fn takes_part(&self, peer: Peer, measure: Measure) -> bool {
        let is_alien = match peer {
            Peer::Direct => measure.is_idle(),
            // What many packets at a time are held against is the relay.
            Peer::Haproxy | Peer::Nginx => measure.is_pipelined(),
            _ => false,
        };
        peer.has(measure.facts().door) && !is_alien
    }

    fn versions(&self) -> BTreeMap<Peer, String> {
        self.peers.iter().map(|found| (found.peer, found.version.clone())).collect()
    }

    fn seconds_of(&self, measure: Measure) -> f64 {
        if measure.is_idle() { SECONDS_OF_IDLE } else { self.seconds + WARM_UP + SECONDS_OF_START }
    }

    fn planned_seconds(&self) -> f64 {
        let peers = |measure| {
            self.peers.iter().filter(|found| self.takes_part(found.peer, measure)).count()
        };
        let of = |&measure: &Measure| {
            self.seconds_of(measure) * (self.rounds_of(measure) * peers(measure)) as f64
        };
        self.measures.iter().map(of).sum::<f64>() * self.threads.len() as f64
    }

    fn rounds_of(&self, measure: Measure) -> usize {
        match measure.is_idle() {
            true if self.rounds < MOST_IDLE_ROUNDS => 1,
            true => MOST_IDLE_ROUNDS,
            false => self.rounds,
        }
    }
}

/// All runs with one number of threads: the peers run side by side, one at a time has traffic.
struct Block<'a> {
    plan: &'a Plan,
    threads: usize,
    launcher: &'a Launcher,
    backend: Started,
    running: BTreeMap<Peer, Started>,
    failures: Vec<String>,
    /// Those that started; one that did not is left out of the block.
    peers: Vec<&'a Installed>,
}

impl<'a> Block<'a> {
    fn start(plan: &'a Plan, threads: usize, launcher: &'a Launcher) -> Result<Self, String> {
        let backend = Started::backend(launcher, plan.suite)?;
        let (running, failures) = (BTreeMap::new(), Vec::new());
        let peers = plan.peers.iter().collect();
        Ok(Block { plan, threads, launcher, backend, running, failures, peers })
    }

    fn run(&mut self, results: &mut Results, progress: &mut Progress) -> Result<(), String> {
        let (idle, steady): (Vec<_>, Vec<_>) =
            self.plan.measures.iter().copied().partition(|measure| measure.is_idle());
        let (late, early): (Vec<_>, Vec<_>) =
            steady.into_iter().partition(|measure| measure.is_latency());
        for found in self.plan.peers.iter().filter(|found| found.program.is_some()) {
            self.warm_up(found);
        }

        self.rounds(&early, 0.0, results, progress);
        if let Some(rate) = self.latency_rate(results).filter(|_| !late.is_empty()) {
            results.latency_rates.insert(self.threads, rate);
            self.rounds(&late, rate, results, progress);
        }
        // The idle measure starts its own, one at a time.
        self.running.clear();
        self.rounds(&idle, 0.0, results, progress);
        results.failures.append(&mut self.failures);
        Ok(())
    }

    /// Half of what the slowest carries over 64 connections.
    fn latency_rate(&self, results: &Results) -> Option<f64> {
        let summary = Summary::new(results);
        let carried = self.peers.iter().filter(|found| found.peer != Peer::Direct);
        let rates = carried.filter_map(|found| {
            let spread =
                summary.spread(self.threads, self.plan.suite.base(), "rate", found.peer)?;
            Some(spread.median)
        });
        rates.min_by(f64::total_cmp).map(|slowest| (slowest / 2.0).floor())
    }

    fn rounds(
        &mut self,
        measures: &[Measure],
        rate: f64,
        results: &mut Results,
        progress: &mut Progress,
    ) {
        let most = measures.iter().map(|&measure| self.plan.rounds_of(measure)).max().unwrap_or(0);
        for round in 0..most {
            for (place, &measure) in measures.iter().enumerate() {
                for step in 0..self.peers.len() {
                    let found = self.peers[(step + round + place) % self.peers.len()];
                    if !self.plan.takes_part(found.peer, measure) {
                        continue;
                    }
                    let outcome = self.once(found, measure, rate);
                    let said = self.keep(found.peer, measure, round, outcome, results);
                    progress.tell(self.plan.seconds_of(measure), &said);
                }
            }
        }
    }

    fn once(&mut self, found: &Installed, measure: Measure, rate: f64) -> Result<Values, String> {
        if measure.is_idle() {
            let proxy = self.start_peer(found)?;
            return traffic::idle(self.launcher, self.plan.suite, measure, &proxy);
        }
        let (to, tls, processes) = if found.peer == Peer::Direct {
            (self.backend.at(Door::Clear)?, None, Vec::new())
        } else {
            if !self.running.get_mut(&found.peer).is_some_and(Started::is_running) {
                self.running.remove(&found.peer);
                self.running.insert(found.peer, self.start_peer(found)?);
            }
            let proxy = &self.running[&found.peer];
            (proxy.at(measure.facts().door)?, proxy.at(Door::Tls).ok(), proxy.processes())
        };
        let (launcher, seconds) = (self.launcher, self.plan.seconds);
        Run { launcher, to, tls, seconds, processes: &processes, rate }.measure(measure)
    }

    fn start_peer(&self, found: &Installed) -> Result<Started, String> {
        let program = found.program.as_deref().ok_or("it has no program")?;
        let mut setting = Setting::new(self.plan.suite, found.peer, program, self.threads);
        setting.backend_port = self.backend.at(Door::Clear)?.port();
        Started::peer(self.launcher, found, setting, &self.plan.doors())
    }

    fn warm_up(&mut self, found: &Installed) {
        match self.start_peer(found) {
            Ok(proxy) => {
                self.running.insert(found.peer, proxy);
                // A failure here shows again in the first run that counts.
                let _ = self.once(found, self.plan.suite.base(), 0.0);
            }
            Err(error) => {
                let block = format!("{}, {}", found.peer.title(), threads_in_words(self.threads));
                eprintln!("bench: {block}: {error}");
                self.failures.push(format!("{block}: {error}"));
                self.peers.retain(|kept| kept.peer != found.peer);
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Files the sample or the failure, and says so in one line.
    fn keep(
        &mut self,
        peer: Peer,
        measure: Measure,
        round: usize,
        outcome: Result<Values, String>,
        results: &mut Results,
    ) -> String {
        let threads = self.threads;
        let of = self.plan.rounds_of(measure);
        let run =
            format!("{}, round {}/{of}, {}", threads_in_words(threads), round + 1, measure.name());
        let said = match outcome {
            Ok(values) => {
                let known = measure.figures().iter();
                let told = known.filter_map(|figure| {
                    Some(format!("{} {}", short(*values.get(figure.key)?), figure.title))
                });
                let told = told.collect::<Vec<_>>().join(", ");
                results.samples.push(Sample { measure, peer, threads, round, values });
                told
            }
            Err(error) => {
                self.failures.push(format!("{}, {run}: {error}", peer.title()));
                format!("FAILED: {error}")
            }
        };
        format!("{run}, {}: {said}", peer.title())
    }
}

/// The config as the page shows it: the same text with plain port numbers.
fn shown(suite: Suite, found: &Installed, doors: &[Door]) -> Option<ShownConfig> {
    let program = found.program.as_deref()?;
    let mut setting = Setting::new(suite, found.peer, program, 1);
    setting.backend_port = 9000;
    for (&door, port) in doors.iter().zip(8080..).filter(|(door, _)| found.peer.has(**door)) {
        setting.open(door, port);
    }
    let files = configs::files(found.peer, setting);
    let environment = configs::environment(found.peer, 1);
    let mut words: Vec<String> =
        environment.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    words.push(program.file_name()?.to_string_lossy().into_owned());
    words.extend(configs::arguments(found.peer, setting));
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    Some(ShownConfig { peer: found.peer, command: words.join(" "), files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_alone_finds_a_door_for_its_handshakes() {
        let plan = Plan {
            suite: Suite::Tls,
            peers: Vec::new(),
            measures: vec![Measure::Crowd],
            threads: vec![1],
            rounds: 1,
            seconds: 1.0,
            pin: false,
        };
        assert_eq!(plan.doors(), [Door::Clear, Door::Tls]);
    }
}
