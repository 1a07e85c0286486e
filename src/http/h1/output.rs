//! The writing half of an HTTP/1 connection: heads and bodies, framed anew by us, in as few writes as possible.
//! It keeps only what the peer has not taken, and never says that a body is whole when it is not.

use std::io;
use std::task::{Context, Poll, ready};

use evenkeel_wire::{Fields, Framing, Known, write_chunk_size};

use crate::http::local::{BUFFER, Local};
use crate::link::Link;
use crate::socket::Socket;

/// The largest part of a body that is copied to go out with what comes before and after it; what is larger costs more to
/// copy than a system call does.
const COPIED_MAX: usize = 8 * 1024;

/// What is to be written.
#[derive(Debug, Default)]
pub(in crate::http) struct Output {
    pending: Vec<u8>,
    written: usize,
    /// Whether TLS still holds some of what was written.
    held: bool,
    /// Whether the kernel may keep some of it, since more was to follow.
    corked: bool,
    frame: Frame,
    /// Bytes of bodies so far.
    pub(in crate::http) carried: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Frame {
    Length(u64),
    Chunked,
    UntilClose,
    #[default]
    Done,
}

impl Output {
    /// Writes a head, by way of `write`; a body framed like this follows.
    pub(in crate::http) fn begin(
        &mut self,
        local: &Local,
        framing: Framing,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.pending.capacity() == 0 {
            self.pending = local.take_output();
        }
        write(&mut self.pending);
        self.frame = match framing {
            Framing::None | Framing::Length(0) => Frame::Done,
            Framing::Length(length) => Frame::Length(length),
            Framing::Chunked => Frame::Chunked,
            Framing::UntilClose => Frame::UntilClose,
        };
    }

    /// Whether so much waits for the peer that no more may be put.
    pub(in crate::http) fn is_full(&self) -> bool {
        self.pending.len() - self.written > BUFFER
    }

    pub(in crate::http) fn is_flushed(&self) -> bool {
        self.pending.len() == self.written && !self.held && !self.corked
    }

    /// Puts a part of the body. Little is kept until the flush; much is handed to the kernel at once.
    pub(in crate::http) fn put(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
        data: &[u8],
    ) -> io::Result<()> {
        match &mut self.frame {
            Frame::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(too_long)?;
                if *left == 0 {
                    self.frame = Frame::Done;
                }
            }
            Frame::Chunked if data.is_empty() => return Ok(()),
            Frame::Chunked => write_chunk_size(&mut self.pending, data.len()),
            Frame::UntilClose => {}
            Frame::Done if data.is_empty() => return Ok(()),
            Frame::Done => return Err(too_long()),
        }
        self.carried += data.len() as u64;
        let chunked = self.frame == Frame::Chunked;
        let held = self.pending.len() - self.written + data.len();
        if data.len() <= COPIED_MAX && held <= BUFFER {
            self.pending.extend_from_slice(data);
        } else {
            self.write_through(cx, socket, data)?;
        }
        if chunked {
            self.pending.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Counts bytes of a body of known length that the kernel sent by itself, after everything had been flushed.
    pub(in crate::http) fn passed(&mut self, count: usize) {
        if let Frame::Length(left) = &mut self.frame {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                self.frame = Frame::Done;
            }
        }
        self.carried += count as u64;
    }

    /// Ends the body. Whether it is whole; if not, only closing the connection is left.
    pub(in crate::http) fn finish(&mut self, trailers: Option<&Fields>) -> bool {
        let whole = match self.frame {
            Frame::Length(_) => false,
            Frame::Done | Frame::UntilClose => true,
            Frame::Chunked => {
                self.pending.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    trailers.write_lines(&mut self.pending, Known::Connection);
                }
                self.pending.extend_from_slice(b"\r\n");
                true
            }
        };
        self.frame = Frame::Done;
        whole
    }

    /// Hands everything to the kernel.
    pub(in crate::http) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
    ) -> Poll<io::Result<()>> {
        while self.written < self.pending.len() {
            self.written += ready!(socket.poll_write(cx, &self.pending[self.written..]))?;
            self.corked = false;
        }
        if std::mem::take(&mut self.corked) {
            socket.push();
        }
        self.held = socket.holds_back();
        ready!(socket.poll_flush(cx))?;
        self.held = false;
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// The same, when more follows at once: the kernel need not send what would not fill a packet.
    pub(in crate::http) fn poll_flush_before(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Socket,
    ) -> Poll<io::Result<()>> {
        while self.written < self.pending.len() {
            self.written += ready!(socket.poll_write_before(cx, &self.pending[self.written..]))?;
        }
        self.pending.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives the buffer back if nothing is in it.
    pub(in crate::http) fn rest(&mut self, local: &Local) {
        if self.is_flushed() && self.pending.capacity() > 0 {
            self.written = 0;
            local.give_output(std::mem::take(&mut self.pending));
        }
    }

    /// Writes what waits and then `data`, as one; what is not taken waits.
    fn write_through(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
        mut data: &[u8],
    ) -> io::Result<()> {
        // Whoever puts a part of a body puts the next one at once, or flushes.
        let more = self.frame != Frame::Done;
        while !data.is_empty() {
            let waiting = &self.pending[self.written..];
            let Poll::Ready(count) = socket.poll_write_two(cx, waiting, data, more) else {
                self.pending.extend_from_slice(data);
                return Ok(());
            };
            let count = count?;
            (self.held, self.corked) = (socket.holds_back(), more);
            let of_waiting = count.min(waiting.len());
            self.written += of_waiting;
            data = &data[count - of_waiting..];
            if self.written == self.pending.len() {
                self.pending.clear();
                self.written = 0;
            }
        }
        Ok(())
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a body is longer than its length")
}
