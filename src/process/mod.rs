//! Start, run and stop: binds everything, starts the workers and the control thread, drains when told to.
//! This is the only room that sees the whole plan; it hands each other room its part.

mod capacity;
mod control;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::connection::{Job, Service};
use crate::http::{Gate, Site};
use crate::limits::{Door, Places};
use crate::listen::{self, BindError, Bound, BoundAddress};
use crate::observe::access_log::AccessLog;
use crate::observe::counts::{BackendCounts, Counts, Tally};
use crate::plan::{self, ListenerPlan, Plan, UpstreamPlan};
use crate::route::Routes;
use crate::tcp;
use crate::tls::{Acceptor, Connector, Sectioned};
use crate::upstream::Upstream;
use control::{Control, Order};
use worker::Acceptance;

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
    upstreams: Vec<Arc<Upstream>>,
    addresses: Vec<(Arc<str>, BoundAddress)>,
}

/// Starts what a verified config says. When this returns, every address is listened on.
pub(crate) fn start(config: &Config) -> Result<Running, StartError> {
    let descriptors = raise_descriptor_limit();
    let plan = Plan::compile(config, descriptors);
    capacity::warn(&plan, descriptors);
    let system = |step| move |cause| StartError::System { step, cause };
    let tally = Arc::new(Tally::default());
    let (log, log_thread) =
        AccessLog::open(&plan.access_log, &tally).map_err(system("access log"))?;
    let connectors: Vec<_> = plan.upstreams.iter().map(connector).collect::<Result<_, _>>()?;
    let upstreams = plan.upstreams.iter().zip(&connectors);
    let upstreams = upstreams.map(|(plan, tls)| Upstream::new(plan.rules.clone(), tls.clone()));
    let upstreams: Vec<_> = upstreams.collect::<io::Result<_>>().map_err(system("sticky"))?;
    let places = Places::new(Some(plan.connections_max));
    let acceptors: Result<Vec<_>, _> = plan.listeners.iter().map(acceptor).collect();
    let acceptors = acceptors?;
    let of_files = of_files(&plan, &acceptors, &connectors);
    let services = plan
        .listeners
        .iter()
        .zip(acceptors.clone())
        .map(|(listener, tls)| service(listener, tls, &upstreams, &places, &log, &tally));
    let services: Vec<_> = services.collect::<io::Result<_>>().map_err(system("split-cookie"))?;
    let mut doors = Vec::new();
    for (listener, service) in plan.listeners.iter().zip(services) {
        let bound = listen::bind(&listener.listen, plan.workers).map_err(|error| {
            doors.iter().for_each(|(_, bound): &(_, Bound)| bound.address.remove_socket_file());
            refused(listener, error)
        })?;
        doors.extend(bound.into_iter().map(|bound| (Arc::clone(&service), bound)));
    }
    let addresses = doors
        .iter()
        .map(|(service, bound)| (Arc::clone(&service.listener), bound.address.clone()))
        .collect();
    let acceptances = share_out(doors, plan.workers);
    let (orders, inbox) = mpsc::unbounded_channel();
    let (report, ended) = watch::channel(None);
    let control = Control {
        plan,
        upstreams: upstreams.clone(),
        log,
        log_thread,
        tally: Arc::clone(&tally),
        inbox,
        report,
        certificates: Arc::default(),
    };
    let thread = control.start(acceptances, of_files).map_err(system("start threads"))?;
    Ok(Running { orders, ended, thread: Some(thread), tally, upstreams, addresses })
}

fn refused(listener: &ListenerPlan, error: BindError) -> StartError {
    StartError::Listen { listener: section(listener), cause: Box::new(error) }
}

/// Who takes the clients of a listener through their handshakes, if they speak TLS.
fn acceptor(listener: &ListenerPlan) -> Result<Option<Arc<Acceptor>>, StartError> {
    let loaded = listener.tls.as_ref().map(Acceptor::load).transpose();
    loaded.map(|loaded| loaded.map(Arc::new)).map_err(|flaw| StartError::Certificate {
        listener: section(listener),
        cause: Box::new(flaw),
    })
}

