//! The control thread: names, checks and verdicts on timers, orders from outside, draining to the end.
//! It never carries a byte of traffic, so that nothing it does can hold traffic up.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Pid;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::doors::{Doors, Shares};
use super::errands::Errands;
use super::handover::give::{Giving, HandoverError, Successor};
use super::handover::take::{Here, Legacy, Message, Progress};
use super::parts::{Parts, Shared};
use super::pid_file::PidFile;
use super::pulse::Pulse;
use super::questions::Question;
use super::worker::{self, Crew, Parking, Task};
use super::{HandedOver, LAST_LINES, LAST_MOMENTS, ReloadError, Reloaded, Report, Shown};
use crate::config::Config;
use crate::connection::Adopted;
use crate::observe::ended::Why;
use crate::observe::journal::Journal;
use crate::plan::Share;
use crate::upstream::Backend;

/// What can be asked of a running proxy.
#[derive(Debug)]
pub(super) enum Order {
    Drain,
    Cut,
    ReopenLogs,
    ReloadCertificates,
    /// Serve by this config, and say what came of it.
    Reload(Box<Config>, std::sync::mpsc::Sender<Result<Reloaded, ReloadError>>),
    /// Go on in another process, or say why that cannot be.
    HandOver(Successor, oneshot::Sender<Result<HandedOver, HandoverError>>),
    Answer(Question),
}

/// How a proxy is to stop.
#[derive(Debug)]
pub(super) enum Stop {
    Drain,
    Cut,
    /// Another process has taken over; what it could not take ends here.
    HandedOver(Giving),
}

/// Everything the control thread owns.
pub(super) struct Control {
    pub(super) parts: Parts,
    pub(super) doors: Doors,
    pub(super) shared: Shared,
    pub(super) shown: Arc<Mutex<Shown>>,
    pub(super) inbox: mpsc::UnboundedReceiver<Order>,
    pub(super) report: watch::Sender<Option<Report>>,
    pub(super) errands: Errands,
    /// The process before this one, while it has not ended.
    pub(super) before: Option<Legacy>,
    /// Told when this process serves for good.
    pub(super) settled: watch::Sender<bool>,
    pub(super) pid_file: Option<Arc<PidFile>>,
    /// How often it was tried to hand over.
    pub(super) attempts: u64,
    /// What was asked for while there was no time for it.
    pub(super) postponed: VecDeque<Order>,
    /// The process that serves in the place of this one.
    pub(super) successor: Option<Pid>,
    pub(super) pulse: Arc<Pulse>,
}

