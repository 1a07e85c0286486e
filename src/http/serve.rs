//! One client connection: request after request, each read, routed, answered and recorded, until one side has enough.
//! Between two requests it holds no buffer; what a client sends ahead stays in the kernel until its turn.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use evenkeel_wire::{Fields, Framing, Known, Method, Refusal, Request, Response, elements};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::forward::Order;
use super::h1::{HeadFailed, Stream};
use super::headers::Onward;
use super::local::Local;
use super::record::{Told, publish};
use super::reply::Reply;
use super::{Action, Edits, Site, Target};
use crate::config::{Part, Template, Variable};
use crate::observe::ended::{ClientAddress, Why};
use crate::route::{Ask, normal_path};
use crate::socket::Socket;
use crate::tcp::relay::{Relay, Times};
use crate::tcp::{Cut, Outcome, Scratch};
use crate::upstream::{InFlight, Upstream};

/// How long a client may go on sending after we have said our last word, so that it can read it.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes thrown away meanwhile.
const LINGER_BYTES: usize = 4 * 1024 * 1024;

/// What becomes of the connection after a request.
pub(super) enum Next {
    /// The next request.
    Request,
    /// The end, after everything has been written.
    Close(Why),
    /// The same, but the client is still sending what nobody wants.
    Linger(Why),
    /// The end at once: something begun cannot be finished.
    Abort(Why),
    /// Bytes both ways, beginning with `rest` for the client.
    Tunnel { backend: Socket, place: InFlight, rest: Vec<u8> },
}

/// How the requests of a connection came to their end.
enum Over {
    Ended(Why),
    Tunnel { backend: Socket, place: InFlight, rest: Vec<u8> },
}

/// A client connection while it is served.
pub(super) struct Session<'a> {
    pub(super) site: &'a Site,
    pub(super) local: &'a Local,
    pub(super) cut: &'a Cut,
    pub(super) client: ClientAddress,
    /// The client's IP address as text; empty for a Unix socket.
    pub(super) peer: String,
    pub(super) stream: Stream,
    pub(super) request: Request,
    pub(super) response: Response,
    pub(super) alarm: Alarm,
    pub(super) requests: u32,
    pub(super) request_id: String,
    /// Bytes of bodies that came before this request.
    pub(super) carried_before: u64,
}

/// Serves one client from its first byte to its last.
pub(crate) async fn serve(
    socket: Socket,
    site: &Site,
    client: ClientAddress,
    local: &Local,
    scratch: &RefCell<Scratch>,
    cut: &Cut,
) -> Outcome {
    let mut session = Session {
        site,
        local,
        cut,
        client,
        peer: String::new(),
        stream: Stream::new(socket),
        request: Request::default(),
        response: Response::default(),
        alarm: Alarm::default(),
        requests: 0,
        request_id: String::new(),
        carried_before: 0,
    };
    session.peer = session.client_ip().map_or_else(String::new, |ip| ip.to_string());
    let why = match session.run().await {
        Over::Ended(why) => why,
        Over::Tunnel { backend, place, rest } => {
            return Box::pin(session.tunnel(backend, &place, rest, scratch)).await;
        }
    };
    Outcome { spoke: session.requests > 0, ..Outcome::without_backend(why, None) }
}

