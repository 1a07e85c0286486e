//! One run from start to end: children, clients, faults by schedule, a sample each second.
//! It gathers and judges nothing but single connections; the verdict on the run is made elsewhere.

use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::access::{self, AccessLog};
use crate::children::{Backends, Programs, Proxy};
use crate::clients::Clients;
use crate::config::{self, Addresses};
use crate::cpu;
use crate::gauge::{Descriptors, Memory};
use crate::judge::{Judge, Loss};
use crate::schedule::{self, Event};
use crate::wire::{Kind, Shared};

const TICK: Duration = Duration::from_millis(50);
const TELL_EVERY: f64 = 10.0;
/// Checks open descriptors for a moment; the fewest of some readings are the ones that stay.
const READINGS: usize = 40;
const TIME_TO_SETTLE: Duration = Duration::from_secs(15);
const TIME_TO_RECORD: Duration = Duration::from_secs(25);

/// What was asked for.
pub struct Order {
    pub length: Duration,
    pub seed: u64,
    pub rate: f64,
}

/// The state of things at one moment, counts since the start.
#[derive(Clone, Copy, Default)]
pub struct Sample {
    pub seconds: f64,
    pub memory: Memory,
    pub descriptors: Descriptors,
    pub open: i64,
    pub opened: u64,
    pub excused: u64,
    pub unexcused: u64,
    pub wrong: u64,
    pub backends_up: usize,
}

/// Something done to a backend, and when it really was.
pub struct Mark {
    pub seconds: f64,
    pub event: Event,
}

/// Everything a run found.
#[derive(Default)]
pub struct Found {
    pub seconds: f64,
    pub samples: Vec<Sample>,
    pub marks: Vec<Mark>,
    pub skipped: usize,
    pub stops: usize,
    pub kills: usize,
    pub served: Vec<(Kind, u64)>,
    pub opened: u64,
    pub recorded: u64,
    pub compared: u64,
    pub judge: Judge,
    pub cpu_seconds: f64,
    pub descriptors_before: Descriptors,
    pub descriptors_after: Descriptors,
    pub memory_before: Memory,
    pub memory_after: Memory,
    /// None if it had to be killed.
    pub ended: Option<ExitStatus>,
    pub complaints: Vec<String>,
    /// Why the run could not go on.
    pub broken: Option<String>,
}

/// Starts everything, lets it run, ends everything.
pub fn run(programs: &Programs, order: &Order, interrupt: &AtomicBool) -> Result<Found, String> {
    let addresses = Addresses::choose()?;
    let mut backends = Backends::start(programs, &addresses.backends)?;
    let mut proxy = Proxy::start(programs, &config::write(&addresses), &addresses.listeners)?;
    let mut log = AccessLog::open(&programs.folder.join(Path::new(config::ACCESS_LOG)))?;
    let mut found = Found {
        descriptors_before: quiet(proxy.number(), |_| false),
        memory_before: Memory::of(proxy.number()),
        ..Found::default()
    };
    // Looking whether it listens has left lines already.
    log.follow(|| ())?;
    let recorded_before = log.total;
    let shared = Arc::new(Shared::new(addresses.listeners.clone(), order.seed));
    let clients = Clients::start(&shared, order.rate, order.seed)?;
    let mut run = Run { order, shared, backends, proxy, log, found, begun: Instant::now() };
    let endured = run.endure(interrupt);
    run.found.broken = endured.err();
    run.backends.wake_all();
    clients.stop()?;
    run.look_back(recorded_before);
    Run { backends, proxy, found, .. } = run;
    let _ = (&mut backends, &mut proxy);
    Ok(found)
}
