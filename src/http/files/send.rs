//! Bytes of a file to a client: a small one copied beside its head, a big one sent from the page cache without being
//! copied at all (sendfile(2)), and what is not in memory read by a thread.
//!
//! sendfile has no way to say "only if you need not wait", whatever the socket says. So every page is first looked
//! at by a read of two bytes, the last of one page and the first of the next, that refuses to wait (preadv2,
//! RWF_NOWAIT), right before each call: a system call for 8 KiB, a tenth of what copying them twice takes. Reading
//! all would be certain but is the copying that is to be saved; mincore(2) and cachestat(2) tell only the owner of a
//! file, and count pages that are still on their way from the disk. What stays is a page that is dropped within
//! those microseconds; a local disk brings it back, and only local file systems are asked this way.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::{Errno, ReadWriteFlags};
use tokio::time::Instant;

use super::errand::Lost;
use super::find::{Opened, read_waiting};
use crate::http::serve::Session;
use crate::observe::ended::Why;

/// Bytes read at a time away from the loop.
const COLD_READ: usize = 256 * 1024;

/// Up to here copying is cheaper than sending from the page cache, which costs a write of its own.
const COPIED_MAX: u64 = 64 * 1024;

/// What is copied of a bigger file, so that the head does not leave alone.
const BESIDE_HEAD: usize = 12 * 1024;

/// Bytes looked at and then sent from the page cache at a time.
const WARM_PIECE: usize = 256 * 1024;

/// Pieces sent before other connections of the worker get their turn.
const PIECES_PER_TURN: u32 = 16;

/// The smallest page there is; with bigger ones some are looked at twice.
const PAGE: u64 = 4096;

impl Session<'_> {
    /// Sends a part of a file.
    pub(super) async fn send_part(
        &mut self,
        file: &Opened,
        part: Range<u64>,
        patience: Duration,
    ) -> Result<(), Why> {
        let zero_copy = file.is_local && part.end - part.start > COPIED_MAX;
        let mut at = part.start;
        let mut pieces = 0_u32;
        while at < part.end {
            let left = part.end - at;
            let sent = match (file.is_local, zero_copy && at > part.start) {
                (true, true) => self.send_warm(file, at, left).await?,
                (true, false) => {
                    self.drained().await?;
                    let most = if zero_copy { BESIDE_HEAD } else { fits(left) };
                    self.put_warm(file, at, most).await?
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
            at += sent as u64;
            pieces += 1;
            if pieces.is_multiple_of(PIECES_PER_TURN) {
                tokio::task::yield_now().await;
            }
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
            let room = most.min(scratch.len());
            let Ok(count) = read_warm(&file.file, at, &mut scratch[..room]) else {
                return Poll::Ready(Ok(None));
            };
            let outcome = self.stream.output.put(cx, &self.stream.socket, &scratch[..count]);
            Poll::Ready(outcome.map(|()| Some(count)).map_err(|_| Why::ClientGone))
        })
        .await
    }

    /// Sends what is in memory at this place of a file, without copying it; none if the disk would have to be asked.
    async fn send_warm(&mut self, file: &Opened, at: u64, left: u64) -> Result<Option<usize>, Why> {
        let due = self.site.rules.idle_timeout.map(|idle| Instant::now() + idle);
        poll_fn(|cx| {
            let mut send = || {
                std::task::ready!(self.stream.poll_flush(cx))?;
                // Looked at each time anew: a client that is slow lets pages grow old.
                let most = in_memory(&file.file, at, fits(left).min(WARM_PIECE));
                if most == 0 {
                    return Poll::Ready(Ok(None));
                }
                self.stream.socket.poll_send_file(cx, &file.file, at, most).map_ok(Some)
            };
            match send() {
                Poll::Ready(Ok(Some(count))) => {
                    self.stream.output.passed(count);
                    Poll::Ready(Ok(Some(count)))
                }
                Poll::Ready(Ok(None)) => Poll::Ready(Ok(None)),
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
        poll_fn(|cx| {
            let outcome = self.stream.output.put(cx, &self.stream.socket, bytes);
            Poll::Ready(outcome.map_err(|_| Why::ClientGone))
        })
        .await
    }

    /// Waits until the client has taken most of what was put.
    pub(super) async fn drained(&mut self) -> Result<(), Why> {
        if !self.stream.output.is_full() {
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

/// Reads what is in memory at a place; an error if the disk would have to be asked first.
fn read_warm(file: &std::fs::File, at: u64, into: &mut [u8]) -> rustix::io::Result<usize> {
    let mut pieces = [io::IoSliceMut::new(into)];
    rustix::io::preadv2(file, &mut pieces, at, ReadWriteFlags::NOWAIT)
}

/// How many bytes from a place on, `most` at most, are in memory; 0 also at the end of the file.
fn in_memory(file: &std::fs::File, at: u64, most: usize) -> usize {
    let end = at.saturating_add(most as u64);
    let mut known = at;
    while known < end {
        // From here to the end of this page, and all of the next one.
        let page_end = (known / PAGE + 1) * PAGE;
        let (look_at, count) = if page_end < end { (page_end - 1, 2) } else { (known, 1) };
        match read_warm(file, look_at, &mut [0; 2][..count]) {
            Ok(0) | Err(_) => break,
            Ok(2) => known = page_end + PAGE,
            Ok(_) => {
                known = page_end;
                if count == 2 {
                    break;
                }
            }
        }
    }
    fits(known.min(end) - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_memory_is_told_to_the_byte() {
        // Only a file system that can be asked without waiting; the build folder lies on one or there is no telling.
        let mut file = tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        io::Write::write_all(&mut file, &vec![1; 100_001]).unwrap();
        if read_warm(&file, 0, &mut [0]).is_err() {
            return;
        }
        for (at, most, expected) in [
            (0, 100_001, 100_001),
            (0, 1, 1),
            (0, 4096, 4096),
            (0, 4097, 4097),
            (4095, 8194, 8194),
            (1, 50_000, 50_000),
            (100_000, 1, 1),
        ] {
            assert_eq!(in_memory(&file, at, most), expected, "{at}+{most}");
        }
        assert_eq!(in_memory(&file, 100_001, 10), 0);
    }
}
