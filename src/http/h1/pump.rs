//! Moves one body from one connection to another, piece by piece, for as long as the writer keeps up.
//! It holds nothing itself: what the writer has not taken is in its output, and nothing is read meanwhile.

use std::task::{Context, Poll, ready};

use super::{BodyFailed, Input, Output, Piece};
use crate::http::local::Local;
use crate::link::Link;

/// Pieces moved in one turn before other connections of the worker get theirs.
const PIECES_PER_TURN: u32 = 16;

/// A body on its way.
#[derive(Debug)]
pub(in crate::http) struct Pump {
    state: State,
    /// Bytes the body may still have.
    left: u64,
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum State {
    Moving,
    Flushing,
    Done,
}

/// Why a body could not be moved to its end.
#[derive(Debug)]
pub(in crate::http) enum Jam {
    /// The side that sends it failed.
    From(BodyFailed),
    /// The side that receives it failed.
    To,
    /// It is longer than allowed.
    TooLong,
}

impl Pump {
    /// For a body of at most `most` bytes.
    pub(in crate::http) fn new(most: u64) -> Pump {
        Pump { state: State::Moving, left: most }
    }

    pub(in crate::http) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Moves what can be moved. What has been put is flushed whenever the sender pauses.
    pub(in crate::http) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: (&mut Link, &mut Input),
        to: (&mut Link, &mut Output),
        local: &Local,
    ) -> Poll<Result<(), Jam>> {
        let ((source, input), (sink, output)) = (from, to);
        let scratch = &mut local.scratch.borrow_mut()[..];
        let mut pieces = 0;
        while self.state == State::Moving {
            if output.is_full() {
                ready!(output.poll_flush(cx, sink)).map_err(|_| Jam::To)?;
            }
            if pieces == PIECES_PER_TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            pieces += 1;
            match input.poll_piece(cx, source, local, scratch) {
                Poll::Ready(Ok(Piece::Data(data))) => {
                    self.left = self.left.checked_sub(data.len() as u64).ok_or(Jam::TooLong)?;
                    output.put(cx, sink, data).map_err(|_| Jam::To)?;
                }
                Poll::Ready(Ok(Piece::End)) => {
                    output.finish(input.trailers());
                    self.state = State::Flushing;
                }
                Poll::Ready(Err(failed)) => return Poll::Ready(Err(Jam::From(failed))),
                Poll::Pending => {
                    let _ = output.poll_flush(cx, sink).map_err(|_| Jam::To)?;
                    return Poll::Pending;
                }
            }
        }
        if self.state == State::Flushing {
            ready!(output.poll_flush(cx, sink)).map_err(|_| Jam::To)?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }
}
