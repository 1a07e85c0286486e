//! A connection to a backend that many requests use at the same time, each on a stream of its own.
//! It must never carry more streams than its backend allows, and is left alone as soon as it is of no more use.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One connection, while it is being opened and while it is open.
#[derive(Debug)]
pub(in crate::http) struct Shared {
    sender: RefCell<Option<SendRequest<Bytes>>>,
    state: Cell<State>,
    streams: Cell<usize>,
    requests: Cell<u32>,
    used: Cell<Instant>,
    /// Whether the backend has said what it can do.
    settled: Cell<bool>,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    Open,
    Over,
}

impl Shared {
    /// Whether another stream may begin, or will be able to once the connection is open.
    fn has_room(&self, streams_max: usize) -> bool {
        let most = match (self.state.get(), &*self.sender.borrow()) {
            (State::Over, _) => 0,
            (_, Some(sender)) => sender.current_max_send_streams().min(streams_max),
            (_, None) => streams_max,
        };
        self.streams.get() < most
    }

    /// Whether it is of no more use.
    pub(in crate::http) fn is_over(&self) -> bool {
        self.state.get() == State::Over
    }

    /// Since when no stream has been on it.
    pub(in crate::http) fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0 && self.state.get() == State::Open).then(|| self.used.get())
    }

    /// Takes a place for one request, if there is one.
    pub(in crate::http) fn take(self: &Rc<Self>, streams_max: usize) -> Option<Place> {
        if !self.has_room(streams_max) {
            return None;
        }
        self.streams.set(self.streams.get() + 1);
        Some(Place { shared: Rc::clone(self) })
    }

    /// Waits until nobody uses it, nor ever will.
    pub(super) async fn abandoned(&self) {
        while !self.is_over() || self.streams.get() > 0 {
            self.changed.notified().await;
        }
    }

    /// The backend has said what it can do.
    pub(super) fn settle(&self) {
        if !self.settled.replace(true) {
            self.changed.notify_waiters();
        }
    }

    /// No further request begins on it; those under way go on.
    pub(in crate::http) fn retire(&self) {
        self.state.set(State::Over);
        // The connection closes itself when its last stream has ended and nobody can begin another.
        self.sender.borrow_mut().take();
        self.changed.notify_waiters();
    }
}

/// A connection that is being opened: dropped before it is open, it is given up.
#[derive(Debug)]
pub(in crate::http) struct Opening {
    shared: Rc<Shared>,
}

impl Opening {
    pub(in crate::http) fn begin() -> (Opening, Rc<Shared>) {
        let shared = Rc::new(Shared {
            sender: RefCell::new(None),
            state: Cell::new(State::Opening),
            // The place of whoever opens it.
            streams: Cell::new(1),
            requests: Cell::new(0),
            used: Cell::new(Instant::now()),
            settled: Cell::new(false),
            changed: Notify::new(),
        });
        (Opening { shared: Rc::clone(&shared) }, shared)
    }

    /// Hands it to everybody who waits for it; the first place is for whoever opened it.
    pub(in crate::http) fn open(self, sender: SendRequest<Bytes>) -> Place {
        *self.shared.sender.borrow_mut() = Some(sender);
        self.shared.state.set(State::Open);
        self.shared.changed.notify_waiters();
        Place { shared: Rc::clone(&self.shared) }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if self.shared.state.get() == State::Opening {
            self.shared.retire();
        }
    }
}

/// A request's place on a connection.
#[derive(Debug)]
pub(in crate::http) struct Place {
    shared: Rc<Shared>,
}

impl Place {
    /// Waits until the connection is open, or has been given up.
    pub(in crate::http) async fn ready(&self) -> bool {
        while self.shared.state.get() == State::Opening {
            self.shared.changed.notified().await;
        }
        self.shared.state.get() == State::Open
    }

    /// Whether requests can be sent on it now.
    pub(in crate::http) fn is_open(&self) -> bool {
        self.shared.state.get() == State::Open
    }

    /// Waits until the backend has said what it can do (RFC 9113 3.4), or has gone.
    pub(in crate::http) async fn settled(&self) {
        while self.shared.state.get() == State::Open && !self.shared.settled.get() {
            self.shared.changed.notified().await;
        }
    }

    /// The way to begin a stream; none when the connection is over.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.shared.requests.set(self.shared.requests.get() + 1);
        self.shared.sender.borrow().clone()
    }

    /// The connection, for whoever keeps it going.
    pub(in crate::http) fn connection(&self) -> Rc<Shared> {
        Rc::clone(&self.shared)
    }

    /// Requests that the connection has carried, this one included once it has begun.
    pub(in crate::http) fn requests(&self) -> u32 {
        self.shared.requests.get()
    }

    /// No further request begins on this connection.
    pub(in crate::http) fn retire(&self) {
        self.shared.retire();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get() - 1);
        self.shared.used.set(Instant::now());
        if self.shared.is_over() {
            self.shared.changed.notify_waiters();
        }
    }
}
