//! One client connection: request after request, each read, routed, answered and recorded, until one side has enough.
//! Between two requests it holds no buffer; what a client sends ahead stays in the kernel until its turn.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use evenkeel_wire::{Read, Refusal};
use tokio::time::Instant;

use super::forwarded::Caller;
use super::h1::{self, HeadFailed};
use super::local::Local;
use super::record::{Told, publish};
use super::session::{Next, Session};
use super::stream::Stream;
use super::streams;
use super::tunnel::Tunnel;
use super::{Before, Client, Rules, Served, Site, Sites};
use crate::link::Link;
use crate::observe::ended::Why;
use crate::tcp::{Cut, Outcome};
use crate::upstream::InFlight;

/// How long a client may go on sending after we have said our last word, so that it can read it.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes thrown away meanwhile.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// Whether anything comes after what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}

/// How the requests of a connection came to their end.
enum Over {
    Ended(Why),
    Tunnel {
        backend: Box<Stream>,
        place: InFlight,
    },
    /// The client speaks HTTP/2; its first bytes are still in the input.
    Preface,
    /// The next request goes by another plan.
    News,
    /// It is to go on elsewhere.
    Parked,
}

/// What a client began with.
enum Arrived {
    Request,
    Preface,
    News,
    /// With nothing that is under way.
    Parked,
}

/// How a client of HTTP/2 begins, as far as it looks like the head of a request (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";

