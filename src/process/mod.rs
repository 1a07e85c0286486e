//! Start, run and stop: binds everything, starts the workers and the control thread, drains when told to.
//! This is the only room that sees the whole plan; it hands each other room its part.

mod capacity;
mod charter;
mod connections;
mod control;
mod crew;
mod doors;
mod errands;
mod explaining;
mod handover;
mod journal;
mod memory;
mod notify;
mod out_of_reach;
mod outcome;
mod panics;
mod parts;
mod passing;
mod pid_file;
pub(crate) mod program;
mod pulse;
mod questions;
mod reading;
mod reload;
mod remote;
mod rights;
pub(crate) mod sandbox;
pub(crate) mod starter;
mod stays;
mod vitals;
mod worker;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::descriptors;
use crate::limits::Places;
use crate::listen::BoundAddress;
use crate::observe::counts::{BackendCounts, Counts, Tally};
use crate::observe::journal::Journal;
use crate::observe::meter::Meter;
use crate::observe::stripes;
use crate::plan::{self, ListenerPlan};
use crate::tls::Acceptor;
use crate::upstream::Upstream;
pub(crate) use connections::{Asked, ConnectionRow, Rank, Sort, Which};
use control::{Control, Order};
use doors::{Doors, Inherited, Shares};
use errands::Errands;
pub(crate) use explaining::explain_offline;
pub(crate) use handover::give::{HandoverError, Successor};
use handover::take::Legacy;
pub(crate) use handover::take::Predecessor;
use memory::Budget;
pub(crate) use notify::Notify;
pub(crate) use outcome::HandedOver;
pub use outcome::{ReloadError, Reloaded, Report, StartError};
pub(crate) use panics::log_panics;
use parts::{Parts, Shared};
use pid_file::PidFile;
use pulse::Pulse;
pub(crate) use questions::{Comparison, NotSaid};
pub(crate) use reading::{ListenerState, ProcessState, Reading};
pub(crate) use reload::after_restart;
pub(crate) use remote::Remote;
use rights::Rights;
pub(crate) use rights::{lacking, log_owner};
pub(crate) use sandbox::Sandbox;

/// A proxy that serves. Dropping it cuts every connection; [`Running::drain`] is the gentle way.
#[derive(Debug)]
pub struct Running {
    orders: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<Report>>,
    thread: Option<JoinHandle<()>>,
    tally: Arc<Tally>,
    memory: Arc<Budget>,
    shown: Arc<Mutex<Shown>>,
    pulse: Arc<Pulse>,
    is_draining: Arc<AtomicBool>,
    /// Whether it serves for good, and not only until the process before has made up its mind.
    is_settled: watch::Receiver<bool>,
    /// There for as long as this is.
    _pid_file: Option<Arc<PidFile>>,
}

/// Starts what a verified config says. When this returns, every address is listened on.
pub(crate) fn start(config: &Config) -> Result<Running, StartError> {
    begin(config, Vec::new(), None, None, false)
}

/// The same in a process of its own: on sockets that were passed, where the config has their addresses, and locked in.
pub(crate) fn start_on(
    config: &Config,
    passed: Vec<OwnedFd>,
    sandbox: Option<Sandbox>,
) -> Result<Running, StartError> {
    let (section, wanted, is_lent) = (String::new(), None, true);
    let lent = passed.into_iter();
    let lent =
        lent.map(|fd| Inherited { section: section.clone(), wanted: wanted.clone(), is_lent, fd });
    begin(config, lent.collect(), None, sandbox, true)
}

/// The same in the place of a process that serves already. When this returns, this one accepts.
pub(crate) fn take_over(
    config: &Config,
    before: &Predecessor,
    sandbox: Option<Sandbox>,
) -> Result<Running, StartError> {
    let begun = begin(config, Vec::new(), Some(before), sandbox, true);
    begun
        .inspect(|running| running.tally.upgraded(true))
        .inspect_err(|error| before.refuse(&error.to_string()))
}

