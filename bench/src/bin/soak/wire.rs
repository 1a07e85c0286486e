//! One client connection through the proxy, with every byte compared and every wait bounded.
//! What goes wrong is reported as a suspect; who is guilty is not decided here.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with};
use rustix::net::{sockopt, sockopt::Timeout};

use crate::access::{self, Millis};
use crate::random::{Bytes, Random};

/// The echo server does what the first byte of a connection says; this one is for echo.
const ECHO: &[u8] = b"e";
const PIECE: usize = 64 * 1024;
/// Far longer than any backend is stopped.
const PATIENCE: Duration = Duration::from_secs(15);
/// Source addresses rotate, so that waiting ports never run out.
const SOURCES: u64 = 200;

/// What a client is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Short,
    Talk,
    Bulk,
    HalfClose,
    Reset,
    Idle,
}

impl Kind {
    pub const ALL: [Kind; 6] =
        [Kind::Short, Kind::Talk, Kind::Bulk, Kind::HalfClose, Kind::Reset, Kind::Idle];

    pub fn title(self) -> &'static str {
        match self {
            Kind::Short => "short",
            Kind::Talk => "long-lived ping-pong",
            Kind::Bulk => "bulk",
            Kind::HalfClose => "half-closing",
            Kind::Reset => "resetting",
            Kind::Idle => "idle",
        }
    }
}

/// How an exchange failed.
#[derive(Clone, Debug)]
pub enum Fault {
    NotConnected(String),
    Wrong(String),
    Cut(String),
    Stalled,
}

impl Fault {
    fn of(error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Fault::Stalled,
            _ => Fault::Cut(error.to_string()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotConnected(why) => write!(f, "could not connect: {why}"),
            Fault::Wrong(what) => write!(f, "wrong bytes: {what}"),
            Fault::Cut(how) => write!(f, "ended early: {how}"),
            Fault::Stalled => f.write_str("nothing passed any more"),
        }
    }
}

/// A connection that did not go as it should.
#[derive(Clone, Debug)]
pub struct Suspect {
    pub kind: Kind,
    pub fault: Fault,
    /// None if it was never connected.
    pub client: Option<SocketAddr>,
    pub opened: Millis,
    pub noticed: Millis,
}

/// What all clients share.
pub struct Shared {
    pub stop: AtomicBool,
    pub listeners: Vec<SocketAddr>,
    pub bytes: Bytes,
    /// Connections open now, and opened so far.
    pub open: AtomicI64,
    pub opened: AtomicU64,
    /// Connections that went as they should, by kind.
    pub served: [AtomicU64; Kind::ALL.len()],
    /// Bytes sent and found right on return.
    pub compared: AtomicU64,
    pub suspects: Mutex<Vec<Suspect>>,
}

impl Shared {
    pub fn new(listeners: Vec<SocketAddr>, seed: u64) -> Shared {
        Shared {
            stop: AtomicBool::new(false),
            listeners,
            bytes: Bytes::new(seed),
            open: AtomicI64::new(0),
            opened: AtomicU64::new(0),
            served: Default::default(),
            compared: AtomicU64::new(0),
            suspects: Mutex::new(Vec::new()),
        }
    }

    pub fn take_suspects(&self) -> Vec<Suspect> {
        self.suspects.lock().map(|mut suspects| std::mem::take(&mut *suspects)).unwrap_or_default()
    }

    fn report(&self, suspect: Suspect) {
        if let Ok(mut suspects) = self.suspects.lock() {
            suspects.push(suspect);
        }
    }
}

/// One connection; leaving it, in whatever way, takes it off the count of open ones.
pub struct Client<'a> {
    shared: &'a Shared,
    kind: Kind,
    stream: TcpStream,
    address: SocketAddr,
    opened: Millis,
    /// Where in the bytes this connection is, in both directions.
    place: u64,
}

