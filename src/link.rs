//! A connection as HTTP sees it: the bytes of a socket, in clear or through TLS, with the same promises either way.
//! It must never hold more than some records for a peer that does not read, and never take a cut for an end.
//! An enum, so that clear text pays one branch and no more; TLS is boxed, so that it does not make clear text larger.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::socket::Socket;

mod handshake;
mod kept;
mod parts;
mod records;
mod secured;

pub(crate) use handshake::Handshake;
pub(crate) use secured::Secured;

/// A connection, in clear or through TLS.
#[derive(Debug)]
pub(crate) enum Link {
    Plain(Socket),
    Secured(Box<Secured>),
}

impl Link {
    /// The protocol agreed on by ALPN (RFC 7301), if one was.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match self {
            Link::Plain(_) => None,
            Link::Secured(secured) => secured.protocol(),
        }
    }

    /// Reads what is there into `into`; 0 is the end of the stream. A TLS stream that was cut off, without its
    /// `close_notify`, is `UnexpectedEof` (RFC 8446 6.1).
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Link::Plain(socket) => Socket::poll_read(socket, cx, into),
            Link::Secured(secured) => secured.poll_read(cx, into),
        }
    }

    /// Writes as much of `from` as is taken. What TLS took may still be on its way to the kernel: see `poll_flush`.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Link::Plain(socket) => Socket::poll_write(socket, cx, from),
            Link::Secured(secured) => secured.poll_write(cx, from),
        }
    }

    /// Writes as much of two pieces as is taken, as one: one packet, or one record. `more` says that more follows; in
    /// clear, the kernel may then keep what does not fill a packet until it comes, or until `push`.
    pub(crate) fn poll_write_two(
        &mut self,
        cx: &mut Context<'_>,
        first: &[u8],
        second: &[u8],
        more: bool,
    ) -> Poll<io::Result<usize>> {
        match self {
            Link::Plain(socket) => socket.poll_write_two(cx, first, second, more),
            Link::Secured(secured) => {
                secured.poll_write_pieces(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)])
            }
        }
    }

    /// Has sent what was kept for more to come.
    pub(crate) fn push(&self) {
        match self {
            Link::Plain(socket) => socket.push(),
            Link::Secured(_) => {}
        }
    }

    /// Hands everything that was taken to the kernel.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Link::Plain(_) => Poll::Ready(Ok(())),
            Link::Secured(secured) => secured.poll_flush(cx),
        }
    }

    /// Whether bytes were taken that the kernel does not have yet.
    pub(crate) fn holds_back(&self) -> bool {
        match self {
            Link::Plain(_) => false,
            Link::Secured(secured) => secured.holds_back(),
        }
    }

    /// Waits until there is something to read, an end included, without a buffer to read into.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Link::Plain(socket) => socket.poll_readable(cx),
            Link::Secured(secured) => secured.poll_readable(cx).map(Ok),
        }
    }

    /// Whether an idle connection is as it was left: nothing has come for us, and it has not ended. What TLS says to
    /// itself, such as a new ticket, is nothing for us.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            Link::Plain(socket) => socket.is_quiet(),
            Link::Secured(secured) => secured.poll_readable(&mut nobody()).is_pending(),
        }
    }

    /// Whether the peer has reset the connection; if not, the task of `cx` is woken when it does. To be asked only
    /// while nothing waits to be written and we have not finished writing.
    pub(crate) fn poll_broken(&self, cx: &mut Context<'_>) -> bool {
        self.socket().poll_broken(cx)
    }

    /// Says that no more will come, where that has a word of its own; in clear, the close that follows says it.
    pub(crate) fn poll_close_notify(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Link::Plain(_) => Poll::Ready(Ok(())),
            Link::Secured(secured) => secured.poll_close_notify(cx),
        }
    }

    /// The same for a connection on which nothing waits to be written, so that there is room for a word more.
    pub(crate) fn close_notify(&mut self) {
        let _ = self.poll_close_notify(&mut nobody());
    }

    /// Tells the peer that no more bytes will come. An error means that it is gone already, which reading will show.
    pub(crate) fn finish_writing(&mut self) {
        self.close_notify();
        self.socket().finish_writing();
    }

    /// Makes the coming close a reset (RST) and throws away what is unsent. TLS says nothing more.
    pub(crate) fn reset_on_close(&self) {
        self.socket().reset_on_close();
    }

    /// What the bytes pass through in the end.
    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Link::Plain(socket) => socket,
            Link::Secured(secured) => secured.socket(),
        }
    }
}

/// For looking without being woken.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_read(cx, into),
            Link::Secured(secured) => {
                let count = ready!(secured.poll_read(cx, into.initialize_unfilled()))?;
                into.advance(count);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Link::poll_write(self.get_mut(), cx, from)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Link::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, pieces),
            Link::Secured(secured) => secured.poll_write_pieces(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Link::poll_flush(self.get_mut(), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        ready!(link.poll_close_notify(cx))?;
        link.socket().finish_writing();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
