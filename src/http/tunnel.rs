//! What comes after a switch of protocols (WebSocket, CONNECT): bytes both ways, until both sides have finished.
//! Two plain connections become a relay, which splices; a stream of HTTP/2 on either side is pumped like a body.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use evenkeel_wire::{Framing, Limits};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::h1::{self, Input};
use super::local::Local;
use super::pump::{Jam, Pump};
use super::record::{Told, publish, request_line};
use super::session::Session;
use super::stream::Stream;
use crate::link::Link;
use crate::observe::ended::Why;
use crate::observe::sheets::Exchanged;
use crate::socket::Socket;
use crate::tcp::relay::{Carried, End, Relay, Times};
use crate::tcp::{Carrying, Cut, Kind, Tunnelled};
use crate::upstream::InFlight;

impl Session<'_> {
    /// Carries bytes between two sides that speak something else now, and records it; between two plain connections, of which
    /// the client's must be `whole`, that is for whoever carries such.
    pub(super) async fn tunnel(mut self, backend: Stream, place: InFlight, whole: bool) -> Tunnel {
        self.cut.stay_at(&place);
        self.cut.seen().speaks(Kind::Tunnel);
        let began = Instant::now();
        let status = if matches!(self.stream, Stream::H1(_)) { 101 } else { 200 };
        let idle = self.site.rules.tunnel_timeout;
        let (client, backend) = (in_clear(self.stream), in_clear(backend));
        let (end, carried) = match (client, backend, whole) {
            (Ok((client, mut input)), Ok((backend, mut answers)), true) => {
                let (from_client, from_backend) = (input.take_rest(), answers.take_rest());
                input.rest(self.local);
                answers.rest(self.local);
                let relay = Relay::resumed(client, backend, from_client, from_backend);
                let times = Times { idle, only_client_counts: false, deadline: None };
                let headers = self.site.log.headers();
                let tunnelled = Tunnelled {
                    listener: self.site.listener.to_string(),
                    client: self.caller.address,
                    status,
                    line: request_line(&self.request, &self.request_id, Some(status), headers),
                    began,
                    began_ago: Duration::ZERO,
                };
                let keep = self.site.rules.buffer_max;
                let held = self.caller.place.take().map(|place| Box::new(place) as _);
                let carrying = Carrying::tunnel(relay, place, (times, keep), tunnelled, held);
                return Tunnel::Carrying(Box::new(carrying));
            }
            (client, backend, _) => {
                let (client, backend) = (together(client), together(backend));
                let both = Both { client, backend, local: self.local, active: began, idle };
                both.pump(&self.site.rules.head, self.cut, &mut self.alarm).await
            }
        };
        let (up, down) = (carried.up, carried.down);
        place.backend.exchanged(&Exchanged { up, down, ..Exchanged::default() });
        let told = Told {
            status: Some(status),
            upstream: Some(Arc::clone(&place.upstream.rules.name)),
            backend: Some(Arc::clone(&place.backend.name)),
            up,
            down,
            ..Told::new(self.cut.judged(crate::tcp::why(end)))
        };
        let why = told.why;
        publish(self.site, &self.caller, began, &self.request_id, &self.request, told);
        Tunnel::Ended(why)
    }
}

/// What a tunnel came to.
pub(super) enum Tunnel {
    Ended(Why),
    /// It goes on as a relay, which leaves the record.
    Carrying(Box<Carrying>),
}

/// Two sides, of which one at least is no plain connection: each direction is a body without a known end.
struct Both<'a> {
    client: Stream,
    backend: Stream,
    local: &'a Local,
    active: Instant,
    idle: Option<Duration>,
}

impl Both<'_> {
    async fn pump(mut self, limits: &Limits, cut: &Cut, alarm: &mut Alarm) -> (End, Carried) {
        for stream in [&mut self.client, &mut self.backend] {
            stream.begin_body(Framing::UntilClose, limits);
            if let Stream::H1(stream) = stream {
                stream.output.begin(self.local, Framing::UntilClose, |_| {});
            }
        }
        let before = self.client.carried();
        let (mut up, mut down) = (Pump::new(u64::MAX), Pump::new(u64::MAX));
        let (mut first, mut seen) = (None, before);
        let end = poll_fn(|cx| {
            if let Poll::Ready(end) = self.poll_up(cx, &mut up, &mut first) {
                return Poll::Ready(end);
            }
            if let Poll::Ready(end) = self.poll_down(cx, &mut down, &mut first) {
                return Poll::Ready(end);
            }
            if let (true, true, Some(first)) = (up.is_done(), down.is_done(), first) {
                return Poll::Ready(first);
            }
            if cut.is_asked(cx) {
                return Poll::Ready(End::Cut);
            }
            let carried = self.client.carried() + self.backend.carried();
            if carried != seen {
                (seen, self.active) = (carried, Instant::now());
            }
            let over = alarm.is_over(cx, self.idle.map(|idle| self.active + idle));
            if over { Poll::Ready(End::Idle) } else { Poll::Pending }
        })
        .await;
        if !matches!(end, End::ClientFinished | End::BackendFinished) {
            self.client.break_off();
            self.backend.break_off();
        }
        let up = self.client.carried() - before;
        (end, Carried { up, down: self.backend.carried(), first_byte: None })
    }

    fn poll_up(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Pump,
        first: &mut Option<End>,
    ) -> Poll<End> {
        if up.is_done() {
            return Poll::Pending;
        }
        match ready!(up.poll(cx, &mut self.client, &mut self.backend, self.local)) {
            Ok(()) => {
                first.get_or_insert(End::ClientFinished);
                finish_writing(&mut self.backend);
                Poll::Pending
            }
            Err(Jam::From(_)) => Poll::Ready(End::ClientReset),
            Err(Jam::To | Jam::TooLong | Jam::Coding) => Poll::Ready(End::BackendReset),
        }
    }

    fn poll_down(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut Pump,
        first: &mut Option<End>,
    ) -> Poll<End> {
        if down.is_done() {
            return Poll::Pending;
        }
        match ready!(down.poll(cx, &mut self.backend, &mut self.client, self.local)) {
            Ok(()) => {
                first.get_or_insert(End::BackendFinished);
                finish_writing(&mut self.client);
                Poll::Pending
            }
            Err(Jam::From(_)) => Poll::Ready(End::BackendReset),
            Err(Jam::To | Jam::TooLong | Jam::Coding) => Poll::Ready(End::ClientReset),
        }
    }
}

/// A side that is a plain connection, in two parts; any other as it is.
fn in_clear(side: Stream) -> Result<(Socket, Input), Stream> {
    match side {
        Stream::H1(stream) => match *stream {
            h1::Stream { socket: Link::Plain(socket), input, .. } => Ok((socket, input)),
            other => Err(Stream::H1(Box::new(other))),
        },
        Stream::H2(_) => Err(side),
    }
}

/// The same put together again.
fn together(side: Result<(Socket, Input), Stream>) -> Stream {
    match side {
        Ok((socket, input)) => {
            let link = Link::Plain(socket);
            Stream::H1(Box::new(h1::Stream { input, ..h1::Stream::new(link) }))
        }
        Err(stream) => stream,
    }
}

/// A stream of HTTP/2 ends with its last frame; a connection has to be told.
fn finish_writing(stream: &mut Stream) {
    if let Stream::H1(stream) = stream {
        stream.socket.finish_writing();
    }
}
