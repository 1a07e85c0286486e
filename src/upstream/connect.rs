//! Connecting to a backend: pick, connect within the time allowed, try another one while nothing has been sent.
//! A lack of our own never counts against a backend, and a backend that was tried is not tried again.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::queue::NoPlace;
use super::{Affinity, Backend, BackendAddress, InFlight, Upstream};
use crate::link::Link;
use crate::observe::ended::Why;
use crate::socket::{Socket, own_lack};

/// A backend's socket, the place it takes and how it came about.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) link: Link,
    pub(crate) place: InFlight,
    pub(crate) efforts: Efforts,
}

/// What finding a backend took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
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
    Fresh(Link),
}

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) affinity: Affinity,
    /// What a backend wants to hear first on a fresh connection.
    pub(crate) told: Option<&'a [u8]>,
    /// Whose it is.
    pub(crate) client: Option<IpAddr>,
}

/// Why a backend could not be connected to, by the step that failed.
#[derive(Debug)]
enum Failed {
    Connect(io::Error),
    /// We may not come from the client's address.
    Source(io::Error),
    /// It could not even be told for whom.
    Tell(io::Error),
    Handshake(io::Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Connect(error)
    }
}

impl From<rustix::io::Errno> for Failed {
    fn from(error: rustix::io::Errno) -> Failed {
        Failed::Connect(error.into())
    }
}

impl Failed {
    fn step(&self) -> &'static str {
        match self {
            Failed::Connect(_) => "connect to",
            Failed::Source(_) => "come from the client's address (CAP_NET_ADMIN) to",
            Failed::Tell(_) => "PROXY header to",
            Failed::Handshake(_) => "TLS with",
        }
    }

    fn cause(&self) -> &io::Error {
        match self {
            Failed::Connect(error)
            | Failed::Source(error)
            | Failed::Tell(error)
            | Failed::Handshake(error) => error,
        }
    }
}

