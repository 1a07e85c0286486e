//! Where an operator speaks to the running process: HTTP with JSON on a Unix socket, for one user alone, listeners that say
//! whether the process is ready, and its metrics. It has a thread of its own and carries no traffic; that it cannot be opened never keeps
//! anything from being served.

mod api;
mod bind;
mod feed;
pub(crate) mod message;
mod metrics;
pub(crate) mod place;
mod ready;
mod serve;
mod state;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::Address;
use crate::listen::BoundAddress;
use crate::process::Remote;
use api::Desk;
use message::{Outcome, Refusal, ReloadOrder, Upgraded};

/// What is asked for that only whoever runs the process can do. Dropping the answer refuses it.
#[derive(Debug)]
pub(crate) enum Wish {
    /// Read the config file again.
    Reload(ReloadOrder, oneshot::Sender<Result<Outcome, Refusal>>),
    /// Stay with the config that was put into force last.
    Confirm(oneshot::Sender<Result<(), Refusal>>),
    /// Drain the whole process.
    Stop(oneshot::Sender<()>),
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
    pub(crate) ready: Option<Address>,
    pub(crate) metrics: Option<Address>,
    pub(crate) remote: Remote,
    pub(crate) wishes: mpsc::Sender<Wish>,
    pub(crate) waits_until: WaitsUntil,
    /// Whether another process has the places, and leaves them to this one.
    pub(crate) takes_over: bool,
}

/// An open door for operators. Dropping it closes it, and removes its file.
#[derive(Debug)]
pub(crate) struct Admin {
    address: Option<BoundAddress>,
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Admin {
    /// Opens what can be opened; a warning says what cannot.
    pub(crate) fn open(opening: Opening) -> Admin {
        let takes_over = opening.takes_over;
        let socket = bind::first(&opening.sockets, takes_over);
        let asked = ready::openings(opening.ready.as_ref(), opening.metrics.as_ref());
        let asked = asked.into_iter().flat_map(|opening| ready::bind(opening, takes_over));
        let asked: Vec<_> = asked.collect();
        let address = socket.as_ref().map(|(address, _)| address.clone());
        if let Some(address) = &address {
            tracing::info!("admin socket at {address}");
        }
        let mut admin = Admin { address, stop: None, thread: None };
        let socket = socket.map(|(_, socket)| socket);
        if socket.is_none() && asked.is_empty() {
            return admin;
        }
        let desk = Arc::new(Desk {
            remote: opening.remote,
            wishes: opening.wishes,
            waits_until: opening.waits_until,
            started: Instant::now(),
            readers: Arc::new(Semaphore::new(feed::READERS_MAX)),
            scrapers: Arc::new(Semaphore::new(feed::SCRAPES_MAX)),
        });
        let (stop, stopped) = oneshot::channel();
        // Here and not on its thread: whatever it takes of the process is taken when this returns.
        let runtime = serve::runtime();
        let thread = runtime.and_then(|runtime| {
            let body = move || serve::run(runtime, socket, asked, &desk, stopped);
            std::thread::Builder::new().name("admin".into()).spawn(body)
        });
        match thread {
            Ok(thread) => (admin.stop, admin.thread) = (Some(stop), Some(thread)),
            Err(error) => tracing::warn!("nobody can speak to this process: {error}"),
        }
        admin
    }
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
