//! One direction of a relay: reads from one socket and writes on to the other, by copy or by splice.
//! It holds no buffer and no pipe while nothing is on its way, and never more than its limit for a slow writer.
//! Small messages are copied through the worker's scratch buffer; a reader that fills it is bulk, and is spliced.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use serde::{Deserialize, Serialize};

use super::relay::Side;
use crate::socket::Pipe;

/// Bytes read at a time when copying.
const SCRATCH: usize = 64 * 1024;

/// Bytes moved at a time when splicing, as far as `buffer-max` allows.
const PIPE: usize = 256 * 1024;

/// A splice that moves less ends the bulk: copying little is cheaper than handing pages around.
const BULK_MIN: usize = 16 * 1024;

/// Empty pipes a worker keeps for the next bulk transfers.
const SPARE_PIPES: usize = 16;

/// Reads in one turn before other connections of the worker get theirs.
const READS_PER_TURN: usize = 16;

/// What all relays of a worker share: one read buffer, and pipes. A pipe takes two descriptors, which
/// connections need more: their number is limited, and who gets none copies.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: Box<[u8]>,
    spare: Vec<Pipe>,
    /// Cloned into each pipe in use, so that its count is theirs whatever becomes of them.
    in_use: Rc<()>,
    pipes_max: usize,
    reads_per_turn: usize,
}

impl Scratch {
    /// With at most so many pipes, spare ones included.
    pub(crate) fn new(pipes_max: usize) -> Scratch {
        let bytes = vec![0; SCRATCH].into_boxed_slice();
        let (spare, in_use, reads_per_turn) = (Vec::new(), Rc::new(()), READS_PER_TURN);
        Scratch { bytes, spare, in_use, pipes_max, reads_per_turn }
    }

    /// Has each relay take short turns, so that all get theirs soon, or long ones again.
    pub(crate) fn hurry(&mut self, hurries: bool) {
        self.reads_per_turn = if hurries { 1 } else { READS_PER_TURN };
    }

    /// The read buffer. What is in it is gone with the turn.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// An empty pipe; none when there are too many or the system gives none.
    fn take_pipe(&mut self) -> Option<(Pipe, Rc<()>)> {
        if Rc::strong_count(&self.in_use) > self.pipes_max {
            return None;
        }
        let pipe = self.spare.pop().or_else(|| Pipe::open(PIPE).ok())?;
        Some((pipe, Rc::clone(&self.in_use)))
    }

    fn give_pipe_back(&mut self, pipe: Pipe) {
        let in_use = Rc::strong_count(&self.in_use) - 1;
        if self.spare.len() < SPARE_PIPES && self.spare.len() + in_use < self.pipes_max {
            self.spare.push(pipe);
        }
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Bytes the writer did not take yet; without capacity while there are none.
    kept: Vec<u8>,
    /// How much of `kept` has been written.
    written: usize,
    /// In place of `kept` while spliced bytes are on their way.
    piped: Option<Piped>,
    /// The last reads brought much: the next one is spliced.
    bulk: bool,
    pub(super) carried: u64,
    state: FlowState,
}

/// A pipe in use and the bytes in it.
#[derive(Debug)]
struct Piped {
    pipe: Pipe,
    in_use: Rc<()>,
    held: usize,
}

/// A direction taken apart, without the bytes that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct ParkedFlow {
    pub(crate) carried: u64,
    state: FlowState,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FlowState {
    #[default]
    Open,
    /// The reader has ended; what is kept is still to be written.
    Ending,
    /// The end has been passed on.
    Ended,
    /// The writer is gone: whatever is read is thrown away.
    Broken,
}

/// What moving bytes in one direction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// Nothing more can be done now.
    Waiting,
    /// The reader has ended and everything is written; the end is to be passed on.
    AtEnd,
    /// The turn is used up; there is more.
    TurnOver,
    ReaderReset,
    WriterReset,
}

impl Flow {
    /// A direction that begins with bytes that were read before it.
    pub(super) fn holding(kept: Vec<u8>) -> Flow {
        Flow { carried: kept.len() as u64, kept, ..Flow::default() }
    }

    /// One that was parked, with the bytes that waited.
    pub(super) fn unparked(parked: ParkedFlow, kept: Vec<u8>) -> Flow {
        Flow { kept, carried: parked.carried, state: parked.state, ..Flow::default() }
    }

    /// Takes it apart, with a copy of the bytes that wait. What a pipe held is held as bytes from now on.
    pub(super) fn park(&mut self) -> io::Result<(ParkedFlow, Vec<u8>)> {
        if let Some(Piped { pipe, held, .. }) = self.piped.take() {
            self.kept = vec![0; held];
            self.written = 0;
            pipe.take(&mut self.kept)?;
        }
        let parked = ParkedFlow { carried: self.carried, state: self.state };
        Ok((parked, self.kept[self.written..].to_vec()))
    }

    pub(super) fn state(&self) -> FlowState {
        self.state
    }

