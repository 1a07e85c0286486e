//! A connection that may go through TLS, as one side of a relay.

use std::io;
use std::task::{Context, Poll, ready};

use super::relay::Side;
use crate::link::Link;
use crate::socket::Socket;

impl Side for Link {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Link::poll_read(self, cx, into)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Link::poll_write(self, cx, from)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Link::poll_flush(self, cx)
    }

    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Link::poll_flush(self, cx))?;
        self.poll_close_notify(cx)
    }

    fn finish_writing(&mut self) {
        Link::finish_writing(self);
    }

    fn plain(&self) -> Option<&Socket> {
        match self {
            Link::Plain(socket) => Some(socket),
            Link::Secured(_) => None,
        }
    }

    fn socket(&self) -> &Socket {
        Link::socket(self)
    }
}
