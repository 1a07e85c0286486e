//! Bytes both ways after a switch of protocols, once neither side speaks HTTP any more.
//! Two sockets in clear are a relay of `tcp`, which splices; where TLS is in between, bytes are copied here. It must
//! never read from one side while the other has not taken what came before, so that it holds one piece at most.

use std::cell::RefCell;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use super::alarm::Alarm;
use super::record::{Told, publish};
use super::serve::Session;
use super::{Local, Rules};
use crate::link::Link;
use crate::tcp::relay::{Carried, End, Relay, Times, reset_after_delivery};
use crate::tcp::{Cut, Outcome, Scratch};
use crate::upstream::InFlight;

/// Pieces moved in one turn before other connections of the worker get theirs.
const PIECES_PER_TURN: u32 = 16;

impl Session<'_> {
    /// Carries bytes between two sides that speak something else now. `rest` is what has come from the backend.
    pub(super) async fn tunnel(
        mut self,
        backend: Link,
        place: &InFlight,
        rest: Vec<u8>,
        scratch: &RefCell<Scratch>,
    ) -> Outcome {
        let began = Instant::now();
        let ahead = self.stream.input.take_rest();
        self.stream.rest(self.local);
        let rules = &self.site.rules;
        let (end, carried) = match (self.stream.socket, backend) {
            (Link::Plain(client), Link::Plain(backend)) => {
                let mut relay = Relay::resumed(client, backend, ahead, rest);
                let idle = rules.tunnel_timeout;
                let times = Times { idle, only_client_counts: false, deadline: None };
                let end = relay.run(scratch, rules.buffer_max, &times, self.cut).await;
                (end, relay.carried())
            }
            (client, backend) => {
                let mut tunnel = Tunnel::new((client, ahead), (backend, rest));
                let end = tunnel.run(rules, self.local, self.cut).await;
                (end, tunnel.carried())
            }
        };
        let told = Told {
            status: Some(101),
            upstream: Some(Arc::clone(&place.upstream.rules.name)),
            backend: Some(Arc::clone(&place.backend.name)),
            up: carried.up,
            down: carried.down,
            ..Told::new(crate::tcp::why(end))
        };
        let why = told.why;
        publish(self.site, self.client, began, &self.request_id, &self.request, told);
        Outcome { spoke: true, ..Outcome::without_backend(why, None) }
    }
}

/// Two sides and the bytes between them.
struct Tunnel {
    client: Link,
    backend: Link,
    up: Lane,
    down: Lane,
    /// Which side finished first.
    first: Option<End>,
    first_byte: Option<Instant>,
}

impl Tunnel {
    /// Each side comes with what has been read from it already.
    fn new(client: (Link, Vec<u8>), backend: (Link, Vec<u8>)) -> Tunnel {
        let (up, down) = (Lane::holding(client.1), Lane::holding(backend.1));
        let (client, backend) = (client.0, backend.0);
        Tunnel { client, backend, up, down, first: None, first_byte: None }
    }

    fn carried(&self) -> Carried {
        Carried { up: self.up.carried, down: self.down.carried, first_byte: self.first_byte }
    }

    async fn run(&mut self, rules: &Rules, local: &Local, cut: &Cut) -> End {
        let mut alarm = Alarm::default();
        let mut active = Instant::now();
        let end = poll_fn(|cx| {
            let before = (self.up.moved, self.down.moved);
            if let Some(end) = self.turn(cx, &mut local.scratch.borrow_mut(), rules.buffer_max) {
                return Poll::Ready(end);
            }
            if (self.up.moved, self.down.moved) != before {
                active = Instant::now();
            }
            if cut.is_asked(cx) {
                return Poll::Ready(End::Cut);
            }
            let due = rules.tunnel_timeout.map(|idle| active + idle);
            if alarm.is_over(cx, due) { Poll::Ready(End::Idle) } else { Poll::Pending }
        })
        .await;
        match end {
            End::ClientReset => reset_after_delivery(self.backend.socket()).await,
            End::BackendReset => reset_after_delivery(self.client.socket()).await,
            End::Cut | End::TooLong | End::Idle | End::ClientFinished | End::BackendFinished => {}
        }
        end
    }

