//! Two sides and the bytes between them: both directions, half-close, resets, idle and total time limits.
//! It must never know TLS, config or logging, and must never hold more for a slow reader than its limit.
//! It is shaped as a value with one poll function, so that it can be taken apart between two reads.
//! Of two plain sockets it is made without a branch for anything else, which is why its sides are type arguments.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Sleep};

use super::Cut;
use super::flow::{Flow, FlowState, Moved, ParkedFlow, Scratch};
use crate::socket::Socket;

/// How long bytes sent before a reset may take to arrive, before the reset is passed on.
const DELIVERY_BEFORE_RESET: Duration = Duration::from_secs(1);

/// How long a backend may take to finish, after its client has been refused.
const REPLIES_AFTER_REFUSAL: Duration = Duration::from_secs(5);

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
    /// It was asked to stop between two reads: nothing is under way, and it can go on here or elsewhere.
    Parked,
}

/// A relay taken apart between two reads, without its two sockets and the bytes that wait for their writers. Moments are told
/// by how long ago they were, as no clock of one process means anything to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Parked {
    pub(crate) up: ParkedFlow,
    pub(crate) down: ParkedFlow,
    first_finished: Option<Who>,
    first_byte_ago: Option<Duration>,
    active_ago: Duration,
}

/// Bytes that wait for the backend, and for the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) up: Vec<u8>,
    pub(crate) down: Vec<u8>,
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

/// One side of a relay: a plain socket, or bytes that pass through something else on their way to one.
pub(crate) trait Side {
    /// Reads what is there into `into`; 0 is the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes as much of `from` as is taken.
    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>>;

    /// Hands everything that was taken to the kernel.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Hands everything to the kernel, and with it the word that no more will come, where there is such a word.
    fn poll_last_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Tells the peer that no more bytes will come. Everything that was taken has been flushed.
    fn finish_writing(&mut self);

    /// The socket, if its bytes are those of this side, so that they can be spliced.
    fn plain(&self) -> Option<&Socket>;

    /// What the bytes pass through in the end.
    fn socket(&self) -> &Socket;

    /// Bytes that count against an idle limit although they may not have been passed on yet.
    fn come(&self) -> u64 {
        0
    }

    /// Whether it has sent what it may not send: it is not read from any longer, and what it is owed has little time.
    fn is_refused(&self) -> bool {
        false
    }
}

impl Side for Socket {
    fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Socket::poll_read(self, cx, into)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Socket::poll_write(self, cx, from)
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_last_word(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn finish_writing(&mut self) {
        Socket::finish_writing(self);
    }

    fn plain(&self) -> Option<&Socket> {
        Some(self)
    }

    fn socket(&self) -> &Socket {
        self
    }
}

/// A client's side, a backend's side and what is between them.
#[derive(Debug)]
pub(crate) struct Relay<C, B> {
    client: C,
    backend: B,
    up: Flow,
    down: Flow,
    first_finished: Option<Who>,
    first_byte: Option<Instant>,
    /// When the last counted byte passed.
    active: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Who {
    Client,
    Backend,
}

impl<C: Side, B: Side> Relay<C, B> {
    pub(crate) fn new(client: C, backend: B) -> Relay<C, B> {
        Relay {
            client,
            backend,
            up: Flow::default(),
            down: Flow::default(),
            first_finished: None,
            first_byte: None,
            active: Instant::now(),
        }
    }

    /// One that was parked, here or in another process.
    pub(crate) fn unparked(
        client: C,
        backend: B,
        parked: &Parked,
        waiting: Waiting,
    ) -> Relay<C, B> {
        let now = Instant::now();
        let past = |ago| now.checked_sub(ago).unwrap_or(now);
        Relay {
            up: Flow::unparked(parked.up, waiting.up),
            down: Flow::unparked(parked.down, waiting.down),
            first_finished: parked.first_finished,
            first_byte: parked.first_byte_ago.map(past),
            active: past(parked.active_ago),
            ..Relay::new(client, backend)
        }
    }

    /// Takes apart what is between its sides, after [`End::Parked`]. It can go on as it is: what comes of this is a copy.
    pub(crate) fn park(&mut self) -> io::Result<(Parked, Waiting)> {
        let (up, up_waiting) = self.up.park()?;
        let (down, down_waiting) = self.down.park()?;
        let parked = Parked {
            up,
            down,
            first_finished: self.first_finished,
            first_byte_ago: self.first_byte.map(|at| at.elapsed()),
            active_ago: self.active.elapsed(),
        };
        Ok((parked, Waiting { up: up_waiting, down: down_waiting }))
    }

    /// The same, with bytes of each side that have been read already and go first.
    pub(crate) fn resumed(
        client: C,
        backend: B,
        from_client: Vec<u8>,
        from_backend: Vec<u8>,
    ) -> Relay<C, B> {
        let (up, down) = (Flow::holding(from_client), Flow::holding(from_backend));
        Relay { up, down, ..Relay::new(client, backend) }
    }

    pub(crate) fn client(&self) -> &C {
        &self.client
    }

    pub(crate) fn backend(&self) -> &B {
        &self.backend
    }

