//! A request of our own to an upstream, and its answer as a whole: asked on behalf of a client that sees nothing of it.
//! It goes the way of every other request to a backend, but both its bodies are held, and so both have a limit.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use evenkeel_wire::{Framing, Limits, Request, Response};
use tokio::time::Instant;

use super::exchange::{Fault, INTERIM_MAX, no_answer};
use super::h1::Piece;
use super::headers::Heading;
use super::local::Local;
use super::reach::{Reach, Reached, keep};
use super::stream::Stream;
use crate::observe::sheets::Exchanged;
use crate::upstream::connect::{ConnectFailed, Efforts};
use crate::upstream::introduce::SendProxy;
use crate::upstream::{Affinity, Upstream};

/// How often it may go again because the connection it went out on turned out to be over.
const AGAIN_MAX: u32 = 3;

/// What is asked, and of whom.
pub(super) struct Subrequest<'a> {
    pub(super) local: &'a Local,
    pub(super) limits: Limits,
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) affinity: Affinity,
    /// Stripped; its body is `body`.
    pub(super) request: &'a Request,
    /// The `Host` to ask for; none for the backend's own.
    pub(super) host: Option<&'a [u8]>,
    pub(super) body: &'a [u8],
    /// The largest body of an answer.
    pub(super) answer_max: usize,
}

/// An answer as a whole.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
pub(super) enum Failed {
    Unreached(ConnectFailed),
    /// The upstream's `response-timeout` was over.
    Late,
    Fault(Fault),
    /// The answer is larger than allowed.
    TooLong,
}

impl Subrequest<'_> {
    /// Asks a backend, again where a kept connection had ended before it could carry the request.
    pub(super) async fn put(&self, efforts: &mut Efforts) -> Result<Answer, Failed> {
        let patience = self.upstream.rules.response_timeout;
        let answer = tokio::time::timeout(patience, self.put_in_time(efforts)).await;
        answer.unwrap_or(Err(Failed::Late))
    }

    async fn put_in_time(&self, efforts: &mut Efforts) -> Result<Answer, Failed> {
        let (mut tried, mut again) = (Vec::new(), 0);
        // What a connection that is over did not answer may have been done all the same.
        let may_go_again =
            self.request.framing == Framing::None && self.request.method.is_idempotent();
        let (local, upstream) = (self.local, self.upstream);
        let (affinity, limits) = (self.affinity, self.limits);
        let told = upstream.rules.send_proxy.as_ref().map(SendProxy::own);
        let told = told.as_deref();
        let (switches, client) = (false, None);
        let reach = Reach { local, upstream, affinity, limits, switches, told, client };
        loop {
            let reached = reach.backend(None, &mut tried, efforts, again == 0).await;
            let (Reached { mut stream, carried, at: sent }, place) =
                reached.map_err(Failed::Unreached)?;
            let host = self.host.unwrap_or(place.backend.authority.as_bytes());
            let heading = Heading { target: &self.request.target, host, upgrade: None };
            let asked = match stream.ask(local, self.request, heading) {
                Ok(()) => self.exchange(&mut stream).await,
                Err(failed) => Err(no_answer(failed)),
            };
            let total = Some(sent.elapsed());
            place.backend.exchanged(&Exchanged { total, ..Exchanged::default() });
            match asked {
                Ok(Some(answer)) => {
                    let status = answer.response.status;
                    let now = Instant::now();
                    upstream.note_answer(&place.backend, status, now, now - sent);
                    if let Stream::H1(backend) = stream {
                        keep(local, backend, &answer.response, (carried + 1, now), &place);
                    }
                    return Ok(answer);
                }
                Ok(None) => return Err(Failed::TooLong),
                Err(Fault::BackendSilent | Fault::Unprocessed)
                    if carried > 0 && again < AGAIN_MAX && may_go_again =>
                {
                    again += 1;
                }
                Err(fault) => {
                    if matches!(fault, Fault::BackendSilent) && carried == 0 {
                        upstream.note_traffic(&place.backend, false);
                    }
                    if fault.is_of_the_backend() {
                        upstream.note_no_answer(&place.backend);
                    }
                    return Err(Failed::Fault(fault));
                }
            }
        }
    }

    /// Sends the body and waits for the whole answer; none if its body is too large.
    async fn exchange(&self, stream: &mut Stream) -> Result<Option<Answer>, Fault> {
        let mut answer = Answer::default();
        let (mut left, mut interim) = (Some(self.body), 0);
        poll_fn(|cx| {
            // Whoever takes no more may have answered before.
            if let Some(body) = left
                && poll_body_up(cx, stream, &mut left, body).is_ready()
            {
                left = None;
            }
            let _ = stream.poll_flush(cx);
            loop {
                let (response, method) = (&mut answer.response, &self.request.method);
                let head = stream.poll_answer(cx, self.local, response, method, &self.limits);
                ready!(head).map_err(no_answer)?;
                match response.status {
                    101 => return Poll::Ready(Err(Fault::BadAnswer("switch-not-asked-for"))),
                    200.. => return Poll::Ready(Ok(())),
                    _ => interim += 1,
                }
                if interim > INTERIM_MAX {
                    return Poll::Ready(Err(Fault::BadAnswer("too-many-interim-answers")));
                }
            }
        })
        .await?;
        stream.begin_body(answer.response.framing, &self.limits);
        // What has not been taken of the request would be taken for the next one.
        answer.response.persistent &= left.is_none() && stream.is_flushed();
        let (body, most) = (&mut answer.body, self.answer_max);
        let whole = poll_fn(|cx| poll_body_down(cx, stream, self.local, body, most)).await?;
        Ok(whole.then_some(answer))
    }
}

/// Puts what is left of a body, and its end.
fn poll_body_up<'b>(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    left: &mut Option<&'b [u8]>,
    mut body: &'b [u8],
) -> Poll<()> {
    while !body.is_empty() {
        if stream.is_full() && stream.poll_flush(cx).is_pending() {
            *left = Some(body);
            return Poll::Pending;
        }
        let (piece, after) = body.split_at(body.len().min(stream.piece_max()));
        if stream.put(cx, piece, after.is_empty()).is_err() {
            return Poll::Ready(());
        }
        body = after;
    }
    stream.finish(None);
    Poll::Ready(())
}

/// Reads a body to its end; whether it was not larger than `most`.
fn poll_body_down(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    local: &Local,
    body: &mut Vec<u8>,
    most: usize,
) -> Poll<Result<bool, Fault>> {
    let mut scratch = local.scratch.borrow_mut();
    loop {
        let piece = ready!(stream.poll_piece(cx, local, &mut scratch[..]));
        match piece.map_err(|_| Fault::BackendGone)? {
            Piece::End => return Poll::Ready(Ok(true)),
            Piece::Data { data, .. } if body.len() + data.len() > most => {
                return Poll::Ready(Ok(false));
            }
            Piece::Data { data, ends } => {
                body.extend_from_slice(data);
                if ends {
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }
}
