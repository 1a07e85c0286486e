//! HTTP listeners: requests in, each on its route to a backend or to an answer of our own, one record for each.
//! It is handed its rules, routes and upstreams; it must never look at the config as a whole or at the plan.

mod affinity;
mod again;
mod alarm;
mod coding;
mod compress;
mod exchange;
mod explain;
mod files;
mod forward;
mod forwarded;
mod gate;
mod grpc;
mod h1;
mod h2;
mod headers;
mod hold;
mod key;
mod local;
mod mirror;
mod pages;
mod plain;
mod pump;
mod reach;
mod record;
mod reply;
mod rewrite;
mod serve;
mod session;
mod stream;
mod streams;
mod subrequest;
mod switch;
mod trace;
mod tunnel;
mod variables;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::Limits;
use ipnet::IpNet;
use tokio::time::Instant;

use crate::config::Template;
use crate::link::Link;
use crate::observe::access_log::AccessLog;
use crate::observe::ended::ClientAddress;
use crate::observe::journal::Asker;
use crate::observe::meter::Meter;
use crate::observe::traces::Tracer;
use crate::route::Routes;
use crate::socket::Socket;
use crate::tcp::{Carrying, Outcome};
use crate::tls::Agreed;
use crate::upstream::Upstream;
pub(crate) use affinity::Split;
pub(crate) use again::Retry;
pub(crate) use compress::Compress;
pub(crate) use files::{FileShare, Folder};
pub(crate) use forwarded::Forwards;
pub(crate) use gate::{AuthRules, ForwardAuth, Gate, Rate, RateRules, Rules as GateRules};
pub(crate) use h2::Floods;
pub(crate) use local::Local;
pub(crate) use mirror::Mirror;
pub(crate) use pages::Pages;
pub(crate) use plain::refuse_plain;
pub(crate) use rewrite::{PathChange, Rewrite};
pub(crate) use serve::serve;
pub(crate) use streams::Http2;

/// A client, with what is to be known of it before its first request.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) address: ClientAddress,
    /// What it connected to, where a proxy in front of us says so.
    pub(crate) local: Option<SocketAddr>,
    /// `http` or `https`, as the client asks.
    pub(crate) scheme: &'static str,
    /// What its handshake came to; none in clear.
    pub(crate) agreed: Option<Arc<Agreed>>,
    /// What has been before, where it is no new one.
    pub(crate) before: Option<Box<Before>>,
}

/// What has been on a connection that rests between two requests, or before its first.
#[derive(Debug)]
pub(crate) struct Before {
    /// Bytes of the next request.
    pub(crate) ahead: Vec<u8>,
    /// How many requests there were.
    pub(crate) requests: u32,
    /// Since when the next one is waited for.
    pub(crate) since: Instant,
}

/// What serving a connection came to.
pub(crate) enum Served {
    Ended(Box<Outcome>),
    /// It is a tunnel now, between two plain connections.
    Tunnel(Box<Carrying>),
    /// It is asked to go elsewhere, and rests.
    Resting(Socket, Box<Before>),
}

/// What was configured for one HTTP listener.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// `http` or `https`, as clients ask.
    pub(crate) scheme: &'static str,
    pub(crate) head: Limits,
    pub(crate) head_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) tunnel_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) body_max: u64,
    pub(crate) buffer_max: usize,
    pub(crate) requests_max: u32,
    pub(crate) connect: bool,
    /// Whether several slashes in a row are one, for routes and backends alike.
    pub(crate) merge_slashes: bool,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) forwards: Forwards,
    /// What is demanded of every request, whatever route it takes.
    pub(crate) gate: GateRules,
    /// Whether HTTP/1 is spoken with clients.
    pub(crate) http1: bool,
    /// HTTP/2 with clients; none when it is not spoken.
    pub(crate) http2: Option<Http2>,
    pub(crate) pages: Pages,
    /// Where answers to challenges of ACME stand, if any are given over HTTP.
    pub(crate) acme: Vec<PathBuf>,
}

