//! A connection whose small writes are gathered, so that the frames of many streams leave with one system call, and over
//! TLS in one record. The `h2` crate hands each DATA frame over by itself and has it flushed before it takes the next;
//! so a flush of its is taken as no more than a wish, and whoever drives the connection writes when a turn is over.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may be gathered. A peer that takes none holds up to so much.
const GATHERED_MAX: usize = 32 * 1024;

/// What is as large as this costs more to copy than to write by itself.
const DIRECT_MIN: usize = 8 * 1024;

thread_local! {
    /// Room for the next turns, of whichever connection: it would be had anew, in many steps, for each.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}
const SPARE_MAX: usize = 4;

/// One connection; its clones are the same one.
#[derive(Debug)]
pub(in crate::http) struct Batched<T>(Rc<RefCell<Batch<T>>>);

#[derive(Debug)]
struct Batch<T> {
    io: T,
    gathered: Vec<u8>,
    written: usize,
}

impl<T> Batched<T> {
    pub(in crate::http) fn new(io: T) -> Batched<T> {
        Batched(Rc::new(RefCell::new(Batch { io, gathered: Vec::new(), written: 0 })))
    }
}

impl<T> Clone for Batched<T> {
    fn clone(&self) -> Batched<T> {
        Batched(Rc::clone(&self.0))
    }
}

impl<T: AsyncWrite + Unpin> Batched<T> {
    /// Writes what has been gathered; the turn is over.
    pub(in crate::http) fn poll_written(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_written(cx)
    }
}

impl<T: AsyncWrite + Unpin> Batch<T> {
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(waiting) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty())
        {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, waiting))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        // Between two turns nothing is held.
        let mut room = std::mem::take(&mut self.gathered);
        self.written = 0;
        if room.capacity() > 0 {
            room.clear();
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < SPARE_MAX {
                    spare.push(room);
                }
            });
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn waiting(&self) -> usize {
        self.gathered.len() - self.written
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let batch = &mut *self.0.borrow_mut();
        let outcome = Pin::new(&mut batch.io).poll_read(cx, into);
        // Before the connection has a driver, as in its greeting, waiting for the peer ends a turn too.
        if outcome.is_pending() && batch.waiting() > 0 {
            let _ = batch.poll_written(cx)?;
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let batch = &mut *self.0.borrow_mut();
        let length = from.iter().map(|part| part.len()).sum::<usize>();
        if length >= DIRECT_MIN || batch.waiting() + length > GATHERED_MAX {
            ready!(batch.poll_written(cx))?;
        }
        if length >= DIRECT_MIN {
            return Pin::new(&mut batch.io).poll_write_vectored(cx, from);
        }
        if batch.gathered.capacity() == 0 {
            batch.gathered = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        from.iter().for_each(|part| batch.gathered.extend_from_slice(part));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let batch = &mut *self.0.borrow_mut();
        ready!(batch.poll_written(cx))?;
        Pin::new(&mut batch.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn small_writes_wait_for_the_end_of_the_turn_and_keep_their_order_with_large_ones() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (near, mut far) = tokio::io::duplex(1 << 20);
            let driver = Batched::new(near);
            let mut writer = driver.clone();
            writer.write_all(b"one ").await.unwrap();
            writer.flush().await.unwrap();
            writer.write_all(b"two ").await.unwrap();
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            let mut room = [0; 16];
            let mut into = ReadBuf::new(&mut room);
            assert!(Pin::new(&mut far).poll_read(cx, &mut into).is_pending());
            writer.write_all(&[b'x'; DIRECT_MIN]).await.unwrap();
            writer.write_all(b" end").await.unwrap();
            assert!(driver.poll_written(cx).is_ready());
            let mut all = vec![0; 8 + DIRECT_MIN + 4];
            far.read_exact(&mut all).await.unwrap();
            assert!(all.starts_with(b"one two xxx") && all.ends_with(b"xxx end"));
        });
    }

    #[test]
    fn what_a_peer_does_not_take_is_bounded() {
        let (near, _far) = tokio::io::duplex(64);
        let mut writer = Batched::new(near);
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(Ok(count)) = Pin::new(&mut writer).poll_write(cx, &[0; 1000]) {
            taken += count;
            assert!(taken < 2 * GATHERED_MAX);
        }
        assert!(taken > GATHERED_MAX / 2);
    }
}
