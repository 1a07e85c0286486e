//! Two sockets and the bytes between them: both directions, half-close, resets, idle and total time limits.
//! It must never know TLS, config or logging, and must never hold more for a slow reader than its limit.
//! It is shaped as a value with one poll function, so that it can be taken apart between two reads.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::Cut;
use super::flow::{Flow, FlowState, Moved, Scratch};
use crate::socket::Socket;

/// How long bytes sent before a reset may take to arrive, before the reset is passed on.
const DELIVERY_BEFORE_RESET: Duration = Duration::from_secs(1);

/// When a relay ends by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times {
    /// Without a counted byte for this long.
    pub(crate) idle: Option<Duration>,
    /// Whether only bytes from the client count against `idle`.
    pub(crate) only_client_counts: bool,
    /// At this moment in any case.
    pub(crate) deadline: Option<Instant>,
}

impl Times {
    /// When to look next, if the last counted byte passed at `active`.
    fn due(&self, active: Instant) -> Instant {
        let idle = active + self.idle.unwrap_or(Duration::from_secs(86_400 * 365));
        self.deadline.map_or(idle, |deadline| deadline.min(idle))
    }
}

/// How a relay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides finished; the client did so first.
    ClientFinished,
    /// Both sides finished; the backend did so first.
    BackendFinished,
    ClientReset,
    BackendReset,
    Idle,
    TooLong,
    Cut,
}

/// Bytes carried so far, and when the first came back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Carried {
    /// From client to backend.
    pub(crate) up: u64,
    /// From backend to client.
    pub(crate) down: u64,
    /// When the backend's first byte came.
    pub(crate) first_byte: Option<Instant>,
}

/// A client's socket, a backend's socket and what is between them.
#[derive(Debug)]
pub(crate) struct Relay {
    client: Socket,
    backend: Socket,
    up: Flow,
    down: Flow,
    first_finished: Option<Side>,
    first_byte: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Backend,
}

impl Relay {
    pub(crate) fn new(client: Socket, backend: Socket) -> Relay {
        Relay {
            client,
            backend,
            up: Flow::default(),
            down: Flow::default(),
            first_finished: None,
            first_byte: None,
        }
    }

    /// The same, with bytes of each side that have been read already and go first.
    pub(crate) fn resumed(
        client: Socket,
        backend: Socket,
        from_client: Vec<u8>,
        from_backend: Vec<u8>,
    ) -> Relay {
        let (up, down) = (Flow::holding(from_client), Flow::holding(from_backend));
        Relay { up, down, ..Relay::new(client, backend) }
    }

    /// What has been carried so far.
    pub(crate) fn carried(&self) -> Carried {
        Carried { up: self.up.carried, down: self.down.carried, first_byte: self.first_byte }
    }

