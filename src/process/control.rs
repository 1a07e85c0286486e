//! The control thread: names, checks and verdicts on timers, orders from outside, draining to the end.
//! It never carries a byte of traffic, so that nothing it does can hold traffic up.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::worker::{self, Acceptance, Crew, Task};
use super::{LAST_LINES, LAST_MOMENTS, Report, section};
use crate::discover::dns;
use crate::health;
use crate::observe::access_log::AccessLog;
use crate::observe::counts::Tally;
use crate::observe::ended::Why;
use crate::plan::{Plan, Share};
use crate::tls::acme::Managed;
use crate::tls::{Sectioned, Source, Watch};
use crate::upstream::{EntryPlace, Upstream};

/// What can be asked of a running proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Drain,
    Cut,
    ReopenLogs,
    ReloadCertificates,
}

/// Everything the control thread owns.
pub(super) struct Control {
    pub(super) plan: Plan,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) log: AccessLog,
    pub(super) log_thread: Option<JoinHandle<()>>,
    pub(super) tally: Arc<Tally>,
    pub(super) inbox: mpsc::UnboundedReceiver<Order>,
    pub(super) report: watch::Sender<Option<Report>>,
    pub(super) certificates: Arc<Watch>,
}

/// The workers as the control thread sees them.
struct Workers {
    crew: Arc<Crew>,
    accepting: watch::Sender<bool>,
    /// Yields nothing any more when the last worker has ended.
    alive: mpsc::Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

impl Control {
    /// Starts the workers and the control thread.
    pub(super) fn start(
        self,
        acceptances: Vec<Vec<Acceptance>>,
        secured: Vec<Sectioned>,
    ) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let workers = start_workers(acceptances, self.plan.share)?;
        std::thread::Builder::new().name("control".into()).spawn(move || {
            let report = self.report.clone();
            let outcome = runtime.block_on(self.run(workers, secured));
            // Files on a disk that does not answer must not hold up the stop.
            runtime.shutdown_background();
            report.send_replace(Some(outcome));
        })
    }

    async fn run(mut self, mut workers: Workers, secured: Vec<Sectioned>) -> Report {
        self.look_after_upstreams();
        for (section, managed) in managed(&self.plan) {
            tokio::spawn(managed.keep_up(section));
        }
        if !secured.is_empty() {
            tokio::spawn(Arc::clone(&self.certificates).keep_up(secured));
        }
        if self.next_stop_order().await == Order::Drain {
            self.drain(&mut workers).await;
        }
        workers.accepting.send_replace(false);
        for tasks in &workers.crew.tasks {
            let _ = tasks.send(Task::CutAll);
        }
        let _ = tokio::time::timeout(LAST_MOMENTS, workers.alive.recv()).await;
        // A worker that does not end even now hangs in a fault of ours; the stop must not hang with it.
        for thread in workers.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
        let Control { log, log_thread, tally, .. } = self;
        drop(log);
        // A log that nobody reads (a pipe whose reader stopped) must not hold up the stop.
        if let Some(thread) = log_thread {
            let until = Instant::now() + LAST_LINES;
            while !thread.is_finished() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Report { cut: tally.counts().ended_by(Why::DrainCut) }
    }

    fn look_after_upstreams(&self) {
        let named = |upstream: &&Arc<Upstream>| {
            upstream
                .rules
                .entries
                .iter()
                .any(|entry| matches!(entry.place, EntryPlace::Named { .. }))
        };
        if self.upstreams.iter().any(|upstream| named(&upstream)) {
            match dns::resolver(&self.plan.nameservers) {
                Ok(resolver) => {
                    self.upstreams.iter().for_each(|upstream| dns::follow(upstream, &resolver))
                }
                Err(error) => tracing::error!(
                    "names cannot be looked up: {error}; set `nameservers` in [process]"
                ),
            }
        }
        for (upstream, plan) in self.upstreams.iter().zip(&self.plan.upstreams) {
            tokio::spawn(Arc::clone(upstream).keep_up());
            if let Some(probe) = &plan.probe {
                tokio::spawn(health::watch(Arc::clone(upstream), probe.clone()));
            }
        }
    }

    async fn next_stop_order(&mut self) -> Order {
        loop {
            match self.inbox.recv().await {
                Some(Order::ReopenLogs) => self.log.reopen(),
                Some(Order::ReloadCertificates) => self.certificates.read_now(),
                Some(order) => return order,
                None => return Order::Cut,
            }
        }
    }

    /// Lets connections end by themselves, until the time is over or a cut is ordered.
    async fn drain(&mut self, workers: &mut Workers) {
        let open = self.tally.counts().open;
        let (lame_duck, timeout) = (self.plan.lame_duck, self.plan.drain_timeout);
        if !lame_duck.is_zero() {
            tracing::info!("stopping: still accepting for {lame_duck:?}");
            if tokio::time::timeout(lame_duck, self.cut_order()).await.is_ok() {
                return;
            }
        }
        workers.accepting.send_replace(false);
        for tasks in &workers.crew.tasks {
            let _ = tasks.send(Task::FinishAll);
        }
        tracing::info!(open, "draining: no new connections; open ones have {timeout:?} to end");
        let until = Instant::now() + timeout;
        tokio::select! {
            _ = workers.alive.recv() => {}
            () = self.cut_order() => tracing::info!("cutting what is still open"),
            () = tokio::time::sleep_until(until) => {
                let open = self.tally.counts().open;
                tracing::warn!(open, "drain-timeout is over: cutting what is still open");
            }
        }
    }

    async fn cut_order(&mut self) {
        while self.next_stop_order().await != Order::Cut {}
    }
}

/// The certificates that ACME is asked for, each once.
fn managed(plan: &Plan) -> Vec<(String, Arc<Managed>)> {
    let mut all: Vec<(String, Arc<Managed>)> = Vec::new();
    for listener in &plan.listeners {
        for (source, _) in listener.tls.iter().flat_map(|tls| &tls.identities) {
            if let Source::Managed(managed) = source
                && !all.iter().any(|(_, known)| known.file() == managed.file())
            {
                all.push((section(listener), Arc::clone(managed)));
            }
        }
    }
    all
}

fn start_workers(acceptances: Vec<Vec<Acceptance>>, share: Share) -> io::Result<Workers> {
    let count = acceptances.len();
    let (tasks, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let crew = Arc::new(Crew { loads: (0..count).map(|_| Default::default()).collect(), tasks });
    let (accepting, accepting_seen) = watch::channel(true);
    let (life, alive) = mpsc::channel(1);
    let mut threads = Vec::with_capacity(count);
    for (number, (acceptances, inbox)) in acceptances.into_iter().zip(inboxes).enumerate() {
        let (crew, accepting, life) = (Arc::clone(&crew), accepting_seen.clone(), life.clone());
        let body = move || {
            let _life: mpsc::Sender<()> = life;
            if let Err(error) = worker::run(number, crew, acceptances, inbox, accepting, share) {
                tracing::error!("worker {number} could not start: {error}");
            }
        };
        threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(body)?);
    }
    Ok(Workers { crew, accepting, alive, threads })
}
