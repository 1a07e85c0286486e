//! The reading half of an HTTP/1 connection: heads, then bodies in pieces, and what came beyond them.
//! It holds a buffer only while bytes are in it, and never reads past a body whose length it knows.

use std::io;
use std::task::{Context, Poll, ready};

use evenkeel_wire::{ChunkLimits, Chunked, Fields, Framing, Limits, Read, Refusal, Step};

use crate::http::local::Local;
use crate::link::Link;

/// Bytes of the extensions of one chunk. Signed uploads to S3 need 85.
const CHUNK_EXTENSION_MAX: usize = 256;

/// What has been read and not been used.
#[derive(Debug, Default)]
pub(in crate::http) struct Input {
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    body: Body,
    /// Bytes of bodies so far.
    pub(in crate::http) carried: u64,
}

#[derive(Debug, Default)]
enum Body {
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    #[default]
    Done,
}

/// Why a head could not be read.
#[derive(Debug)]
pub(in crate::http) enum HeadFailed {
    /// The peer ended before its first byte.
    Ended,
    /// The peer ended within the head.
    Cut,
    Refused(Refusal),
    /// The connection broke.
    Broken,
    /// The peer certainly did nothing with the request.
    Unprocessed,
    /// The peer knows no switch to another protocol.
    CannotSwitch,
}

/// Why a body could not be read to its end.
#[derive(Debug)]
pub(in crate::http) enum BodyFailed {
    /// The peer ended before the body did.
    Cut,
    Refused(Refusal),
    /// The connection broke.
    Broken,
}

/// A part of a body.
#[derive(Debug)]
pub(in crate::http) enum Piece<'a> {
    Data {
        data: &'a [u8],
        /// Neither more of the body nor trailers follow; not known of every last part.
        ends: bool,
    },
    End,
}

impl Input {
    /// With bytes that were read before, elsewhere.
    pub(in crate::http) fn holding(bytes: Vec<u8>) -> Input {
        let end = bytes.len();
        let buffer = (end > 0).then(|| bytes.into_boxed_slice());
        Input { buffer, end, ..Input::default() }
    }

    /// Whether nothing has been read that was not used.
    pub(in crate::http) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes what was read beyond the last message.
    pub(in crate::http) fn take_rest(&mut self) -> Vec<u8> {
        let rest = self.unused().to_vec();
        self.start = self.end;
        rest
    }

    /// Gives the buffer back if nothing is in it.
    pub(in crate::http) fn rest(&mut self, local: &Local) {
        if self.is_empty()
            && let Some(buffer) = self.buffer.take()
        {
            local.give_input(buffer);
        }
    }

