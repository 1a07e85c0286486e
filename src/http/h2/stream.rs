//! One stream of an HTTP/2 connection, a client's or to a backend: a request, its answer and both bodies.
//! It must never take more from a sender than its receiver gives room for, but for what SEND_BUFFER allows.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use evenkeel_wire::{Fields, Framing, Limits, Method, Request, Response};
use h2::client::ResponseFuture;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};

use super::heads::{self, pairs};
use super::shared::Place;
use crate::http::h1::{BodyFailed, HeadFailed, Piece};
use crate::http::headers::Heading;

/// A stream while its request is under way.
#[derive(Debug)]
pub(in crate::http) struct Stream {
    /// Towards a client: where the head of the answer goes.
    respond: Option<SendResponse<Bytes>>,
    /// From a backend: where the head of the answer comes from.
    awaited: Option<ResponseFuture>,
    place: Option<Place>,
    send: Option<SendStream<Bytes>>,
    receive: Option<RecvStream>,
    /// Whether more of a body may come.
    receiving: bool,
    /// Bytes handed on, for which the sender has not been given room again.
    owed: usize,
    piece: Bytes,
    trailers: Fields,
    limits: Limits,
    /// Whether our side has said its last word.
    ended: bool,
    /// Whether the backend is asked to switch to another protocol, or to connect: our side stays open for it.
    switching: bool,
    /// Bytes of the body that came.
    pub(in crate::http) carried: u64,
    /// Bytes of the body that went.
    pub(in crate::http) sent: u64,
}

impl Stream {
    /// A client's stream, whose request has been read already.
    pub(in crate::http) fn of_client(
        respond: SendResponse<Bytes>,
        body: RecvStream,
        limits: Limits,
    ) -> Stream {
        Stream { respond: Some(respond), receive: Some(body), ..Stream::new(limits) }
    }

    /// A stream to a backend that has not begun.
    pub(in crate::http) fn to_backend(place: Place, limits: Limits) -> Stream {
        Stream { place: Some(place), ..Stream::new(limits) }
    }

    fn new(limits: Limits) -> Stream {
        Stream {
            respond: None,
            awaited: None,
            place: None,
            send: None,
            receive: None,
            receiving: false,
            owed: 0,
            piece: Bytes::new(),
            trailers: Fields::default(),
            limits,
            ended: false,
            switching: false,
            carried: 0,
            sent: 0,
        }
    }

    pub(in crate::http) fn begin_body(&mut self, framing: Framing) {
        self.receiving = framing != Framing::None;
        self.switching &= !self.receiving;
    }

    pub(in crate::http) fn ask(
        &mut self,
        request: &Request,
        heading: Heading<'_>,
    ) -> Result<(), HeadFailed> {
        let sender = self.place.as_ref().and_then(Place::sender);
        let upgrade = heading.upgrade;
        let head = heads::outgoing_request(request, heading);
        let (Some(mut sender), Some(head)) = (sender, head) else {
            return Err(HeadFailed::Unprocessed);
        };
        if upgrade.is_some() && !sender.is_extended_connect_protocol_enabled() {
            return Err(HeadFailed::CannotSwitch);
        }
        self.switching = upgrade.is_some() || request.method == Method::Connect;
        let has_body = !matches!(request.framing, Framing::None | Framing::Length(0));
        let ends = !self.switching && !has_body;
        let (awaited, send) = sender.send_request(head, ends).map_err(|_| {
            self.retire();
            HeadFailed::Unprocessed
        })?;
        (self.awaited, self.send, self.ended) = (Some(awaited), Some(send), ends);
        Ok(())
    }

