//! Bytes of a file to a client: a small one copied beside its head, a big one sent from the page cache without being
//! copied at all (sendfile(2)), and what is not in memory read by a thread. The loop never waits for a disk: what is
//! sent from memory has been found there just before, see `warm.rs`.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use super::errand::Lost;
use super::find::{Opened, read_waiting};
use super::warm;
use crate::http::compress;
use crate::http::session::Session;
use crate::observe::ended::Why;

/// Bytes read at a time away from the loop.
const COLD_READ: usize = 256 * 1024;

/// Up to here copying is cheaper than sending from the page cache, which costs a call of its own.
const COPIED_MAX: u64 = 24 * 1024;

/// From here on only full packets are sent. A receiver that gives little room at a time would get half as many bytes with
/// each, and be woken twice as often: 10 MB over loopback took 265 packets instead of 166.
const CORKED_MIN: u64 = 1024 * 1024;

/// Bytes sent without copying them before other connections of the worker get their turn.
const SENT_PER_TURN: usize = 4 * 1024 * 1024;

/// The same where they are copied.
const COPIED_PER_TURN: usize = 512 * 1024;

impl Session<'_> {
    /// Sends a part of a file.
    pub(super) async fn send_part(
        &mut self,
        file: &Opened,
        part: Range<u64>,
        patience: Duration,
    ) -> Result<(), Why> {
        let coded = self.encoder.is_some();
        let zero_copy = !coded
            && self.stream.direct().is_some()
            && file.is_local
            && part.end - part.start > COPIED_MAX;
        let (most, per_turn) = match (coded, zero_copy) {
            (true, _) => (compress::PIECE, compress::PIECE * compress::PIECES_PER_TURN as usize),
            (false, true) => (usize::MAX, SENT_PER_TURN),
            (false, false) => (usize::MAX, COPIED_PER_TURN),
        };
        let corks = zero_copy && part.end - part.start >= CORKED_MIN;
        if corks && let Some((_, socket)) = self.stream.direct() {
            socket.cork();
        }
        let mut at = part.start;
        let mut turn = 0;
        while at < part.end {
            let left = part.end - at;
            let sent = match (file.is_local, zero_copy) {
                (true, true) => self.send_warm(file, at, fits(left)).await?,
                (true, false) => {
                    self.drained().await?;
                    self.put_warm(file, at, fits(left).min(most)).await?
                }
                (false, _) => None,
            };
            let sent = match sent {
                Some(count) => count,
                None => self.put_cold(file, at, fits(left).min(COLD_READ), patience).await?,
            };
            // Somebody made the file shorter; what was promised cannot be kept.
            if sent == 0 {
                return Err(Why::FileBroken);
            }
            self.put_coded().await?;
            at += sent as u64;
            turn += sent;
            if turn >= per_turn {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        if corks && let Some((_, socket)) = self.stream.direct() {
            socket.push();
        }
        Ok(())
    }

    /// Copies what is in memory at this place of a file; none if the disk would have to be asked.
    async fn put_warm(
        &mut self,
        file: &Opened,
        at: u64,
        most: usize,
    ) -> Result<Option<usize>, Why> {
        poll_fn(|cx| {
            let mut scratch = self.local.scratch.borrow_mut();
            let room = most.min(scratch.len()).min(self.stream.piece_max());
            let Ok(count) = warm::read(&file.file, at, &mut scratch[..room]) else {
                return Poll::Ready(Ok(None));
            };
            let bytes = &scratch[..count];
            let outcome = match &mut self.encoder {
                Some(encoder) => encoder.feed(bytes).map_err(|_| Why::InternalError),
                None => self.stream.put(cx, bytes, false).map_err(|_| Why::ClientGone),
            };
            Poll::Ready(outcome.map(|()| Some(count)))
        })
        .await
    }

    /// Sends what is in memory at this place of a file, without copying it; none if the disk would have to be asked.
    async fn send_warm(
        &mut self,
        file: &Opened,
        at: u64,
        left: usize,
    ) -> Result<Option<usize>, Why> {
        let due = self.site.rules.idle_timeout.map(|idle| Instant::now() + idle);
        poll_fn(|cx| {
            let mut send = || {
                // Asked each time anew: a client that is slow lets pages grow old.
                let most = file.warm.from(&file.file, at, file.length, left);
                if most == 0 {
                    return Poll::Ready(Ok(None));
                }
                let Some((output, socket)) = self.stream.direct() else {
                    return Poll::Ready(Ok(None));
                };
                ready!(output.poll_flush_before(cx, socket))?;
                let sent = ready!(socket.poll_send_file(cx, &file.file, at, most))?;
                output.passed(sent);
                Poll::Ready(Ok(Some(sent)))
            };
            match send() {
                Poll::Ready(Ok(sent)) => Poll::Ready(Ok(sent)),
                Poll::Ready(Err(error)) => Poll::Ready(unsent(&error)),
                Poll::Pending if self.cut.is_asked(cx) => Poll::Ready(Err(Why::DrainCut)),
                Poll::Pending if self.alarm.is_over(cx, due) => Poll::Ready(Err(Why::IdleTimeout)),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Has a thread read at this place of a file.
    async fn put_cold(
        &mut self,
        file: &Opened,
        at: u64,
        most: usize,
        patience: Duration,
    ) -> Result<usize, Why> {
        self.drained().await?;
        let reader = Arc::clone(&file.file);
        let read = self.errand(patience, move || read_waiting(&reader, at, most)).await;
        let bytes = read.map_err(Lost::why)?.map_err(|_| Why::FileBroken)?;
        self.put(&bytes).await?;
        Ok(bytes.len())
    }

    pub(super) async fn put(&mut self, bytes: &[u8]) -> Result<(), Why> {
        if self.encoder.is_some() {
            return self.encode(bytes).await;
        }
        poll_fn(|cx| {
            let outcome = self.stream.put(cx, bytes, false);
            Poll::Ready(outcome.map_err(|_| Why::ClientGone))
        })
        .await
    }

    /// Waits until the client has taken most of what was put.
    pub(super) async fn drained(&mut self) -> Result<(), Why> {
        if !self.stream.is_full() {
            return Ok(());
        }
        let due = self.site.rules.idle_timeout.map(|idle| Instant::now() + idle);
        poll_fn(|cx| match self.stream.poll_flush(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|_| Why::ClientGone)),
            Poll::Pending if self.cut.is_asked(cx) => Poll::Ready(Err(Why::DrainCut)),
            Poll::Pending if self.alarm.is_over(cx, due) => Poll::Ready(Err(Why::IdleTimeout)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// What an error of sendfile means. Where it does not exist or must not be used, a thread reads instead.
fn unsent(error: &io::Error) -> Result<Option<usize>, Why> {
    match Errno::from_io_error(error) {
        Some(Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(None),
        Some(Errno::IO) => Err(Why::FileBroken),
        _ => Err(Why::ClientGone),
    }
}

fn fits(length: u64) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
