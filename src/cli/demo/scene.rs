//! The whole demo while it runs: backends, proxy and clients, what can be done to them, and how they stand.
//! It neither draws nor waits; whoever shows it asks for a reading now and then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backends::Backends;
use super::chronicle::{Chronicle, Event, REMOVED, Tone};
use super::crowd::RATES;
use super::folder::Folder;
use super::operators::Operators;
use super::requests::{Answers, Requests};
use super::setup::{BACKENDS, LISTEN, LISTEN_HTTP, Setup, UPSTREAM, bind_near, local};
use super::traffic::{Traffic, Visits};
use crate::config::Balance;
use crate::{BackendCounts, Running};

/// The ways to balance, in the order in which they are gone through.
const BALANCES: [&str; 7] = [
    "round-robin",
    "random",
    "least-connections",
    "power-of-two",
    "least-latency",
    "first",
    "hash",
];
/// Which of `RATES` it begins with.
const FIRST_RATE: usize = 2;

/// Everything that runs. Fields are dropped in this order: those who connect go before those they connect to.
pub(super) struct Scene {
    operators: Operators,
    traffic: Traffic,
    requests: Requests,
    running: Arc<Running>,
    backends: Backends,
    folder: Folder,
    setup: Setup,
    try_out: Vec<String>,
    chronicle: Chronicle,
    news: Vec<Event>,
    started: Instant,
    rate: usize,
    paused: bool,
}

/// How everything stands at one moment.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) now: Duration,
    pub(super) listen: SocketAddr,
    pub(super) listen_http: SocketAddr,
    pub(super) balance: String,
    pub(super) per_second: u32,
    pub(super) paused: bool,
    pub(super) visits: Visits,
    pub(super) answers: Answers,
    /// HTTP requests a second by the first digit of their status, from 1xx on.
    pub(super) statuses: [f64; 5],
    /// Open client connections.
    pub(super) open: u64,
    /// Reasons of ended connections, those that occurred.
    pub(super) ends: Vec<(&'static str, u64)>,
    pub(super) backends: Vec<BackendView>,
    pub(super) toml: String,
    /// The dashboard as a link, with its token.
    pub(super) dashboard: String,
    pub(super) try_out: Vec<String>,
}

/// How one backend stands.
#[derive(Debug, Clone)]
pub(super) struct BackendView {
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    pub(super) tone: Tone,
    pub(super) state: String,
    pub(super) open: u32,
    pub(super) connections: u64,
    pub(super) failures: u64,
    /// New connections a second.
    pub(super) rate: f64,
    /// HTTP requests so far, and a second.
    pub(super) requests: u64,
    pub(super) requests_rate: f64,
    /// Its part of all new connections, from 0 to 1.
    pub(super) share: f64,
}

impl Scene {
    /// Starts backends, proxy and clients, in this order. When it fails, nothing stays open.
    pub(super) fn start() -> Result<Scene, Box<dyn std::error::Error>> {
        let folder = Folder::make()?;
        let (mut sockets, mut addresses, mut news) = (Vec::new(), Vec::new(), Vec::new());
        for (name, usual) in BACKENDS {
            let socket = bind_near(usual)?;
            let address = socket.local_addr()?;
            news.extend(replaced(name, usual, address));
            addresses.push(address);
            sockets.push((name, socket));
        }
        let backends = Backends::start(sockets)?;
        let balance = Balance::RoundRobin;
        let (listen, listen_http) = (local(LISTEN), local(LISTEN_HTTP));
        let place = folder.path().to_owned();
        let mut setup = Setup { listen, listen_http, backends: addresses, balance, folder: place };
        let running = Arc::new(setup.start_near()?);
        folder.write_config(&setup.file())?;
        let operators = Operators::serve(&folder.config_file(), Arc::clone(&running))?;
        news.extend(replaced("the load balancer", LISTEN, setup.listen));
        news.extend(replaced("its HTTP listener", LISTEN_HTTP, setup.listen_http));
        Ok(Scene {
            operators,
            traffic: Traffic::start(setup.listen, RATES[FIRST_RATE])?,
            requests: Requests::start(setup.listen_http, RATES[FIRST_RATE])?,
            running,
            backends,
            folder,
            try_out: setup.try_out(),
            setup,
            chronicle: Chronicle::default(),
            news,
            started: Instant::now(),
            rate: FIRST_RATE,
            paused: false,
        })
    }

    /// Takes a reading; what happened since the last one.
    pub(super) fn look(&mut self) -> Vec<Event> {
        let now = self.now();
        for text in self.backends.troubles() {
            self.news.push(Event { at: now, tone: Tone::Bad, text });
        }
        let names = BACKENDS.map(|(name, _)| name);
        let (backends, counts) = (self.readings(), self.running.counts());
        self.news.extend(self.chronicle.note(now, &names, &backends, &counts));
        std::mem::take(&mut self.news)
    }