impl Upstream {
    /// Finds a backend that takes a connection.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        call: Call<'_>,
    ) -> Result<Connected, ConnectFailed> {
        let (mut tried, mut efforts) = (Vec::new(), Efforts::default());
        match self.reach(call, None, &mut tried, &mut efforts, |_| None::<Link>).await? {
            (Way::Kept(link) | Way::Fresh(link), place) => {
                // Of a stream of bytes, nobody knows where an answer begins.
                place.backend.answered(self.now(), efforts.connected_in.unwrap_or_default());
                Ok(Connected { link, place, efforts })
            }
        }
    }

    /// Picks a backend and takes what `kept` has for it, or connects; tries others while connecting fails.
    /// `first` is a place that has been taken already. Backends in `tried` are passed over, and those that fail are added, so that a caller may come again.
    pub(crate) async fn reach<T>(
        self: &Arc<Self>,
        call: Call<'_>,
        mut first: Option<InFlight>,
        tried: &mut Vec<Arc<Backend>>,
        efforts: &mut Efforts,
        mut kept: impl FnMut(&Arc<Backend>) -> Option<T>,
    ) -> Result<(Way<T>, InFlight), ConnectFailed> {
        let mut last: Option<ConnectFailed> = None;
        loop {
            let place = match first.take() {
                Some(place) => Ok(place),
                None => self.place(call.affinity, tried, &mut efforts.queue).await,
            };
            let place = match place {
                Ok(place) => place,
                Err(no_place) => {
                    return Err(last.unwrap_or_else(|| without_place(no_place, *efforts)));
                }
            };
            efforts.tried += 1;
            if last.is_some() {
                self.note_retry();
            }
            if let Some(kept) = kept(&place.backend) {
                return Ok((Way::Kept(kept), place));
            }
            let began = Instant::now();
            // Who has waited may have got a place by a newer config, and then goes by that.
            let outcome = place.upstream.connect_once(&place.backend, call).await;
            let took = began.elapsed();
            efforts.connect = Some(efforts.connect.unwrap_or_default() + took);
            match outcome {
                Ok(link) => {
                    place.backend.connected(self.now(), took);
                    efforts.connected_in = Some(took);
                    return Ok((Way::Fresh(link), place));
                }
                Err(failed) => {
                    let upstream = &place.upstream;
                    let failed = upstream.note_failure(&place.backend, &failed, took, *efforts);
                    tried.push(Arc::clone(&place.backend));
                    if tried.len() as u32 > self.rules.retries {
                        return Err(failed);
                    }
                    last = Some(failed);
                }
            }
        }
    }

    /// Connects to this backend and no other, and notes how that went.
    pub(crate) async fn connect_to(
        &self,
        backend: &Backend,
        call: Call<'_>,
    ) -> Result<Link, ConnectFailed> {
        let began = Instant::now();
        let outcome = self.connect_once(backend, call).await;
        if outcome.is_ok() {
            backend.connected(self.now(), began.elapsed());
        }
        outcome.map_err(|failed| {
            self.note_failure(backend, &failed, began.elapsed(), Efforts::default())
        })
    }

    fn note_failure(
        &self,
        backend: &Backend,
        failed: &Failed,
        took: Duration,
        efforts: Efforts,
    ) -> ConnectFailed {
        let error = failed.cause();
        let why = match error.kind() {
            _ if own_lack(error).is_some() || matches!(failed, Failed::Source(_)) => {
                Why::OutOfResources
            }
            _ if matches!(failed, Failed::Handshake(_)) => Why::BackendTls,
            io::ErrorKind::TimedOut => Why::ConnectTimeout,
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Why::ConnectRefused,
            _ => Why::ConnectUnreachable,
        };
        if why == Why::OutOfResources && self.may_complain() {
            tracing::error!(upstream = %self.rules.name, backend = %backend.name, "connect: {error}: out of descriptors, memory or source ports; raise `ulimit -n` or add `source` addresses");
        } else if why != Why::OutOfResources {
            backend.failed(why);
            self.note_traffic(backend, false);
        }
        let millis = took.as_secs_f64() * 1000.0;
        let (step, name) = (failed.step(), &backend.name);
        let detail = Some(format!("{step} {name}: {error} after {millis:.1} ms"));
        ConnectFailed { why, detail, backend: Some(Arc::clone(&backend.name)), efforts }
    }

    /// Connects, says for whom, and goes through the handshake, all in the time that connecting may take.
    async fn connect_once(&self, to: &Backend, call: Call<'_>) -> Result<Link, Failed> {
        let until = Instant::now() + self.rules.connect_timeout;
        let opened = async {
            let socket = self.open(&to.address, call.client).await?;
            if let Some(told) = call.told {
                socket.send_first(told).map_err(Failed::Tell)?;
            }
            match &self.tls {
                None => Ok(Link::Plain(socket)),
                // Boxed, so that connecting in clear does not carry the room for it.
                Some(tls) => {
                    Box::pin(tls.secure(socket, to.host())).await.map_err(Failed::Handshake)
                }
            }
        };
        match tokio::time::timeout_at(until, opened).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failed::Connect(io::Error::new(io::ErrorKind::TimedOut, "no answer"))),
        }
    }

    /// A connection to a backend, from the client's own address where that is asked for.
    async fn open(&self, to: &BackendAddress, client: Option<IpAddr>) -> Result<Socket, Failed> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match to {
            BackendAddress::Ip(address) => {
                let family =
                    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let fd = socket_with(family, SocketType::STREAM, flags, None)?;
                self.rules.options.apply(fd.as_fd())?;
                let client = client.map(|client| client.to_canonical());
                let client = client.filter(|client| client.is_ipv4() == address.is_ipv4());
                if let Some(client) = client.filter(|_| self.rules.transparent) {
                    evenkeel_sys::allow_foreign_source(&fd, client.is_ipv4())
                        .map_err(Failed::Source)?;
                    evenkeel_sys::bind_address_no_port(&fd)?;
                    bind(&fd, &std::net::SocketAddr::from((client, 0)))?;
                } else if let Some(source) = self.next_source(*address) {
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
                            return Ok(Socket::adopt(fd)?);
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