    /// Carries bytes until one of the ends of [`End`]. `scratch` is shared by all relays of a worker and is
    /// only borrowed within a turn; `keep` is the most that is held for a slow reader, per direction.
    pub(crate) async fn run(
        &mut self,
        scratch: &RefCell<Scratch>,
        keep: usize,
        times: &Times,
        cut: &Cut,
    ) -> End {
        let started = Instant::now();
        let mut active = started;
        let mut timer: Pin<&mut Sleep> = pin!(tokio::time::sleep_until(times.due(started)));
        let mut timer_is_set = false;
        let end = poll_fn(|cx| {
            let before = self.up.carried + self.down.carried;
            if let Some(end) = self.turn(cx, &mut scratch.borrow_mut(), keep, times, &mut active) {
                return Poll::Ready(end);
            }
            if cut.is_asked(cx) {
                return Poll::Ready(End::Cut);
            }
            // A timer that runs wakes this task by itself; looking at it for each message would cost more than the message.
            let moved = self.up.carried + self.down.carried != before;
            if moved && timer_is_set && !timer.is_elapsed() {
                return Poll::Pending;
            }
            timer_is_set = true;
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if times.deadline.is_some_and(|deadline| now >= deadline) {
                    return Poll::Ready(End::TooLong);
                }
                if times.idle.is_some_and(|idle| now >= active + idle) {
                    return Poll::Ready(End::Idle);
                }
                timer.as_mut().reset(times.due(active));
            }
            Poll::Pending
        })
        .await;
        self.pass_on_reset(end).await;
        end
    }

    /// Moves what can be moved in both directions.
    fn turn(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        keep: usize,
        times: &Times,
        active: &mut Instant,
    ) -> Option<End> {
        let before = (self.up.carried, self.down.carried);
        let up = self.up.advance(cx, &self.client, &self.backend, scratch, keep);
        let down = self.down.advance(cx, &self.backend, &self.client, scratch, keep);
        if (self.up.carried, self.down.carried) != before {
            let now = Instant::now();
            if self.up.carried != before.0 || !times.only_client_counts {
                *active = now;
            }
            if before.1 == 0 && self.down.carried > 0 {
                self.first_byte = Some(now);
            }
        }
        self.note_finish();
        match (up, down) {
            (Moved::ReaderReset, _) | (_, Moved::WriterReset) => return Some(End::ClientReset),
            (_, Moved::ReaderReset) => return Some(End::BackendReset),
            // The backend takes no more, but what it sent before may still be readable: let that through first.
            (Moved::WriterReset, _) => {
                self.up.break_off();
                cx.waker().wake_by_ref();
            }
            (Moved::TurnOver, _) | (_, Moved::TurnOver) => cx.waker().wake_by_ref(),
            (Moved::Waiting | Moved::AtEnd, Moved::Waiting | Moved::AtEnd) => {}
        }
        self.pass_on_ends(up == Moved::AtEnd, down == Moved::AtEnd);
        self.finished().or_else(|| self.unread_reset(cx))
    }

    /// A reset by a side that is not being read from, which would otherwise go unnoticed until a timeout.
    /// Only asked while we have not finished towards that side: after that, its own finish looks the same.
    fn unread_reset(&self, cx: &mut Context<'_>) -> Option<End> {
        let (up, down) = (&self.up, &self.down);
        let client_is_unread = up.state() == FlowState::Ended || up.is_stuck();
        if client_is_unread && down.state() == FlowState::Open && self.client.poll_broken(cx) {
            return Some(End::ClientReset);
        }
        let backend_is_unread = down.state() == FlowState::Ended;
        if backend_is_unread && up.state() == FlowState::Open && self.backend.poll_broken(cx) {
            return Some(End::BackendReset);
        }
        None
    }

    /// Tells each side that the other has finished; the last to finish needs no telling, as the close that follows does it.
    fn pass_on_ends(&mut self, up: bool, down: bool) {
        if up {
            self.up.end();
        }
        if down {
            self.down.end();
        }
        if up && self.down.state() != FlowState::Ended {
            self.backend.finish_writing();
        }
        if down && self.up.state() != FlowState::Ended {
            self.client.finish_writing();
        }
    }

    fn note_finish(&mut self) {
        if self.first_finished.is_none() {
            if self.up.has_ended() {
                self.first_finished = Some(Side::Client);
            } else if self.down.has_ended() {
                self.first_finished = Some(Side::Backend);
            }
        }
    }

    fn finished(&self) -> Option<End> {
        match (self.up.state(), self.down.state()) {
            (FlowState::Ended, FlowState::Ended) => Some(match self.first_finished {
                Some(Side::Backend) => End::BackendFinished,
                _ => End::ClientFinished,
            }),
            // It reset us while we were writing, after its last byte.
            (FlowState::Broken, FlowState::Ended) => Some(End::BackendReset),
            _ => None,
        }
    }

    /// Makes a reset on one side a reset on the other, once what came before it has been delivered.
    /// Boxed, so that a relay at rest does not carry the room for it.
    async fn pass_on_reset(&mut self, end: End) {
        match end {
            End::ClientReset => Box::pin(reset_after_delivery(&self.backend)).await,
            End::BackendReset => Box::pin(reset_after_delivery(&self.client)).await,
            End::Cut | End::TooLong | End::Idle | End::ClientFinished | End::BackendFinished => {}
        }
    }
}

/// Resets a connection as soon as its peer has what was sent before, or after a moment of patience.
pub(crate) async fn reset_after_delivery(socket: &Socket) {
    let patience = Instant::now() + DELIVERY_BEFORE_RESET;
    let mut pause = Duration::from_millis(1);
    while socket.unsent() > 0 && Instant::now() < patience {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    socket.reset_on_close();
}
