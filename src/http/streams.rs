//! One client connection of HTTP/2: many requests at the same time, each a session of its own on a stream.
//! It must never let a client make work that it does not pay for: floods, silence and slowness end the connection.
//! All sessions run within the connection's task, so that what many of them have written goes out with one write.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use evenkeel_wire::Refusal;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::forwarded::{Caller, port_of};
use super::h2::{
    self as multiplexed, Batched, Floods, Guarded, PARTING, SEND_BUFFER, Watch, incoming_request,
};
use super::local::Local;
use super::record::{Told, publish};
use super::serve::follow;
use super::session::{Next, Session};
use super::stream::Stream;
use super::{Site, Sites};
use crate::link::Link;
use crate::observe::ended::Why;
use crate::tcp::{Cut, Kind, Outcome};

/// What was configured for HTTP/2 with clients.
#[derive(Debug, Clone)]
pub(crate) struct Http2 {
    pub(crate) streams_max: u32,
    pub(crate) stream_window: u32,
    pub(crate) connection_window: u32,
    pub(crate) floods: Floods,
}

/// Serves a client that speaks HTTP/2; `ahead` is what has been read of it already.
pub(super) async fn serve(
    link: Link,
    ahead: Vec<u8>,
    (mut site, sites): (Arc<Site>, Sites<'_>),
    caller: Caller,
    local: &Local,
    cut: &Cut,
) -> Outcome {
    let first = Arc::clone(&site);
    let Some(rules) = &first.rules.http2 else {
        return Outcome::without_backend(Why::BadRequest, None);
    };
    let local_address = caller.local.or_else(|| link.socket().local_address());
    let local_port = local_address.map(port_of);
    let watch = Watch::new();
    let link = Batched::new(link);
    let io = Guarded::of_client(link.clone(), ahead, rules.floods.clone(), Rc::clone(&watch));
    let connection = match greet(&first, rules, io, cut).await {
        Ok(connection) => connection,
        Err(outcome) => return outcome,
    };
    let mut requests = FuturesUnordered::new();
    let mut alarm = Alarm::default();
    let mut conversation = Conversation::new(connection, watch);
    let mut desk = StreamDesk {
        site: Rc::new(Arc::clone(&site)),
        caller: &caller,
        local,
        local_port: local_port.as_ref(),
        local_address,
    };
    poll_fn(|cx| {
        if cut.take_news() {
            follow(&mut site, sites, cut);
            desk.site = Rc::new(Arc::clone(&site));
        }
        loop {
            // A stream that was reset has room for another, but what it began may not be over yet.
            let has_room = requests.len() < rules.streams_max as usize;
            match conversation.poll_request(cx, first.rules.requests_max, has_room) {
                Poll::Ready(Some((head, respond))) => {
                    let cut = Rc::new(Cut::default());
                    let key = conversation.cuts.insert(Rc::clone(&cut));
                    requests.push(desk.clone().answer(head, respond, cut, key));
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        let was_full = requests.len() >= rules.streams_max as usize;
        while let Poll::Ready(Some((key, end))) = requests.poll_next_unpin(cx) {
            if let Some(part) = conversation.note_end(key, end, rules.floods.resets) {
                cut.seen().carried_more(part.seen().carried());
            }
            if was_full || conversation.parting.is_some() {
                cx.waker().wake_by_ref();
            }
        }
        let over = conversation.poll_over(cx, cut, &first.rules, requests.is_empty(), &mut alarm);
        // What all of them have written in this turn goes out as one.
        let is_broken = matches!(link.poll_written(cx), Poll::Ready(Err(_)));
        if is_broken {
            conversation.why.get_or_insert((Why::ClientReset, None));
        }
        if over || is_broken { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    conversation.outcome()
}

/// Exchanges the first frames with a client.
async fn greet<T: AsyncRead + AsyncWrite + Unpin>(
    site: &Site,
    rules: &Http2,
    io: T,
    cut: &Cut,
) -> Result<Connection<T, Bytes>, Outcome> {
    cut.seen().speaks(Kind::Http2);
    let greeting = builder(rules, site.rules.head.head_max).handshake(io);
    let greeted = tokio::select! {
        biased;
        greeted = tokio::time::timeout(site.rules.head_timeout, greeting) => greeted,
        () = cut.asked() => return Err(Outcome::without_backend(Why::DrainCut, None)),
    };
    match greeted {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(ended_badly(&error)),
        Err(_) => Err(Outcome::without_backend(Why::HeadTimeout, None)),
    }
}

/// Streams of one connection that its client's errors may make us reset: what the crate takes for enough.
const LOCAL_RESETS: usize = 1024;

fn builder(rules: &Http2, head_max: usize) -> Builder {
    let mut builder = Builder::new();
    let resets = rules.floods.resets as usize;
    builder
        .max_concurrent_streams(rules.streams_max)
        .initial_window_size(rules.stream_window)
        .initial_connection_window_size(rules.connection_window)
        .max_header_list_size(u32::try_from(head_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        // Streams that a client gave up before we looked at them (CVE-2023-44487), and streams that it made us
        // give up (CVE-2025-8671). The latter are counted over the life of the connection, with all that were refused
        // before our SETTINGS were read, so that it is no pace: for that see `note_end`.
        .max_pending_accept_reset_streams(resets)
        .max_local_error_reset_streams(Some(resets.max(LOCAL_RESETS)))
        .enable_connect_protocol();
    builder
}

type Arrival = http::Request<RecvStream>;

/// The connection, and what is known of its end.
struct Conversation {
    connection: Connection<Guarded<Batched<Link>>, Bytes>,
    watch: Rc<Watch>,
    cuts: Slab<Rc<Cut>>,
    /// We have said goodbye, and close by this time.
    parting: Option<Instant>,
    why: Option<(Why, Option<String>)>,
    begun: u32,
    /// Requests within this second that came to nothing by the client's doing.
    given_up: (Instant, u32),
}

/// Whether a request was of any use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Answered,
    /// The client reset its stream, or made us do so.
    GivenUp,
}

impl Conversation {
    fn new(
        connection: Connection<Guarded<Batched<Link>>, Bytes>,
        watch: Rc<Watch>,
    ) -> Conversation {
        let (cuts, given_up) = (Slab::new(), (Instant::now(), 0));
        Conversation { connection, watch, cuts, parting: None, why: None, begun: 0, given_up }
    }

    /// Forgets a request that is over, and ends the connection if too many are given up.
    fn note_end(&mut self, key: usize, end: End, most: u32) -> Option<Rc<Cut>> {
        let part = self.cuts.try_remove(key);
        if end == End::Answered {
            return part;
        }
        let now = Instant::now();
        if now - self.given_up.0 >= Duration::from_secs(1) {
            self.given_up = (now, 0);
        }
        self.given_up.1 += 1;
        if self.given_up.1 > most && self.why.is_none() {
            self.part_at_once(Reason::ENHANCE_YOUR_CALM);
            self.why = Some((Why::LimitFrames, Some("too many requests given up".to_owned())));
        }
        part
    }

    /// The next request; none when the connection has ended.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
        requests_max: u32,
        has_room: bool,
    ) -> Poll<Option<(Arrival, SendResponse<Bytes>)>> {
        if !has_room {
            let closed = self.connection.poll_closed(cx);
            return closed.map(|outcome| {
                self.note_closed(outcome.err());
                None
            });
        }
        match self.connection.poll_accept(cx) {
            Poll::Ready(Some(Ok(arrival))) => {
                self.begun += 1;
                if self.begun == requests_max {
                    self.connection.graceful_shutdown();
                }
                Poll::Ready(Some(arrival))
            }
            Poll::Ready(Some(Err(error))) => {
                self.note_closed(Some(error));
                Poll::Ready(None)
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }

    fn note_closed(&mut self, error: Option<h2::Error>) {
        if let (Some(error), None) = (error, &self.why) {
            let Outcome { why, detail, .. } = ended_badly(&error);
            self.why = Some((why, detail));
        }
    }

    /// Whether it is over for other reasons than its own; if not, the task is woken when it may be.
    fn poll_over(
        &mut self,
        cx: &mut Context<'_>,
        cut: &Cut,
        rules: &super::Rules,
        is_idle: bool,
        alarm: &mut Alarm,
    ) -> bool {
        if let (Some(flood), None) = (self.watch.flood(), &self.why) {
            self.part_at_once(Reason::ENHANCE_YOUR_CALM);
            self.why = Some((Why::LimitFrames, Some(format!("too many {flood} frames"))));
            cx.waker().wake_by_ref();
        }
        cut.seen().has_under_way(self.cuts.len());
        if cut.is_asked(cx) {
            self.cuts.iter().for_each(|(_, part)| part.ask_as(cut));
            self.why.get_or_insert((Why::DrainCut, None));
            return is_idle;
        }
        if cut.is_finishing() && self.parting.is_none() && self.why.is_none() {
            self.connection.graceful_shutdown();
            self.why = Some((Why::ClientFinished, None));
            cx.waker().wake_by_ref();
        }
        if self.parting.is_some() {
            return alarm.is_over(cx, self.parting);
        }
        let owed = self.watch.incomplete().map(|since| since + rules.head_timeout);
        if alarm.is_over(cx, owed) {
            self.why = Some((Why::HeadTimeout, None));
            self.part_at_once(Reason::ENHANCE_YOUR_CALM);
            cx.waker().wake_by_ref();
        }
        // Requests under way have limits of their own. What they left behind, and nobody takes, has not.
        let quiet = rules.idle_timeout.filter(|_| is_idle);
        if alarm.is_over(cx, quiet.map(|idle| self.watch.active() + idle)) {
            self.why.get_or_insert((Why::IdleTimeout, None));
            self.part_at_once(Reason::NO_ERROR);
            cx.waker().wake_by_ref();
        }
        false
    }

    /// Says goodbye, and waits for no request any more.
    fn part_at_once(&mut self, reason: Reason) {
        self.connection.abrupt_shutdown(reason);
        self.parting = Some(Instant::now() + PARTING);
        self.cuts.iter().for_each(|(_, cut)| cut.ask());
    }

    fn outcome(self) -> Outcome {
        let (why, detail) = self.why.unwrap_or((Why::ClientFinished, None));
        // Each request has left a line; an end that says more gets one as well.
        let is_plain = matches!(why, Why::ClientFinished | Why::IdleTimeout | Why::ClientReset);
        let spoke = self.begun > 0 && is_plain;
        Outcome { spoke, ..Outcome::without_backend(why, detail) }
    }
}

/// How a connection ended on which the rules of HTTP/2 were broken, or which broke itself.
fn ended_badly(error: &h2::Error) -> Outcome {
    if error.is_io() {
        return Outcome::without_backend(Why::ClientReset, None);
    }
    if error.is_remote() {
        return Outcome::without_backend(Why::ClientFinished, None);
    }
    let why = match error.reason() {
        Some(Reason::ENHANCE_YOUR_CALM) => Why::LimitFrames,
        _ => Why::BadRequest,
    };
    Outcome::without_backend(why, Some(error.to_string()))
}

/// What all streams of a connection share.
#[derive(Clone)]
struct StreamDesk<'a> {
    /// Counted by this connection alone: counting with all others, each request would cost more.
    #[expect(clippy::redundant_allocation, reason = "each request takes and gives one back")]
    site: Rc<Arc<Site>>,
    caller: &'a Caller,
    local: &'a Local,
    /// The port that the client connected to.
    local_port: Option<&'a Rc<str>>,
    local_address: Option<SocketAddr>,
}

impl StreamDesk<'_> {
    /// Answers one request to its end.
    async fn answer(
        self,
        arrival: Arrival,
        mut respond: SendResponse<Bytes>,
        cut: Rc<Cut>,
        key: usize,
    ) -> (usize, End) {
        // Given up already: it is not worth a backend's time.
        if respond.poll_reset(&mut Context::from_waker(Waker::noop())).is_ready() {
            return (key, End::GivenUp);
        }
        let (head, body) = arrival.into_parts();
        let limits = &self.site.rules.head;
        let ends = body.is_end_stream();
        let stream = multiplexed::Stream::of_client(respond, body, *limits);
        let stream = Stream::H2(Box::new(stream));
        let caller = self.caller.again();
        let mut session = Session::new(&self.site, self.local, &cut, caller, stream);
        session.local_port = self.local_port.cloned();
        session.local_address = self.local_address;
        (session.request, session.response) = self.local.take_heads();
        session.alarm = self.local.take_alarm();
        if let Err(refusal) = incoming_request(&head, ends, limits, &mut session.request) {
            session.refuse_stream(refusal);
            return (key, End::Answered);
        }
        drop(head);
        let mut end = End::Answered;
        match Box::pin(session.answer()).await {
            Next::Request | Next::Close(_) | Next::Linger(_) => {}
            Next::Abort(why) => {
                session.stream.break_off();
                if why == Why::ClientGone {
                    end = End::GivenUp;
                }
            }
            Next::Tunnel { backend, place } => {
                Box::pin(session.tunnel(*backend, place, false)).await;
                return (key, end);
            }
        }
        self.local.give_heads(session.request, session.response);
        self.local.give_alarm(session.alarm);
        (key, end)
    }
}

impl Session<'_> {
    /// Answers a request that has no single reading; the others on its connection go on.
    fn refuse_stream(&mut self, refusal: Refusal) {
        let began = Instant::now();
        self.requests += 1;
        self.request_id = self.local.request_id();
        let detail = Some(refusal.reason.as_str().to_owned());
        let told = Told { detail, ..Told::new(Why::BadRequest) };
        let (_, told) = self.refuse(refusal.reason.status(), told);
        publish(self.site, &self.caller, began, &self.request_id, &self.request, told);
    }
}
