//! One side of a request, whichever version it speaks: heads and bodies in, heads and bodies out.
//! Everything above it serves both versions by the same path; it must never decide what a message means.

use std::io;
use std::task::{Context, Poll};

use evenkeel_wire::{Fields, Framing, Limits, Method, Request, Response};

use super::h1::{self, BodyFailed, HeadFailed, Piece};
use super::h2;
use super::headers::{Heading, Onward, write_interim, write_request, write_response};
use super::local::Local;
use crate::link::Link;
use crate::socket::Socket;

/// A client or a backend, for as long as a request is under way.
#[derive(Debug)]
pub(super) enum Stream {
    /// A connection, which carries one request after the other. Boxed, since it moves from hand to hand for each.
    H1(Box<h1::Stream>),
    /// One of many streams of a connection.
    H2(Box<h2::Stream>),
}

impl Stream {
    /// A connection that begins to speak HTTP/1.
    pub(super) fn h1(link: Link) -> Stream {
        Stream::H1(Box::new(h1::Stream::new(link)))
    }

    /// One that rested between two requests.
    pub(super) fn resumed(link: Link, ahead: Vec<u8>) -> Stream {
        Stream::H1(Box::new(h1::Stream::resumed(link, ahead)))
    }

    /// Says how the body that follows the head is framed.
    pub(super) fn begin_body(&mut self, framing: Framing, limits: &Limits) {
        match self {
            Stream::H1(stream) => stream.input.begin_body(framing, limits),
            Stream::H2(stream) => stream.begin_body(framing),
        }
    }

