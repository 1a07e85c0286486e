//! Holds the body of a request before a backend is picked for it, as far as its route says: a slow client then keeps
//! no backend waiting, and a request that was held whole can go to a second backend.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use evenkeel_wire::{Framing, Known, Response};
use tokio::time::Instant;

use super::exchange::Fault;
use super::h1::Piece;
use super::session::Session;

/// What has been read of a body.
#[derive(Debug, Default, Clone)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    /// Whether that is all of it.
    pub(super) whole: bool,
}

impl Session<'_> {
    /// Reads the body until it has ended or `most` bytes of it are here.
    pub(super) async fn hold(&mut self, most: u64, body_max: u64) -> Result<Held, Fault> {
        if most == 0 || self.request.framing == Framing::None {
            return Ok(Held::default());
        }
        if self.request.expects_continue {
            self.let_come();
        }
        let mut bytes = Vec::new();
        let idle = self.site.rules.idle_timeout;
        let mut active = Instant::now();
        let outcome = poll_fn(|cx| {
            let mut scratch = self.local.scratch.borrow_mut();
            loop {
                if bytes.len() as u64 >= most {
                    return Poll::Ready(Ok(false));
                }
                match self.stream.poll_piece(cx, self.local, &mut scratch) {
                    Poll::Ready(Ok(Piece::Data { data, ends })) => {
                        bytes.extend_from_slice(data);
                        active = Instant::now();
                        if bytes.len() as u64 > body_max {
                            return Poll::Ready(Err(Fault::BodyTooLong));
                        }
                        if ends {
                            return Poll::Ready(Ok(true));
                        }
                    }
                    Poll::Ready(Ok(Piece::End)) => return Poll::Ready(Ok(true)),
                    Poll::Ready(Err(failed)) => return Poll::Ready(Err(Fault::Client(failed))),
                    Poll::Pending => break,
                }
            }
            if self.cut.is_asked(cx) {
                return Poll::Ready(Err(Fault::Cut));
            }
            let over = self.alarm.is_over(cx, idle.map(|idle| active + idle));
            if over { Poll::Ready(Err(Fault::ClientStalled)) } else { Poll::Pending }
        })
        .await;
        let whole = outcome?;
        if whole && self.stream.trailers().is_none_or(|trailers| trailers.is_empty()) {
            self.request.framing = Framing::Length(bytes.len() as u64);
        }
        Ok(Held { bytes: bytes.into(), whole })
    }

    /// Tells a client that waits for it to send its body (RFC 9110 10.1.1): nobody behind us will.
    fn let_come(&mut self) {
        let go_on = Response { status: 100, reason: b"Continue".to_vec(), ..Response::default() };
        let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
        self.stream.answer_for_now(cx, self.local, &go_on);
        self.request.fields.remove(Known::Expect);
        self.request.expects_continue = false;
    }
}
