//! Moves one body from one side to the other, piece by piece, for as long as the receiver keeps up.
//! It holds nothing itself: what the receiver has not taken is in its output, and nothing is read meanwhile.

use std::task::{Context, Poll, ready};

use bytes::Bytes;

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
}

impl Pump {
    /// For a body of at most `most` bytes.
    pub(super) fn new(most: u64) -> Pump {
        Pump { state: State::Moving, left: most, held: Bytes::new(), copy: None }
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
        let room = scratch.len().min(to.piece_max());
        let scratch = &mut scratch[..room];
        let mut pieces = 0;
        while self.state == State::Moving {
            if to.is_full() {
                ready!(to.poll_flush(cx)).map_err(|_| Jam::To)?;
            }
            if pieces == PIECES_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            pieces += 1;
            if !self.held.is_empty() {
                let piece = self.held.split_to(self.held.len().min(room));
                self.copy(&piece);
                to.put(cx, &piece, false).map_err(|_| Jam::To)?;
                continue;
            }
            match from.poll_piece(cx, local, scratch) {
                Poll::Ready(Ok(Piece::Data { data, ends })) => {
                    self.left = self.left.checked_sub(data.len() as u64).ok_or(Jam::TooLong)?;
                    self.copy(data);
                    to.put(cx, data, ends).map_err(|_| Jam::To)?;
                    if ends {
                        to.finish(None);
                        self.state = State::Flushing;
                    }
                }
                Poll::Ready(Ok(Piece::End)) => {
                    to.finish(from.trailers());
                    self.state = State::Flushing;
                }
                Poll::Ready(Err(failed)) => return Poll::Ready(Err(Jam::From(failed))),
                Poll::Pending => {
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
}
