//! Sockets and epoll as every measure uses them: connect, watch, wait.
//! A thin layer over rustix that holds no state of a measure.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// First byte of a connection: what the server shall do with it.
pub const ECHO: u8 = b'e';
pub const DISCARD: u8 = b'd';
pub const SOURCE: u8 = b's';
pub const BOTH: u8 = b'b';

/// Events taken from the kernel at a time.
const BATCH: usize = 256;

/// An epoll descriptor and room for its events.
pub struct Watch {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Watch {
    pub fn new() -> io::Result<Watch> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let nothing =
            epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
        Ok(Watch { epoll, events: vec![nothing; BATCH] })
    }

    pub fn add(&self, what: impl AsFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, what, epoll::EventData::new_u64(token), flags)?)
    }

    pub fn modify(&self, what: impl AsFd, token: u64, flags: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.epoll, what, epoll::EventData::new_u64(token), flags)?)
    }

    /// Waits for events, at most `limit`, and returns how many there are to `take`.
    pub fn wait(&mut self, limit: Duration) -> io::Result<usize> {
        let limit =
            Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
        match epoll::wait(&self.epoll, self.events.as_mut_slice(), Some(&limit)) {
            Ok(ready) => Ok(ready),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    pub fn take(&self, index: usize) -> (u64, epoll::EventFlags) {
        let event = self.events[index];
        (event.data.u64(), event.flags)
    }
}

/// Connects, waits for it, and returns a socket that no longer waits.
pub fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .map_err(|error| io::Error::new(error.kind(), format!("connect to {to}: {error}")))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// `None` when the call would have waited; an error names who it was about.
pub fn ready<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// The other side closed a connection that should have stayed.
pub fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed a connection")
}
