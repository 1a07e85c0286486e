//! Connecting to a backend: pick, connect within the time allowed, try another one while nothing has been sent.
//! A lack of our own never counts against a backend, and a backend that was tried is not tried again.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use tokio::time::Instant;

use super::queue::NoPlace;
use super::{Affinity, Backend, BackendAddress, InFlight, Upstream};
use crate::observe::ended::Why;
use crate::socket::{Socket, own_lack};

/// A backend's socket, the place it takes and how it came about.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) socket: Socket,
    pub(crate) place: InFlight,
    pub(crate) efforts: Efforts,
}

/// What finding a backend took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Efforts {
    /// Waiting for a place, when any waiting was needed.
    pub(crate) queue: Option<Duration>,
    /// Connecting, failed tries included.
    pub(crate) connect: Option<Duration>,
    /// Connecting to the one that was found, when it was not connected already.
    pub(crate) connected_in: Option<Duration>,
    /// Backends tried.
    pub(crate) tried: u32,
}

/// No backend could be connected.
#[derive(Debug)]
pub(crate) struct ConnectFailed {
    pub(crate) why: Why,
    /// Step and culprit of the last try: `connect to 10.0.0.2:80: refused after 0.3 ms`.
    pub(crate) detail: Option<String>,
    /// The backend of the last try.
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) efforts: Efforts,
}

/// A way to a backend: one that was kept open, or a fresh one.
#[derive(Debug)]
pub(crate) enum Way<T> {
    Kept(T),
    Fresh(Socket),
}

impl ConnectFailed {
    /// A backend that was connected to, and could not even be told for whom.
    pub(crate) fn untold(place: &InFlight, efforts: Efforts, error: &io::Error) -> ConnectFailed {
        place.upstream.note_traffic(&place.backend, false);
        let detail = Some(format!("PROXY header to {}: {error}", place.backend.name));
        let backend = Some(Arc::clone(&place.backend.name));
        ConnectFailed { why: Why::ConnectUnreachable, detail, backend, efforts }
    }
}

impl Upstream {
    /// Finds a backend that takes a connection. `key` decides for hashing algorithms.
    pub(crate) async fn connect(self: &Arc<Self>, key: u64) -> Result<Connected, ConnectFailed> {
        let (mut tried, mut efforts) = (Vec::new(), Efforts::default());
        let affinity = Affinity { key, session: None };
        match self.reach(affinity, None, &mut tried, &mut efforts, |_| None::<Socket>).await? {
            (Way::Kept(socket) | Way::Fresh(socket), place) => {
                // Of a stream of bytes, nobody knows where an answer begins.
                place.backend.answered(self.now(), efforts.connected_in.unwrap_or_default());
                Ok(Connected { socket, place, efforts })
            }
        }
    }

    /// Picks a backend and takes what `kept` has for it, or connects; tries others while connecting fails.
    /// `first` is a place that has been taken already. Backends in `tried` are passed over, and those that fail are added, so that a caller may come again.
    pub(crate) async fn reach<T>(
        self: &Arc<Self>,
        affinity: Affinity,
        mut first: Option<InFlight>,
        tried: &mut Vec<Arc<Backend>>,
        efforts: &mut Efforts,
        mut kept: impl FnMut(&Arc<Backend>) -> Option<T>,
    ) -> Result<(Way<T>, InFlight), ConnectFailed> {
        let mut last: Option<ConnectFailed> = None;
        loop {
            let place = match first.take() {
                Some(place) => Ok(place),
                None => self.place_at(affinity, tried, efforts).await,
            };
            let place = match place {
                Ok(place) => place,
                Err(no_place) => {
                    return Err(last.unwrap_or_else(|| without_place(no_place, *efforts)));
                }
            };
            efforts.tried += 1;
            if let Some(kept) = kept(&place.backend) {
                return Ok((Way::Kept(kept), place));
            }
            let began = Instant::now();
            let outcome = self.connect_once(&place.backend.address).await;
            let took = began.elapsed();
            efforts.connect = Some(efforts.connect.unwrap_or_default() + took);
            match outcome {
                Ok(socket) => {
                    place.backend.connected(self.now());
                    efforts.connected_in = Some(took);
                    return Ok((Way::Fresh(socket), place));
                }
                Err(error) => {
                    let failed = self.note_failure(&place, &error, took, *efforts);
                    tried.push(Arc::clone(&place.backend));
                    if tried.len() as u32 > self.rules.retries {
                        return Err(failed);
                    }
                    last = Some(failed);
                }
            }
        }
    }