fn begin(
    config: &Config,
    passed: Vec<Inherited>,
    before: Option<&Predecessor>,
    sandbox: Option<Sandbox>,
    is_program: bool,
) -> Result<Running, StartError> {
    let system = |step| move |cause| StartError::System { step, cause };
    let rights = Rights::find(config)?;
    let pid_file = PidFile::find(config.process.pid_file.as_deref(), before.is_some());
    let pid_file = pid_file.map_err(system("pid file"))?;
    let (runtime, mut before) = begin_to_hear(before)?;
    let (listeners, pasts) = before.as_mut().map_or((passed, Vec::new()), Legacy::take);
    let mut doors = Doors::inherited(listeners).map_err(system("sockets that were passed"))?;
    let (descriptors, owner) = (descriptors::raise(), rights.owner());
    stripes::expect_workers(config.process.worker_count());
    let mut shared = Shared::new(descriptors, pasts.into(), owner);
    let mut parts = Parts::make(config.clone(), &shared, None)?;
    capacity::warn(&parts.plan, descriptors);
    let new = doors.prepare(&parts)?;
    parts.enforce(&shared);
    if let (None, Some(file)) = (&before, &pid_file) {
        file.write(owner).map_err(system("pid file"))?;
    }
    // Everything is open that takes rights, and there is no other thread yet.
    rights.give_up(config)?;
    shared.journal = journal::open(config, parts.plan.workers, is_program);
    parts.note(&shared);
    let sandbox = sandbox.map(|sandbox| sandbox.leaving(shared.journal.as_deref()));
    shared.sandbox = sandbox.map(Sandbox::enter).transpose()?;
    parts.begin()?;
    if let Some(before) = &mut before {
        runtime.block_on(before.ready()).map_err(system("take over"))?;
    }
    doors.change(new, parts.plan.workers);
    let acceptances = doors.resume(parts.plan.workers).map_err(system("listen"))?;
    serve((runtime, acceptances), (parts, doors, shared), before, pid_file)
}

/// Starts the threads that carry what is made and open.
fn serve(
    (runtime, acceptances): (Runtime, Shares),
    (parts, doors, shared): (Parts, Doors, Shared),
    before: Option<Legacy>,
    pid_file: Option<Arc<PidFile>>,
) -> Result<Running, StartError> {
    let (tally, is_draining) = (Arc::clone(&shared.tally), Arc::clone(&shared.is_draining));
    let memory = Arc::clone(&shared.memory);
    let shown = Arc::new(Mutex::new(Shown::of(&parts, &doors, shared.journal.as_ref())));
    let pulse = Pulse::new(parts.plan.workers);
    let (orders, inbox) = mpsc::unbounded_channel();
    let (report, ended) = watch::channel(None);
    let settled = watch::Sender::new(before.is_none());
    let is_settled = settled.subscribe();
    let control = Control {
        parts,
        doors,
        shared,
        shown: Arc::clone(&shown),
        inbox,
        report,
        errands: Errands::default(),
        pulse: Arc::clone(&pulse),
        before,
        settled,
        pid_file: pid_file.clone(),
        attempts: 0,
        postponed: VecDeque::new(),
        successor: None,
    };
    let started = control.start(runtime, acceptances);
    let step = "start threads";
    let thread = started.map_err(|cause| StartError::System { step, cause })?;
    Ok(Running {
        orders,
        ended,
        thread: Some(thread),
        tally,
        memory,
        shown,
        pulse,
        is_draining,
        is_settled,
        _pid_file: pid_file,
    })
}

/// The loop of the control thread, and who speaks on it for a process that is to be followed.
fn begin_to_hear(before: Option<&Predecessor>) -> Result<(Runtime, Option<Legacy>), StartError> {
    let system = |step| move |cause| StartError::System { step, cause };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(system("start threads"))?;
    let before = before.map(|before| runtime.block_on(before.listen())).transpose();
    Ok((runtime, before.map_err(system("take over"))?))
}

/// What can be seen of a running proxy from outside.
#[derive(Debug)]
struct Shown {
    upstreams: Vec<Arc<Upstream>>,
    addresses: Vec<(Arc<str>, BoundAddress)>,
    listeners: Vec<ShownListener>,
    /// Where its journal is, if it keeps one.
    journal: Option<PathBuf>,
}

/// What can be seen of a listener. Not its service: that keeps the access log open.
#[derive(Debug, Clone)]
struct ShownListener {
    section: String,
    name: Arc<str>,
    places: Arc<Places>,
    meter: Arc<Meter>,
    tls: Option<Arc<Acceptor>>,
    upstreams: Vec<Arc<str>>,
}

impl Shown {
    fn of(parts: &Parts, doors: &Doors, journal: Option<&Arc<Journal>>) -> Shown {
        let listeners = parts.plan.listeners.iter().zip(&parts.services);
        let listeners = listeners.map(|(plan, service)| ShownListener {
            section: section(plan),
            name: Arc::clone(&plan.name),
            places: Arc::clone(service.door.places()),
            meter: Arc::clone(&service.meter),
            tls: service.tls.clone(),
            upstreams: service.job.upstreams(),
        });
        Shown {
            upstreams: parts.upstreams.clone(),
            addresses: doors.addresses(),
            listeners: listeners.collect(),
            journal: journal.map(|journal| journal.folder().to_owned()),
        }
    }
}