/// Serves one client from its first byte to its last.
pub(crate) async fn serve(
    client: Client,
    (mut site, sites): (Arc<Site>, Sites<'_>),
    local: &Local,
    cut: &Cut,
) -> Served {
    let Client { link, address, local: local_address, scheme, agreed, before } = client;
    let mut caller = Caller { scheme, local: local_address, ..Caller::of(address, agreed) };
    cut.want_news();
    // It may have changed since the connection was accepted.
    follow(&mut site, sites, cut);
    let ahead = Vec::new();
    if link.protocol() == Some(b"h2") || !site.rules.http1 {
        let sites = (site, sites);
        return ended(Box::pin(streams::serve(link, ahead, sites, caller, local, cut)).await);
    }
    let (mut stream, mut requests, mut since) = match before {
        None => (Stream::h1(link), 0, Instant::now()),
        Some(before) => (Stream::resumed(link, before.ahead), before.requests, before.since),
    };
    loop {
        let mut session = Session::new(&site, local, cut, caller, stream);
        session.requests = requests;
        let over = session.run(&mut since).await;
        let spoke = session.requests > 0;
        let why = match over {
            Over::Ended(why) => why,
            Over::Tunnel { backend, place } => {
                match Box::pin(session.tunnel(*backend, place, true)).await {
                    Tunnel::Carrying(carrying) => return Served::Tunnel(carrying),
                    Tunnel::Ended(why) => why,
                }
            }
            Over::Parked => match rest(session.stream, session.requests, since) {
                Some(resting) => return resting,
                None => Why::InternalError,
            },
            Over::Preface => {
                let Session { stream: Stream::H1(stream), caller, .. } = session else {
                    return ended(Outcome::without_backend(Why::InternalError, None));
                };
                let h1::Stream { socket: link, mut input, .. } = *stream;
                let ahead = input.take_rest();
                input.rest(local);
                let sites = (site, sites);
                return ended(
                    Box::pin(streams::serve(link, ahead, sites, caller, local, cut)).await,
                );
            }
            Over::News => {
                (requests, caller, stream) = (session.requests, session.caller, session.stream);
                follow(&mut site, sites, cut);
                continue;
            }
        };
        return ended(Outcome { spoke, ..Outcome::without_backend(why, None) });
    }
}

fn ended(outcome: Outcome) -> Served {
    Served::Ended(Box::new(outcome))
}

/// A connection on which nothing is under way, taken apart.
fn rest(stream: Stream, requests: u32, since: Instant) -> Option<Served> {
    let Stream::H1(stream) = stream else { return None };
    let h1::Stream { socket: Link::Plain(socket), mut input, .. } = *stream else { return None };
    let before = Before { ahead: input.take_rest(), requests, since };
    Some(Served::Resting(socket, Box::new(before)))
}

/// How long a client may take, whose next head began at this time or not yet, and what it means if it takes longer.
fn limit(rules: &Rules, head_began: Option<Instant>, since: Instant) -> (Option<Instant>, Why) {
    match head_began {
        Some(began) => (Some(began + rules.head_timeout), Why::HeadTimeout),
        None => (rules.idle_timeout.map(|idle| since + idle), Why::IdleTimeout),
    }
}

/// Goes by the site in force, or, where there is none any more, on to the end of what has begun.
pub(super) fn follow(site: &mut Arc<Site>, sites: Sites<'_>, cut: &Cut) {
    match sites() {
        Some(newest) => *site = newest,
        None => cut.ask_to_finish(),
    }
}

impl Session<'_> {
    /// Request after request.
    async fn run(&mut self, since: &mut Instant) -> Over {
        loop {
            // Whatever the client has sent ahead.
            if self.cut.take_news() {
                return Over::News;
            }
            match self.next_request(*since).await {
                Ok(Arrived::Request) => {}
                Ok(Arrived::Preface) => return Over::Preface,
                Ok(Arrived::News) => return Over::News,
                Ok(Arrived::Parked) => return Over::Parked,
                Err(why) => {
                    if let Stream::H1(stream) = &mut self.stream {
                        stream.socket.close_notify();
                    }
                    return Over::Ended(why);
                }
            }
            // Boxed, so that a connection between two requests does not carry the room for one.
            let next = Box::pin(self.answer()).await;
            self.rest();
            match next {
                Next::Request => {}
                Next::Close(why) => {
                    self.flush(Last::Yes).await;
                    return Over::Ended(why);
                }
                Next::Linger(why) => {
                    self.flush(Last::Yes).await;
                    Box::pin(self.linger()).await;
                    return Over::Ended(why);
                }
                Next::Abort(why) => {
                    self.stream.break_off();
                    return Over::Ended(why);
                }
                Next::Tunnel { backend, place } => {
                    self.flush(Last::No).await;
                    return Over::Tunnel { backend, place };
                }
            }
            *since = self.ended_at.take().unwrap_or_else(Instant::now);
        }
    }

    /// Waits for the next request and reads its head. An error is the end of the connection, with everything said.
    async fn next_request(&mut self, since: Instant) -> Result<Arrived, Why> {
        let site = self.site;
        let rules = &site.rules;
        let mut head_began = (self.requests == 0).then_some(since);
        let Stream::H1(stream) = &mut self.stream else { return Err(Why::InternalError) };
        let may_be_preface = self.requests == 0 && rules.http2.is_some();
        let (mut is_preface, mut has_news, mut is_to_park) = (false, false, false);
        if matches!(stream.socket, Link::Plain(_)) {
            self.cut.rests();
        }
        let outcome = poll_fn(|cx| {
            // What the client has not taken of the last answer comes first.
            let flush = stream.poll_flush(cx);
            if matches!(flush, Poll::Ready(Err(_))) {
                return Poll::Ready(Err(Why::ClientReset));
            }
            let h1::Stream { socket, input, .. } = &mut **stream;
            let request = &mut self.request;
            let read = |bytes: &[u8]| {
                if may_be_preface && bytes.starts_with(PREFACE) {
                    is_preface = true;
                    return Ok(Read::Whole { length: 0 });
                }
                request.read(bytes, &rules.head)
            };
            if flush.is_ready()
                && let Poll::Ready(read) =
                    input.poll_head(cx, socket, self.local, rules.head.head_max, read)
            {
                return Poll::Ready(Ok(read));
            }
            let nothing_yet = input.is_empty();
            if self.cut.is_asked(cx) {
                return Poll::Ready(Err(Why::DrainCut));
            }
            if flush.is_ready() && self.cut.is_to_park() {
                is_to_park = true;
                return Poll::Ready(Ok(Ok(())));
            }
            if nothing_yet && self.cut.take_news() {
                has_news = true;
                return Poll::Ready(Ok(Ok(())));
            }
            if nothing_yet && self.requests > 0 && self.cut.is_finishing() {
                return Poll::Ready(Err(Why::ClientFinished));
            }
            if !nothing_yet && head_began.is_none() {
                head_began = Some(Instant::now());
            }
            let (due, why) = limit(rules, head_began, since);
            if self.alarm.is_over(cx, due) { Poll::Ready(Err(why)) } else { Poll::Pending }
        })
        .await;
        if !is_to_park {
            self.cut.can_park(false);
        }
        match outcome {
            Ok(Ok(())) if is_to_park => Ok(Arrived::Parked),
            Ok(Ok(())) if has_news => Ok(Arrived::News),
            Ok(Ok(())) if is_preface => Ok(Arrived::Preface),
            Ok(Ok(())) => Ok(Arrived::Request),
            Ok(Err(failed)) => Err(self.without_head(since, failed).await),
            Err(Why::HeadTimeout) if !stream.input.is_empty() => {
                self.end_with(since, 408, Told::new(Why::HeadTimeout)).await;
                Err(Why::HeadTimeout)
            }
            Err(why) => Err(why),
        }
    }

    /// What it means that there is no head, with everything said.
    async fn without_head(&mut self, since: Instant, failed: HeadFailed) -> Why {
        match failed {
            HeadFailed::Ended => Why::ClientFinished,
            HeadFailed::Cut | HeadFailed::Unprocessed | HeadFailed::CannotSwitch => Why::ClientGone,
            HeadFailed::Broken => Why::ClientReset,
            HeadFailed::Refused(refusal) => {
                Box::pin(self.refuse_head(since, refusal)).await;
                Why::BadRequest
            }
        }
    }

    /// Answers a request that cannot be read, and closes: nobody knows where it ends.
    async fn refuse_head(&mut self, since: Instant, refusal: Refusal) {
        let detail = Some(refusal.reason.as_str().to_owned());
        let told = Told { detail, ..Told::new(Why::BadRequest) };
        self.end_with(since, refusal.reason.status(), told).await;
    }

    pub(super) async fn end_with(&mut self, since: Instant, status: u16, told: Told) {
        self.unvet();
        self.request_id = self.local.request_id();
        self.request.clear();
        self.requests += 1;
        let (_, told) = self.refuse(status, told);
        publish(self.site, &self.caller, since, &self.request_id, &self.request, told);
        self.flush(Last::Yes).await;
        Box::pin(self.linger()).await;
    }

    /// Gives back the buffers in which nothing is.
    fn rest(&mut self) {
        if let Stream::H1(stream) = &mut self.stream {
            stream.rest(self.local);
        }
    }

    /// Hands everything written to the kernel, for as long as the client takes some now and then; and after the
    /// last, says that it was the last.
    async fn flush(&mut self, last: Last) {
        let patience = self.site.rules.idle_timeout.unwrap_or(Duration::from_secs(60));
        let due = Instant::now() + patience;
        let Stream::H1(stream) = &mut self.stream else { return };
        poll_fn(|cx| {
            let mut done = stream.poll_flush(cx).is_ready();
            if done && last == Last::Yes {
                done = stream.socket.poll_close_notify(cx).is_ready();
            }
            if done || self.cut.is_asked(cx) || self.alarm.is_over(cx, Some(due)) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Reads on for a moment and throws it away: closing with bytes unread would reset the connection, and the
    /// client might never see the answer (RFC 9112 9.6).
    async fn linger(&mut self) {
        let Stream::H1(stream) = &mut self.stream else { return };
        stream.socket.finish_writing();
        let due = Instant::now() + LINGER;
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            loop {
                let mut scratch = self.local.scratch.borrow_mut();
                match stream.socket.poll_read(cx, &mut scratch) {
                    Poll::Ready(Ok(count)) if count > 0 && left > count => left -= count,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            let over = self.cut.is_asked(cx) || self.alarm.is_over(cx, Some(due));
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