    /// A place at a backend; waiting for it is noted when there was any.
    async fn place_at(
        self: &Arc<Self>,
        affinity: Affinity,
        tried: &[Arc<Backend>],
        efforts: &mut Efforts,
    ) -> Result<InFlight, NoPlace> {
        let asked = Instant::now();
        let outcome = self.place(affinity, tried).await;
        let waited = asked.elapsed();
        if waited > Duration::from_micros(100) {
            efforts.queue = Some(efforts.queue.unwrap_or_default() + waited);
        }
        outcome
    }

    fn note_failure(
        &self,
        place: &InFlight,
        error: &io::Error,
        took: Duration,
        efforts: Efforts,
    ) -> ConnectFailed {
        let why = match error.kind() {
            _ if own_lack(error).is_some() => Why::OutOfResources,
            io::ErrorKind::TimedOut => Why::ConnectTimeout,
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Why::ConnectRefused,
            _ => Why::ConnectUnreachable,
        };
        if why == Why::OutOfResources && self.may_complain() {
            tracing::error!(upstream = %self.rules.name, backend = %place.backend.name, "connect: {error}: out of descriptors, memory or source ports; raise `ulimit -n` or add `source` addresses");
        } else if why != Why::OutOfResources {
            place.backend.failed();
            self.note_traffic(&place.backend, false);
        }
        let millis = took.as_secs_f64() * 1000.0;
        let detail =
            Some(format!("connect to {}: {error} after {millis:.1} ms", place.backend.name));
        ConnectFailed { why, detail, backend: Some(Arc::clone(&place.backend.name)), efforts }
    }

    async fn connect_once(&self, to: &BackendAddress) -> io::Result<Socket> {
        let until = Instant::now() + self.rules.connect_timeout;
        match tokio::time::timeout_at(until, self.open(to)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
        }
    }

    async fn open(&self, to: &BackendAddress) -> io::Result<Socket> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match to {
            BackendAddress::Ip(address) => {
                let family =
                    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let fd = socket_with(family, SocketType::STREAM, flags, None)?;
                self.rules.options.apply(fd.as_fd())?;
                if let Some(source) = self.next_source(*address) {
                    evenkeel_sys::bind_address_no_port(&fd)?;
                    bind(&fd, &std::net::SocketAddr::from((source, 0)))?;
                }
                let started = connect(&fd, address);
                in_progress(started)?;
                let socket = Socket::adopt(fd)?;
                socket.connected().await?;
                Ok(socket)
            }
            BackendAddress::Unix(path) => {
                let address = rustix::net::SocketAddrUnix::new(path.as_path())?;
                loop {
                    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                    match connect(&fd, &address) {
                        // Its queue is full (unix(7)); there is no event to wait for.
                        Err(rustix::io::Errno::AGAIN) => {
                            tokio::time::sleep(Duration::from_millis(5)).await
                        }
                        outcome => {
                            outcome?;
                            return Socket::adopt(fd);
                        }
                    }
                }
            }
        }
    }
}

fn in_progress(started: rustix::io::Result<()>) -> io::Result<()> {
    match started {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn without_place(no_place: NoPlace, efforts: Efforts) -> ConnectFailed {
    let why = match no_place {
        NoPlace::NobodyLeft => Why::NoBackend,
        NoPlace::QueueFull => Why::QueueFull,
        NoPlace::QueueTimeout => Why::QueueTimeout,
    };
    ConnectFailed { why, detail: None, backend: None, efforts }
}
