//! What would become of a request, in words: the gates on its way, its route, its backend. It goes the way of `session.rs` by the
//! same functions, but passes no gate and takes no turn: nobody may notice that it was asked.

use std::net::IpAddr;
use std::sync::Arc;

use evenkeel_wire::{Method, Read, Request};

use super::affinity::{affinity, next_share};
use super::forwarded::{ip_of, sender};
use super::session::{ask, host_of, make_normal};
use super::{Action, GateRules, Site, Target};
use crate::observe::ended::ClientAddress;
use crate::observe::reasons::{Reasons, RequestRow, RouteRow};
use crate::upstream::Upstream;
use crate::upstream::explain::said;

impl Site {
    /// Explains a request, by its head as it would come from `peer`. `covers` is whether the handshake was for a host.
    pub(crate) fn explain(&self, head: &[u8], peer: ClientAddress, into: &mut Reasons) {
        let mut request = Request::default();
        match request.read(head, &self.rules.head) {
            Ok(Read::Whole { .. }) => {}
            Ok(Read::Partial) => return into.end = "refused: the head is not complete".to_owned(),
            Err(refusal) => {
                let status = refusal.reason.status();
                return into.end = format!("refused with {status}: {}", refusal.reason.as_str());
            }
        }
        let proxies = &self.rules.trusted_proxies;
        let (address, _) = sender(&mut request.fields, peer, proxies);
        let client = ip_of(address);
        into.client = client.map_or_else(|| "unix".to_owned(), |client| client.to_string());
        if request.method == Method::Connect && !self.rules.connect {
            return into.end = "refused with 405: this listener takes no CONNECT".to_owned();
        }
        tell_gate(&self.rules.gate, "of the listener", into);
        if make_normal(&mut request, self.rules.merge_slashes).is_err() {
            return into.end = "refused with 400: the path can be read in two ways".to_owned();
        }
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        into.request = Some(RequestRow {
            method: text(request.method.as_bytes()),
            host: text(host_of(&request.authority)),
            target: text(&request.target),
        });
        let found = self.tell_routes(&request, client, into);
        let Some((index, action)) = found.and_then(|at| Some((at, self.actions.get(at)?))) else {
            return into.end = "answered with 404: no route takes it".to_owned();
        };
        tell_gate(&action.gate, &format!("of route {}", index + 1), into);
        if let Some(auth) = &action.forward_auth {
            let (name, path) = (&auth.upstream.rules.name, text(&auth.path));
            into.gate("forward-auth", format!("upstream {name} is asked at {path}"), None);
        }
        self.tell_target(action, &mut request, client, into);
    }

    /// Every route up to the one that is taken, which is found as traffic finds it.
    fn tell_routes(
        &self,
        request: &Request,
        client: Option<IpAddr>,
        into: &mut Reasons,
    ) -> Option<usize> {
        let ask = ask(request, client, None);
        let taken = self.routes.find(&ask);
        for (index, why_not) in self.routes.why_not(&ask).into_iter().enumerate() {
            let is_taken = taken == Some(index);
            let why = match why_not {
                _ if is_taken => "the first whose every condition holds".to_owned(),
                Some(why_not) => why_not,
                None => "it would take it too, but another comes before it".to_owned(),
            };
            into.routes.push(RouteRow { route: index + 1, taken: is_taken, why });
        }
        taken
    }

    fn tell_target(
        &self,
        action: &Action<Arc<Upstream>>,
        request: &mut Request,
        client: Option<IpAddr>,
        into: &mut Reasons,
    ) {
        match &action.target {
            Target::Upstream(upstream) => {
                into.end = format!("goes to upstream {}", upstream.rules.name);
                self.tell_upstream(upstream, action, request, client, into);
            }
            Target::Split(split) => match next_share(split, request) {
                Some((upstream, was_there)) => {
                    let name = &upstream.rules.name;
                    let why = if was_there { "it has been there before" } else { "it is its turn" };
                    into.end = format!("goes to upstream {name}, of a split: {why}");
                    self.tell_upstream(upstream, action, request, client, into);
                }
                None => into.end = "answered with 503: no upstream of the split has a share".into(),
            },
            Target::Files { or, .. } => {
                into.end = "answered with a file of the route's folder, if there is one".to_owned();
                if let Some(upstream) = or {
                    into.end += &format!("; else it goes to upstream {}", upstream.rules.name);
                    self.tell_upstream(upstream, action, request, client, into);
                }
            }
            Target::Redirect { status, .. } => {
                into.end = format!("answered by Evenkeel: redirected with {status}");
            }
            Target::Reply { status, .. } => {
                into.end = format!("answered by Evenkeel with {status}");
            }
        }
    }

    fn tell_upstream(
        &self,
        upstream: &Arc<Upstream>,
        action: &Action<Arc<Upstream>>,
        request: &mut Request,
        client: Option<IpAddr>,
        into: &mut Reasons,
    ) {
        let (affinity, _) = affinity(request, upstream, client);
        into.choice = Some(upstream.explain(affinity));
        upstream.tell_limits(true, into);
        let response = action.response_timeout.unwrap_or(upstream.rules.response_timeout);
        into.limit("response-timeout", said(response));
        if let Some(most) = self.rules.request_timeout {
            into.limit("request-timeout", said(most));
        }
        let body_max = action.body_max.unwrap_or(self.rules.body_max);
        into.limit("body-max", format!("{body_max} bytes"));
        match &action.retry {
            None => into.limit("retry", "only where the backend provably saw nothing of it"),
            Some(retry) if !request.method.is_idempotent() => {
                let times = retry.times;
                into.limit("retry", format!("{times} times, but not for {:?}", request.method));
            }
            Some(retry) => into.limit("retry", retry.in_words()),
        }
    }
}

fn tell_gate(rules: &GateRules, whose: &str, into: &mut Reasons) {
    if let Some(rate) = &rules.rate {
        let (by, rate) = (&rate.by, rate.rate);
        let (requests, per, burst) = (rate.requests, said(rate.per), rate.burst);
        let what = format!("{requests} requests per {per} for each {by}, {burst} at once, {whose}");
        into.gate("rate-limit", what, None);
    }
    if let Some(most) = rules.requests_max {
        into.gate("requests-max", format!("{most} requests at the same time, {whose}"), None);
    }
    if let Some(auth) = &rules.auth {
        let what = format!("a password for {:?}, {whose}", auth.realm);
        into.gate("basic-auth", what, None);
    }
}
