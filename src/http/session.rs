//! One request from a client and what becomes of it: routed, answered by us or forwarded, recorded once.
//! It is the same for every version of HTTP; how requests come one after the other is decided where they are read.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use evenkeel_wire::{Fields, Framing, Known, Method, Request, Response, elements};
use tokio::time::Instant;

use super::alarm::Alarm;
use super::compress::{Compress, Encoder};
use super::forward::Order;
use super::forwarded::Caller;
use super::headers::Onward;
use super::local::Local;
use super::pages::{self, Pages};
use super::record::{Told, publish};
use super::reply::Reply;
use super::stream::Stream;
use super::{Action, Edits, Site, Target};
use crate::config::{Part, Template};
use crate::observe::ended::{ClientAddress, Why};
use crate::route::{Ask, UnclearPath, normal_path, with_single_slashes};
use crate::tcp::Cut;
use crate::tls::{Shown, acme};
use crate::upstream::{InFlight, Upstream};

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
    /// Bytes both ways.
    Tunnel { backend: Box<Stream>, place: InFlight },
}

/// A client with one request after the other: a connection of HTTP/1, or one stream of HTTP/2.
pub(super) struct Session<'a> {
    pub(super) site: &'a Site,
    pub(super) local: &'a Local,
    pub(super) cut: &'a Cut,
    /// Who connected.
    pub(super) client: ClientAddress,
    pub(super) caller: Caller,
    /// The port the client connected to, once somebody asked for it.
    pub(super) local_port: Option<Rc<str>>,
    /// The address that the client of a stream of HTTP/2 connected to; a connection of HTTP/1 knows its own.
    pub(super) local_address: Option<SocketAddr>,
    pub(super) stream: Stream,
    pub(super) request: Request,
    pub(super) response: Response,
    pub(super) alarm: Alarm,
    pub(super) requests: u32,
    /// When the last answer from a backend came to its end; for whoever waits for the next request.
    pub(super) ended_at: Option<Instant>,
    pub(super) request_id: String,
    /// Of the route that the request took, counted from 1; 0 before one is found.
    pub(super) route_number: u16,
    /// Bytes of bodies that came before this request.
    pub(super) carried_before: u64,
    /// The pages of the route that the request took.
    pages: Option<&'a Pages>,
    /// How that route compresses.
    pub(super) compress: Option<&'a Compress>,
    /// What the bytes of a file go through on their way to the client.
    pub(super) encoder: Option<Box<Encoder>>,
}

