//! `soak` runs Evenkeel for long under mixed load while its backends are killed and stopped at
//! random, and says whether it lost, mixed up or kept anything. It kills nothing but its children.

mod access;
mod chart;
mod children;
mod clients;
mod config;
#[path = "../load/cpu.rs"]
mod cpu;
mod gauge;
mod judge;
#[path = "../bench/machine.rs"]
mod machine;
mod random;
mod run;
mod schedule;
mod verdict;
mod wire;
mod written;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::children::Programs;
use crate::machine::{Machine, Ticks};
use crate::run::{Found, Order};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs Evenkeel under load with backends killed at random; plots memory, descriptors and losses.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How long, such as 30s, 10m, 8h.
    #[arg(long = "for", default_value = "10m", value_parser = duration)]
    length: Duration,
    /// Repeats the faults and the traffic of an earlier run; random without it.
    #[arg(long)]
    seed: Option<u64>,
    /// Short connections a second.
    #[arg(long, default_value_t = 300.0)]
    rate: f64,
    /// The binary to run; target/release/evenkeel without it.
    #[arg(long)]
    evenkeel: Option<PathBuf>,
    /// Also write docs/img/soak.svg and the summary in docs/soak.md.
    #[arg(long)]
    page: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True if every check passed.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let root = Path::new(ROOT);
    let interrupt = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupt))
            .map_err(|error| format!("listen for Ctrl-C: {error}"))?;
    }
    let programs = programs(root, arguments.evenkeel.as_deref())?;
    let seed = arguments.seed.unwrap_or_else(fresh_seed);
    let order = Order { length: arguments.length, seed, rate: arguments.rate };
    eprintln!("soak: for {:.0} s with --seed {seed}", order.length.as_secs_f64());
    let ticks = Ticks::read();
    let found = run::run(&programs, &order, &interrupt)
        .map_err(|error| format!("{error}; logs: {}", programs.folder.display()))?;
    let mut machine = Machine::read();
    ticks.note_since(&mut machine);
    tell(&found);
    written::keep(&found, &root.join("target"))?;
    println!("\nsamples: target/soak.csv, picture: target/soak.svg");
    if arguments.page {
        let version = version(&programs.evenkeel);
        written::publish(&found, &order, &machine, &version, &root.join("docs"))?;
    }
    let passed = verdict::passed(&found);
    if passed {
        // What stays behind is a few files in the temporary folder; nothing to do about it.
        let _ = fs::remove_dir_all(&programs.folder);
    } else {
        println!("logs: {}", programs.folder.display());
    }
    println!("\n{}: --seed {seed}", if passed { "PASS" } else { "FAIL" });
    Ok(passed)
}

fn programs(root: &Path, evenkeel: Option<&Path>) -> Result<Programs, String> {
    let here = std::env::current_exe().map_err(|error| error.to_string())?;
    let evenkeel = evenkeel.map_or(root.join("target/release/evenkeel"), Path::to_owned);
    let built = |path: PathBuf| {
        path.canonicalize().map_err(|error| format!("not built: {}: {error}", path.display()))
    };
    let (evenkeel, load) = (built(evenkeel)?, built(here.with_file_name("load"))?);
    let folder = std::env::temp_dir().join(format!("evenkeel-soak-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("temporary folder: {error}"))?;
    Ok(Programs { evenkeel, load, folder })
}

fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_micros())
}

fn version(evenkeel: &Path) -> String {
    let output = Command::new(evenkeel).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().split_whitespace().nth(1).unwrap_or("unknown").to_owned()
}

fn tell(found: &Found) {
    println!("\nCarried and lost\n{}", verdict::counts(found).as_text());
    println!("Verdict\n{}", verdict::table(found).as_text());
    found.judge.told.iter().for_each(|loss| println!("lost: {loss}"));
    found.complaints.iter().take(20).for_each(|line| println!("evenkeel said: {line}"));
    if let Some(why) = &found.broken {
        println!("ended early: {why}");
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0)];
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
    match (number.parse::<f64>(), factor) {
        (Ok(number), Some(factor)) if number > 0.0 && number * factor < 1e8 => {
            Ok(Duration::from_secs_f64(number * factor))
        }
        _ => Err("write a time such as 30s, 10m or 8h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert!(duration("90").is_err() && duration("-1s").is_err() && duration("1y").is_err());
    }
}
