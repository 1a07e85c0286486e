//! Listening sockets: bind them, one for each worker, and accept from them, backing off when we lack descriptors.
//! It must never decide who may come in; that is the door's part.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{SocketAddrAny, SocketFlags, acceptfrom_with};
use socket2::{Domain, SockAddr, Socket as PlainSocket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::config::Address;
use crate::keeper;
use crate::observe::ended::ClientAddress;
use crate::socket::{OwnLack, SocketOptions, own_lack};

/// Connections accepted in one turn before established ones get theirs.
const ACCEPTS_PER_TURN: usize = 32;

/// Connections taken from the kernel's queue when accepting ends; new ones may come as fast as they are taken.
const QUEUED_MAX: usize = 65_536;

/// The first and the longest pause when accepting failed for lack of descriptors or memory.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

/// Addresses of one listener and how to open them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) addresses: Vec<Address>,
    pub(crate) backlog: u32,
    pub(crate) options: SocketOptions,
}

/// One bound address, with a socket for each worker.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: BoundAddress,
    pub(crate) sockets: Vec<OwnedFd>,
    /// The same sockets, to be changed while workers accept from them.
    pub(crate) handles: Vec<OwnedFd>,
}

impl Bound {
    fn new(address: BoundAddress, sockets: Vec<PlainSocket>) -> io::Result<Bound> {
        let handles = sockets.iter().map(|socket| socket.try_clone().map(OwnedFd::from));
        let handles = handles.collect::<io::Result<_>>()?;
        Ok(Bound { address, sockets: sockets.into_iter().map(OwnedFd::from).collect(), handles })
    }
}

impl Settings {
    /// Has sockets that listen already go by these settings; connections that are accepted later have the options too.
    pub(crate) fn apply(&self, handles: &[OwnedFd]) -> io::Result<()> {
        for handle in handles {
            // Those of TCP alone fail on a Unix socket, which has none.
            if rustix::net::sockopt::socket_domain(handle)? != rustix::net::AddressFamily::UNIX {
                self.options.apply_anew(handle.as_fd())?;
            }
            rustix::net::listen(handle, i32::try_from(self.backlog).unwrap_or(i32::MAX))?;
        }
        Ok(())
    }
}

/// Where a listener really listens, after names and port 0 have been resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BoundAddress {
    Ip(SocketAddr),
    /// With the device and inode of the socket file, by which it is known again; none where it is somebody else's.
    Unix {
        path: PathBuf,
        file: Option<(u64, u64)>,
    },
}

