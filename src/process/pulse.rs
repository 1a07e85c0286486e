//! Whether the workers make progress. Each answers a question twice a second; the control thread says in the log who neither does
//! nor begins another turn, and what that one was doing: a worker that hangs cannot say it itself.
//! What it is doing stands in a few atomics of its own, written when a task has its turn: no lock, and nothing for each byte.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::notify::Notify;
use super::vitals::{Looked, Vitals, WorkerState};
use super::worker::{Crew, LEFT, Task};
use crate::observe::counts::Tally;
use crate::observe::ended::ClientAddress;
use crate::tcp::Cut;

/// How often the workers are asked.
const ASK: Duration = Duration::from_millis(500);

/// A worker that has not answered for so long is reported.
const STALLED: Duration = Duration::from_secs(1);

/// The workers' signs of life.
#[derive(Debug)]
pub(super) struct Pulse {
    beats: Vec<Arc<Beat>>,
    /// Who wants to hear that they go on.
    watchdog: OnceLock<Arc<Notify>>,
    /// Whose they are, once they run.
    crew: OnceLock<Weak<Crew>>,
    began: SystemTime,
}

/// One worker's sign of life.
#[derive(Debug)]
pub(super) struct Beat {
    answered: AtomicU64,
    /// Turns begun; only its worker writes it.
    turns: AtomicU64,
    doing: [AtomicU64; 3],
    names: Arc<Names>,
    vitals: Vitals,
}

/// Names of listeners by number: an atomic has no room for a name. There are as many as different ones ever were in a config.
#[derive(Debug, Default)]
struct Names(Mutex<Vec<Arc<str>>>);

impl Pulse {
    pub(super) fn new(workers: usize) -> Arc<Pulse> {
        let names = Arc::<Names>::default();
        let beat = |_| {
            let (answered, turns, doing, vitals) = Default::default();
            Arc::new(Beat { answered, turns, doing, names: Arc::clone(&names), vitals })
        };
        let (watchdog, crew) = Default::default();
        let (beats, began) = ((0..workers).map(beat).collect(), SystemTime::now());
        Arc::new(Pulse { beats, watchdog, crew, began })
    }

    /// The one that a worker is to give.
    pub(super) fn beat(&self, worker: usize) -> Arc<Beat> {
        Arc::clone(&self.beats[worker])
    }

    /// When the workers began.
    pub(super) fn began(&self) -> SystemTime {
        self.began
    }

    /// The workers, while they run.
    pub(super) fn crew(&self) -> Option<Arc<Crew>> {
        self.crew.get().and_then(Weak::upgrade)
    }

    /// How each worker is.
    pub(super) fn states(&self) -> Vec<WorkerState> {
        let crew = self.crew();
        let load = |number: usize| {
            let load = crew.as_ref().map_or(LEFT, |crew| crew.loads[number].load(Relaxed));
            if load == LEFT { 0 } else { load as u64 }
        };
        let beats = self.beats.iter().enumerate();
        beats.map(|(number, beat)| beat.vitals.state(load(number))).collect()
    }

    /// Has somebody hear of progress.
    pub(super) fn tell(&self, notify: Arc<Notify>) {
        let _ = self.watchdog.set(notify);
    }

    /// Asks the workers and reports who does not answer, for as long as it runs. Runs on the control thread.
    pub(super) async fn watch(self: Arc<Self>, crew: Arc<Crew>, tally: Arc<Tally>) {
        let _ = self.crew.set(Arc::downgrade(&crew));
        let now = Instant::now();
        let mut looks = vec![Looked::at(now); self.beats.len()];
        let mut asked: Vec<Asked> = self.beats.iter().map(|_| Asked::at(now)).collect();
        let (mut looked, mut told) = (now, now);
        loop {
            let every = self.watchdog.get().and_then(|notify| notify.watchdog());
            let turn = every.map_or(ASK, |every| ASK.min(every / 4));
            tokio::time::sleep(turn).await;
            let now = Instant::now();
            // Where we were not there ourselves, nobody was: a machine that slept, a process that was stopped.
            let absent = now.duration_since(looked).saturating_sub(ASK + STALLED / 2);
            looked = now;
            for (number, (beat, asked)) in self.beats.iter().zip(&mut asked).enumerate() {
                asked.since += absent;
                beat.vitals.look(&mut looks[number], now);
                // It has ended, as each does when its last connection has.
                if crew.tasks[number].is_closed() {
                    asked.is_reported = false;
                    continue;
                }
                // With much to do it answers late, and is not stuck for that.
                let turns = beat.turns.load(Relaxed);
                let has_moved = std::mem::replace(&mut asked.turns, turns) != turns;
                if beat.answered.load(Relaxed) == asked.question || (asked.is_reported && has_moved)
                {
                    if asked.is_reported {
                        let took = now.duration_since(asked.since);
                        tracing::warn!("worker {number} goes on, after {took:.1?}");
                    }
                    if asked.is_reported || now.duration_since(asked.since) >= ASK {
                        let question = asked.question + 1;
                        *asked = Asked { question, since: now, turns, is_reported: false };
                        let _ = crew.tasks[number].send(Task::Answer(asked.question, now));
                    }
                } else if has_moved {
                    asked.since = now;
                } else if !asked.is_reported && now.duration_since(asked.since) >= STALLED {
                    asked.is_reported = true;
                    tally.stalled();
                    tracing::error!(
                        "worker {number} has made no progress for {:.1?}: {}",
                        now.duration_since(asked.since),
                        beat.doing()
                    );
                }
            }
            let all_go_on = asked.iter().all(|asked| !asked.is_reported);
            if let (Some(notify), Some(every), true) = (self.watchdog.get(), every, all_go_on)
                && now.duration_since(told) + turn / 2 >= every / 2
            {
                notify.alive();
                told = now;
            }
        }
    }
}