/// Who goes through handshakes with the backends of an upstream, if they speak TLS.
fn connector(upstream: &UpstreamPlan) -> Result<Option<Arc<Connector>>, StartError> {
    let loaded = upstream.tls.as_ref().map(Connector::load).transpose();
    loaded.map(|loaded| loaded.map(Arc::new)).map_err(|flaw| StartError::Certificate {
        listener: format!("upstream.{}", upstream.rules.name),
        cause: Box::new(flaw),
    })
}

/// Everything that is made of files of TLS, by its section.
fn of_files(
    plan: &Plan,
    acceptors: &[Option<Arc<Acceptor>>],
    connectors: &[Option<Arc<Connector>>],
) -> Vec<Sectioned> {
    let listeners = plan.listeners.iter().zip(acceptors);
    let listeners = listeners.filter_map(|(plan, tls)| Some((section(plan), tls.clone()? as _)));
    let upstreams = plan.upstreams.iter().zip(connectors).filter_map(|(plan, tls)| {
        Some((format!("upstream.{}", plan.rules.name), tls.clone()? as _))
    });
    listeners.chain(upstreams).collect()
}

fn section(listener: &ListenerPlan) -> String {
    let kind = match listener.job {
        plan::Job::Tcp { .. } => "tcp",
        plan::Job::Http { .. } => "http",
    };
    format!("{kind}.{}", listener.name)
}

fn service(
    plan: &ListenerPlan,
    tls: Option<Arc<Acceptor>>,
    upstreams: &[Arc<Upstream>],
    places: &Arc<Places>,
    log: &AccessLog,
    tally: &Arc<Tally>,
) -> io::Result<Arc<Service>> {
    let find = |name: &Arc<str>| {
        let upstream = upstreams.iter().find(|upstream| upstream.rules.name == *name);
        Arc::clone(upstream.expect("a verified config names only upstreams that exist"))
    };
    let job = match &plan.job {
        plan::Job::Tcp { rules, routes, upstream, plain } => Job::Tcp(tcp::Site {
            rules: rules.clone(),
            routes: routes.iter().map(|(when, name)| (when.clone(), find(name))).collect(),
            upstream: upstream.as_ref().map(find),
            plain: plain.as_ref().map(find),
        }),
        plan::Job::Http { rules, routes } => Job::Http(Arc::new(Site {
            listener: Arc::clone(&plan.name),
            rules: (**rules).clone(),
            gate: Gate::new(&rules.gate),
            gates: routes.iter().map(|(_, action)| Gate::new(&action.gate)).collect(),
            actions: routes
                .iter()
                .map(|(_, action)| action.clone().with(find))
                .collect::<io::Result<_>>()?,
            routes: Routes::compile(routes.iter().map(|(when, _)| when.clone()).collect()),
            log: log.clone(),
            tally: Arc::clone(tally),
        })),
    };
    Ok(Arc::new(Service {
        listener: Arc::clone(&plan.name),
        door: Door::new(plan.door.clone(), Arc::clone(places)),
        proxied: plan.proxied.clone(),
        tls,
        job,
        log: log.clone(),
        tally: Arc::clone(tally),
    }))
}

/// Gives each worker its socket of every address.
fn share_out(doors: Vec<(Arc<Service>, Bound)>, workers: usize) -> Vec<Vec<Acceptance>> {
    let mut shares: Vec<Vec<Acceptance>> = (0..workers).map(|_| Vec::new()).collect();
    for (service, bound) in doors {
        for (share, fd) in shares.iter_mut().zip(bound.sockets) {
            share.push(Acceptance { fd, service: Arc::clone(&service) });
        }
    }
    shares
}

impl Running {
    /// The IP addresses a listener really listens on, with the port the system chose for port 0.
    pub fn addresses(&self, listener: &str) -> Vec<SocketAddr> {
        let of_listener = self.addresses.iter().filter(|(name, _)| **name == *listener);
        of_listener
            .filter_map(|(_, address)| match address {
                BoundAddress::Ip(address) => Some(*address),
                BoundAddress::Unix { .. } => None,
            })
            .collect()
    }

    /// Connections and bytes so far.
    pub fn counts(&self) -> Counts {
        self.tally.counts()
    }

    /// The state of every backend of every upstream.
    pub fn backends(&self) -> Vec<BackendCounts> {
        self.upstreams.iter().flat_map(|upstream| upstream.counts()).collect()
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
        self.addresses.iter().for_each(|(_, address)| address.remove_socket_file());
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