impl<'a> Session<'a> {
    /// A client that has asked for nothing yet.
    pub(super) fn new(
        site: &'a Site,
        local: &'a Local,
        cut: &'a Cut,
        caller: Caller,
        stream: Stream,
    ) -> Session<'a> {
        Session {
            site,
            local,
            cut,
            client: caller.address,
            caller,
            local_port: None,
            local_address: None,
            stream,
            request: Request::default(),
            response: Response::default(),
            alarm: Alarm::default(),
            requests: 0,
            ended_at: None,
            request_id: String::new(),
            route_number: 0,
            carried_before: 0,
            pages: None,
            compress: None,
            encoder: None,
        }
    }

    /// The protocol asked for by `Upgrade`, if it may be passed on: never HTTP/2 on clear text, whose frames
    /// would pass by all our checks.
    pub(super) fn upgrade_protocol(&mut self) -> Option<Vec<u8>> {
        if !self.request.upgrade {
            return None;
        }
        let Request { fields, protocol, .. } = &self.request;
        let asked = fields.all(Known::Upgrade).flat_map(elements);
        let asked = asked.chain([&**protocol].into_iter().filter(|named| !named.is_empty()));
        let harmless = |protocol: &&[u8]| {
            let begins = |name: &[u8]| {
                protocol.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
            };
            !begins(b"h2") && !begins(b"http") && !begins(b"tls")
        };
        let wanted = asked.filter(harmless).collect::<Vec<_>>().join(&b", "[..]);
        self.request.upgrade = !wanted.is_empty();
        self.request.upgrade.then_some(wanted)
    }

    /// Answers the request that has been read.
    pub(super) async fn answer(&mut self) -> Next {
        let began = Instant::now();
        self.requests += 1;
        self.request_id = self.local.request_id();
        self.carried_before = self.stream.carried();
        self.stream.begin_body(self.request.framing, &self.site.rules.head);
        self.vet();
        self.cut.seen().has_under_way(1);
        let trace = self.begin_trace();
        let (next, told) = self.act(began).await;
        (self.pages, self.compress, self.route_number) = (None, None, 0);
        if let Some(trace) = trace {
            self.end_trace(trace, began, &told);
        }
        if !matches!(next, Next::Tunnel { .. }) {
            self.caller.place = None;
            let told = Told { why: self.cut.judged(told.why), ..told };
            let seen = self.cut.seen();
            seen.carried_more((told.up, told.down));
            seen.has_under_way(0);
            seen.has_left();
            publish(self.site, &self.caller, began, &self.request_id, &self.request, told);
        }
        next
    }

    async fn act(&mut self, began: Instant) -> (Next, Told) {
        if let Some((status, why)) = self.out_of_place() {
            return self.refuse(status, Told::new(why));
        }
        let site = self.site;
        if !site.rules.acme.is_empty()
            && let Some(answer) = Box::pin(self.acme_answer()).await
        {
            return self.reply(&answer, Told::new(Why::Replied));
        }
        if site.gate.demands_anything()
            && let Err(turned_away) = self.pass(&site.gate).await
        {
            return turned_away;
        }
        let Ok(found) = self.route() else { return self.unclear_path() };
        let action = found.and_then(|index| Some((index, site.actions.get(index)?)));
        let Some((index, action)) = action else {
            return self.refuse(404, Told::new(Why::NoRoute));
        };
        self.pages = Some(&action.pages);
        self.route_number = u16::try_from(index + 1).unwrap_or(u16::MAX);
        if let Some(gate) = site.gates.get(index)
            && gate.demands_anything()
            && let Err(turned_away) = self.pass(gate).await
        {
            return turned_away;
        }
        if let Some(auth) = &action.forward_auth
            && let Err(turned_away) = Box::pin(self.ask_first(auth)).await
        {
            return turned_away;
        }
        let Ok(target) = action
            .rewrite
            .target(&self.request.target, |path| site.routes.rest(index, path).to_vec())
        else {
            return self.unclear_path();
        };
        self.compress = action.compress.as_deref();
        match &action.target {
            Target::Upstream(upstream) => {
                self.forward(&self.order(action, upstream, target, began)).await
            }
            Target::Split(split) => self.forward_share(split, action, target, began).await,
            Target::Files { folder, or } => {
                let path = &self.request.target[..path_end(&self.request.target)];
                let rest = site.routes.rest(index, path).to_vec();
                match (self.send_file(folder, &rest, or.is_some(), &action.response).await, or) {
                    (Some(over), _) => over,
                    (None, Some(upstream)) => {
                        self.forward(&self.order(action, upstream, target, began)).await
                    }
                    (None, None) => self.refuse(500, Told::new(Why::InternalError)),
                }
            }
            Target::Redirect { to, status } => {
                let reply = Reply::redirect(*status, self.place_of(to));
                self.reply_with(&reply, &action.response)
            }
            Target::Reply { status, content_type, body } => {
                let mut reply = Reply::plain(*status, "", body.as_bytes().to_vec());
                if !body.is_empty() {
                    reply.fields.push(("Content-Type", content_type.clone()));
                }
                self.reply_with(&reply, &action.response)
            }
        }
    }

    /// What an authority of ACME is told that looks whether a name is ours; none if it is somebody else's business.
    async fn acme_answer(&self) -> Option<Reply> {
        if !acme::is_asked(&self.request.target) {
            return None;
        }
        let (states, path) = (self.site.rules.acme.clone(), self.request.target.clone());
        // It reads a file.
        let found = tokio::task::spawn_blocking(move || acme::answer_http(&states, &path)).await;
        found.ok().flatten().map(|text| Reply::plain(200, "application/octet-stream", text))
    }

    /// Whether a request could not be for this listener, whatever its routes are.
    fn out_of_place(&self) -> Option<(u16, Why)> {
        if self.request.method == Method::Connect && !self.site.rules.connect {
            return Some((405, Why::BadRequest));
        }
        // Not where the host that is asked for demands of clients what was not demanded of this one.
        let agreed = self.caller.agreed.as_ref()?;
        let covered = agreed.covers(host_of(&self.request.authority));
        (!covered).then_some((421, Why::Misdirected))
    }

    pub(super) fn order<'o>(
        &self,
        action: &'o Action<Arc<Upstream>>,
        upstream: &'o Arc<Upstream>,
        target: Option<Vec<u8>>,
        began: Instant,
    ) -> Order<'o> {
        Order {
            upstream,
            target,
            rewrite: &action.rewrite,
            forwards: action.forwards.unwrap_or(self.site.rules.forwards),
            request: &action.request,
            response: &action.response,
            response_timeout: action.response_timeout.unwrap_or(upstream.rules.response_timeout),
            retry: action.retry.as_deref(),
            hold: action.hold,
            body_max: action.body_max.unwrap_or(self.site.rules.body_max),
            began,
            mirror: action.mirror.as_ref(),
            set_cookie: None,
        }
    }

    fn unclear_path(&mut self) -> (Next, Told) {
        let detail = Some("unclear-path".to_owned());
        self.refuse(400, Told { detail, ..Told::new(Why::BadRequest) })
    }

    /// Where a route redirects this request to.
    fn place_of(&self, to: &Template) -> String {
        let by_client = matches!(to.parts.first(), Some(Part::Variable(_)));
        let to = String::from_utf8_lossy(&self.fill(to)).into_owned();
        // A path that begins with two slashes would lead to another host.
        if by_client && to.starts_with("//") {
            return format!("/{}", to.trim_start_matches('/'));
        }
        to
    }

    /// Sends the client elsewhere.
    pub(super) fn redirect(&mut self, status: u16, to: String) -> (Next, Told) {
        self.reply(&Reply::redirect(status, to), Told::new(Why::Replied))
    }

    /// Whether the connection may go on after this request.
    pub(super) fn may_persist(&self) -> bool {
        self.request.persistent
            && !self.cut.is_finishing()
            && self.requests < self.site.rules.requests_max
    }

    /// The number of the route that takes the request. The path is made normal first, so that what is matched is
    /// what the backend is asked for.
    fn route(&mut self) -> Result<Option<usize>, UnclearPath> {
        make_normal(&mut self.request, self.site.rules.merge_slashes)?;
        let shown = self.caller.shown().map(|shown| &**shown);
        Ok(self.site.routes.find(&ask(&self.request, self.client_ip(), shown)))
    }

    /// Answers with a page of our own about what went wrong; the connection ends with it.
    pub(super) fn refuse(&mut self, status: u16, told: Told) -> (Next, Told) {
        self.refuse_with(status, told, None)
    }

    /// The same with one more field, which says what to do about it.
    pub(super) fn refuse_with(
        &mut self,
        status: u16,
        told: Told,
        field: Option<(&'static str, String)>,
    ) -> (Next, Told) {
        let cause =
            told.detail.as_deref().filter(|_| matches!(told.why, Why::BadRequest | Why::TlsFailed));
        let cause = cause.unwrap_or(told.why.as_str());
        let empty = Fields::default();
        let asked = if self.requests > 0 { &self.request.fields } else { &empty };
        let pages = self.pages.into_iter().chain([&self.site.rules.pages]);
        let mut reply = pages::failure(pages, status, cause, &self.request_id, asked);
        reply.fields.extend(field);
        self.reply(&reply, told)
    }

    /// Writes what a route answers by itself, changed as it says.
    fn reply_with(&mut self, reply: &Reply, edits: &Edits) -> (Next, Told) {
        let is_head = self.request.method == Method::Head;
        let body = reply.fill(&mut self.response, self.local, is_head);
        let changes = self.changes(edits);
        changes.apply(&mut self.response.fields);
        self.say(body, Told::new(Why::Replied))
    }

    /// Writes an answer of our own.
    pub(super) fn reply(&mut self, reply: &Reply, told: Told) -> (Next, Told) {
        let is_head = self.request.method == Method::Head;
        let body = reply.fill(&mut self.response, self.local, is_head);
        self.say(body, told)
    }

    /// Writes the answer whose head is in `response`. The connection goes on if nothing of the request is left unread.
    pub(super) fn say(&mut self, body: &[u8], mut told: Told) -> (Next, Told) {
        let version = self.request.version;
        let unread = self.request.framing != Framing::None;
        let ends = matches!(told.why, Why::BadRequest | Why::HeadTimeout | Why::TlsFailed);
        let persistent = !unread && !ends && self.may_persist();
        let onward = Onward { framing: self.response.framing, version, persistent };
        self.stream.answer(self.local, &self.response, onward);
        // What the client does not take at once is kept, so nobody needs to be woken for it.
        let cx = &mut Context::from_waker(Waker::noop());
        // A client that is gone is noticed with the next request, or by the end of its connection.
        let _ = self.stream.put(cx, body, true);
        self.stream.finish(None);
        told.status = Some(self.response.status);
        told.down = body.len() as u64;
        let next = match (persistent, unread || ends) {
            (true, _) => Next::Request,
            (false, false) => Next::Close(told.why),
            (false, true) => Next::Linger(told.why),
        };
        (next, told)
    }
}