impl BoundAddress {
    /// Its IP address and port, if it has any.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            BoundAddress::Ip(address) => Some(*address),
            BoundAddress::Unix { .. } => None,
        }
    }

    /// As it could stand in a config.
    pub(crate) fn as_written(&self) -> Address {
        match self {
            BoundAddress::Ip(address) => Address::Ip(*address),
            BoundAddress::Unix { path, .. } => Address::Unix(path.clone()),
        }
    }

    /// Whether it is a file that somebody else keeps.
    pub(crate) fn is_lent(&self) -> bool {
        matches!(self, BoundAddress::Unix { file: None, .. })
    }

    /// Removes the file of a Unix socket, unless a successor has put its own in its place.
    pub(crate) fn remove_socket_file(&self) {
        if let BoundAddress::Unix { path, file } = self
            && socket_file(path).is_ok_and(|found| Some(found) == *file)
        {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn socket_file(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Where a socket listens that somebody else has opened, who keeps its file if it is lent. An error for anything else.
pub(crate) fn address_of(fd: &OwnedFd, is_lent: bool) -> io::Result<BoundAddress> {
    let listens = rustix::net::sockopt::socket_acceptconn(fd)?;
    if !listens {
        return Err(io::Error::other("it is no listening socket"));
    }
    let flags = rustix::fs::fcntl_getfl(fd)?;
    rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::NONBLOCK)?;
    let address = rustix::net::getsockname(fd)?;
    if let Ok(ip) = SocketAddr::try_from(address.clone()) {
        return Ok(BoundAddress::Ip(ip));
    }
    let unix = rustix::net::SocketAddrUnix::try_from(address)?;
    let path = unix.path_bytes().ok_or_else(|| io::Error::other("it has no address"))?;
    let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
    let file = if is_lent { None } else { Some(socket_file(&path)?) };
    Ok(BoundAddress::Unix { path, file })
}

impl std::fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BoundAddress::Ip(address) => address.fmt(f),
            BoundAddress::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A failure to open a listening socket, with what to do about it.
#[derive(Debug)]
pub(crate) struct BindError {
    pub(crate) address: String,
    pub(crate) cause: io::Error,
}

impl std::fmt::Display for BindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let advice = match self.cause.kind() {
            io::ErrorKind::AddrInUse => {
                ": another process listens there; stop it (`ss -ltnp` names it) or choose another port"
            }
            io::ErrorKind::PermissionDenied => {
                ": ports below 1024 need root or CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => ": no interface of this machine has that address",
            _ => "",
        };
        write!(f, "listen on {}: {}{advice}", self.address, self.cause)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Opens one address of a listener, with a socket for each of `workers`. What is behind it and is open already, as the first
/// of the questions tells, is left out; the second tells whether we listen on a port already.
pub(crate) fn bind(
    address: &Address,
    settings: &Settings,
    workers: usize,
    open: (impl Fn(&BoundAddress) -> bool, impl Fn(u16) -> bool),
) -> Result<Vec<Bound>, BindError> {
    let mut bound = Vec::new();
    match bind_each(address, settings, workers, &open, &mut bound) {
        Ok(()) => Ok(bound),
        Err(cause) => {
            bound.iter().for_each(|bound| bound.address.remove_socket_file());
            Err(BindError { address: address.to_string(), cause })
        }
    }
}

fn bind_each(
    address: &Address,
    settings: &Settings,
    workers: usize,
    (is_open, is_ours): &(impl Fn(&BoundAddress) -> bool, impl Fn(u16) -> bool),
    bound: &mut Vec<Bound>,
) -> io::Result<()> {
    let mut open = |ip: SocketAddr| {
        if is_open(&BoundAddress::Ip(ip)) {
            return Ok(ip);
        }
        let one = bind_ip(ip, settings, workers, is_ours(ip.port()))?;
        let taken = one.address.ip().unwrap_or(ip);
        bound.push(one);
        Ok(taken)
    };
    match address {
        Address::Unix(path) => {
            bound.push(bind_unix(path, settings, workers)?);
        }
        Address::Ip(ip) => {
            open(*ip)?;
        }
        Address::Name { host, port } => {
            for ip in (host.as_str(), *port).to_socket_addrs()? {
                open(ip)?;
            }
        }
        Address::Port(port) => {
            let taken = open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)))?;
            match open((Ipv6Addr::UNSPECIFIED, taken.port()).into()) {
                Err(error) if !has_no_ipv6(&error) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(())
}

fn has_no_ipv6(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    matches!(code, Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL))
}

fn bind_ip(
    ip: SocketAddr,
    settings: &Settings,
    workers: usize,
    is_ours: bool,
) -> io::Result<Bound> {
    // Without SO_REUSEPORT first: with it, a second instance by the same user would bind the
    // same port unnoticed and take half of the connections. Where we are the first instance, that says nothing.
    let ip = if is_ours {
        ip
    } else {
        let probe = ip_socket(ip, settings)?;
        keeper::bind(&probe, ip)?;
        local_ip(&probe)?
    };
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let socket = ip_socket(ip, settings)?;
        socket.set_reuse_port(true)?;
        keeper::bind(&socket, ip)?;
        sockets.push(socket);
    }
    // All are bound before any listens, so that no connection sees a group that still grows.
    for socket in &sockets {
        socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    }
    Bound::new(BoundAddress::Ip(ip), sockets)
}

fn ip_socket(ip: SocketAddr, settings: &Settings) -> io::Result<PlainSocket> {
    let socket =
        PlainSocket::new(Domain::for_address(ip), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    settings.options.apply(socket.as_fd())?;
    Ok(socket)
}

fn local_ip(socket: &PlainSocket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("the socket has no IP address"))
}

/// One Unix socket serves all workers: Linux has no SO_REUSEPORT for them.
fn bind_unix(path: &Path, settings: &Settings, workers: usize) -> io::Result<Bound> {
    remove_stale_socket(path)?;
    let socket = PlainSocket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(i32::try_from(settings.backlog).unwrap_or(i32::MAX))?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(socket.try_clone()?);
    }
    sockets.push(socket);
    let address = BoundAddress::Unix { path: path.to_owned(), file: Some(socket_file(path)?) };
    Bound::new(address, sockets)
}

