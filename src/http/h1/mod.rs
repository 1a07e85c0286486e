//! HTTP/1 on one connection, on either side of us: heads and bodies in, heads and bodies out (RFC 9112).
//! It knows no routes and no backends; what a message may look like is decided in evenkeel-wire.

mod input;
mod output;

use std::task::{Context, Poll};

pub(super) use input::{BodyFailed, HeadFailed, Input, Piece};
pub(super) use output::Output;

use super::local::Local;
use crate::link::Link;

/// A connection that speaks HTTP/1: its socket and its two halves.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: Link,
    pub(super) input: Input,
    pub(super) output: Output,
}

impl Stream {
    pub(super) fn new(socket: Link) -> Stream {
        Stream { socket, input: Input::default(), output: Output::default() }
    }

    /// One that was read from elsewhere, with what came of it.
    pub(super) fn resumed(socket: Link, ahead: Vec<u8>) -> Stream {
        Stream { input: Input::holding(ahead), ..Stream::new(socket) }
    }

    /// Hands everything written to the kernel.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.output.poll_flush(cx, &mut self.socket)
    }

    /// Gives back the buffers in which nothing is.
    pub(super) fn rest(&mut self, local: &Local) {
        self.input.rest(local);
        self.output.rest(local);
    }
}
