//! One run from start to end: children, clients, faults by schedule, a sample each second.
//! It gathers and judges nothing but single connections; the verdict on the run is made elsewhere.

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
    let backends = Backends::start(programs, &addresses.backends)?;
    let proxy = Proxy::start(programs, &config::write(&addresses), &addresses.listeners)?;
    let mut log = AccessLog::open(&programs.folder.join(config::ACCESS_LOG))?;
    let found = Found {
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
    run.found.broken = run.endure(interrupt).err();
    run.backends.wake_all();
    clients.stop()?;
    run.look_back(recorded_before);
    Ok(run.found)
}

struct Run<'a> {
    order: &'a Order,
    shared: Arc<Shared>,
    backends: Backends<'a>,
    proxy: Proxy,
    log: AccessLog,
    found: Found,
    begun: Instant,
}

impl Run<'_> {
    /// The run itself, to its end, to an interrupt, or until it cannot go on.
    fn endure(&mut self, interrupt: &AtomicBool) -> Result<(), String> {
        let mut events = schedule::plan(self.order.seed, self.order.length).into_iter().peekable();
        let (mut sample_at, mut tell_at) = (0.0, TELL_EVERY);
        while self.begun.elapsed() < self.order.length && !interrupt.load(Relaxed) {
            self.proxy.expect_alive()?;
            self.backends.go_on()?;
            if let Some(event) = events.next_if(|event| event.at <= self.begun.elapsed()) {
                let seconds = self.begun.elapsed().as_secs_f64();
                if self.backends.suffer(event) {
                    self.found.marks.push(Mark { seconds, event });
                }
            }
            if self.begun.elapsed().as_secs_f64() >= sample_at {
                sample_at += 1.0;
                self.judge()?;
                self.sample();
            }
            if self.begun.elapsed().as_secs_f64() >= tell_at {
                tell_at += TELL_EVERY;
                self.tell();
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), String> {
        let proxy = &self.proxy;
        self.log.follow(|| proxy.reopen_log())?;
        let suspects = self.shared.take_suspects();
        self.found.judge.decide(suspects, &self.log, &self.backends.kills, access::now());
        Ok(())
    }

    fn sample(&mut self) {
        let judge = &self.found.judge;
        self.found.samples.push(Sample {
            seconds: self.begun.elapsed().as_secs_f64(),
            memory: Memory::of(self.proxy.number()),
            descriptors: Descriptors::of(self.proxy.number()),
            open: self.shared.open.load(Relaxed),
            opened: self.shared.opened.load(Relaxed),
            excused: judge.of(Loss::Excused),
            unexcused: judge.unexcused(),
            wrong: judge.of(Loss::Wrong),
            backends_up: self.backends.up(),
        });
    }

    fn tell(&self) {
        let Some(last) = self.found.samples.last() else { return };
        let left = self.order.length.saturating_sub(self.begun.elapsed()).as_secs();
        eprintln!(
            "[{:>2} min {:02} s left] {} connections, {} open; memory {:.1} MB, {} descriptors; \
             {} kills, {} stops; {} losses excused, {} not",
            left / 60,
            left % 60,
            last.opened,
            last.open,
            last.memory.rss as f64 / 1e6,
            last.descriptors.all(),
            self.backends.kills.len(),
            self.backends.stops,
            last.excused,
            last.unexcused,
        );
    }

    /// What is left when all clients have gone; then ends the proxy.
    fn look_back(&mut self, recorded_before: u64) {
        self.found.seconds = self.begun.elapsed().as_secs_f64();
        let process = self.proxy.number();
        self.found.cpu_seconds = cpu::seconds_of(&[process]);
        let before = self.found.descriptors_before.others;
        self.found.descriptors_after = quiet(process, |now| now.others > before);
        self.found.memory_after = Memory::of(process);
        self.found.opened = self.shared.opened.load(Relaxed);
        let waiting = Instant::now();
        loop {
            if let Err(error) = self.judge() {
                self.found.broken.get_or_insert(error);
                break;
            }
            self.found.recorded = self.log.total - recorded_before;
            let all_here = self.found.recorded >= self.found.opened && self.found.judge.is_done();
            let nothing_comes = self.found.broken.is_some() || waiting.elapsed() > TIME_TO_RECORD;
            if all_here || nothing_comes {
                break;
            }
            std::thread::sleep(TICK);
        }
        self.found.ended = self.proxy.end();
        self.found.complaints = self.proxy.said(&["\"ERROR\"", "panicked", "lines were lost"]);
        let count = |kind: Kind| (kind, self.shared.served[kind as usize].load(Relaxed));
        self.found.served = Kind::ALL.map(count).to_vec();
        self.found.compared = self.shared.compared.load(Relaxed);
        (self.found.kills, self.found.stops) = (self.backends.kills.len(), self.backends.stops);
        self.found.skipped = self.backends.skipped;
    }
}

/// The fewest descriptors of some readings: checks of health take some for a moment. Reads on for
/// a while as long as there are `too_many`.
fn quiet(process: u32, too_many: impl Fn(Descriptors) -> bool) -> Descriptors {
    let begun = Instant::now();
    loop {
        let readings = (0..READINGS).map(|_| {
            std::thread::sleep(TICK);
            Descriptors::of(process)
        });
        let fewest = readings.min_by_key(|reading| reading.others).unwrap_or_default();
        if !too_many(fewest) || begun.elapsed() > TIME_TO_SETTLE {
            return fewest;
        }
    }
}
