//! Moves one body from one side to the other, piece by piece, for as long as the receiver keeps up.
//! It holds nothing itself: what the receiver has not taken is in its output, and nothing is read meanwhile. Where a
//! body is compressed on its way, what the encoder keeps of it comes on top; it goes out when the sender pauses.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::compress::{self, Encoder};
use super::h1::{BodyFailed, Piece};
use super::local::Local;
use super::stream::Stream;

/// Pieces moved in one turn before other connections of the worker get theirs.
const PIECES_PER_TURN: u32 = 16;

/// A body on its way.
#[derive(Debug)]
pub(super) struct Pump {
    state: State,
    /// Bytes the body may still have.
    left: u64,
    /// What has been read of it already, and goes first.
    held: Bytes,
    /// A copy of what has passed, for as long as somebody wants it and it is small enough.
    copy: Option<Copied>,
    /// What it goes through, until its end has come out of it.
    encoder: Option<Box<Encoder>>,
}

#[derive(Debug)]
struct Copied {
    bytes: Vec<u8>,
    most: usize,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum State {
    Moving,
    Flushing,
    Done,
}

/// Why a body could not be moved to its end.
#[derive(Debug)]
pub(super) enum Jam {
    /// The side that sends it failed.
    From(BodyFailed),
    /// The side that receives it failed.
    To,
    /// It is longer than allowed.
    TooLong,
    /// It could not be compressed any further.
    Coding,
}

impl Pump {
    /// For a body of at most `most` bytes.
    pub(super) fn new(most: u64) -> Pump {
        let (held, copy, encoder) = Default::default();
        Pump { state: State::Moving, left: most, held, copy, encoder }
    }

    /// The same, beginning with what has been read already and counted by whoever read it.
    pub(super) fn holding(held: Bytes, most: u64) -> Pump {
        Pump { held, ..Pump::new(most) }
    }

    /// Keeps a copy of a body of at most `most` bytes.
    pub(super) fn keep_copy(&mut self, most: usize) {
        self.copy = Some(Copied { bytes: Vec::new(), most });
    }

    /// The whole body, if a copy was kept.
    pub(super) fn into_copy(self) -> Option<Vec<u8>> {
        self.copy.filter(|_| self.state == State::Done).map(|copy| copy.bytes)
    }

    fn copy(&mut self, data: &[u8]) {
        match &mut self.copy {
            Some(copy) if copy.bytes.len() + data.len() <= copy.most => {
                copy.bytes.extend_from_slice(data);
            }
            _ => self.copy = None,
        }
    }

    /// For a body that may be of any length, and goes through an encoder if there is one.
    pub(super) fn through(encoder: Option<Box<Encoder>>) -> Pump {
        Pump { encoder, ..Pump::new(u64::MAX) }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Moves what can be moved. What has been put is flushed whenever the sender pauses.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        local: &Local,
    ) -> Poll<Result<(), Jam>> {
        let mut scratch = local.scratch.borrow_mut();
        let (most, pieces_max) = match self.encoder {
            Some(_) => (compress::PIECE, compress::PIECES_PER_TURN),
            None => (scratch.len(), PIECES_PER_TURN),
        };
        let room = most.min(to.piece_max());
        let scratch = &mut scratch[..room];
        let mut pieces = 0;
        while self.state == State::Moving {
            if to.is_full() {
                ready!(to.poll_flush(cx)).map_err(|_| Jam::To)?;
            }
            if self.put_coded(cx, from, to, room)? {
                continue;
            }
            if pieces == pieces_max {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            pieces += 1;
            if self.encoder.is_some() {
                ready!(compress::poll_turn(cx));
            }
            if !self.held.is_empty() {
                let piece = self.held.split_to(self.held.len().min(room));
                self.copy(&piece);
                to.put(cx, &piece, false).map_err(|_| Jam::To)?;
                continue;
            }
            match from.poll_piece(cx, local, scratch) {
                Poll::Ready(Ok(Piece::Data { data, ends })) => self.pass(cx, to, data, ends)?,
                Poll::Ready(Ok(Piece::End)) => match &mut self.encoder {
                    Some(encoder) => encoder.finish()?,
                    None => {
                        to.finish(from.trailers());
                        self.state = State::Flushing;
                    }
                },
                Poll::Ready(Err(failed)) => return Poll::Ready(Err(Jam::From(failed))),
                Poll::Pending => {
                    if let Some(encoder) = &mut self.encoder
                        && encoder.flush()?
                    {
                        continue;
                    }
                    let _ = to.poll_flush(cx).map_err(|_| Jam::To)?;
                    return Poll::Pending;
                }
            }
        }
        if self.state == State::Flushing {
            ready!(to.poll_flush(cx)).map_err(|_| Jam::To)?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands a part of the body on.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Stream,
        data: &[u8],
        ends: bool,
    ) -> Result<(), Jam> {
        self.copy(data);
        self.left = self.left.checked_sub(data.len() as u64).ok_or(Jam::TooLong)?;
        if let Some(encoder) = &mut self.encoder {
            encoder.feed(data)?;
            compress::spend(cx);
            if ends {
                encoder.finish()?;
            }
            return Ok(());
        }
        to.put(cx, data, ends).map_err(|_| Jam::To)?;
        if ends {
            to.finish(None);
            self.state = State::Flushing;
        }
        Ok(())
    }

    /// Puts what has come out of the encoder, and after its end that of the body. Whether there was anything.
    fn put_coded(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        room: usize,
    ) -> Result<bool, Jam> {
        let Some(encoder) = &mut self.encoder else { return Ok(false) };
        let coded = encoder.take(room);
        if !coded.is_empty() {
            to.put(cx, coded, false).map_err(|_| Jam::To)?;
            return Ok(true);
        }
        if encoder.is_finished() {
            self.encoder = None;
            to.finish(from.trailers());
            self.state = State::Flushing;
            return Ok(true);
        }
        Ok(false)
    }
}

impl From<compress::Failed> for Jam {
    fn from(_: compress::Failed) -> Jam {
        Jam::Coding
    }
}