    /// Moves what can be moved in both directions.
    fn turn(&mut self, cx: &mut Context<'_>, scratch: &mut [u8], most: usize) -> Option<End> {
        let room = scratch.len().min(most);
        let scratch = &mut scratch[..room];
        match self.up.advance(cx, &mut self.client, &mut self.backend, scratch) {
            Err(Broken::Sender) => return Some(End::ClientReset),
            // It takes no more, but what it sent before may still be there.
            Err(Broken::Receiver) => {
                self.up = Lane { state: State::Broken, ..Lane::after(&self.up) }
            }
            Ok(()) => {}
        }
        let was_silent = self.down.carried == 0;
        match self.down.advance(cx, &mut self.backend, &mut self.client, scratch) {
            Err(Broken::Sender) => return Some(End::BackendReset),
            Err(Broken::Receiver) => return Some(End::ClientReset),
            Ok(()) => {}
        }
        if was_silent && self.down.carried > 0 {
            self.first_byte = Some(Instant::now());
        }
        if self.first.is_none() && self.up.has_ended() {
            self.first = Some(End::ClientFinished);
        } else if self.first.is_none() && self.down.has_ended() {
            self.first = Some(End::BackendFinished);
        }
        match (self.up.state, self.down.state) {
            (State::Ended, State::Ended) => self.first,
            (State::Broken, State::Ended) => Some(End::BackendReset),
            _ => self.unread_reset(cx),
        }
    }

    /// A reset by a side that is not being read from, which would go unnoticed until a timeout. Only asked while
    /// nothing waits to be written there, which would notice by itself.
    fn unread_reset(&self, cx: &mut Context<'_>) -> Option<End> {
        let idle = |lane: &Lane, to: &Link| {
            lane.state == State::Open && lane.pending.is_empty() && !to.holds_back()
        };
        if !self.up.is_reading() && idle(&self.down, &self.client) && self.client.poll_broken(cx) {
            return Some(End::ClientReset);
        }
        if !self.down.is_reading() && idle(&self.up, &self.backend) && self.backend.poll_broken(cx)
        {
            return Some(End::BackendReset);
        }
        None
    }
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    /// What the receiver has not taken.
    pending: Vec<u8>,
    state: State,
    /// Bytes read from the sender.
    carried: u64,
    /// Bytes read or written, for telling silence.
    moved: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The sender has finished; the receiver is still to be told.
    Ending,
    Ended,
    /// The receiver takes no more.
    Broken,
}

/// Who broke off.
enum Broken {
    Sender,
    Receiver,
}

impl Lane {
    fn holding(pending: Vec<u8>) -> Lane {
        let carried = pending.len() as u64;
        Lane { pending, carried, ..Lane::default() }
    }

    /// The counts of a lane, without its bytes.
    fn after(lane: &Lane) -> Lane {
        Lane { carried: lane.carried, moved: lane.moved, ..Lane::default() }
    }

    fn has_ended(&self) -> bool {
        matches!(self.state, State::Ending | State::Ended)
    }

    fn is_reading(&self) -> bool {
        self.state == State::Open && self.pending.is_empty()
    }

    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Link,
        to: &mut Link,
        scratch: &mut [u8],
    ) -> Result<(), Broken> {
        for _ in 0..PIECES_PER_TURN {
            if matches!(self.state, State::Ended | State::Broken) {
                return Ok(());
            }
            match self.poll_deliver(cx, to) {
                Poll::Ready(outcome) => outcome.map_err(|_| Broken::Receiver)?,
                Poll::Pending => return Ok(()),
            }
            if self.state == State::Ending {
                if to.poll_close_notify(cx).is_ready() {
                    to.finish_writing();
                    self.state = State::Ended;
                }
                return Ok(());
            }
            match from.poll_read(cx, scratch) {
                Poll::Ready(Ok(0)) => self.state = State::Ending,
                Poll::Ready(Ok(count)) => {
                    self.carried += count as u64;
                    self.moved += count as u64;
                    self.pass(cx, to, &scratch[..count]).map_err(|_| Broken::Receiver)?;
                }
                Poll::Ready(Err(_)) => return Err(Broken::Sender),
                Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Hands on what waits. Its memory is given back once it has been taken.
    fn poll_deliver(&mut self, cx: &mut Context<'_>, to: &mut Link) -> Poll<std::io::Result<()>> {
        while !self.pending.is_empty() {
            let count = ready!(to.poll_write(cx, &self.pending))?;
            self.moved += count as u64;
            if count == self.pending.len() {
                self.pending = Vec::new();
            } else {
                self.pending.drain(..count);
            }
        }
        to.poll_flush(cx)
    }

    /// Writes a piece; what is not taken waits.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Link,
        mut piece: &[u8],
    ) -> std::io::Result<()> {
        while !piece.is_empty() {
            let Poll::Ready(count) = to.poll_write(cx, piece) else {
                self.pending = piece.to_vec();
                return Ok(());
            };
            piece = &piece[count?..];
        }
        Ok(())
    }
}