/// Removes a socket file that nobody listens on any more; anything else in its place is left alone.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is not a socket is in its place",
        ));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => std::fs::remove_file(path),
    }
}

/// One worker's end of one bound address.
#[derive(Debug)]
pub(crate) struct Acceptor {
    fd: AsyncFd<OwnedFd>,
    name: String,
    pause: Duration,
    complained: Option<Instant>,
}

impl Acceptor {
    /// Registers a socket with the event loop of the worker this is called on.
    pub(crate) fn new(fd: OwnedFd, name: String) -> io::Result<Acceptor> {
        Ok(Acceptor {
            fd: evenkeel_sys::register(fd, Interest::READABLE)?,
            name,
            pause: PAUSE.0,
            complained: None,
        })
    }

    /// Waits for connections and hands each to `take`, for one turn.
    pub(crate) async fn accept(
        &mut self,
        mut take: impl FnMut(OwnedFd, ClientAddress),
    ) -> io::Result<()> {
        let mut ready = self.fd.readable().await?;
        for _ in 0..ACCEPTS_PER_TURN {
            match acceptfrom_with(self.fd.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((fd, from)) => {
                    self.pause = PAUSE.0;
                    take(fd, client_address(from));
                }
                Err(rustix::io::Errno::AGAIN) => {
                    ready.clear_ready();
                    return Ok(());
                }
                Err(error) => return self.back_off(error.into()).await,
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Takes what the kernel has queued already, without waiting: closing the socket would reset it.
    pub(crate) fn accept_queued(&self, mut take: impl FnMut(OwnedFd, ClientAddress)) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        for _ in 0..QUEUED_MAX {
            match acceptfrom_with(self.fd.get_ref(), flags) {
                Ok((fd, from)) => take(fd, client_address(from)),
                // One that died in the queue says nothing about the next.
                Err(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// A connection that died in the queue is skipped; a lack of our own is said and waited out.
    async fn back_off(&mut self, error: io::Error) -> io::Result<()> {
        let Some(lack) = own_lack(&error) else {
            tokio::task::yield_now().await;
            return Ok(());
        };
        if self.complained.is_none_or(|at| at.elapsed() > Duration::from_secs(1)) {
            let what = match lack {
                OwnLack::Descriptors => {
                    "no descriptors left: raise `ulimit -n` (LimitNOFILE=) or lower connections-max"
                }
                OwnLack::Memory | OwnLack::SourcePorts => "no memory for sockets left",
            };
            tracing::error!(listener = %self.name, "accept paused: {error}; {what}");
            self.complained = Some(Instant::now());
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        Ok(())
    }
}

fn client_address(from: Option<SocketAddrAny>) -> ClientAddress {
    match from.and_then(|from| SocketAddr::try_from(from).ok()) {
        Some(address) => ClientAddress::Ip(address),
        None => ClientAddress::Unix,
    }
}