impl<'a> Client<'a> {
    /// Connects to one of the listeners; a failure is reported at once.
    pub fn open(shared: &'a Shared, kind: Kind, random: &mut Random) -> Option<Client<'a>> {
        let opened = access::now();
        let to = shared.listeners[random.between(0, shared.listeners.len() as u64) as usize];
        let source = Ipv4Addr::new(127, 0, 2, random.between(1, SOURCES) as u8);
        match dial(SocketAddr::from((source, 0)), to) {
            Ok((stream, address)) => {
                shared.open.fetch_add(1, Relaxed);
                shared.opened.fetch_add(1, Relaxed);
                Some(Client { shared, kind, stream, address, opened, place: random.next() >> 1 })
            }
            Err(error) => {
                let fault = Fault::NotConnected(error.to_string());
                let noticed = access::now();
                shared.report(Suspect { kind, fault, client: None, opened, noticed });
                None
            }
        }
    }

    /// Makes the server echo; has to come first, once.
    pub fn greet(&mut self) -> Result<(), Fault> {
        self.stream.write_all(ECHO).map_err(|error| Fault::of(&error))?;
        let mut answer = [0];
        self.stream.read_exact(&mut answer).map_err(|error| Fault::of(&error))?;
        if answer == ECHO { Ok(()) } else { Err(Fault::Wrong(format!("greeting {answer:?}"))) }
    }

    /// Sends so much, and only then reads it back: for what fits the buffers on the way.
    pub fn message(&mut self, size: usize) -> Result<(), Fault> {
        self.send(size).map_err(|error| Fault::of(&error))?;
        self.read_back(size as u64, Duration::ZERO)
    }

    /// Sends so much without waiting for any of it.
    pub fn send(&self, size: usize) -> io::Result<()> {
        send(&self.stream, &self.shared.bytes, self.place, size)
    }

    /// Sends and reads at the same time, reading after `late`; `half_close` says after the last
    /// byte that there is no more, and then waits for the other side to say the same.
    pub fn transfer(&mut self, size: usize, late: Duration, half_close: bool) -> Result<(), Fault> {
        let stream = self.stream.try_clone().map_err(|error| Fault::of(&error))?;
        let (bytes, place) = (&self.shared.bytes, self.place);
        let (written, read) = std::thread::scope(|scope| {
            let writing = scope.spawn(move || {
                send(&stream, bytes, place, size)?;
                if half_close { stream.shutdown(Shutdown::Write) } else { Ok(()) }
            });
            let read = self.read_back(size as u64, late);
            if read.is_err() {
                // Sets the writer free; nobody reads any more.
                let _ = self.stream.shutdown(Shutdown::Both);
            }
            (writing.join(), read)
        });
        read?;
        written.unwrap_or(Ok(())).map_err(|error| Fault::of(&error))?;
        if half_close { self.expect_end() } else { Ok(()) }
    }

    /// Counts how it ended, and ends it.
    pub fn leave(self, outcome: Result<(), Fault>) {
        match outcome {
            Ok(()) => {
                self.shared.served[self.kind as usize].fetch_add(1, Relaxed);
            }
            Err(fault) => self.shared.report(Suspect {
                kind: self.kind,
                fault,
                client: Some(self.address),
                opened: self.opened,
                noticed: access::now(),
            }),
        }
    }

    /// The next close resets the connection.
    pub fn leave_by_reset(self) {
        if sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).is_ok() {
            self.leave(Ok(()));
        }
    }

    fn read_back(&mut self, size: u64, late: Duration) -> Result<(), Fault> {
        std::thread::sleep(late);
        let mut scratch = vec![0; PIECE.min(size as usize)];
        let mut left = size;
        while left > 0 {
            let most = scratch.len().min(left as usize);
            let count = match self.stream.read(&mut scratch[..most]) {
                Ok(0) => return Err(Fault::Cut(format!("{left} of {size} bytes did not come"))),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::of(&error)),
            };
            if !self.shared.bytes.matches(self.place, &scratch[..count]) {
                return Err(Fault::Wrong(format!("within {count} bytes, {left} of {size} left")));
            }
            self.place += count as u64;
            left -= count as u64;
            self.shared.compared.fetch_add(count as u64, Relaxed);
        }
        Ok(())
    }

    fn expect_end(&mut self) -> Result<(), Fault> {
        match self.stream.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Fault::Wrong("bytes after the last one".to_owned())),
            Err(error) => Err(Fault::of(&error)),
        }
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Relaxed);
    }
}

fn send(mut stream: &TcpStream, bytes: &Bytes, place: u64, size: usize) -> io::Result<()> {
    let mut sent = 0;
    while sent < size {
        let piece = bytes.piece(place + sent as u64, PIECE.min(size - sent));
        stream.write_all(piece)?;
        sent += piece.len();
    }
    Ok(())
}

/// Connects from this address; also connecting waits no longer than patience lasts.
fn dial(from: SocketAddr, to: SocketAddr) -> io::Result<(TcpStream, SocketAddr)> {
    let tcp = Some(ipproto::TCP);
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, tcp)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    bind(&socket, &from)?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    let address = stream.local_addr()?;
    Ok((stream, address))
}
