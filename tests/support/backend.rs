//! Backends, well and badly behaved, each on a loopback address of its own with a port the kernel chose.
//! An address of its own means that a stopped backend's place is not taken by anybody else meanwhile.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

/// A server with a thread for each connection; it stops listening when dropped.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Serves each connection with `serve`, whose errors only end that connection.
    pub(crate) fn serving(
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Backend {
        Backend::serving_at(SocketAddr::new(fresh_loopback(), 0), serve)
    }

    /// The same at a given address: the port of a stopped backend, or port 0 of its address.
    pub(crate) fn serving_at(
        address: SocketAddr,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Backend {
        Backend::on(TcpListener::bind(address).expect("bind a backend"), serve)
    }

    fn on(
        listener: TcpListener,
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Backend {
        let address = listener.local_addr().expect("a bound address");
        let (accepted, stopping) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop, serve) = (Arc::clone(&accepted), Arc::clone(&stopping), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                count.fetch_add(1, SeqCst);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Backend { address, accepted, stopping, thread: Some(thread) }
    }

    /// Gives back what it gets, and ends when the client has ended.
    pub(crate) fn echo() -> Backend {
        Backend::serving(echo)
    }

    /// Says its name as one line, then listens until the client ends.
    pub(crate) fn named(name: &'static str) -> Backend {
        Backend::serving(move |stream| say_name(stream, name))
    }

    /// The same at the address of a backend that was stopped.
    pub(crate) fn named_at(address: SocketAddr, name: &'static str) -> Backend {
        Backend::serving_at(address, move |stream| say_name(stream, name))
    }

    /// Accepts and never reads, with a small receive buffer, until it is dropped.
    pub(crate) fn never_reading() -> Backend {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(65_536).expect("SO_RCVBUF");
        socket.bind(&SockAddr::from(SocketAddr::new(fresh_loopback(), 0))).expect("bind a backend");
        socket.listen(128).expect("listen");
        let held = Mutex::new(Vec::new());
        Backend::on(socket.into(), move |stream| {
            held.lock().expect("no panic").push(stream);
            Ok(())
        })
    }

    /// Accepts and resets at once.
    pub(crate) fn resetting() -> Backend {
        Backend::serving(|stream| {
            super::client::reset(stream);
            Ok(())
        })
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// Stops listening; connections that are open go on.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.close();
        self.address
    }

    fn close(&mut self) {
        self.stopping.store(true, SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.close();
        }
    }
}

/// Gives back what comes, to its end.
pub(crate) fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut chunk = [0; 16_384];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Write);
        }
        stream.write_all(&chunk[..count])?;
    }
}

fn say_name(mut stream: TcpStream, name: &str) -> io::Result<()> {
    writeln!(stream, "{name}")?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

/// A loopback address that nothing else in this process uses.
pub(crate) fn fresh_loopback() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, SeqCst);
    // Another run at the same time most likely has another range.
    let range = 64 + (std::process::id() % 64) as u8;
    IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, range, 0, 2).to_bits() + next))
}

/// An address where nobody listens: connecting is refused.
pub(crate) fn dead() -> SocketAddr {
    let listener = TcpListener::bind(SocketAddr::new(fresh_loopback(), 0)).expect("bind");
    listener.local_addr().expect("a bound address")
}

/// An address that answers no connection attempt: its queue is full and nobody accepts.
pub(crate) struct BlackHole {
    pub(crate) address: SocketAddr,
    _listener: Socket,
    _fill: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn open() -> BlackHole {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SockAddr::from(SocketAddr::new(fresh_loopback(), 0))).expect("bind");
        listener.listen(0).expect("listen");
        let address = listener.local_addr().ok().and_then(|a| a.as_socket()).expect("an address");
        let mut fill = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            fill.push(stream);
        }
        BlackHole { address, _listener: listener, _fill: fill }
    }
}
