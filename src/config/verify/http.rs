//! What an HTTP listener must hold beyond its single values: targets that exist, statuses that make sense, routes
//! that something can reach.

use super::{Complaints, door, names_upstream};
use crate::config::problem::shown;
use crate::config::{Bytes, Config, HttpListener, Reply, Route, Time};

pub(super) fn http_listener(config: &Config, listener: &HttpListener, complaints: &mut Complaints) {
    door(&listener.into(), complaints);
    if listener.upstream.is_none() && listener.route.is_empty() {
        let advice = "add upstream = \"NAME\", or routes";
        complaints.error(&[], "this listener leads nowhere", advice);
    }
    if let Some(upstream) = &listener.upstream {
        names_upstream(config, &["upstream"], upstream, complaints);
    }
    let idle = listener.idle_timeout.0.map(Time);
    complaints.beyond_zero("idle-timeout", idle, "write \"off\" for never");
    let tunnel = listener.tunnel_timeout.0.map(Time);
    complaints.beyond_zero("tunnel-timeout", tunnel, "write \"off\" for never");
    complaints.beyond_zero("head-timeout", Some(listener.head_timeout), "10s is the default");
    let advice = "leave it out for no limit";
    complaints.beyond_zero("request-timeout", listener.request_timeout, advice);
    let limits = [
        ("head-max", listener.head_max, 1024, 1024 * 1024),
        ("line-max", listener.line_max, 256, 1024 * 1024),
    ];
    for (key, found, least, most) in limits {
        if !(least..=most).contains(&found.0) {
            let (least, most) = (Bytes(least), Bytes(most));
            complaints.error(&[key], format!("{key} must be {least} to {most}, not {found}"), "");
        }
    }
    complaints.within("headers-max", listener.headers_max, 1..=256);
    complaints.within("requests-max", listener.requests_max, 1..=u32::MAX);
    for (index, route) in listener.route.iter().enumerate() {
        complaints.below(&["route", &index.to_string()], |complaints| {
            self::route(config, route, complaints);
            let earlier = listener.route[..index].iter().position(|other| covers(other, route));
            if let Some(other) = earlier {
                let message = format!(
                    "this route can never match: route {} above takes everything it would",
                    other + 1
                );
                complaints.warning(&[], message, "move it up, or remove it");
            }
        });
    }
}

fn route(config: &Config, route: &Route, complaints: &mut Complaints) {
    let targets = [
        ("upstream", route.upstream.is_some()),
        ("redirect", route.redirect.is_some()),
        ("reply", route.reply.is_some()),
    ];
    let named: Vec<_> = targets.iter().filter(|(_, is_there)| *is_there).collect();
    match named[..] {
        [] => complaints.error(&[], "this route has no target", "add upstream, redirect or reply"),
        [_] => {}
        [.., (second, _)] => {
            let message = "this route has two targets";
            complaints.error(&[second], message, "a request can only take one: remove the other");
        }
    }
    if let Some(upstream) = &route.upstream {
        names_upstream(config, &["upstream"], upstream, complaints);
    }
    for (index, method) in route.method.iter().enumerate() {
        if method.is_empty()
            || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
        {
            let message = format!("\"{}\" is not a method", shown(method));
            let keys = ["method", &index.to_string()];
            complaints.error(&keys, message, "methods are written in capitals: \"GET\"");
        }
    }
    for name in route.header.keys().filter(|name| !evenkeel_wire::is_name(name.as_bytes())) {
        let message = format!("\"{}\" is not the name of a header", shown(name));
        complaints.error(&["header", name], message, "");
    }
    if let Some(to) = &route.redirect {
        redirect(to, route.redirect_status, complaints);
    }
    if let Some(reply) = &route.reply {
        fixed(reply, complaints);
    }
    complaints.beyond_zero("response-timeout", route.response_timeout, "leave it out");
}

/// The variables that a redirect may hold.
const VARIABLES: [&str; 5] = ["scheme", "host", "path", "query", "uri"];

fn redirect(to: &str, status: u16, complaints: &mut Complaints) {
    if ![301, 302, 303, 307, 308].contains(&status) {
        let message = format!("{status} is not the status of a redirect");
        complaints.error(&["redirect-status"], message, "take 301, 302, 303, 307 or 308");
    }
    let unknown = to.split('{').skip(1).map(|part| part.split('}').next().unwrap_or(part));
    for name in unknown.filter(|name| !VARIABLES.contains(name)) {
        let message = format!("there is no variable {{{}}}", shown(name));
        let advice = format!("there are {{{}}}", VARIABLES.join("}, {"));
        complaints.error(&["redirect"], message, advice);
    }
    if to.is_empty() || !to.bytes().all(|byte| byte.is_ascii_graphic()) {
        let advice = "write a URL; what is not ASCII is written with %";
        complaints.error(&["redirect"], "this is not a place to send anybody", advice);
    }
}

fn fixed(reply: &Reply, complaints: &mut Complaints) {
    if !(200..600).contains(&reply.status) {
        let message = format!("{} is not the status of an answer", reply.status);
        complaints.error(&["reply"], message, "take one of 200 to 599");
    }
    if !evenkeel_wire::is_value(reply.content_type.as_bytes()) {
        complaints.error(&["reply"], "content-type is not the value of a header", "");
    }
}

/// Whether a route takes every request that `other` would.
fn covers(route: &Route, other: &Route) -> bool {
    let hosts = route.host.is_empty()
        || (!other.host.is_empty()
            && other.host.iter().all(|host| route.host.iter().any(|mine| mine.covers(host))));
    let any_host = || route.host.contains(&crate::config::HostPattern::Any);
    let paths = route.path.is_empty()
        || route.path.contains(&crate::config::PathPattern::Any)
        || (!other.path.is_empty()
            && other.path.iter().all(|path| route.path.iter().any(|mine| mine.covers(path))));
    let methods = route.method.is_empty()
        || (!other.method.is_empty()
            && other.method.iter().all(|method| route.method.contains(method)));
    let clients = route.client.is_empty()
        || (!other.client.is_empty()
            && other.client.iter().all(|net| route.client.iter().any(|mine| mine.contains(net))));
    let headers = route.header.iter().all(|(name, value)| {
        other.header.get(name).is_some_and(|theirs| value == "*" || value == theirs)
    });
    let queries = route.query.iter().all(|(name, value)| {
        other.query.get(name).is_some_and(|theirs| value == "*" || value == theirs)
    });
    (hosts || any_host()) && paths && methods && clients && headers && queries
}