    /// How everything stands.
    pub(super) fn view(&self) -> View {
        let (counts, readings) = (self.running.counts(), self.readings());
        let now = self.now();
        let rates = self.chronicle.rates();
        let sum: f64 = rates.connections.iter().sum();
        let on = self.backends.on();
        let backend = |(index, reading): (usize, &BackendCounts)| {
            let (tone, state) = self.chronicle.state(index, on[index], now);
            let of = |rates: &[f64]| rates.get(index).copied().unwrap_or_default();
            let rate = of(&rates.connections);
            BackendView {
                name: BACKENDS[index].0,
                address: self.setup.backends[index],
                tone,
                state,
                open: reading.open,
                connections: reading.connections,
                failures: reading.failures,
                rate,
                requests: reading.requests,
                requests_rate: of(&rates.requests),
                share: if sum > 0.0 { rate / sum } else { 0.0 },
            }
        };
        let ended = counts.ended.iter().filter(|(_, count)| *count > 0);
        View {
            now,
            listen: self.setup.listen,
            listen_http: self.setup.listen_http,
            balance: self.balance(),
            per_second: RATES[self.rate],
            paused: self.paused,
            visits: self.traffic.visits(),
            answers: self.requests.answers(),
            statuses: rates.statuses,
            open: counts.open,
            ends: ended.map(|(why, count)| (why.as_str(), *count)).collect(),
            backends: readings.iter().enumerate().map(backend).collect(),
            toml: self.setup.toml(),
            dashboard: format!(
                "http://{}/#token={}",
                self.operators.dashboard(),
                self.folder.token()
            ),
            try_out: self.try_out.clone(),
        }
    }

    /// How the backends of the demo stand, in their order: an operator may have added others, or removed one of them.
    fn readings(&self) -> Vec<BackendCounts> {
        let known = self.running.backends();
        let of = |address: &SocketAddr| {
            let address = address.to_string();
            let is_it = |one: &&BackendCounts| one.upstream == UPSTREAM && one.address == address;
            known.iter().find(is_it).cloned().unwrap_or_else(|| BackendCounts {
                upstream: UPSTREAM.into(),
                address,
                weight: 0,
                state: REMOVED,
                said: None,
                open: 0,
                connections: 0,
                failures: 0,
                requests: 0,
            })
        };
        self.setup.backends.iter().map(of).collect()
    }

    /// The way to balance that is in force; an operator may have changed it.
    fn balance(&self) -> String {
        let config = self.operators.config();
        config.upstream.get(UPSTREAM).map_or_else(String::new, |all| all.balance.to_string())
    }

    /// Whether an operator has ended it all.
    pub(super) fn is_stopped(&self) -> bool {
        self.operators.is_stopped()
    }

    /// Time since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Stops a backend that serves, starts one that does not.
    pub(super) fn toggle(&mut self, index: usize) {
        let on = !self.backends.on()[index];
        self.backends.switch(index, on);
        let name = BACKENDS[index].0;
        self.tell(format!("{name} was {}", if on { "started" } else { "stopped" }));
    }

    /// More or fewer clients, by one step.
    pub(super) fn change_rate(&mut self, more: bool) {
        let last = RATES.len() - 1;
        self.rate = if more { (self.rate + 1).min(last) } else { self.rate.saturating_sub(1) };
        self.paused = false;
        self.set_rate(RATES[self.rate]);
    }

    fn set_rate(&self, per_second: u32) {
        self.traffic.set_rate(per_second);
        self.requests.set_rate(per_second);
    }

    /// Lets clients come no more, or again.
    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
        self.set_rate(if self.paused { 0 } else { RATES[self.rate] });
        self.tell(if self.paused { "no new clients" } else { "clients come again" }.into());
    }

    /// Goes on to the next way to balance, as anybody would: by a change of the file and a reload.
    pub(super) fn rebalance(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let now = self.balance();
        // An operator may have chosen another one.
        let next = BALANCES.iter().position(|name| *name == now).map_or(0, |at| at + 1);
        self.setup.balance = BALANCES[next % BALANCES.len()].parse()?;
        self.folder.write_config(&self.setup.file())?;
        self.operators.read_again();
        self.tell(match self.balance() {
            balance if balance == self.setup.balance.to_string() => {
                format!("reloaded with {balance}")
            }
            balance => format!("the reload was refused; it stays with {balance}"),
        });
        Ok(())
    }

    fn tell(&mut self, text: String) {
        let at = self.now();
        self.news.push(Event { at, tone: Tone::Neutral, text });
    }
}

fn replaced(who: &str, usual: u16, address: SocketAddr) -> Option<Event> {
    let text = format!("port {usual} is taken: {who} listens on {address}");
    let event = Event { at: Duration::ZERO, tone: Tone::Uneasy, text };
    (address.port() != usual).then_some(event)
}