    /// Whether bytes wait for the backend, and for the client, to take them.
    pub(crate) fn are_stuck(&self) -> (bool, bool) {
        (self.up.is_stuck(), self.down.is_stuck())
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
        let due = times.due(self.active);
        let mut timer: Pin<&mut Sleep> = pin!(tokio::time::sleep_until(due));
        let mut timer_is_set = false;
        let mut times = *times;
        let mut was_refused = false;
        let end = poll_fn(|cx| {
            let before = self.up.carried + self.down.carried;
            if let Some(end) = self.turn(cx, &mut scratch.borrow_mut(), keep, &times) {
                return Poll::Ready(end);
            }
            let moved = self.up.carried + self.down.carried != before;
            if moved {
                cut.seen().has_carried(self.up.carried, self.down.carried);
            }
            if cut.is_asked(cx) {
                return Poll::Ready(End::Cut);
            }
            if cut.is_to_park() {
                return Poll::Ready(End::Parked);
            }
            if self.client.is_refused() && !was_refused {
                (was_refused, timer_is_set) = (true, false);
                let last = Instant::now() + REPLIES_AFTER_REFUSAL;
                times.deadline = Some(times.deadline.map_or(last, |deadline| deadline.min(last)));
                timer.as_mut().reset(times.due(self.active));
            }
            // A timer that runs wakes this task by itself; looking at it for each message would cost more than the message.
            if moved && timer_is_set && !timer.is_elapsed() {
                return Poll::Pending;
            }
            timer_is_set = true;
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if times.deadline.is_some_and(|deadline| now >= deadline) {
                    return Poll::Ready(End::TooLong);
                }
                if times.idle.is_some_and(|idle| now >= self.active + idle) {
                    return Poll::Ready(End::Idle);
                }
                timer.as_mut().reset(times.due(self.active));
            }
            Poll::Pending
        })
        .await;
        // What is left to be done is not to be waited for by anybody.
        if end != End::Parked {
            cut.can_park(false);
        }
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
    ) -> Option<End> {
        let before = (self.up.carried, self.down.carried);
        let come = (self.client.come(), self.backend.come());
        let up = self.up.advance(cx, &mut self.client, &mut self.backend, scratch, keep);
        let down = self.down.advance(cx, &mut self.backend, &mut self.client, scratch, keep);
        let from_client = self.up.carried != before.0 || self.client.come() != come.0;
        let from_backend = self.down.carried != before.1 || self.backend.come() != come.1;
        if from_client || from_backend {
            let now = Instant::now();
            if from_client || !times.only_client_counts {
                self.active = now;
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
        if client_is_unread
            && down.state() == FlowState::Open
            && self.client.socket().poll_broken(cx)
        {
            return Some(End::ClientReset);
        }
        let backend_is_unread = down.state() == FlowState::Ended;
        if backend_is_unread
            && up.state() == FlowState::Open
            && self.backend.socket().poll_broken(cx)
        {
            return Some(End::BackendReset);
        }
        None
    }

    /// Tells each side that the other has finished; the last to finish needs no telling, as the close that follows does
    /// it; but where bytes pass through something else, that has a word of its own.
    fn pass_on_ends(&mut self, up: bool, down: bool) {
        if up {
            self.up.end();
        }
        if down {
            self.down.end();
        }
        let needs_word =
            |side_is_plain: bool, other: FlowState| !side_is_plain || other != FlowState::Ended;
        if up && needs_word(self.backend.plain().is_some(), self.down.state()) {
            self.backend.finish_writing();
        }
        if down && needs_word(self.client.plain().is_some(), self.up.state()) {
            self.client.finish_writing();
        }
    }

    fn note_finish(&mut self) {
        if self.first_finished.is_none() {
            if self.up.has_ended() {
                self.first_finished = Some(Who::Client);
            } else if self.down.has_ended() {
                self.first_finished = Some(Who::Backend);
            }
        }
    }

    fn finished(&self) -> Option<End> {
        match (self.up.state(), self.down.state()) {
            (FlowState::Ended, FlowState::Ended) => Some(match self.first_finished {
                Some(Who::Backend) => End::BackendFinished,
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
            End::ClientReset => Box::pin(reset_side(&mut self.backend)).await,
            End::BackendReset => Box::pin(reset_side(&mut self.client)).await,
            End::Cut
            | End::TooLong
            | End::Idle
            | End::ClientFinished
            | End::BackendFinished
            | End::Parked => {}
        }
    }
}

/// The same for what may hold bytes itself.
async fn reset_side(side: &mut impl Side) {
    let flushed = poll_fn(|cx| side.poll_flush(cx));
    let _ = tokio::time::timeout(DELIVERY_BEFORE_RESET, flushed).await;
    reset_after_delivery(side.socket()).await;
}

/// Resets a connection as soon as its peer has what was sent before, or after a moment of patience.
pub(crate) async fn reset_after_delivery(socket: &Socket) {
    delivered(socket).await;
    socket.reset_on_close();
}

/// Waits until a peer has what was sent, or for a moment.
pub(super) async fn delivered(socket: &Socket) {
    let patience = Instant::now() + DELIVERY_BEFORE_RESET;
    let mut pause = Duration::from_millis(1);
    while socket.unsent() > 0 && Instant::now() < patience {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