    /// Whether the writer takes no more for now, so that the reader is not read from.
    pub(super) fn is_stuck(&self) -> bool {
        self.piped.is_some() || !self.kept.is_empty()
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, FlowState::Ending | FlowState::Ended)
    }

    /// Writes what is kept, then reads and writes on, until one side must be waited for or the turn is over.
    /// `keep` is the most that may be held for the writer.
    pub(super) fn advance(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
        scratch: &mut Scratch,
        keep: usize,
    ) -> Moved {
        for _ in 0..scratch.reads_per_turn {
            if let Some(outcome) = self.write_kept(cx, to, scratch) {
                return outcome;
            }
            let step = match self.state {
                FlowState::Ended => return Moved::Waiting,
                FlowState::Ending => return settled(to.poll_last_word(cx), Moved::AtEnd),
                FlowState::Open if self.bulk => self.splice(cx, from, to, scratch, keep),
                FlowState::Open => self.copy(cx, from, to, scratch, keep),
                FlowState::Broken => self.discard(cx, from, scratch),
            };
            if let Some(outcome) = step {
                return outcome;
            }
        }
        Moved::TurnOver
    }

    /// Reads once and writes on; what is not taken is kept.
    fn copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
        scratch: &mut Scratch,
        keep: usize,
    ) -> Option<Moved> {
        let room = keep.min(scratch.bytes.len());
        let count = match from.poll_read(cx, &mut scratch.bytes[..room]) {
            // What the writer took goes to the kernel before the next is waited for.
            Poll::Pending => return Some(settled(to.poll_flush(cx), Moved::Waiting)),
            Poll::Ready(Err(_)) => return Some(Moved::ReaderReset),
            Poll::Ready(Ok(count)) => count,
        };
        if count == 0 {
            self.state = FlowState::Ending;
            return None;
        }
        self.carried += count as u64;
        let outcome = self.write_on(cx, to, &scratch.bytes[..count]);
        self.bulk = count == SCRATCH && from.plain().is_some() && to.plain().is_some();
        outcome
    }

    fn write_on(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl Side,
        mut bytes: &[u8],
    ) -> Option<Moved> {
        while !bytes.is_empty() {
            match to.poll_write(cx, bytes) {
                Poll::Ready(Ok(count)) => bytes = &bytes[count..],
                Poll::Ready(Err(_)) => return Some(Moved::WriterReset),
                Poll::Pending => {
                    self.kept = bytes.to_vec();
                    self.written = 0;
                    return Some(Moved::Waiting);
                }
            }
        }
        None
    }

    /// Moves bytes into an empty pipe; writing them on is the next step. Where nothing can be spliced, it reads.
    fn splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        to: &mut impl Side,
        scratch: &mut Scratch,
        keep: usize,
    ) -> Option<Moved> {
        let (Some(reader), Some((pipe, in_use))) = (from.plain(), scratch.take_pipe()) else {
            self.bulk = false;
            return None;
        };
        let moved = reader.poll_splice_in(cx, &pipe, keep.min(PIPE));
        if let Poll::Ready(Ok(held @ 1..)) = moved {
            self.carried += held as u64;
            self.bulk = held >= BULK_MIN;
            self.piped = Some(Piped { pipe, in_use, held });
            return None;
        }
        drop(in_use);
        scratch.give_pipe_back(pipe);
        match moved {
            Poll::Pending => Some(Moved::Waiting),
            Poll::Ready(Err(_)) => Some(Moved::ReaderReset),
            Poll::Ready(Ok(_)) => self.copy(cx, from, to, scratch, keep),
        }
    }

    /// Writes what is kept or piped; none when nothing is left of it.
    fn write_kept(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut impl Side,
        scratch: &mut Scratch,
    ) -> Option<Moved> {
        while let (Some(piped), Some(writer)) = (&mut self.piped, to.plain()) {
            match writer.poll_splice_out(cx, &piped.pipe, piped.held) {
                Poll::Ready(Ok(count)) => piped.held -= count,
                Poll::Ready(Err(_)) => return Some(Moved::WriterReset),
                Poll::Pending => return Some(Moved::Waiting),
            }
            if piped.held == 0
                && let Some(Piped { pipe, in_use, .. }) = self.piped.take()
            {
                drop(in_use);
                scratch.give_pipe_back(pipe);
            }
        }
        while self.written < self.kept.len() {
            match to.poll_write(cx, &self.kept[self.written..]) {
                Poll::Ready(Ok(count)) => self.written += count,
                Poll::Ready(Err(_)) => return Some(Moved::WriterReset),
                Poll::Pending => return Some(Moved::Waiting),
            }
        }
        if self.written > 0 {
            self.kept = Vec::new();
            self.written = 0;
        }
        None
    }

    /// Reads for nobody, so that the reader's end or reset is still noticed.
    fn discard(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut impl Side,
        scratch: &mut Scratch,
    ) -> Option<Moved> {
        match from.poll_read(cx, &mut scratch.bytes) {
            Poll::Ready(Ok(0)) | Poll::Pending => Some(Moved::Waiting),
            Poll::Ready(Ok(_)) => None,
            Poll::Ready(Err(_)) => Some(Moved::ReaderReset),
        }
    }

    /// The end has been passed on.
    pub(super) fn end(&mut self) {
        self.state = FlowState::Ended;
    }

    /// The writer is gone: what is kept is lost, and what comes will be.
    pub(super) fn break_off(&mut self) {
        self.kept = Vec::new();
        self.written = 0;
        self.piped = None;
        self.state = FlowState::Broken;
    }
}

/// What moving came to once the writer has handed everything to the kernel.
fn settled(handed: Poll<io::Result<()>>, then: Moved) -> Moved {
    match handed {
        Poll::Ready(Ok(())) => then,
        Poll::Ready(Err(_)) => Moved::WriterReset,
        Poll::Pending => Moved::Waiting,
    }
}