    /// Waits for a whole head of at most `most` bytes; `read` is given what has come of it so far.
    pub(in crate::http) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
        local: &Local,
        most: usize,
        mut read: impl FnMut(&[u8]) -> Result<Read, Refusal>,
    ) -> Poll<Result<(), HeadFailed>> {
        let mut worth_reading = !self.is_empty();
        loop {
            if worth_reading {
                match read(self.unused()).map_err(HeadFailed::Refused)? {
                    Read::Whole { length } => {
                        self.start = self.end.min(self.start + length);
                        return Poll::Ready(Ok(()));
                    }
                    Read::Partial => {}
                }
            }
            let known = self.end - self.start;
            match ready!(self.poll_fill(cx, socket, local, most)) {
                Ok(0) if known == 0 => return Poll::Ready(Err(HeadFailed::Ended)),
                Ok(0) => return Poll::Ready(Err(HeadFailed::Cut)),
                // Looking again for each byte of a slow head would cost its square.
                Ok(_) => {
                    let fresh = &self.unused()[known..];
                    worth_reading = fresh.contains(&b'\n') || self.end - self.start >= most;
                }
                // TLS cut off between two messages takes nothing away from anybody; many clients end like that.
                Err(error) if known == 0 && error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Poll::Ready(Err(HeadFailed::Ended));
                }
                Err(_) => return Poll::Ready(Err(HeadFailed::Broken)),
            }
        }
    }

    /// Says how the body that follows the head is framed. Its trailers may be as large as a head.
    pub(in crate::http) fn begin_body(&mut self, framing: Framing, limits: &Limits) {
        self.body = match framing {
            Framing::None | Framing::Length(0) => Body::Done,
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Box::new(Chunked::new(ChunkLimits {
                extension_max: CHUNK_EXTENSION_MAX,
                trailers: *limits,
            }))),
            Framing::UntilClose => Body::UntilClose,
        };
    }

    /// The fields after a chunked body that has come to its end.
    pub(in crate::http) fn trailers(&mut self) -> Option<&Fields> {
        match &mut self.body {
            Body::Chunked(chunked) => Some(chunked.trailers()).map(|fields| &*fields),
            _ => None,
        }
    }

    /// The next part of the body. Parts of big bodies are read into `scratch`, and only there.
    pub(in crate::http) fn poll_piece<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
        local: &Local,
        scratch: &'a mut [u8],
    ) -> Poll<Result<Piece<'a>, BodyFailed>> {
        match &mut self.body {
            Body::Done => Poll::Ready(Ok(Piece::End)),
            Body::Length(left) => {
                if self.start == self.end {
                    // With room for a byte more, a body that ends leaves no doubt that nothing comes behind it.
                    let left_here = usize::try_from(*left).unwrap_or(usize::MAX);
                    let room = scratch.len().min(left_here.saturating_add(1));
                    let read = ready!(socket.poll_read(cx, &mut scratch[..room]))?;
                    if read == 0 {
                        return Poll::Ready(Err(BodyFailed::Cut));
                    }
                    let count = read.min(left_here);
                    self.carried += count as u64;
                    *left -= count as u64;
                    if *left == 0 {
                        self.body = Body::Done;
                    }
                    if count < read {
                        self.keep_ahead(local, scratch[count]);
                    }
                    let ends = matches!(self.body, Body::Done);
                    return Poll::Ready(Ok(Piece::Data { data: &scratch[..count], ends }));
                }
                let held = (self.end - self.start) as u64;
                let count = held.min(*left) as usize;
                *left -= count as u64;
                if *left == 0 {
                    self.body = Body::Done;
                }
                self.carried += count as u64;
                let ends = matches!(self.body, Body::Done);
                Poll::Ready(Ok(Piece::Data { data: self.use_up(count), ends }))
            }
            Body::UntilClose => {
                if self.start < self.end {
                    let count = self.end - self.start;
                    self.carried += count as u64;
                    return Poll::Ready(Ok(Piece::Data { data: self.use_up(count), ends: false }));
                }
                let count = ready!(socket.poll_read(cx, scratch))?;
                if count == 0 {
                    self.body = Body::Done;
                    return Poll::Ready(Ok(Piece::End));
                }
                self.carried += count as u64;
                Poll::Ready(Ok(Piece::Data { data: &scratch[..count], ends: false }))
            }
            Body::Chunked(_) => self.poll_chunk(cx, socket, local),
        }
    }

    fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
        local: &Local,
    ) -> Poll<Result<Piece<'_>, BodyFailed>> {
        loop {
            if self.is_empty() && ready!(self.poll_fill(cx, socket, local, usize::MAX))? == 0 {
                return Poll::Ready(Err(BodyFailed::Cut));
            }
            let Body::Chunked(chunked) = &mut self.body else {
                return Poll::Ready(Ok(Piece::End));
            };
            let held = self.buffer.as_deref().unwrap_or_default();
            let step = chunked.step(&held[self.start..self.end]).map_err(BodyFailed::Refused)?;
            match step {
                Step::More { consumed } => self.start += consumed,
                Step::Data { skip, length } => {
                    self.start += skip;
                    self.carried += length as u64;
                    return Poll::Ready(Ok(Piece::Data { data: self.use_up(length), ends: false }));
                }
                Step::End { consumed } => {
                    self.start += consumed;
                    return Poll::Ready(Ok(Piece::End));
                }
            }
        }
    }

    /// Keeps the first byte of what comes behind a body.
    fn keep_ahead(&mut self, local: &Local, byte: u8) {
        let buffer = self.buffer.get_or_insert_with(|| local.take_input());
        buffer[0] = byte;
        (self.start, self.end) = (0, 1);
    }

    fn unused(&self) -> &[u8] {
        self.buffer.as_deref().map_or(&[], |buffer| &buffer[self.start..self.end])
    }

    fn use_up(&mut self, count: usize) -> &[u8] {
        let from = self.start;
        self.start += count;
        self.buffer.as_deref().map_or(&[], |buffer| &buffer[from..from + count])
    }

    /// Reads once into the buffer, taking one when bytes are there and enlarging it up to `most` when it is full.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Link,
        local: &Local,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_none() {
            ready!(socket.poll_readable(cx))?;
            self.buffer = Some(local.take_input());
            (self.start, self.end) = (0, 0);
        }
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        let Some(buffer) = &mut self.buffer else { return Poll::Ready(Ok(0)) };
        if self.end == buffer.len() && self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == buffer.len() {
            let mut larger = vec![0; (2 * buffer.len()).min(most.max(buffer.len() + 1))];
            larger[..self.end].copy_from_slice(buffer);
            local.give_input(std::mem::replace(buffer, larger.into_boxed_slice()));
        }
        let count = match socket.poll_read(cx, &mut buffer[self.end..]) {
            Poll::Ready(outcome) => outcome?,
            Poll::Pending => {
                self.rest(local);
                return Poll::Pending;
            }
        };
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

impl From<io::Error> for BodyFailed {
    fn from(_: io::Error) -> BodyFailed {
        BodyFailed::Broken
    }
}
