//! `bench` runs Evenkeel and other load balancers side by side on this machine and writes down
//! what it found: a table, a page, charts and JSON. It kills nothing that it did not start.

mod chart;
mod configs;
mod goals;
mod machine;
mod measure;
mod page;
mod peer;
mod process;
mod progress;
mod results;
mod schedule;
mod site;
mod suite;
mod summary;
mod tables;
mod traffic;
mod upgrade;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::measure::Measure;
use crate::peer::{Installed, Peer};
use crate::results::Results;
use crate::schedule::Plan;
use crate::suite::Suite;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Runs Evenkeel beside haproxy, nginx, Envoy, Traefik and no proxy at all; with --http also beside
/// Caddy and Pingora, with --tls all of that through TLS, and with --packets beside its own relay.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Measure the proxies as HTTP proxies and file servers, not as TCP proxies.
    #[arg(long)]
    http: bool,
    /// Measure them through TLS: handshakes, requests, bulk, memory.
    #[arg(long)]
    tls: bool,
    /// Measure balancing by packet beside relaying connections.
    #[arg(long, conflicts_with_all = ["http", "tls"])]
    packets: bool,
    /// Measure what an upgrade does to connections that are established.
    #[arg(long, conflicts_with_all = ["http", "tls", "packets", "measures"])]
    upgrade: bool,
    #[command(flatten)]
    of_upgrade: upgrade::Options,
    /// Rounds, 5 without it; every figure is the median of them.
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds that count in each run, 2 without it.
    #[arg(long)]
    seconds: Option<f64>,
    #[arg(long, alias = "only", value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Names such as messages-64, or a whole group: messages, bulk, connects, idle, latency; with
    /// --http requests, visits, uploads, streams, files, idle, latency; with --tls handshakes, resumed,
    /// requests, streams, bulk, idle, crowd; with --packets single, pipeline, idle, latency.
    #[arg(long, value_delimiter = ',')]
    measures: Vec<String>,
    /// Threads, or worker processes, of each proxy.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<usize>,
    /// The binary to measure; target/release/evenkeel without it.
    #[arg(long)]
    evenkeel: Option<PathBuf>,
    /// Two rounds of 0.7 seconds, for a look.
    #[arg(long)]
    quick: bool,
    /// Give the proxy the first cores and everything else the rest.
    #[arg(long)]
    pin: bool,
    /// Do not touch docs/: print the table and write JSON only.
    #[arg(long)]
    no_page: bool,
    /// Print and draw an earlier run from its JSON, and run nothing.
    #[arg(long)]
    from: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let root = Path::new(ROOT);
    if arguments.upgrade {
        return upgrades(arguments, root);
    }
    let results = match &arguments.from {
        Some(file) => Results::read(file)?,
        None => {
            let results = measure_all(arguments, root)?;
            results.write(&root.join(results.suite.words().samples))?;
            results
        }
    };
    print!("{}", tables::for_terminal(&results));
    if arguments.no_page {
        return Ok(());
    }
    chart::draw_all(&results, &root.join("docs/img"))?;
    page::write(&results, root)
}

fn upgrades(arguments: &Arguments, root: &Path) -> Result<(), String> {
    let shape = upgrade::Shape {
        root,
        evenkeel: arguments.evenkeel.as_deref(),
        peers: &arguments.peers,
        threads: arguments.threads.first().copied().unwrap_or(1).max(1),
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 5 }).max(1),
        window: arguments.seconds.unwrap_or(2.0).clamp(0.5, 60.0),
        pin: arguments.pin,
        write_page: !arguments.no_page,
        from: arguments.from.as_deref(),
    };
    upgrade::run(&arguments.of_upgrade, &shape)
}

fn measure_all(arguments: &Arguments, root: &Path) -> Result<Results, String> {
    process::raise_descriptor_limit();
    let suite = match arguments {
        Arguments { packets: true, .. } => Suite::Packets,
        Arguments { tls: true, .. } => Suite::Tls,
        Arguments { http: true, .. } => Suite::Http,
        _ => Suite::Tcp,
    };
    let mut asked = suite.peers();
    asked.retain(|peer| arguments.peers.is_empty() || arguments.peers.contains(peer));
    let (present, absent): (Vec<Installed>, Vec<Installed>) = asked
        .iter()
        .map(|&peer| Installed::find(suite, peer, root, arguments.evenkeel.as_deref()))
        .partition(|installed| installed.program.is_some() || installed.peer == Peer::Direct);
    for installed in &absent {
        eprintln!("absent: {} ({})", installed.peer.title(), installed.peer.how_to_install());
    }
    if arguments.threads.is_empty() || arguments.threads.contains(&0) {
        return Err("--threads takes numbers from 1".to_owned());
    }
    let plan = Plan {
        suite,
        peers: present,
        measures: Measure::choose(suite, &arguments.measures)?,
        threads: arguments.threads.clone(),
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 2 } else { 5 }).max(1),
        seconds: arguments
            .seconds
            .unwrap_or(if arguments.quick { 0.7 } else { 2.0 })
            .clamp(0.1, 60.0),
        pin: arguments.pin,
    };
    let mut results = plan.run()?;
    results.absent = absent.iter().map(|installed| installed.peer).collect();
    Ok(results)
}