impl Session<'_> {
    /// Request after request.
    async fn run(&mut self) -> Over {
        let mut since = Instant::now();
        loop {
            if let Err(why) = self.next_request(since).await {
                return Over::Ended(why);
            }
            // Boxed, so that a connection between two requests does not carry the room for one.
            let next = Box::pin(self.answer()).await;
            self.stream.rest(self.local);
            match next {
                Next::Request => {}
                Next::Close(why) => {
                    self.flush().await;
                    return Over::Ended(why);
                }
                Next::Linger(why) => {
                    self.flush().await;
                    Box::pin(self.linger()).await;
                    return Over::Ended(why);
                }
                Next::Abort(why) => {
                    self.stream.socket.reset_on_close();
                    return Over::Ended(why);
                }
                Next::Tunnel { backend, place, rest } => {
                    self.flush().await;
                    return Over::Tunnel { backend, place, rest };
                }
            }
            since = Instant::now();
        }
    }

    pub(super) fn client_ip(&self) -> Option<IpAddr> {
        match self.client {
            ClientAddress::Ip(address) => Some(address.ip().to_canonical()),
            ClientAddress::Unix => None,
        }
    }

    pub(super) fn client_is_trusted(&self) -> bool {
        let proxies = &self.site.rules.trusted_proxies;
        self.client_ip().is_some_and(|ip| proxies.iter().any(|net| net.contains(&ip)))
    }

    /// The protocol asked for by `Upgrade`, if it may be passed on: never HTTP/2 on clear text, whose frames
    /// would pass by all our checks.
    pub(super) fn upgrade_protocol(&mut self) -> Option<Vec<u8>> {
        let fields = &self.request.fields;
        let asked = fields.all(Known::Upgrade).flat_map(elements);
        let harmless = |protocol: &&[u8]| {
            let begins = |name: &[u8]| {
                protocol.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            !begins(b"h2") && !begins(b"http") && !begins(b"tls")
        };
        let wanted = asked.filter(harmless).collect::<Vec<_>>().join(&b", "[..]);
        let upgrade = self.request.upgrade && !wanted.is_empty();
        self.request.upgrade = upgrade;
        upgrade.then_some(wanted)
    }

    /// Waits for the next request and reads its head. An error is the end of the connection, with everything said.
    async fn next_request(&mut self, since: Instant) -> Result<(), Why> {
        let site = self.site;
        let rules = &site.rules;
        let mut head_began = (self.requests == 0).then_some(since);
        let outcome = poll_fn(|cx| {
            // What the client has not taken of the last answer comes first.
            let flushed = match self.stream.poll_flush(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Why::ClientReset)),
                outcome => outcome.is_ready(),
            };
            let Stream { socket, input, .. } = &mut self.stream;
            let request = &mut self.request;
            let read = |bytes: &[u8]| request.read(bytes, &rules.head);
            if flushed
                && let Poll::Ready(read) =
                    input.poll_head(cx, socket, self.local, rules.head.head_max, read)
            {
                return Poll::Ready(Ok(read));
            }
            let nothing_yet = input.is_empty();
            if self.cut.is_asked(cx) {
                return Poll::Ready(Err(Why::DrainCut));
            }
            if nothing_yet && self.requests > 0 && self.cut.is_finishing() {
                return Poll::Ready(Err(Why::ClientFinished));
            }
            if !nothing_yet && head_began.is_none() {
                head_began = Some(Instant::now());
            }
            let (due, why) = match head_began {
                Some(began) => (Some(began + rules.head_timeout), Why::HeadTimeout),
                None => (rules.idle_timeout.map(|idle| since + idle), Why::IdleTimeout),
            };
            let over = self.alarm.is_over(cx, due);
            if over { Poll::Ready(Err(why)) } else { Poll::Pending }
        })
        .await;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(HeadFailed::Ended)) => Err(Why::ClientFinished),
            Ok(Err(HeadFailed::Cut)) => Err(Why::ClientGone),
            Ok(Err(HeadFailed::Broken)) => Err(Why::ClientReset),
            Ok(Err(HeadFailed::Refused(refusal))) => {
                Box::pin(self.refuse_head(since, refusal)).await;
                Err(Why::BadRequest)
            }
            Err(Why::HeadTimeout) if !self.stream.input.is_empty() => {
                self.end_with(since, 408, Told::new(Why::HeadTimeout)).await;
                Err(Why::HeadTimeout)
            }
            Err(why) => Err(why),
        }
    }

    /// Answers a request that cannot be read, and closes: nobody knows where it ends.
    async fn refuse_head(&mut self, since: Instant, refusal: Refusal) {
        let detail = Some(refusal.reason.as_str().to_owned());
        let told = Told { detail, ..Told::new(Why::BadRequest) };
        self.end_with(since, refusal.reason.status(), told).await;
    }

    async fn end_with(&mut self, since: Instant, status: u16, told: Told) {
        self.request_id = self.local.request_id();
        self.request.clear();
        self.requests += 1;
        let (_, told) = self.refuse(status, told);
        publish(self.site, self.client, since, &self.request_id, &self.request, told);
        self.flush().await;
        Box::pin(self.linger()).await;
    }

    /// Answers the request that has been read.
    async fn answer(&mut self) -> Next {
        let began = Instant::now();
        self.requests += 1;
        self.request_id = self.local.request_id();
        self.carried_before = self.stream.input.carried;
        self.stream.input.begin_body(self.request.framing, &self.site.rules.head);
        let (next, told) = self.act(began).await;
        if !matches!(next, Next::Tunnel { .. }) {
            publish(self.site, self.client, began, &self.request_id, &self.request, told);
        }
        next
    }

    async fn act(&mut self, began: Instant) -> (Next, Told) {
        if self.request.method == Method::Connect && !self.site.rules.connect {
            return self.refuse(405, Told::new(Why::BadRequest));
        }
        let Ok(found) = self.route() else {
            let detail = Some("unclear-path".to_owned());
            return self.refuse(400, Told { detail, ..Told::new(Why::BadRequest) });
        };
        let site = self.site;
        let action = found.and_then(|index| Some((index, site.actions.get(index)?)));
        let Some((index, action)) = action else {
            return self.refuse(404, Told::new(Why::NoRoute));
        };
        match &action.target {
            Target::Upstream(upstream) => self.forward(&self.order(action, upstream, began)).await,
            Target::Files { folder, or } => {
                let end = self.request.target.iter().position(|byte| *byte == b'?');
                let path = &self.request.target[..end.unwrap_or(self.request.target.len())];
                let rest = site.routes.rest(index, path).to_vec();
                match (self.send_file(folder, &rest, or.is_some(), &action.response).await, or) {
                    (Some(over), _) => over,
                    (None, Some(upstream)) => {
                        self.forward(&self.order(action, upstream, began)).await
                    }
                    (None, None) => self.refuse(500, Told::new(Why::InternalError)),
                }
            }
            Target::Redirect { to, status } => {
                let by_client = matches!(to.parts.first(), Some(Part::Variable(_)));
                let mut to = self.fill(to);
                // A path that begins with two slashes would lead to another host.
                if by_client && to.starts_with("//") {
                    to = format!("/{}", to.trim_start_matches('/'));
                }
                self.redirect(*status, to)
            }
            Target::Reply { status, content_type, body } => {
                let mut reply = Reply::plain(*status, "", body.as_bytes().to_vec());
                if !body.is_empty() {
                    reply.fields.push(("Content-Type", content_type.clone()));
                }
                self.reply(&reply, Told::new(Why::Replied))
            }
        }
    }

    fn order<'o>(
        &self,
        action: &'o Action<Arc<Upstream>>,
        upstream: &'o Arc<Upstream>,
        began: Instant,
    ) -> Order<'o> {
        Order {
            upstream,
            request: &action.request,
            response: &action.response,
            response_timeout: action.response_timeout.unwrap_or(upstream.rules.response_timeout),
            body_max: action.body_max.unwrap_or(self.site.rules.body_max),
            began,
        }
    }

    /// Sends the client elsewhere.
    pub(super) fn redirect(&mut self, status: u16, to: String) -> (Next, Told) {
        let mut reply = Reply::plain(status, "text/plain", Vec::new());
        reply.fields.push(("Location", to));
        self.reply(&reply, Told::new(Why::Replied))
    }

    /// Whether the connection may go on after this request.
    pub(super) fn may_persist(&self) -> bool {
        self.request.persistent
            && !self.cut.is_finishing()
            && self.requests < self.site.rules.requests_max
    }

    /// The number of the route that takes the request. The path is made normal first, so that what is matched is
    /// what the backend is asked for.
    fn route(&mut self) -> Result<Option<usize>, ()> {
        let end = self.request.target.iter().position(|byte| *byte == b'?');
        let end = end.unwrap_or(self.request.target.len());
        if self.request.target.starts_with(b"/") {
            let changed = match normal_path(&self.request.target[..end]) {
                Ok(std::borrow::Cow::Borrowed(_)) => None,
                Ok(std::borrow::Cow::Owned(path)) => Some(path),
                Err(_) => return Err(()),
            };
            if let Some(path) = changed {
                self.request.target.splice(..end, path);
            }
        }
        let target = &self.request.target;
        let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        let ask = Ask {
            host: host_of(&self.request.authority),
            path: &target[..end],
            query: target.get(end + 1..).unwrap_or_default(),
            method: self.request.method.as_bytes(),
            fields: &self.request.fields,
            client: self.client_ip(),
        };
        Ok(self.site.routes.find(&ask))
    }

    /// The text of a template for this request.
    fn fill(&self, template: &Template) -> String {
        let mut text = Vec::new();
        let target = &self.request.target;
        let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
        for part in &template.parts {
            text.extend_from_slice(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Variable(Variable::ClientIp) => self.peer.as_bytes(),
                Part::Variable(Variable::Host) => host_of(&self.request.authority),
                Part::Variable(Variable::Path) => &target[..end],
                Part::Variable(Variable::Query) => target.get(end + 1..).unwrap_or_default(),
                Part::Variable(Variable::RequestId) => self.request_id.as_bytes(),
                Part::Variable(Variable::Scheme) => b"http",
                Part::Variable(Variable::Uri) => target,
            });
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Fields that a route sets, with their values for this request.
    pub(super) fn filled<'e>(&self, edits: &'e Edits) -> Vec<(&'e [u8], String)> {
        edits.set.iter().map(|(name, template)| (&**name, self.fill(template))).collect()
    }

    /// Answers with a page of our own about what went wrong; the connection ends with it.
    pub(super) fn refuse(&mut self, status: u16, told: Told) -> (Next, Told) {
        let cause = told.detail.as_deref().filter(|_| told.why == Why::BadRequest);
        let cause = cause.unwrap_or(told.why.as_str());
        let empty = Fields::default();
        let asked = if self.requests > 0 { &self.request.fields } else { &empty };
        let reply = Reply::failure(status, cause, &self.request_id, asked);
        self.reply(&reply, told)
    }

    /// Writes an answer of our own. The connection goes on if nothing of the request is left unread.
    pub(super) fn reply(&mut self, reply: &Reply, mut told: Told) -> (Next, Told) {
        let is_head = self.request.method == Method::Head;
        let version = self.request.version;
        let unread = self.request.framing != Framing::None;
        let ends = matches!(told.why, Why::BadRequest | Why::HeadTimeout);
        let persistent = !unread && !ends && self.may_persist();
        let onward = Onward { framing: Framing::None, version, persistent };
        let local = self.local;
        self.stream.output.begin(local, Framing::None, |out| {
            reply.write(out, local, is_head, onward);
        });
        told.status = Some(reply.status);
        told.down = reply.length(is_head);
        let next = match (persistent, unread || ends) {
            (true, _) => Next::Request,
            (false, false) => Next::Close(told.why),
            (false, true) => Next::Linger(told.why),
        };
        (next, told)
    }

    /// Hands everything written to the kernel, for as long as the client takes some now and then.
    async fn flush(&mut self) {
        let patience = self.site.rules.idle_timeout.unwrap_or(Duration::from_secs(60));
        let due = Instant::now() + patience;
        poll_fn(|cx| {
            if self.stream.poll_flush(cx).is_ready()
                || self.cut.is_asked(cx)
                || self.alarm.is_over(cx, Some(due))
            {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }

    /// Reads on for a moment and throws it away: closing with bytes unread would reset the connection, and the
    /// client might never see the answer (RFC 9112 9.6).
    async fn linger(&mut self) {
        self.stream.socket.finish_writing();
        let due = Instant::now() + LINGER;
        let mut left = LINGER_BYTES;
        poll_fn(|cx| {
            loop {
                let mut scratch = self.local.scratch.borrow_mut();
                match self.stream.socket.poll_read(cx, &mut scratch) {
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

    /// Relays bytes between two sides that speak something else now.
    async fn tunnel(
        mut self,
        backend: Socket,
        place: &InFlight,
        rest: Vec<u8>,
        scratch: &RefCell<Scratch>,
    ) -> Outcome {
        let began = Instant::now();
        let ahead = self.stream.input.take_rest();
        self.stream.rest(self.local);
        let mut relay = Relay::resumed(self.stream.socket, backend, ahead, rest);
        let idle = self.site.rules.tunnel_timeout;
        let times = Times { idle, only_client_counts: false, deadline: None };
        let end = relay.run(scratch, self.site.rules.buffer_max, &times, self.cut).await;
        let carried = relay.carried();
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

/// The host of an authority, without its port.
fn host_of(authority: &[u8]) -> &[u8] {
    let after_brackets = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    match authority[after_brackets..].iter().position(|byte| *byte == b':') {
        Some(at) => &authority[..after_brackets + at],
        None => authority,
    }
}