    pub(in crate::http) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        response: &mut Response,
        method: &Method,
        limits: &Limits,
    ) -> Poll<Result<(), HeadFailed>> {
        let Some(awaited) = &mut self.awaited else { return Poll::Ready(Err(HeadFailed::Broken)) };
        let refused = |refusal| HeadFailed::Refused(refusal);
        if let Poll::Ready(Some(Ok(head))) = awaited.poll_informational(cx) {
            let status = head.status().as_u16();
            let taken = response.take_h2(status, pairs(head.headers()), method, false, limits);
            return Poll::Ready(taken.map_err(refused));
        }
        let answered = ready!(std::pin::Pin::new(awaited).poll(cx));
        let (head, body) = answered.map_err(|error| failed_head(&error))?.into_parts();
        let (status, ends) = (head.status.as_u16(), body.is_end_stream());
        let taken = response.take_h2(status, pairs(&head.headers), method, ends, limits);
        (self.awaited, self.receive) = (None, Some(body));
        if self.switching && *method != Method::Connect && response.status / 100 == 2 {
            response.status = 101;
            response.reason = b"Switching Protocols".to_vec();
        }
        Poll::Ready(taken.map_err(refused))
    }

    pub(in crate::http) fn answer(&mut self, response: &Response, framing: Framing) {
        let ends = matches!(framing, Framing::None | Framing::Length(0));
        self.answer_with(response, framing, ends);
    }

    /// The head of an answer after which bytes go both ways.
    pub(in crate::http) fn answer_open(&mut self, response: &Response) {
        self.answer_with(response, Framing::None, false);
    }

    fn answer_with(&mut self, response: &Response, framing: Framing, ends: bool) {
        if let Some(mut respond) = self.respond.take() {
            // An error says that the stream or the connection is gone, which everything that follows shows.
            let head = heads::outgoing_response(response, framing);
            self.send = respond.send_response(head, ends).ok();
            self.ended = ends;
        }
    }

    pub(in crate::http) fn answer_for_now(&mut self, response: &Response) {
        if let Some(respond) = &mut self.respond {
            let _ = respond.send_informational(heads::outgoing_response(response, Framing::None));
        }
    }

    pub(in crate::http) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Piece<'_>, BodyFailed>> {
        let Some(receive) = self.receive.as_mut().filter(|_| self.receiving) else {
            return Poll::Ready(Ok(Piece::End));
        };
        loop {
            if self.owed > 0 {
                let _ = receive.flow_control().release_capacity(std::mem::take(&mut self.owed));
            }
            match ready!(receive.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    self.owed = data.len();
                    self.carried += data.len() as u64;
                    self.piece = data;
                    let ends = receive.is_end_stream();
                    self.receiving = !ends;
                    return Poll::Ready(Ok(Piece::Data { data: &self.piece, ends }));
                }
                Some(Err(error)) => return Poll::Ready(Err(failed_body(&error))),
                None => break,
            }
        }
        let trailers = ready!(receive.poll_trailers(cx)).map_err(|error| failed_body(&error))?;
        if let Some(trailers) = trailers {
            let taken = self.trailers.take_h2_trailers(pairs(&trailers), &self.limits);
            taken.map_err(BodyFailed::Refused)?;
        }
        self.receiving = false;
        Poll::Ready(Ok(Piece::End))
    }

    pub(in crate::http) fn trailers(&mut self) -> Option<&Fields> {
        Some(&self.trailers).filter(|trailers| !trailers.is_empty())
    }

    pub(in crate::http) fn put(&mut self, data: &[u8], ends: bool) -> io::Result<()> {
        let Some(send) = self.send.as_mut().filter(|_| !self.ended) else {
            return if data.is_empty() { Ok(()) } else { Err(gone()) };
        };
        self.ended = ends;
        self.sent += data.len() as u64;
        send.send_data(Bytes::copy_from_slice(data), ends).map_err(io::Error::other)
    }

    pub(in crate::http) fn finish(&mut self, trailers: Option<&Fields>) -> bool {
        let open = !self.ended && !self.switching;
        let Some(send) = self.send.as_mut().filter(|_| open) else { return true };
        self.ended = true;
        let sent = match trailers.filter(|trailers| !trailers.is_empty()) {
            Some(trailers) => send.send_trailers(heads::field_map(trailers.iter())),
            None => send.send_data(Bytes::new(), true),
        };
        sent.is_ok()
    }

    /// Whether the peer has not given room for what was put.
    pub(in crate::http) fn is_full(&mut self) -> bool {
        match self.send.as_mut().filter(|_| !self.ended) {
            // One byte beyond what waits: so that room for it is asked for, and nothing is held in reserve.
            Some(send) => {
                send.reserve_capacity(1);
                send.capacity() == 0
            }
            None => false,
        }
    }

    pub(in crate::http) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_full() {
            let Some(send) = &mut self.send else { return Poll::Ready(Err(gone())) };
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(gone())),
            }
        }
        Poll::Ready(Ok(()))
    }

    pub(in crate::http) fn poll_broken(&mut self, cx: &mut Context<'_>) -> bool {
        match (&mut self.respond, &mut self.send) {
            (Some(respond), _) => respond.poll_reset(cx).is_ready(),
            (None, Some(send)) => send.poll_reset(cx).is_ready(),
            (None, None) => true,
        }
    }

    /// No further request goes to the backend on the same connection.
    pub(in crate::http) fn retire(&self) {
        if let Some(place) = &self.place {
            place.retire();
        }
    }

    pub(in crate::http) fn break_off(&mut self) {
        if let Some(respond) = &mut self.respond {
            respond.send_reset(Reason::INTERNAL_ERROR);
        } else if let Some(send) = &mut self.send {
            send.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the stream has ended")
}

/// RFC 9113 8.7: a refused stream, and one beyond the last of a GOAWAY, was not processed. Any other end of a stream
/// is an answer of sorts: the connection goes on, so the request has come, and whoever reset it knows of it.
fn failed_head(error: &h2::Error) -> HeadFailed {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    let never_begun = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
    match (error.is_remote(), error.is_reset()) {
        (true, _) if refused || never_begun => HeadFailed::Unprocessed,
        (true, true) => HeadFailed::Cut,
        (false, true) => HeadFailed::Refused(evenkeel_wire::Reason::MessageMalformed.into()),
        (_, false) => HeadFailed::Broken,
    }
}

fn failed_body(error: &h2::Error) -> BodyFailed {
    // A reset and a connection that ended are the same to whoever waits for the rest.
    if error.is_io() { BodyFailed::Broken } else { BodyFailed::Cut }
}
