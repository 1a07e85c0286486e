//! One thing for each worker, so that counting shares no cache line between threads: each worker writes its own, and whoever reads
//! goes through all of them. It must never make a worker wait: only threads that are no workers share one, behind a lock.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

thread_local! {
    /// Which worker's this thread is, from 1 on; 0 where it is none's.
    static SEAT: Cell<usize> = const { Cell::new(0) };
}

/// The most workers that any proxy of this process has had.
static SEATS: AtomicUsize = AtomicUsize::new(0);

/// Says how many workers are to come: what is made from then on has room for each. Whoever finds none goes with the others.
pub(crate) fn expect_workers(count: usize) {
    SEATS.fetch_max(count, Relaxed);
}

/// From now on this thread is that worker's.
pub(crate) fn be_worker(number: usize) {
    SEAT.with(|seat| seat.set(number + 1));
}

/// A `T` for each worker, made when that first needs it, and one for all other threads.
///
/// Two proxies in one process both have a first worker; what they count belongs to one of them, so nothing has two writers.
pub(crate) struct Striped<T> {
    own: Box<[OnceLock<Box<Apart<T>>>]>,
    others: Mutex<T>,
}

/// Two cache lines are fetched together, so things are kept apart by as much.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T: Default> Default for Striped<T> {
    fn default() -> Striped<T> {
        let own = (0..SEATS.load(Relaxed)).map(|_| OnceLock::new()).collect();
        Striped { own, others: Mutex::default() }
    }
}

impl<T: Default> Striped<T> {
    /// Lends this thread its own, which nobody else writes meanwhile.
    pub(crate) fn note(&self, write: impl FnOnce(&T)) {
        let seat = SEAT.with(Cell::get).checked_sub(1);
        match seat.and_then(|seat| self.own.get(seat)) {
            Some(own) => write(&own.get_or_init(Box::default).0),
            None => write(&self.others.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// Shows each of them; others may be writing.
    pub(crate) fn each(&self, mut read: impl FnMut(&T)) {
        self.own.iter().filter_map(OnceLock::get).for_each(|own| read(&own.0));
        read(&self.others.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A sum over all of them.
    pub(crate) fn sum(&self, mut part: impl FnMut(&T) -> u64) -> u64 {
        let mut sum = 0;
        self.each(|one| sum += part(one));
        sum
    }
}

impl<T> fmt::Debug for Striped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Striped").field("workers", &self.own.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::count::Count;
    use std::sync::Arc;

    #[test]
    fn nothing_is_lost_with_all_workers_and_others_counting_at_once() {
        expect_workers(2);
        let counts = Arc::new(Striped::<Count>::default());
        let threads: Vec<_> = [Some(0), Some(1), Some(70), None, None]
            .into_iter()
            .map(|worker| {
                let counts = Arc::clone(&counts);
                std::thread::spawn(move || {
                    worker.into_iter().for_each(be_worker);
                    (0..100_000).for_each(|_| counts.note(|count| count.add(1)));
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(counts.sum(Count::value), 500_000);
    }
}
