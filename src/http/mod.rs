//! HTTP listeners: requests in, each on its route to a backend or to an answer of our own, one record for each.
//! It is handed its rules, routes and upstreams; it must never look at the config as a whole or at the plan.

mod alarm;
mod exchange;
mod forward;
mod h1;
mod headers;
mod local;
mod record;
mod reply;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use evenkeel_wire::Limits;
use ipnet::IpNet;

use crate::observe::access_log::AccessLog;
use crate::observe::counts::Tally;
use crate::route::Routes;
use crate::upstream::Upstream;
pub(crate) use local::Local;
pub(crate) use serve::serve;

/// What was configured for one HTTP listener.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) head: Limits,
    pub(crate) head_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) tunnel_timeout: Option<Duration>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) body_max: u64,
    pub(crate) buffer_max: usize,
    pub(crate) requests_max: u32,
    pub(crate) connect: bool,
    pub(crate) trusted_proxies: Vec<IpNet>,
}

/// What becomes of the requests that a route takes; `U` is the upstream, or its name.
#[derive(Debug, Clone)]
pub(crate) struct Action<U> {
    pub(crate) target: Target<U>,
    pub(crate) response_timeout: Option<Duration>,
    pub(crate) body_max: Option<u64>,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub(crate) enum Target<U> {
    Upstream(U),
    /// To another place, with the variables of [`expand`].
    Redirect {
        to: String,
        status: u16,
    },
    Reply {
        status: u16,
        content_type: String,
        body: String,
    },
}

impl<U> Action<U> {
    /// The same with the upstream found by its name.
    pub(crate) fn with<V>(&self, find: impl FnOnce(&U) -> V) -> Action<V> {
        let target = match &self.target {
            Target::Upstream(upstream) => Target::Upstream(find(upstream)),
            Target::Redirect { to, status } => Target::Redirect { to: to.clone(), status: *status },
            Target::Reply { status, content_type, body } => Target::Reply {
                status: *status,
                content_type: content_type.clone(),
                body: body.clone(),
            },
        };
        Action { target, response_timeout: self.response_timeout, body_max: self.body_max }
    }
}

/// What all connections of one HTTP listener share.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) listener: Arc<str>,
    pub(crate) rules: Rules,
    pub(crate) routes: Routes,
    /// By the number of the route.
    pub(crate) actions: Vec<Action<Arc<Upstream>>>,
    pub(crate) log: AccessLog,
    pub(crate) tally: Arc<Tally>,
}