/// The last question to a worker.
struct Asked {
    question: u64,
    /// Since when nothing has been seen of the worker.
    since: Instant,
    turns: u64,
    is_reported: bool,
}

impl Asked {
    fn at(since: Instant) -> Asked {
        Asked { question: 0, since, turns: 0, is_reported: false }
    }
}

thread_local! {
    /// The one of the worker whose thread this is.
    static OWN: OnceCell<Arc<Beat>> = const { OnceCell::new() };
}

/// What the worker is doing whose thread this is; none elsewhere.
pub(super) fn here() -> Option<String> {
    OWN.try_with(|own| own.get().map(|beat| beat.doing())).ok().flatten()
}

impl Beat {
    /// From now on this thread is the worker's.
    pub(super) fn belongs_here(beat: &Arc<Beat>) {
        OWN.with(|own| drop(own.set(Arc::clone(beat))));
    }

    /// The event loop of this thread is the worker's, and has begun.
    pub(super) fn begin(&self) {
        self.vitals.belong_here();
    }

    /// The worker says that it goes on; it was asked at this moment.
    pub(super) fn answer(&self, question: u64, asked: Instant) {
        self.vitals.answered(asked);
        self.answered.store(question, Relaxed);
    }

    /// A clock that goes on twice a second, for as long as the worker does.
    pub(super) fn now(&self) -> u64 {
        self.answered.load(Relaxed)
    }

    /// The number of a listener's name.
    pub(super) fn number_of(&self, listener: &str) -> u32 {
        let mut names = self.names.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.iter().position(|name| **name == *listener);
        let number = known.unwrap_or_else(|| {
            names.push(listener.into());
            names.len() - 1
        });
        number as u32
    }

    fn note(&self, doing: Doing) {
        for (place, word) in self.doing.iter().zip(doing.0) {
            place.store(word, Relaxed);
        }
    }

    /// In words.
    fn doing(&self) -> String {
        let [what, high, low] = self.doing.each_ref().map(|word| word.load(Relaxed));
        let [kind, _, port_high, port_low, number @ ..] = what.to_be_bytes();
        let names = self.names.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = names.get(u32::from_be_bytes(number) as usize).cloned();
        let listener = listener.unwrap_or_else(|| "a listener".into());
        let ip = IpAddr::V6(Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)));
        let port = u16::from_be_bytes([port_high, port_low]);
        match kind {
            ACCEPTING => format!("accepting for {listener}"),
            TIDYING => "closing idle connections to backends".to_owned(),
            FOLLOWING => "following orders".to_owned(),
            SERVING_UNIX => format!("serving a client on the Unix socket of {listener}"),
            SERVING if port == 0 => format!("serving {} of {listener}", ip.to_canonical()),
            SERVING => {
                format!("serving {} of {listener}", SocketAddr::new(ip.to_canonical(), port))
            }
            _ => "between two tasks, or within its event loop".to_owned(),
        }
    }
}

/// Zero is nothing.
const ACCEPTING: u8 = 1;
const TIDYING: u8 = 2;
const FOLLOWING: u8 = 3;
const SERVING: u8 = 4;
const SERVING_UNIX: u8 = 5;

/// What a worker does in one turn: the kind, a port and the number of a listener; then an address of 128 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing([u64; 3]);

impl Doing {
    pub(super) const FOLLOWING: Doing = Doing::of(FOLLOWING, 0, 0);
    pub(super) const TIDYING: Doing = Doing::of(TIDYING, 0, 0);

    const fn of(kind: u8, port: u16, listener: u32) -> Doing {
        Doing([(kind as u64) << 56 | (port as u64) << 32 | listener as u64, 0, 0])
    }

    pub(super) fn accepting(listener: u32) -> Doing {
        Doing::of(ACCEPTING, 0, listener)
    }

    pub(super) fn serving(listener: u32, client: ClientAddress) -> Doing {
        let (ip, port) = match client {
            ClientAddress::Ip(address) => (address.ip(), address.port()),
            ClientAddress::Told(ip) => (ip, 0),
            ClientAddress::Unix => return Doing::of(SERVING_UNIX, 0, listener),
        };
        let bits = match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        let Doing([what, ..]) = Doing::of(SERVING, port, listener);
        Doing([what, (bits >> 64) as u64, bits as u64])
    }
}

/// Has a task's turns noted.
pub(super) fn during<F: Future>(beat: &Arc<Beat>, doing: Doing, task: F) -> During<F> {
    During { beat: Arc::clone(beat), doing, connection: None, task }
}

impl<F> During<F> {
    /// Has the connection know when it had a turn.
    pub(super) fn noted_in(self, connection: Rc<Cut>) -> During<F> {
        During { connection: Some(connection), ..self }
    }
}

pin_project_lite::pin_project! {
    /// A task whose turns are noted.
    pub(super) struct During<F> {
        beat: Arc<Beat>,
        doing: Doing,
        connection: Option<Rc<Cut>>,
        #[pin]
        task: F,
    }
}

impl<F: Future> Future for During<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _turn = Turn::begin(this.beat, *this.doing);
        if let Some(connection) = this.connection {
            connection.note_turn(this.beat.now());
        }
        this.task.poll(context)
    }
}

/// One turn of a task; it ends by a panic too.
struct Turn<'b>(&'b Beat);

impl Turn<'_> {
    fn begin(beat: &Beat, doing: Doing) -> Turn<'_> {
        beat.turns.store(beat.turns.load(Relaxed).wrapping_add(1), Relaxed);
        beat.note(doing);
        Turn(beat)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.doing[0].store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests;