/// The workers as the control thread sees them.
pub(super) struct Workers {
    crew: Arc<Crew>,
    accepting: watch::Sender<bool>,
    /// Yields nothing any more when the last worker has ended.
    alive: mpsc::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Control {
    /// Starts the workers and the control thread.
    pub(super) fn start(self, runtime: Runtime, acceptances: Shares) -> io::Result<JoinHandle<()>> {
        let journal = self.shared.journal.clone();
        let workers = start_workers(acceptances, self.parts.plan.share, &self.pulse, &journal)?;
        let number = workers.count();
        std::thread::Builder::new().name("control".into()).spawn(move || {
            // It picks too: for those who wait, when a place is free.
            journal.iter().for_each(|journal| journal.begin_thread(number));
            let report = self.report.clone();
            let outcome = runtime.block_on(self.run(workers));
            // Files on a disk that does not answer must not hold up the stop.
            runtime.shutdown_background();
            journal.iter().for_each(|journal| journal.remove());
            report.send_replace(Some(outcome));
        })
    }

    async fn run(mut self, mut workers: Workers) -> Report {
        self.errands.follow(&self.parts);
        if let Some(before) = &self.before {
            before.accepting().await;
        }
        let (crew, tally) = (Arc::clone(&workers.crew), Arc::clone(&self.shared.tally));
        self.errands.always(Arc::clone(&self.pulse).watch(Arc::clone(&crew), tally));
        let (memory, places) = (Arc::clone(&self.shared.memory), Arc::clone(&self.shared.places));
        self.errands.always(memory.keep(crew, places));
        match self.next_stop(Some(&workers)).await {
            Stop::Drain => self.drain(&mut workers).await,
            Stop::HandedOver(giving) => self.finish(giving, &mut workers).await,
            Stop::Cut => {}
        }
        self.doors.let_go();
        workers.accepting.send_replace(false);
        workers.tell_all(|| Task::CutAll);
        let _ = tokio::time::timeout(LAST_MOMENTS, workers.alive.recv()).await;
        // A worker that does not end even now hangs in a fault of ours; the stop must not hang with it.
        for thread in workers.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
        let Control { parts, doors, shared, .. } = self;
        let log_threads = parts.log_threads;
        drop((parts.log, parts.tracer, parts.services, doors));
        // A log that nobody reads (a pipe whose reader stopped) must not hold up the stop.
        let until = Instant::now() + LAST_LINES;
        while !log_threads.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Report { cut: shared.tally.counts().ended_by(Why::DrainCut) }
    }

    /// Carries out orders until one of them is to stop. Once it is stopping, nothing is reloaded any more.
    pub(super) async fn next_stop(&mut self, workers: Option<&Workers>) -> Stop {
        loop {
            match self.next_order(workers).await {
                Some(Order::ReopenLogs) => self.parts.log.reopen(),
                Some(Order::ReloadCertificates) => self.errands.certificates().read_now(),
                Some(Order::Reload(config, answer)) => {
                    let outcome = match workers {
                        Some(workers) => self.reload(*config, workers).await,
                        None => Err(self.not_reloaded()),
                    };
                    // Where another process has taken over, that one counts it.
                    if !matches!(outcome, Err(ReloadError::HandedOver)) {
                        self.shared.tally.reloaded(outcome.is_ok());
                    }
                    let _ = answer.send(outcome);
                }
                Some(Order::HandOver(successor, answer)) => {
                    let outcome = match workers {
                        Some(workers) => self.hand_over(&successor, workers).await,
                        None => Err(HandoverError::Stopping),
                    };
                    match outcome {
                        Ok((done, giving)) => {
                            let _ = answer.send(Ok(done));
                            return Stop::HandedOver(giving);
                        }
                        Err(error) => {
                            self.shared.tally.upgraded(false);
                            tracing::error!(
                                "upgrade failed, everything goes on as before: {error}"
                            );
                            let _ = answer.send(Err(error));
                        }
                    }
                }
                // Nothing that is said here reaches the process that serves: whoever asks hears nothing, and so that this one ends.
                Some(Order::Answer(_)) if self.successor.is_some() => {}
                Some(Order::Answer(question)) => self.answer(question),
                Some(Order::Drain) => return Stop::Drain,
                Some(Order::Cut) | None => return Stop::Cut,
            }
        }
    }

    /// The next order. What the process before says meanwhile is done.
    async fn next_order(&mut self, workers: Option<&Workers>) -> Option<Order> {
        if let Some(order) = self.postponed.pop_front() {
            return Some(order);
        }
        loop {
            let Some(before) = &mut self.before else { return self.inbox.recv().await };
            let heard = tokio::select! {
                order = self.inbox.recv() => return order,
                heard = before.hear() => heard,
            };
            self.hear_before(heard, workers).await;
        }
    }

    /// Does what the process before says.
    pub(super) async fn hear_before(
        &mut self,
        heard: io::Result<Option<Message>>,
        workers: Option<&Workers>,
    ) {
        let Some(before) = &mut self.before else { return };
        let (parts, doors, shared) = (&self.parts, &self.doors, &self.shared);
        let progress = before.obey(heard, Here { parts, doors, shared, workers }).await;
        if progress == Progress::Ended {
            tracing::info!("upgrade: the process before has ended");
            self.before = None;
        }
        if progress != Progress::GoesOn
            && !self.settled.send_replace(true)
            && let Some(Err(error)) = self.pid_file.as_ref().map(|file| file.take_over())
        {
            tracing::error!("pid file: {error}");
        }
    }

    /// Lets connections end by themselves, until the time is over or a cut is ordered.
    async fn drain(&mut self, workers: &mut Workers) {
        self.shared.is_draining.store(true, Relaxed);
        let open = self.shared.tally.counts().open;
        let plan = &self.parts.plan;
        let (lame_duck, timeout) = (plan.lame_duck, plan.drain_timeout);
        if !lame_duck.is_zero() {
            tracing::info!("stopping: still accepting for {lame_duck:?}");
            if tokio::time::timeout(lame_duck, self.cut_order()).await.is_ok() {
                return;
            }
        }
        self.doors.let_go();
        workers.accepting.send_replace(false);
        workers.tell_all(|| Task::FinishAll);
        tracing::info!(open, "draining: no new connections; open ones have {timeout:?} to end");
        let until = Instant::now() + timeout;
        tokio::select! {
            _ = workers.alive.recv() => {}
            () = self.cut_order() => tracing::info!("cutting what is still open"),
            () = tokio::time::sleep_until(until) => {
                let open = self.shared.tally.counts().open;
                tracing::warn!(open, "drain-timeout is over: cutting what is still open");
            }
        }
    }

    pub(super) async fn cut_order(&mut self) {
        while !matches!(self.next_stop(None).await, Stop::Cut) {}
    }
}

impl Workers {
    /// Tells each of them the same.
    pub(super) fn tell_all(&self, task: impl Fn() -> Task) {
        for tasks in &self.crew.tasks {
            let _ = tasks.send(task());
        }
    }

