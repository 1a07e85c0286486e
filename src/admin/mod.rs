//! Where an operator speaks to the running process: HTTP with JSON on a Unix socket, for one user alone, listeners that say
//! whether the process is ready, and its metrics. It has a thread of its own and carries no traffic; that it cannot be opened never keeps
//! anything from being served.

mod answer;
mod api;
mod bind;
pub(crate) mod configs;
mod connections;
mod feed;
mod guard;
pub(crate) mod in_force;
pub(crate) mod message;
mod metrics;
mod openapi;
mod page;
pub(crate) mod place;
mod query;
mod ready;
mod routes;
mod serve;
mod state;
mod watch;
mod who;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::{self, Address, AdminListen, Config};
use crate::listen::BoundAddress;
use crate::process::Remote;
use crate::tls::certificate::server_config;
use api::Desk;
use guard::Token;
use in_force::InForce;
use message::{Outcome, Refusal, ReloadOrder, Upgraded};
use serve::Doors;

/// What is asked for that only whoever runs the process can do. Dropping the answer refuses it.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Read the config file again.
    Reload(ReloadOrder, oneshot::Sender<Result<Outcome, Refusal>>),
    /// Stay with the config that was put into force last.
    Confirm(oneshot::Sender<Result<(), Refusal>>),
    /// Drain the whole process.
    Stop(oneshot::Sender<()>),
    /// Serve by this config from now on, if that of this mark is still in force.
    Apply { config: Box<Config>, mark: String, answer: oneshot::Sender<Result<Outcome, Refusal>> },
    /// Go on in a new process.
    Upgrade(oneshot::Sender<Result<Upgraded, Refusal>>),
}

/// Until when a config waits to be confirmed, if one does.
pub(crate) type WaitsUntil = tokio::sync::watch::Receiver<Option<Instant>>;

/// What is to be opened.
#[derive(Debug)]
pub(crate) struct Opening {
    /// Where the socket may be: the first that can be had is taken. None: nowhere.
    pub(crate) sockets: Vec<PathBuf>,
    /// Who may ask over TCP, where others ask about this process, and the rest of `[admin]`.
    pub(crate) config: config::Admin,
    pub(crate) remote: Remote,
    pub(crate) wishes: mpsc::Sender<Wish>,
    pub(crate) waits_until: WaitsUntil,
    pub(crate) in_force: tokio::sync::watch::Receiver<InForce>,
    /// Whether another process has the places, and leaves them to this one.
    pub(crate) takes_over: bool,
}

/// An open door for operators. Dropping it closes it, and removes its file.
#[derive(Debug)]
pub(crate) struct Admin {
    address: Option<BoundAddress>,
    over_tcp: Vec<SocketAddr>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Opens what can be opened; a warning says what cannot.
    pub(crate) fn open(opening: Opening) -> Admin {
        let (takes_over, config) = (opening.takes_over, &opening.config);
        let socket = bind::first(&opening.sockets, takes_over);
        let asked = ready::openings(config.ready.as_ref(), config.metrics.as_ref());
        let asked = asked.into_iter().flat_map(|opening| ready::bind(opening, takes_over));
        let asked = asked.collect();
        let address = socket.as_ref().map(|(address, _)| address.clone());
        if let Some(address) = &address {
            tracing::info!("admin socket at {address}");
        }
        let token = config.token_file.clone().map(Token::of).transpose();
        let token = token.map(|token| token.map(Arc::new)).unwrap_or_else(|problem| {
            tracing::warn!("nobody can ask over TCP: {problem}");
            None
        });
        let tls = config.tls.as_ref().map(|tls| server_config(&tls.files())).transpose();
        let (tls, token) = match tls {
            Ok(tls) => (tls.map(Into::into), token),
            Err(flaw) => {
                tracing::warn!("nobody can ask over TCP: {}", flaw.message);
                (None, None)
            }
        };
        let tcp = if token.is_some() { over_tcp(config, takes_over) } else { Vec::new() };
        let socket = socket.map(|(_, socket)| socket);
        let at = tcp.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let doors = Doors { socket, tcp, token, tls, asked };
        let mut admin = Admin { address, over_tcp: at, stop: None, thread: None };
        if doors.is_empty() {
            return admin;
        }
        let desk = Arc::new(Desk {
            remote: opening.remote,
            wishes: opening.wishes,
            waits_until: opening.waits_until,
            started: Instant::now(),
            readers: Arc::new(Semaphore::new(feed::READERS_MAX)),
            in_force: opening.in_force,
            hosts: opening.config.hosts,
            latest: Mutex::default(),
            scrapers: Arc::new(Semaphore::new(feed::SCRAPES_MAX)),
        });
        let (stop, stopped) = oneshot::channel();
        // Here and not on its thread: whatever it takes of the process is taken when this returns.
        let runtime = serve::runtime();
        let thread = runtime.and_then(|runtime| {
            let body = move || serve::run(runtime, doors, &desk, stopped);
            std::thread::Builder::new().name("admin".into()).spawn(body)
        });
        match thread {
            Ok(thread) => (admin.stop, admin.thread) = (Some(stop), Some(thread)),
            Err(error) => tracing::warn!("nobody can speak to this process: {error}"),
        }
        admin
    }

    /// Where those who have the token can ask over TCP.
    pub(crate) fn over_tcp(&self) -> &[SocketAddr] {
        &self.over_tcp
    }
}

/// Opens the addresses for those who have the token; where one cannot be, the log says why.
fn over_tcp(config: &config::Admin, takes_over: bool) -> Vec<std::net::TcpListener> {
    let mut all = Vec::new();
    for listen in &config.listen {
        let AdminListen::Tcp(address) = listen else { continue };
        match ready::open(&Address::Ip(*address), takes_over) {
            Ok(bound) => {
                for (address, socket) in bound {
                    let scheme = if config.tls.is_some() { "https" } else { "http" };
                    tracing::info!("dashboard and API at {scheme}://{address}/, with the token");
                    all.push(socket);
                }
            }
            Err(error) => tracing::warn!("nobody can ask at {address}: {error}"),
        }
    }
    all
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.address.iter().for_each(BoundAddress::remove_socket_file);
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