fn section(listener: &ListenerPlan) -> String {
    let kind = match listener.job {
        plan::Job::Tcp { .. } => "tcp",
        plan::Job::Http { .. } => "http",
    };
    format!("{kind}.{}", listener.name)
}

impl Running {
    /// The IP addresses a listener really listens on, with the port the system chose for port 0.
    pub fn addresses(&self, listener: &str) -> Vec<SocketAddr> {
        let shown = self.shown();
        let of_listener = shown.addresses.iter().filter(|(name, _)| **name == *listener);
        of_listener.filter_map(|(_, address)| address.ip()).collect()
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connections and bytes so far.
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// The state of every backend of every upstream.
    pub fn backends(&self) -> Vec<BackendCounts> {
        self.shown().upstreams.iter().flat_map(|upstream| upstream.counts()).collect()
    }

    /// Serves by another config from now on, or says why not and changes nothing. Blocks until it is done.
    ///
    /// What means the same in both goes on as it is: listeners stay open, backends keep their health, counts and idle
    /// connections, and connections in progress go on as they began. Requests, packets and connections that begin later go by
    /// the new config. What takes a restart is named in the answer.
    pub fn reload(&self, config: Config) -> Result<Reloaded, ReloadError> {
        config.verify_or_problems().map_err(|problems| {
            self.note_refused_reload();
            ReloadError::Config(problems)
        })?;
        let (answer, answered) = std::sync::mpsc::channel();
        let stopping = |_| ReloadError::Stopping;
        let order = Order::Reload(Box::new(config), answer);
        self.orders.send(order).map_err(|_| ReloadError::Stopping)?;
        answered.recv().map_err(stopping)?
    }

    /// Counts a reload that came to nothing before it was asked for.
    pub(crate) fn note_refused_reload(&self) {
        self.tally.reloaded(false);
    }

    /// Goes on in a process that is started for that, and then stops; or goes on here and says why. Returns at once.
    pub(crate) fn hand_over(
        &self,
        successor: Successor,
    ) -> oneshot::Receiver<Result<HandedOver, HandoverError>> {
        let (answer, answered) = oneshot::channel();
        // Where nobody takes the order, the answer is dropped: it is stopping.
        let _ = self.orders.send(Order::HandOver(successor, answer));
        answered
    }

    /// By which it is seen when this process serves for good: at once, unless it takes over from another one.
    pub(crate) fn settling(&self) -> watch::Receiver<bool> {
        self.is_settled.clone()
    }

    /// Stops accepting and lets open connections end, for as long as `drain-timeout` says. Returns at once.
    pub fn drain(&self) {
        let _ = self.orders.send(Order::Drain);
    }

    /// Stops accepting and ends every connection now. Returns at once.
    pub fn cut(&self) {
        let _ = self.orders.send(Order::Cut);
    }

    /// Opens the access log file anew, after it was moved away.
    pub fn reopen_logs(&self) {
        let _ = self.orders.send(Order::ReopenLogs);
    }

    /// Reads certificates, keys and lists of revoked certificates anew, whether their files have changed or not. Returns
    /// at once; the log says what came of it.
    pub fn reload_certificates(&self) {
        let _ = self.orders.send(Order::ReloadCertificates);
    }

    /// Has the service manager hear that the workers make progress, for as long as they do.
    pub(crate) fn keep_watchdog(&self, notify: Arc<Notify>) {
        self.pulse.tell(notify);
    }

    /// Waits until the proxy has stopped, by [`Running::drain`] or [`Running::cut`].
    pub async fn ended(&mut self) -> Report {
        match self.ended.wait_for(Option::is_some).await {
            Ok(report) => report.unwrap_or(Report { cut: 0 }),
            Err(_) => Report { cut: 0 },
        }
    }

    /// Drains, waits for the end, and says how it went. Blocks the calling thread.
    pub fn stop(mut self) -> Report {
        self.drain();
        self.join()
    }

    fn join(&mut self) -> Report {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.ended.borrow().unwrap_or(Report { cut: 0 })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.cut();
        self.join();
        self.shown().addresses.iter().for_each(|(_, address)| address.remove_socket_file());
    }
}

/// How long nothing may hold up a stop beyond `drain-timeout`.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// How long the access log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
