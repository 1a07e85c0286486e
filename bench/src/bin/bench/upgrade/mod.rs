//! What an upgrade does to thousands of connections that are established: the longest gap that a receiver sees, less that of
//! an equal run without one, and whether each connection stayed and every byte came. Evenkeel, and how others go about it.

mod content;
mod ends;
mod newcomers;
mod page;
mod proxy;
mod report;
mod run;
mod shared;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use self::ends::Load;
use self::run::{Pace, Plan, Sample};
use crate::configs::Setting;
use crate::machine::{Machine, Ticks};
use crate::peer::{Installed, Peer};
use crate::process::{self, Launcher};
use crate::results::ShownConfig;
use crate::suite::Suite;

const SAMPLES: &str = "target/bench-results-upgrade.json";

/// What only this benchmark asks.
#[derive(clap::Args)]
pub struct Options {
    /// With --upgrade: connections that transfer, both ways at the same time.
    #[arg(long, default_value_t = 1000)]
    transfers: u32,
    /// With --upgrade: connections that say a byte a second.
    #[arg(long, default_value_t = 4000)]
    idle: u32,
    /// With --upgrade: KB a second of each transfer, each way, where it does not go at full speed.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// With --upgrade: upgrades in each run.
    #[arg(long, default_value_t = 5)]
    upgrades: usize,
}

/// Everything it found, as written to and read from JSON.
#[derive(Serialize, Deserialize)]
struct Results {
    machine: Machine,
    peers: Vec<(Peer, String)>,
    absent: Vec<Peer>,
    configs: Vec<ShownConfig>,
    threads: usize,
    rounds: usize,
    pinned: bool,
    transfers: u32,
    idle: u32,
    /// KB a second, each way.
    rate: f64,
    upgrades: usize,
    /// Seconds that gaps are noted after each upgrade.
    window: f64,
    samples: Vec<Sample>,
    failures: Vec<String>,
}

/// What it has in shape with the other benchmarks.
pub struct Shape<'a> {
    pub root: &'a Path,
    pub evenkeel: Option<&'a Path>,
    pub peers: &'a [Peer],
    pub threads: usize,
    pub rounds: usize,
    pub window: f64,
    pub pin: bool,
    pub write_page: bool,
    pub from: Option<&'a Path>,
}

pub fn run(options: &Options, shape: &Shape<'_>) -> Result<(), String> {
    let results = match shape.from {
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| format!("results: {error}"))?;
            serde_json::from_str(&text).map_err(|error| format!("results: {error}"))?
        }
        None => {
            let results = measure_all(options, shape)?;
            let text = serde_json::to_string_pretty(&results).map_err(|error| error.to_string())?;
            let file = shape.root.join(SAMPLES);
            fs::create_dir_all(file.parent().unwrap_or(shape.root))
                .and_then(|()| fs::write(file, text + "\n"))
                .map_err(|error| format!("write results: {error}"))?;
            results
        }
    };
    print!("{}", report::for_terminal(&results));
    if shape.write_page { page::write(&results, shape.root) } else { Ok(()) }
}

fn measure_all(options: &Options, shape: &Shape<'_>) -> Result<Results, String> {
    enough_descriptors(options)?;
    let asked = [Peer::Evenkeel, Peer::Haproxy, Peer::Nginx].into_iter();
    let asked = asked.filter(|peer| shape.peers.is_empty() || shape.peers.contains(peer));
    let (present, absent): (Vec<_>, Vec<_>) = asked
        .map(|peer| Installed::find(Suite::Tcp, peer, shape.root, shape.evenkeel))
        .partition(|installed| installed.program.is_some());
    for installed in &absent {
        eprintln!("absent: {} ({})", installed.peer.title(), installed.peer.how_to_install());
    }
    let mut results = Results {
        machine: Machine::read(),
        peers: present.iter().map(|found| (found.peer, found.version.clone())).collect(),
        absent: absent.iter().map(|found| found.peer).collect(),
        configs: present.iter().filter_map(|found| shown(found, shape.threads)).collect(),
        threads: shape.threads,
        rounds: shape.rounds,
        pinned: shape.pin,
        transfers: options.transfers,
        idle: options.idle,
        rate: options.rate,
        upgrades: options.upgrades,
        window: shape.window,
        samples: Vec::new(),
        failures: Vec::new(),
    };
    let is_stopped = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&is_stopped))
            .map_err(|error| format!("signals: {error}"))?;
    }
    let before = Ticks::read();
    let launcher = Launcher::new(shape.pin, shape.threads)?;
    for round in 0..shape.rounds {
        for installed in &present {
            one_round(&mut results, &launcher, installed, round, &is_stopped);
        }
    }
    launcher.remove_folder();
    before.note_since(&mut results.machine);
    if is_stopped.load(Relaxed) { Err("told to stop".to_owned()) } else { Ok(results) }
}

/// Evenkeel with and without upgrades at both paces, the others with them at the rate.
fn one_round(
    results: &mut Results,
    launcher: &Launcher,
    installed: &Installed,
    round: usize,
    is_stopped: &AtomicBool,
) {
    let mut runs = vec![(Pace::Rate, true), (Pace::Rate, false)];
    if installed.peer == Peer::Evenkeel {
        runs.extend([(Pace::Full, true), (Pace::Full, false)]);
    }
    // What goes first has no advantage.
    if round % 2 == 1 {
        runs.reverse();
    }
    for (pace, upgrades) in runs {
        let rate = (pace == Pace::Rate).then_some(results.rate * 1e3);
        let plan = Plan {
            launcher,
            installed,
            threads: results.threads,
            load: Load { transfers: results.transfers, idle: results.idle, rate },
            pace,
            round,
            windows: results.upgrades,
            window: Duration::from_secs_f64(results.window),
            upgrades,
            is_stopped,
        };
        let title = format!(
            "{}, round {}/{}, {}, {} upgrades",
            installed.peer.title(),
            round + 1,
            results.rounds,
            report::pace_in_words(pace, results.rate),
            if upgrades { "with" } else { "without" }
        );
        if is_stopped.load(Relaxed) {
            return;
        }
        match plan.run() {
            Ok(sample) => {
                eprintln!("{title}: {}", report::in_a_line(&sample));
                results.samples.push(sample);
            }
            Err(error) => {
                eprintln!("{title}: FAILED: {error}");
                results.failures.push(format!("{title}: {error}"));
            }
        }
    }
}

/// Both ends are one process; a proxy needs two for each connection. Both have the same limit.
fn enough_descriptors(options: &Options) -> Result<(), String> {
    process::raise_descriptor_limit();
    let needed = u64::from(options.transfers + options.idle) * 2 + 1000;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => Err(format!(
            "{needed} descriptors are needed in a process, and the hard limit is {limit}: raise it (ulimit -Hn), or ask for less with --transfers and --idle"
        )),
        _ => Ok(()),
    }
}

/// The config as the page shows it.
fn shown(found: &Installed, threads: usize) -> Option<ShownConfig> {
    let program = found.program.as_deref()?;
    let mut setting = Setting::new(Suite::Tcp, found.peer, program, threads);
    (setting.clear, setting.backend_port) = (8080, 9000);
    let files = proxy::files(found.peer, setting);
    let mut words = vec![program.file_name()?.to_string_lossy().into_owned()];
    words.extend(proxy::arguments(found.peer, setting));
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
    Some(ShownConfig { peer: found.peer, command: words.join(" "), files })
}
