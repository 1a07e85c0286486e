//! Start, run and stop: binds everything, starts the workers and the control thread, drains when told to.
//! This is the only room that sees the whole plan; it hands each other room its part.

mod capacity;
mod control;
mod doors;
mod errands;
mod parts;
mod questions;
mod reload;
mod remote;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::config::problem::Problems;
use crate::limits::Places;
use crate::listen::BoundAddress;
use crate::observe::counts::{BackendCounts, Counts, Tally};
use crate::plan::{self, ListenerPlan};
use crate::upstream::Upstream;
use control::{Control, Order};
use doors::Doors;
use errands::Errands;
use parts::{Parts, Shared};
pub(crate) use questions::{Comparison, NotSaid};
pub(crate) use reload::after_restart;
pub(crate) use remote::Remote;

/// Why a proxy could not start. Nothing is left open.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be listened on.
    Listen {
        /// The listener, as its section is called: `tcp.NAME` or `http.NAME`.
        listener: String,
        /// What failed, and what to do.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A certificate or its key could not be used: the files have changed since the config was checked.
    Certificate {
        /// The listener or upstream, as its section is called.
        listener: String,
        /// What is wrong with them.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The access log could not be opened, or a thread or the resolver not be started.
    System {
        /// The step that failed.
        step: &'static str,
        /// What the system said.
        cause: io::Error,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StartError::Listen { listener, cause }
            | StartError::Certificate { listener, cause } => {
                write!(f, "[{listener}] {cause}")
            }
            StartError::System { step, cause } => write!(f, "{step}: {cause}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Listen { cause, .. } | StartError::Certificate { cause, .. } => {
                Some(&**cause)
            }
            StartError::System { cause, .. } => Some(cause),
        }
    }
}

/// What came of a reload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What has changed, in words, a line each.
    pub changes: Vec<String>,
    /// What of it takes effect with the next start only.
    pub after_restart: Vec<String>,
}

/// Why a reload changed nothing.
#[derive(Debug)]
pub enum ReloadError {
    /// The config has errors.
    Config(Problems),
    /// It could not be put into force: an address is in use, a certificate cannot be read.
    Start(StartError),
    /// The proxy is stopping, or has stopped.
    Stopping,
}

impl std::fmt::Display for ReloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ReloadError::Config(problems) => problems.fmt(f),
            ReloadError::Start(error) => error.fmt(f),
            ReloadError::Stopping => f.write_str("it is stopping"),
        }
    }
}

impl std::error::Error for ReloadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReloadError::Start(error) => Some(error),
            ReloadError::Config(_) | ReloadError::Stopping => None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Connections that were still open when the time for draining was over, and were cut.
    pub cut: u64,
}

/// A proxy that serves. Dropping it cuts every connection; [`Running::drain`] is the gentle way.
#[derive(Debug)]
pub struct Running {
    orders: mpsc::UnboundedSender<Order>,
    ended: watch::Receiver<Option<Report>>,
    thread: Option<JoinHandle<()>>,
    tally: Arc<Tally>,
    shown: Arc<Mutex<Shown>>,
    is_draining: Arc<AtomicBool>,
}

/// Starts what a verified config says. When this returns, every address is listened on.
pub(crate) fn start(config: &Config) -> Result<Running, StartError> {
    let descriptors = raise_descriptor_limit();
    let system = |step| move |cause| StartError::System { step, cause };
    let tally = Arc::new(Tally::default());
    let is_draining = Arc::new(AtomicBool::new(false));
    let (counted, drains) = (Arc::clone(&tally), Arc::clone(&is_draining));
    let places = Places::new(None);
    let shared = Shared { descriptors, tally: counted, places, is_draining: drains };
    let parts = Parts::make(config.clone(), &shared, None)?;
    capacity::warn(&parts.plan, descriptors);
    let mut doors = Doors::default();
    let new = doors.prepare(&parts)?;
    parts.enforce(&shared);
    let acceptances = doors.change(new, parts.plan.workers);
    let shown = Arc::new(Mutex::new(Shown::of(&parts, &doors)));
    let (orders, inbox) = mpsc::unbounded_channel();
    let (report, ended) = watch::channel(None);
    let errands = Errands::default();
    let seen = Arc::clone(&shown);
    let control = Control { parts, doors, shared, shown: seen, inbox, report, errands };
    let thread = control.start(acceptances).map_err(system("start threads"))?;
    Ok(Running { orders, ended, thread: Some(thread), tally, shown, is_draining })
}

/// What can be seen of a running proxy from outside.
#[derive(Debug)]
struct Shown {
    upstreams: Vec<Arc<Upstream>>,
    addresses: Vec<(Arc<str>, BoundAddress)>,
    /// By section and name, with the places that are taken. Not the services: those keep the access log open.
    listeners: Vec<(String, Arc<str>, Arc<Places>)>,
}

impl Shown {
    fn of(parts: &Parts, doors: &Doors) -> Shown {
        let listeners = parts.plan.listeners.iter().zip(&parts.services).map(|(plan, service)| {
            (section(plan), Arc::clone(&plan.name), Arc::clone(service.door.places()))
        });
        Shown {
            upstreams: parts.upstreams.clone(),
            addresses: doors.addresses(),
            listeners: listeners.collect(),
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
        config.verify_or_problems().map_err(ReloadError::Config)?;
        let (answer, answered) = std::sync::mpsc::channel();
        let stopping = |_| ReloadError::Stopping;
        let order = Order::Reload(Box::new(config), answer);
        self.orders.send(order).map_err(|_| ReloadError::Stopping)?;
        answered.recv().map_err(stopping)?
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

/// Raises the soft limit of open descriptors to the hard one; the limit in force.
fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.unwrap_or(1 << 20)
}

/// How long nothing may hold up a stop beyond `drain-timeout`.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// How long the access log may take to write its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