    /// The next part of the body. Parts of big bodies are read into `scratch`, and only there.
    pub(super) fn poll_piece<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        local: &Local,
        scratch: &'a mut [u8],
    ) -> Poll<Result<Piece<'a>, BodyFailed>> {
        match self {
            Stream::H1(stream) => stream.input.poll_piece(cx, &mut stream.socket, local, scratch),
            Stream::H2(stream) => stream.poll_piece(cx),
        }
    }

    /// The fields after a body that has come to its end.
    pub(super) fn trailers(&mut self) -> Option<&Fields> {
        match self {
            Stream::H1(stream) => stream.input.trailers(),
            Stream::H2(stream) => stream.trailers(),
        }
    }

    /// Bytes of bodies that came from this side.
    pub(super) fn carried(&self) -> u64 {
        match self {
            Stream::H1(stream) => stream.input.carried,
            Stream::H2(stream) => stream.carried,
        }
    }

    /// Bytes of bodies that went to this side.
    pub(super) fn sent(&self) -> u64 {
        match self {
            Stream::H1(stream) => stream.output.carried,
            Stream::H2(stream) => stream.sent,
        }
    }

    /// The way for bytes that the kernel sends by itself, where nothing comes between us and it.
    pub(super) fn direct(&mut self) -> Option<(&mut h1::Output, &Socket)> {
        match self {
            Stream::H1(stream) => match &mut **stream {
                h1::Stream { socket: Link::Plain(socket), output, .. } => Some((output, socket)),
                _ => None,
            },
            Stream::H2(_) => None,
        }
    }

    /// Writes the head of a stripped request; a body framed as the request says follows.
    pub(super) fn ask(
        &mut self,
        local: &Local,
        request: &Request,
        heading: Heading<'_>,
    ) -> Result<(), HeadFailed> {
        match self {
            Stream::H1(stream) => {
                stream.output.begin(local, request.framing, |out| {
                    write_request(out, request, heading);
                });
                Ok(())
            }
            Stream::H2(stream) => stream.ask(request, heading),
        }
    }

    /// Waits for the head of an answer, interim ones included.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local,
        response: &mut Response,
        method: &Method,
        limits: &Limits,
    ) -> Poll<Result<(), HeadFailed>> {
        match self {
            Stream::H1(stream) => {
                let read = |bytes: &[u8]| response.read(bytes, method, limits);
                stream.input.poll_head(cx, &mut stream.socket, local, limits.head_max, read)
            }
            Stream::H2(stream) => stream.poll_answer(cx, response, method, limits),
        }
    }

    /// Writes the head of a stripped answer; a body framed as `onward` says follows.
    pub(super) fn answer(&mut self, local: &Local, response: &Response, onward: Onward) {
        match self {
            Stream::H1(stream) => stream.output.begin(local, onward.framing, |out| {
                write_response(out, response, onward);
            }),
            Stream::H2(stream) => stream.answer(response, onward.framing),
        }
    }

    /// Writes an interim answer, which is news: it goes on at once. A client that is gone is noticed with the answer.
    pub(super) fn answer_for_now(
        &mut self,
        cx: &mut Context<'_>,
        local: &Local,
        response: &Response,
    ) {
        match self {
            Stream::H1(stream) => {
                if !stream.output.is_full() {
                    stream.output.begin(local, Framing::None, |out| write_interim(out, response));
                    let _ = stream.poll_flush(cx);
                }
            }
            Stream::H2(stream) => stream.answer_for_now(response),
        }
    }

    /// Writes the head of an answer after which bytes go both ways.
    pub(super) fn answer_switch(&mut self, local: &Local, response: &mut Response) {
        match self {
            Stream::H1(stream) => {
                stream.output.begin(local, Framing::None, |out| write_interim(out, response));
            }
            Stream::H2(stream) => {
                // What HTTP/1 says with a status and three fields, HTTP/2 says with success.
                response.status = 200;
                response.fields.remove_named(b"sec-websocket-accept");
                stream.answer_open(response);
            }
        }
    }

    /// Puts a part of the body; `ends` says that neither more of it nor trailers follow.
    pub(super) fn put(&mut self, cx: &mut Context<'_>, data: &[u8], ends: bool) -> io::Result<()> {
        match self {
            Stream::H1(stream) => stream.output.put(cx, &mut stream.socket, data),
            Stream::H2(stream) => stream.put(data, ends),
        }
    }

    /// Ends the body. Whether it is whole; if not, only breaking off is left.
    pub(super) fn finish(&mut self, trailers: Option<&Fields>) -> bool {
        match self {
            Stream::H1(stream) => stream.output.finish(trailers),
            Stream::H2(stream) => stream.finish(trailers),
        }
    }

    /// Whether so much waits for the peer that no more may be put.
    pub(super) fn is_full(&mut self) -> bool {
        match self {
            Stream::H1(stream) => stream.output.is_full(),
            Stream::H2(stream) => stream.is_full(),
        }
    }

    /// Whether nothing waits for the peer.
    pub(super) fn is_flushed(&mut self) -> bool {
        match self {
            Stream::H1(stream) => stream.output.is_flushed(),
            Stream::H2(stream) => !stream.is_full(),
        }
    }

    /// Hands everything written to the kernel, or to the connection of all streams.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::H1(stream) => stream.poll_flush(cx),
            Stream::H2(stream) => stream.poll_room(cx),
        }
    }

    /// Whether the client has broken off; if not, the task of `cx` is woken when it does.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Stream::H1(stream) => stream.socket.poll_broken(cx),
            Stream::H2(stream) => stream.poll_broken(cx),
        }
    }

    /// Ends it at once, so that nothing begun looks whole.
    pub(super) fn break_off(&mut self) {
        match self {
            Stream::H1(stream) => stream.socket.reset_on_close(),
            Stream::H2(stream) => stream.break_off(),
        }
    }

    /// No further request goes to this backend on the same connection, which may be dead without our knowing.
    pub(super) fn retire(&self) {
        if let Stream::H2(stream) = self {
            stream.retire();
        }
    }

    /// The most bytes that are worth putting at once.
    pub(super) fn piece_max(&self) -> usize {
        match self {
            Stream::H1(_) => usize::MAX,
            Stream::H2(_) => h2::FRAME,
        }
    }
}
