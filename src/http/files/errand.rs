//! Operations on files that may wait, carried out by the worker's file threads while its loop goes on.
//! How many may be under way is limited, and how long a request waits for one: a folder that hangs must cost a
//! bounded number of waiting requests and nothing else. A thread that hangs in the kernel cannot be called back;
//! it stays counted until it returns.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::http::session::Session;
use crate::observe::ended::Why;

/// How many errands of one worker are under way or wait for a thread.
#[derive(Debug)]
pub(super) struct Errands {
    under_way: Arc<AtomicUsize>,
    most: usize,
}

/// One of them; dropped when its thread has done it, or when it was called off before.
struct Ticket(Arc<AtomicUsize>);

/// Why an errand brought nothing back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    TooMany,
    Late(Duration),
    Cut,
    Broken,
}

impl Lost {
    pub(super) fn why(self) -> Why {
        match self {
            Lost::TooMany => Why::OutOfResources,
            Lost::Late(_) => Why::FileLate,
            Lost::Cut => Why::DrainCut,
            Lost::Broken => Why::InternalError,
        }
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lost::TooMany => f.write_str("file-queue-max requests wait for files"),
            Lost::Late(patience) => write!(f, "the file did not come within {patience:?}"),
            Lost::Cut => f.write_str("stopped"),
            Lost::Broken => f.write_str("a fault while looking for the file"),
        }
    }
}

impl Errands {
    pub(super) fn new(most: usize) -> Errands {
        Errands { under_way: Arc::default(), most }
    }

    fn ticket(&self) -> Option<Ticket> {
        // Only this worker counts up, so nobody can come in between.
        if self.under_way.load(Relaxed) >= self.most {
            return None;
        }
        self.under_way.fetch_add(1, Relaxed);
        Some(Ticket(Arc::clone(&self.under_way)))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Session<'_> {
    /// Has `work` done by a thread, and waits for it no longer than `patience`.
    pub(super) async fn errand<T: Send + 'static>(
        &mut self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let ticket = self.local.files.errands.ticket().ok_or(Lost::TooMany)?;
        let due = Instant::now() + patience;
        let mut errand = tokio::task::spawn_blocking(move || {
            let _ticket = ticket;
            work()
        });
        let outcome = poll_fn(|cx| match Pin::new(&mut errand).poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map_err(|_| Lost::Broken)),
            Poll::Pending if self.cut.is_asked(cx) => Poll::Ready(Err(Lost::Cut)),
            Poll::Pending if self.alarm.is_over(cx, Some(due)) => {
                Poll::Ready(Err(Lost::Late(patience)))
            }
            Poll::Pending => Poll::Pending,
        })
        .await;
        if outcome.is_err() {
            // Whoever has not begun never will.
            errand.abort();
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_errand_is_over() {
        let errands = Errands::new(2);
        let first = errands.ticket().unwrap();
        let _second = errands.ticket().unwrap();
        assert!(errands.ticket().is_none());
        drop(first);
        assert!(errands.ticket().is_some());
    }
}
