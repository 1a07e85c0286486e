//! Bytes that wait for somebody. An empty one holds no memory.

use std::io;
use std::task::{Context, Poll, ready};

use crate::socket::Socket;

/// Bytes that wait, and how many of them are gone already.
#[derive(Debug, Default)]
pub(super) struct Kept {
    bytes: Vec<u8>,
    gone: usize,
}

impl Kept {
    pub(super) fn left(&self) -> &[u8] {
        self.bytes.get(self.gone..).unwrap_or_default()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone == self.bytes.len()
    }

    /// What is gone makes room first: it may be long until all is.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.gone);
        self.gone = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Memory goes with the last byte.
    pub(super) fn take(&mut self, count: usize) {
        self.gone += count;
        if self.gone >= self.bytes.len() {
            *self = Kept::default();
        }
    }

    /// Hands all of them to the kernel.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, to: &Socket) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let count = ready!(to.poll_write(cx, self.left()))?;
            self.take(count);
        }
        Poll::Ready(Ok(()))
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}