/// What becomes of the requests that a route takes; `U` is the upstream, or its name.
#[derive(Debug, Clone)]
pub(crate) struct Action<U> {
    pub(crate) target: Target<U>,
    /// What is demanded of a request.
    pub(crate) gate: GateRules,
    /// Who is asked before the request goes anywhere.
    pub(crate) forward_auth: Option<ForwardAuth<U>>,
    /// Who gets a copy of some requests.
    pub(crate) mirror: Option<Mirror<U>>,
    /// What the backend is asked for in place of what the client asked for.
    pub(crate) rewrite: Rewrite,
    /// In place of what the listener says.
    pub(crate) forwards: Option<Forwards>,
    /// What changes in the request on its way to a backend.
    pub(crate) request: Edits,
    /// What changes in a backend's answer, or comes with a file.
    pub(crate) response: Edits,
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) body_max: Option<u64>,
    /// Bytes of a body that are held before a backend is picked.
    pub(crate) hold: u64,
    pub(crate) retry: Option<Arc<Retry>>,
    /// How answers of backends and files are compressed.
    pub(crate) compress: Option<Arc<Compress>>,
    /// Before those of the listener.
    pub(crate) pages: Pages,
}

/// Fields that go, fields that come in their place, and fields that come beside others; in this order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Edits {
    pub(crate) remove: Vec<Box<[u8]>>,
    pub(crate) set: Vec<(Box<[u8]>, Template)>,
    pub(crate) add: Vec<(Box<[u8]>, Template)>,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub(crate) enum Target<U> {
    Upstream(U),
    Split(Box<Split<U>>),
    /// Files, and somebody to ask for what is not among them.
    Files {
        folder: Arc<Folder>,
        or: Option<U>,
    },
    Redirect {
        to: Template,
        status: u16,
    },
    Reply {
        status: u16,
        content_type: String,
        body: String,
    },
}

impl<U> Target<U> {
    /// Whom it leads to.
    pub(crate) fn upstreams(&self) -> Vec<&U> {
        match self {
            Target::Upstream(upstream) | Target::Files { or: Some(upstream), .. } => vec![upstream],
            Target::Split(split) => split.targets().collect(),
            Target::Files { or: None, .. } | Target::Redirect { .. } | Target::Reply { .. } => {
                Vec::new()
            }
        }
    }
}

impl<U> Action<U> {
    pub(crate) fn new(target: Target<U>) -> Action<U> {
        Action {
            target,
            gate: GateRules::default(),
            forward_auth: None,
            mirror: None,
            rewrite: Rewrite::default(),
            forwards: None,
            request: Edits::default(),
            response: Edits::default(),
            response_timeout: None,
            body_max: None,
            hold: 0,
            retry: None,
            compress: None,
            pages: Pages::default(),
        }
    }

    /// The same with the upstream found by its name. Fails only for the key of a cookie.
    pub(crate) fn with<V>(self, find: impl Fn(&U) -> V) -> io::Result<Action<V>> {
        let target = match self.target {
            Target::Upstream(upstream) => Target::Upstream(find(&upstream)),
            Target::Split(split) => Target::Split(Box::new(split.with(&find)?)),
            Target::Files { folder, or } => Target::Files { folder, or: or.as_ref().map(&find) },
            Target::Redirect { to, status } => Target::Redirect { to, status },
            Target::Reply { status, content_type, body } => {
                Target::Reply { status, content_type, body }
            }
        };
        Ok(Action {
            target,
            gate: self.gate,
            forward_auth: self.forward_auth.map(|auth| auth.with(&find)),
            mirror: self.mirror.map(|mirror| mirror.with(&find)),
            rewrite: self.rewrite,
            forwards: self.forwards,
            request: self.request,
            response: self.response,
            response_timeout: self.response_timeout,
            body_max: self.body_max,
            hold: self.hold,
            retry: self.retry,
            compress: self.compress,
            pages: self.pages,
        })
    }
}

/// Gives the site by which the next request goes, as configs change while connections last; none if there is to be no next.
pub(crate) type Sites<'a> = &'a dyn Fn() -> Option<Arc<Site>>;

/// What all connections of one HTTP listener share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) listener: Arc<str>,
    /// The plan and the listener, by their numbers.
    pub(crate) place: Asker,
    pub(crate) rules: Rules,
    pub(crate) routes: Routes,
    /// By the number of the route.
    pub(crate) actions: Vec<Action<Arc<Upstream>>>,
    /// What every request passes.
    pub(crate) gate: Gate,
    /// By the number of the route.
    pub(crate) gates: Vec<Gate>,
    pub(crate) log: AccessLog,
    pub(crate) meter: Arc<Meter>,
    /// Where spans are left; none where nobody collects them.
    pub(crate) tracer: Option<Tracer>,
}