    /// Has connections end, after a while, that stay at one of these backends, which have left the config.
    pub(super) fn cut_removed(
        &self,
        removed: Arc<[Arc<Backend>]>,
        patience: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let crew = Arc::clone(&self.crew);
        async move {
            tokio::time::sleep(patience).await;
            for tasks in &crew.tasks {
                let _ = tasks.send(Task::CutRemoved(Arc::clone(&removed)));
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.crew.tasks.len()
    }

    /// Has one of them take connections apart.
    pub(super) fn park(&self, worker: usize, parking: Parking) {
        let _ = self.crew.tasks[worker].send(Task::Park(parking));
    }

    /// Has the one with the fewest connections carry one more.
    pub(super) fn adopt(&self, adopted: Adopted) {
        if let Some(worker) = self.crew.take_place() {
            let _ = self.crew.tasks[worker].send(Task::Adopt(Box::new(adopted)));
        }
    }

    /// Has none of them accept any more.
    pub(super) fn stop_accepting(&self) {
        self.accepting.send_replace(false);
    }

    /// Waits until each of them has ended.
    pub(super) async fn ended(&mut self) {
        self.alive.recv().await;
    }

    /// Has each of them accept from its share of new sockets.
    pub(super) fn accept_from(&self, shares: Shares) {
        for (tasks, share) in self.crew.tasks.iter().zip(shares) {
            for acceptance in share {
                let _ = tasks.send(Task::Accept(acceptance));
            }
        }
    }
}

fn start_workers(
    acceptances: Shares,
    share: Share,
    pulse: &Pulse,
    journal: &Option<Arc<Journal>>,
) -> io::Result<Workers> {
    let count = acceptances.len();
    let (tasks, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let crew = Arc::new(Crew { loads: (0..count).map(|_| Default::default()).collect(), tasks });
    let (accepting, accepting_seen) = watch::channel(true);
    let (life, alive) = mpsc::channel(1);
    let mut threads = Vec::with_capacity(count);
    for (number, (acceptances, inbox)) in acceptances.into_iter().zip(inboxes).enumerate() {
        let (crew, accepting, life) = (Arc::clone(&crew), accepting_seen.clone(), life.clone());
        let me = (number, pulse.beat(number));
        let journal = journal.clone();
        let body = move || {
            journal.iter().for_each(|journal| journal.begin_thread(number));
            let _life: mpsc::Sender<()> = life;
            let sockets = (acceptances, inbox);
            if let Err(error) = worker::run(me, crew, sockets, accepting, share) {
                tracing::error!("worker {number} could not start: {error}");
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(body)?);
    }
    Ok(Workers { crew, accepting, alive, threads })
}
