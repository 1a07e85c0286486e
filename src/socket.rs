//! One type for every stream socket that carries traffic, TCP or Unix, whoever opened it.
//! It must never hold bytes: what `read` returned is the caller's, what `write` did not take stays there.
//! It sits on a plain descriptor rather than tokio's streams so that a relay can be taken apart into descriptors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// A connected (or connecting) non-blocking stream socket, registered with the worker's event loop.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: AsyncFd<OwnedFd>,
}

/// What has come on a connection and was not taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrived {
    /// Bytes that were copied.
    pub(crate) count: usize,
    /// Whether nothing comes behind what has come.
    pub(crate) ended: bool,
}

impl Socket {
    /// Registers a descriptor that is already non-blocking. Must be called on a worker.
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Socket> {
        Ok(Socket { fd: evenkeel_sys::register(fd, Interest::READABLE | Interest::WRITABLE)? })
    }

    /// Reads what is there into `into`; 0 is the end of the stream.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            match rustix::net::recv(self.fd.get_ref(), &mut *into, RecvFlags::empty()) {
                Ok((_, count)) => {
                    // A short read has emptied the socket: events are edge-triggered, so the next
                    // arrival tells, and a system call that could only answer "nothing" is saved.
                    if count > 0 && count < into.len() {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes as much of `from` as the kernel takes. Tries first and asks the event loop only when it must wait.
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(cx, from, SendFlags::NOSIGNAL)
    }

    /// The same, when more follows at once (MSG_MORE).
    pub(crate) fn poll_write_before(
        &self,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(cx, from, SendFlags::NOSIGNAL | SendFlags::MORE)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        from: &[u8],
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        loop {
            match rustix::net::send(self.fd.get_ref(), from, flags) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(rustix::io::Errno::AGAIN) => {
                    ready!(self.fd.poll_write_ready(cx))?.clear_ready();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Sends up to `most` bytes of a file from a place on, without copying them. 0 is its end. It waits for the disk
    /// if they are not in memory: that is for the caller to know.
    pub(crate) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: impl AsFd,
        at: u64,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            match rustix::fs::sendfile(self.fd.get_ref(), &file, Some(&mut { at }), most) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(rustix::io::Errno::AGAIN) => {
                    ready!(self.fd.poll_write_ready(cx))?.clear_ready();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Moves up to `most` bytes that have arrived into an empty pipe, without copying them. 0 says that nothing
    /// could be moved this way, for whatever reason: reading tells whether there is nothing, an end, or
    /// something that cannot be spliced, such as an urgent mark (tcp(7)).
    pub(crate) fn poll_splice_in(
        &self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        // Readiness is left as it is: only a read that finds nothing may clear it.
        ready!(self.fd.poll_read_ready(cx))?.retain_ready();
        match splice(self.fd.get_ref(), None, &pipe.input, None, most, SPLICE) {
            Ok(count) => Poll::Ready(Ok(count)),
            // Nothing there, or a system that does not splice this.
            Err(
                rustix::io::Errno::AGAIN
                | rustix::io::Errno::INTR
                | rustix::io::Errno::INVAL
                | rustix::io::Errno::NOSYS
                | rustix::io::Errno::PERM,
            ) => Poll::Ready(Ok(0)),
            // A socket tells of its reset once: reading would find a mere end.
            Err(error) => Poll::Ready(Err(error.into())),
        }
    }

    /// Moves up to `most` bytes out of a pipe, without copying them.
    pub(crate) fn poll_splice_out(
        &self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            match splice(&pipe.output, None, self.fd.get_ref(), None, most, SPLICE) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(rustix::io::Errno::AGAIN) => {
                    ready!(self.fd.poll_write_ready(cx))?.clear_ready();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Whether the peer has reset the connection; if not, the task of `cx` is woken when it does. For a side that
    /// nobody reads from, and so nobody would notice. To be asked only while we have not finished writing: after
    /// that, a peer that finishes looks the same.
    pub(crate) fn poll_broken(&self, cx: &mut Context<'_>) -> bool {
        while let Poll::Ready(ready) = self.fd.poll_write_ready(cx) {
            match ready {
                Ok(ready) if ready.ready().is_write_closed() => return true,
                // Being writable is no news here, and writing tries before it asks.
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return true,
            }
        }
        false
    }

    /// Writes as much of two pieces as the kernel takes, as one.
    pub(crate) fn poll_write_two(
        &self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        let flags = if more { SendFlags::NOSIGNAL | SendFlags::MORE } else { SendFlags::NOSIGNAL };
        if first.is_empty() || second.is_empty() {
            return self.poll_send(cx, if first.is_empty() { second } else { first }, flags);
        }
        self.poll_write_pieces(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)], flags)
    }

    /// Has the kernel send full packets only, until `push` (TCP_CORK): for what is long and comes without a pause.
    pub(crate) fn cork(&self) {
        // What is no TCP has no packets.
        let _ = sockopt::set_tcp_cork(&self.fd, true);
    }

    /// Has the kernel send what it keeps for more to come (MSG_MORE, TCP_CORK), and keep nothing from now on.
    pub(crate) fn push(&self) {
        // What is no TCP keeps nothing.
        let _ = sockopt::set_tcp_cork(&self.fd, false);
    }

    fn poll_write_pieces(
        &self,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        loop {
            let nothing = &mut rustix::net::SendAncillaryBuffer::default();
            match rustix::net::sendmsg(self.fd.get_ref(), pieces, nothing, flags) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(rustix::io::Errno::AGAIN) => {
                    ready!(self.fd.poll_write_ready(cx))?.clear_ready();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Waits until there is something to read, an end included, without a buffer to read into.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.fd.poll_read_ready(cx))?.retain_ready();
        Poll::Ready(Ok(()))
    }

    /// Waits until more than `known` bytes have come, or the end, and copies what has come without taking it.
    pub(crate) fn poll_peek_beyond(
        &self,
        cx: &mut Context<'_>,
        known: usize,
        into: &mut [u8],
    ) -> Poll<io::Result<Arrived>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            let ended = ready.ready().is_read_closed();
            match rustix::net::recv(self.fd.get_ref(), &mut *into, RecvFlags::PEEK) {
                Ok((_, count)) if count > known || ended || count == 0 => {
                    return Poll::Ready(Ok(Arrived { count, ended: ended || count == 0 }));
                }
                Ok(_) | Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Sends bytes on a connection on which nothing has been sent yet, so that there is room for all of them.
    pub(crate) fn send_first(&self, bytes: &[u8]) -> io::Result<()> {
        match rustix::net::send(self.fd.get_ref(), bytes, SendFlags::NOSIGNAL)? {
            count if count == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// The address of our side; none for a Unix socket.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getsockname(&self.fd).ok()?).ok()
    }

    /// Takes bytes that have come already, as many as `into` has room for.
    pub(crate) fn take(&self, into: &mut [u8]) -> io::Result<()> {
        let mut taken = 0;
        while let Some(rest) = into.get_mut(taken..).filter(|rest| !rest.is_empty()) {
            match rustix::net::recv(self.fd.get_ref(), rest, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, count)) => taken += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether an idle connection is as it was left: nothing has come, and it has not ended. Mostly known
    /// without a system call, from what the event loop has been told.
    pub(crate) fn is_quiet(&self) -> bool {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        match self.fd.poll_read_ready(cx) {
            Poll::Pending => true,
            Poll::Ready(Err(_)) => false,
            // Readiness stays set after a read that filled its buffer exactly: look.
            Poll::Ready(Ok(mut ready)) => {
                let looked = rustix::net::recv(self.fd.get_ref(), &mut [0_u8], RecvFlags::PEEK);
                let quiet = matches!(looked, Err(rustix::io::Errno::AGAIN));
                if quiet {
                    ready.clear_ready();
                }
                quiet
            }
        }
    }

    /// Waits until a connect in progress has ended, well or badly.
    pub(crate) async fn connected(&self) -> io::Result<()> {
        let ready = self.fd.writable().await?;
        // A connect that failed shows as closed; asking for the error only then saves a call for each connection.
        if ready.ready().is_write_closed() {
            sockopt::socket_error(self.fd.get_ref())??;
        }
        Ok(())
    }

    /// Tells the peer that no more bytes will come. An error means that it is gone already, which reading will show.
    pub(crate) fn finish_writing(&self) {
        let _ = rustix::net::shutdown(self.fd.get_ref(), Shutdown::Write);
    }

    /// Makes the coming close a reset (RST) and throws away what is unsent.
    pub(crate) fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(self.fd.get_ref(), Some(Duration::ZERO));
    }

    /// Bytes that the peer has not acknowledged.
    pub(crate) fn unsent(&self) -> usize {
        evenkeel_sys::unsent_bytes(self.fd.get_ref()).unwrap_or(0)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.fd.poll_read_ready(cx))?;
            let room = into.remaining();
            match evenkeel_sys::receive(self.fd.get_ref(), into) {
                Ok(count) => {
                    // As in the other `poll_read`: a short read has emptied the socket.
                    if count > 0 && count < room {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Socket::poll_write(&self, cx, from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // The kernel takes so many at a time, and refuses more (UIO_MAXIOV, readv(2)).
        self.poll_write_pieces(cx, &pieces[..pieces.len().min(1024)], SendFlags::NOSIGNAL)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish_writing();
        Poll::Ready(Ok(()))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

const SPLICE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);

/// A kernel pipe, through which bytes pass between two sockets without being copied to us (splice(2)).
#[derive(Debug)]
pub(crate) struct Pipe {
    input: OwnedFd,
    output: OwnedFd,
}

impl Pipe {
    /// Opens a pipe that carries about `size` bytes at a time. An error where the user has too many pipes already.
    pub(crate) fn open(size: usize) -> io::Result<Pipe> {
        let (output, input) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        fcntl_setpipe_size(&input, size)?;
        Ok(Pipe { input, output })
    }

    /// Takes out bytes that are in it, as many as `into` has room for.
    pub(crate) fn take(&self, into: &mut [u8]) -> io::Result<()> {
        let mut taken = 0;
        while let Some(rest) = into.get_mut(taken..).filter(|rest| !rest.is_empty()) {
            match rustix::io::read(&self.output, rest) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => taken += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Options set on every socket of a listener or an upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SocketOptions {
    pub(crate) nodelay: bool,
    pub(crate) keepalive: Option<KeepaliveTimes>,
    pub(crate) user_timeout: Option<Duration>,
}

/// When TCP keepalive probes are sent (tcp(7): TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeepaliveTimes {
    pub(crate) idle: Duration,
    pub(crate) interval: Duration,
    pub(crate) count: u32,
}

impl SocketOptions {
    /// The same on a socket that may have had others.
    pub(crate) fn apply_anew(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        sockopt::set_tcp_nodelay(socket, false)?;
        sockopt::set_socket_keepalive(socket, false)?;
        sockopt::set_tcp_user_timeout(socket, 0)?;
        self.apply(socket)
    }

    /// Sets the options on a TCP socket; on a listening one, every accepted socket inherits them (Linux),
    /// which saves the calls for each connection.
    pub(crate) fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if self.nodelay {
            sockopt::set_tcp_nodelay(socket, true)?;
        }
        if let Some(keepalive) = &self.keepalive {
            sockopt::set_tcp_keepidle(socket, keepalive.idle)?;
            sockopt::set_tcp_keepintvl(socket, keepalive.interval)?;
            sockopt::set_tcp_keepcnt(socket, keepalive.count)?;
            sockopt::set_socket_keepalive(socket, true)?;
        }
        if let Some(timeout) = self.user_timeout {
            // The kernel takes a C int of milliseconds: 24 days.
            let millis = u32::try_from(timeout.as_millis().min(i32::MAX as u128)).unwrap_or(0);
            sockopt::set_tcp_user_timeout(socket, millis)?;
        }
        Ok(())
    }
}

/// Whether an error is a lack of our own (descriptors, memory, source ports) and says nothing about the peer.
pub(crate) fn own_lack(error: &io::Error) -> Option<OwnLack> {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error)? {
        rustix::io::Errno::MFILE | rustix::io::Errno::NFILE => Some(OwnLack::Descriptors),
        rustix::io::Errno::ADDRNOTAVAIL => Some(OwnLack::SourcePorts),
        // NOSPC: the limit of watched descriptors (epoll_ctl(2), fs.epoll.max_user_watches).
        rustix::io::Errno::NOBUFS | rustix::io::Errno::NOMEM | rustix::io::Errno::NOSPC => {
            Some(OwnLack::Memory)
        }
        _ => None,
    }
}

/// What this process or machine has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnLack {
    Descriptors,
    SourcePorts,
    Memory,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn options_set_on_a_listening_socket_are_those_of_accepted_ones() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = SocketOptions {
            nodelay: true,
            keepalive: Some(KeepaliveTimes {
                idle: Duration::from_secs(60),
                interval: Duration::from_secs(7),
                count: 3,
            }),
            user_timeout: Some(Duration::from_millis(1500)),
        };
        options.apply(listener.as_fd()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), Duration::from_secs(60));
        assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), Duration::from_secs(7));
        assert_eq!(sockopt::tcp_keepcnt(&accepted).unwrap(), 3);
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 1500);
    }

    #[test]
    fn only_what_we_lack_ourselves_is_called_so() {
        let error = |errno: rustix::io::Errno| io::Error::from(errno);
        assert_eq!(own_lack(&error(rustix::io::Errno::MFILE)), Some(OwnLack::Descriptors));
        assert_eq!(own_lack(&error(rustix::io::Errno::ADDRNOTAVAIL)), Some(OwnLack::SourcePorts));
        assert_eq!(own_lack(&error(rustix::io::Errno::NOBUFS)), Some(OwnLack::Memory));
        assert_eq!(own_lack(&error(rustix::io::Errno::CONNREFUSED)), None);
    }
}
