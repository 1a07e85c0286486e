//! Connections that wait for a place at a backend: the oldest is served first, on whichever worker it is.
//! The queue is bounded, and a place is handed over under its lock, so that no freed place goes unnoticed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::tables::NoPick;
use super::{Affinity, Backend, InFlight, Upstream};

/// Waiting connections looked at when a place is free; those before may have tried that backend already.
const LOOKED_AT: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: Mutex<VecDeque<Waiter>>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Waiter {
    affinity: Affinity,
    tried: Vec<Arc<Backend>>,
    place: oneshot::Sender<InFlight>,
}

/// Why waiting was in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoPlace {
    NobodyLeft,
    QueueFull,
    QueueTimeout,
}

impl Queue {
    pub(super) fn somebody_waits(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// How many wait now; those who gave up are not among them.
    pub(super) fn waiting(&self) -> u64 {
        self.lock().iter().filter(|waiter| !waiter.place.is_closed()).count() as u64
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upstream {
    /// Takes a place if one is to be had at once.
    pub(crate) fn place_now(
        self: &Arc<Self>,
        affinity: Affinity,
        tried: &[Arc<Backend>],
    ) -> Option<InFlight> {
        if self.lasting.queue.somebody_waits() { None } else { self.pick(affinity, tried).ok() }
    }

    /// Takes a place at once, or waits for one behind those who came before, and adds how long that was.
    pub(crate) async fn place(
        self: &Arc<Self>,
        affinity: Affinity,
        tried: &[Arc<Backend>],
        waited: &mut Option<Duration>,
    ) -> Result<InFlight, NoPlace> {
        if !self.lasting.queue.somebody_waits() {
            match self.pick(affinity, tried) {
                Ok(place) => return Ok(place),
                Err(NoPick::NobodyLeft) => return Err(NoPlace::NobodyLeft),
                Err(NoPick::AllFull | NoPick::NotYetKnown) => {}
            }
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiters = self.lasting.queue.lock();
            // Those who gave up still stand in the line; they do not count.
            waiters.retain(|waiter| !waiter.place.is_closed());
            if waiters.len() >= self.rules.queue_max as usize {
                let nobody = self.line_up.load().is_empty();
                if nobody {
                    return Err(NoPlace::NobodyLeft);
                }
                self.note_queue_full();
                return Err(NoPlace::QueueFull);
            }
            waiters.push_back(Waiter { affinity, tried: tried.to_vec(), place: sender });
            self.lasting.queue.waiting.store(waiters.len(), SeqCst);
        }
        self.serve_queue();
        let asked = Instant::now();
        let place = tokio::time::timeout_at(asked + self.rules.queue_timeout, receiver).await;
        *waited = Some(waited.unwrap_or_default() + asked.elapsed());
        match place {
            Ok(Ok(place)) => Ok(place),
            // Nobody is left to wait for.
            Ok(Err(_)) => Err(NoPlace::NobodyLeft),
            Err(_) if self.line_up.load().is_empty() => Err(NoPlace::NobodyLeft),
            Err(_) => {
                self.note_queue_timeout();
                Err(NoPlace::QueueTimeout)
            }
        }
    }

    /// Hands out the places that are free now, oldest first.
    pub(super) fn serve_queue(self: &Arc<Self>) {
        let newest = self.newest();
        if !Arc::ptr_eq(&newest, self) {
            return newest.serve_queue();
        }
        // Places that nobody took any more are given back after the lock is released: giving back locks too.
        let mut unwanted = Vec::new();
        let mut waiters = self.lasting.queue.lock();
        let mut at = 0;
        let mut all_full = false;
        while at < waiters.len().min(LOOKED_AT) {
            if waiters[at].place.is_closed() {
                waiters.remove(at);
                continue;
            }
            // Who has tried nobody yet finds the same as the one before.
            if all_full && waiters[at].tried.is_empty() {
                at += 1;
                continue;
            }
            match self.pick_again(waiters[at].affinity, &waiters[at].tried, false) {
                Ok(place) => {
                    if let Some(waiter) = waiters.remove(at)
                        && let Err(place) = waiter.place.send(place)
                    {
                        unwanted.push(place);
                    }
                }
                // Dropping the sender tells it.
                Err(NoPick::NobodyLeft) => drop(waiters.remove(at)),
                Err(NoPick::NotYetKnown) => break,
                Err(NoPick::AllFull) => {
                    all_full |= waiters[at].tried.is_empty();
                    at += 1;
                }
            }
        }
        self.lasting.queue.waiting.store(waiters.len(), SeqCst);
        drop(waiters);
        drop(unwanted);
    }
}
