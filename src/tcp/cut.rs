//! What a connection is asked from outside: to end, now or as soon as it can, to go by a new plan, to be parked. It is looked at
//! in each turn of whatever serves the connection, and must never be more than a few cells for one that nobody asks.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Waker};

use tokio::sync::mpsc;

use super::Seen;
use crate::observe::ended::Why;
use crate::upstream::{Backend, InFlight, Upstream};

/// A request from outside to end a connection, looked at in each turn of its relay.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    asked: Cell<bool>,
    finishing: Cell<bool>,
    /// Whether somebody wants to know of a new plan, and whether there is one.
    wants_news: Cell<bool>,
    has_news: Cell<bool>,
    /// What the end is asked for, where it is not that everything ends.
    because: Cell<Option<Why>>,
    /// Whether a record has said so.
    is_told: Cell<bool>,
    seen: Seen,
    /// When it had a turn last, by the clock of its worker.
    had_turn: Cell<u64>,
    /// Where it stays to its end, once that is known.
    stays_at: RefCell<Option<(Arc<Upstream>, Arc<Backend>)>>,
    parking: Cell<Parking>,
    /// Whether it would come to a rest some time, in which it can be parked.
    will_rest: Cell<bool>,
    /// Whether it is to go elsewhere as soon as it can.
    leaving: Cell<bool>,
    /// In which attempt it was last asked to park: in each it is asked once.
    parked_in: Cell<u64>,
    /// Held until what was asked to park is parked, or has ended instead.
    asked_to_park: RefCell<Option<mpsc::Sender<()>>>,
    waker: RefCell<Option<Waker>>,
}

/// Whether a connection can be taken apart and go on in another process, and whether it is to be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Parking {
    /// As it is now, it cannot.
    #[default]
    Impossible,
    Possible,
    Asked,
}

impl Cut {
    /// Asks the connection to end as soon as nothing is under way on it.
    pub(crate) fn ask_to_finish(&self) {
        self.finishing.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the connection is to end as soon as it can without harm: not where it can go elsewhere instead.
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.get() && !(self.leaving.get() && self.will_rest.get())
    }

    /// Says that from now on the connection is told of each new plan.
    pub(crate) fn want_news(&self) {
        self.wants_news.set(true);
    }

    /// Tells the connection that what it takes up next is to go by a new plan.
    pub(crate) fn tell_news(&self) {
        if self.wants_news.get() {
            self.has_news.set(true);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Whether there is a new plan since this was last asked.
    pub(crate) fn take_news(&self) -> bool {
        self.has_news.take()
    }

    /// Says that the connection stays at this backend to its end.
    pub(crate) fn stay_at(&self, place: &InFlight) {
        let at = (Arc::clone(&place.upstream), Arc::clone(&place.backend));
        *self.stays_at.borrow_mut() = Some(at);
    }

    /// Asks the connection to end now if it stays at one of these backends, and that is not in the config again.
    pub(crate) fn ask_if_at(&self, removed: &[Arc<Backend>]) {
        let has_left = |(upstream, backend): &(Arc<Upstream>, Arc<Backend>)| {
            removed.iter().any(|removed| removed.is(backend)) && !upstream.has(backend)
        };
        if self.stays_at.borrow().as_ref().is_some_and(has_left) {
            self.ask();
        }
    }

    /// Notes that the connection has a turn now.
    pub(crate) fn note_turn(&self, now: u64) {
        self.had_turn.set(now);
    }

    /// When it had its last turn, by the clock of its worker.
    pub(crate) fn had_turn(&self) -> u64 {
        self.had_turn.get()
    }

    /// Asks the connection to end because others need the memory: at once, or where something is under way on it
    /// only if it must be. Between two requests it ends in order.
    pub(crate) fn make_room(&self, must_be: bool) {
        if must_be || self.stays_at.borrow().is_some() {
            self.because.set(Some(Why::LimitMemory));
            self.ask();
        } else {
            self.ask_to_finish();
        }
    }

    /// Asks the connection to end now, as an operator wishes.
    pub(crate) fn close(&self) {
        self.because.set(Some(Why::ClosedByOperator));
        self.ask();
    }

    /// Asks for the end of a part of a connection whose end was asked for, for the same reason.
    pub(crate) fn ask_as(&self, whole: &Cut) {
        self.because.set(whole.because.get());
        self.ask();
    }

    /// Why a connection really ended of which it is said that it was cut.
    pub(crate) fn judged(&self, why: Why) -> Why {
        match self.because.get() {
            Some(because) if why == Why::DrainCut => {
                self.is_told.set(true);
                because
            }
            _ => why,
        }
    }

    /// Whether an operator has closed it and no record has said so yet.
    pub(crate) fn owes_a_record(&self) -> bool {
        self.because.get() == Some(Why::ClosedByOperator) && !self.is_told.get()
    }

    /// What can be seen of the connection.
    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether its end was asked for.
    pub(crate) fn is_ending(&self) -> bool {
        self.asked.get()
    }

    /// Where it stays to its end, if that is known: the names of the upstream and of the backend.
    pub(crate) fn place(&self) -> Option<(Arc<str>, Arc<str>)> {
        let at = self.stays_at.borrow();
        let at = at.as_ref();
        at.map(|(upstream, backend)| (Arc::clone(&upstream.rules.name), Arc::clone(&backend.name)))
    }

    /// Says whether the connection can be parked from now on. Where it was asked to and something else came first, nobody waits
    /// for it any longer.
    pub(crate) fn can_park(&self, can: bool) {
        self.parking.set(if can { Parking::Possible } else { Parking::Impossible });
        drop(self.take_asked());
    }

    /// Asks the connection to take itself apart between two reads; whether it can, and was not asked in this attempt before.
    /// `asked` is held until it is done.
    pub(crate) fn ask_to_park(&self, attempt: u64, asked: &mpsc::Sender<()>) -> bool {
        if self.parking.get() != Parking::Possible || self.parked_in.get() == attempt {
            return false;
        }
        self.parked_in.set(attempt);
        self.parking.set(Parking::Asked);
        *self.asked_to_park.borrow_mut() = Some(asked.clone());
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    /// Says that the connection rests now, as it does now and then, and can be parked.
    pub(crate) fn rests(&self) {
        self.will_rest.set(true);
        self.can_park(true);
    }

    /// Has the connection go elsewhere as soon as it can be parked, or not any more.
    pub(crate) fn leave(&self, leaving: bool) {
        self.leaving.set(leaving);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What is held until it is parked.
    pub(crate) fn take_asked(&self) -> Option<mpsc::Sender<()>> {
        self.asked_to_park.borrow_mut().take()
    }

    /// Whether it is to take itself apart; looked at after [`Cut::is_asked`], which leaves the waker.
    pub(crate) fn is_to_park(&self) -> bool {
        match self.parking.get() {
            Parking::Asked => true,
            Parking::Possible => self.leaving.get(),
            Parking::Impossible => false,
        }
    }

    /// Asks the connection to end now.
    pub(crate) fn ask(&self) {
        self.asked.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Whether the end was asked for; if not, the task of `cx` is woken when it is.
    pub(crate) fn is_asked(&self, cx: &Context<'_>) -> bool {
        if !self.asked.get() {
            let mut waker = self.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        self.asked.get()
    }

    /// Waits until the end is asked for.
    pub(crate) async fn asked(&self) {
        std::future::poll_fn(|cx| {
            if self.is_asked(cx) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}