/// Makes the path of a request normal.
pub(super) fn make_normal(request: &mut Request, merge_slashes: bool) -> Result<(), UnclearPath> {
    let end = path_end(&request.target);
    if !request.target.starts_with(b"/") {
        return Ok(());
    }
    let path = normal_path(&request.target[..end])?;
    let merged = merge_slashes.then(|| with_single_slashes(&path));
    let changed = match (merged.flatten(), path) {
        (Some(path), _) | (None, Cow::Owned(path)) => Some(path),
        (None, Cow::Borrowed(_)) => None,
    };
    if let Some(path) = changed {
        request.target.splice(..end, path);
    }
    Ok(())
}

/// What routes look at.
pub(super) fn ask<'a>(
    request: &'a Request,
    client: Option<IpAddr>,
    shown: Option<&'a Shown>,
) -> Ask<'a> {
    let target = &request.target;
    let end = path_end(target);
    Ask {
        host: host_of(&request.authority),
        path: &target[..end],
        query: target.get(end + 1..).unwrap_or_default(),
        method: request.method.as_bytes(),
        fields: &request.fields,
        client,
        shown,
    }
}

/// Where the path of a target ends and its query may begin.
pub(super) fn path_end(target: &[u8]) -> usize {
    target.iter().position(|byte| *byte == b'?').unwrap_or(target.len())
}

/// The host of an authority, without its port.
pub(super) fn host_of(authority: &[u8]) -> &[u8] {
    let after_brackets = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    match authority[after_brackets..].iter().position(|byte| *byte == b':') {
        Some(at) => &authority[..after_brackets + at],
        None => authority,
    }
}
