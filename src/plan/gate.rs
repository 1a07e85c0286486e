//! What routes demand of requests and change in them, compiled. A part of the plan, in a file of its own because each
//! of its keys becomes a part of its own.

use std::sync::Arc;

use crate::config::{
    AcceptProxy, BasicAuth, ForwardAuth, HeaderEdits, HttpListener, Mirror, RateLimit, Route,
    Template, Users,
};
use crate::{http, proxied};

pub(super) fn proxied(config: &AcceptProxy) -> proxied::Rules {
    let from = config.from.clone();
    proxied::Rules { from, optional: config.optional, timeout: config.timeout.0 }
}

pub(super) fn of_listener(config: &HttpListener) -> http::GateRules {
    let rate = config.rate_limit.as_ref().map(rate);
    http::GateRules { rate, ..http::GateRules::default() }
}

pub(super) fn of_route(config: &Route) -> http::GateRules {
    http::GateRules {
        rate: config.rate_limit.as_ref().map(rate),
        requests_max: config.requests_max,
        auth: config.basic_auth.as_ref().map(auth),
    }
}

fn rate(config: &RateLimit) -> http::RateRules {
    http::RateRules {
        rate: http::Rate {
            requests: config.requests,
            per: config.per.0,
            burst: config.burst.unwrap_or(config.requests),
        },
        by: config.by.clone(),
        keys_max: config.keys_max,
    }
}

/// A verified config names only files of users that can be read. One that is gone since lets nobody in.
fn auth(config: &BasicAuth) -> http::AuthRules {
    let users = Users::from_file(&config.users_file).unwrap_or_else(|problems| {
        tracing::error!("basic-auth: {}: nobody is let in", problems.join("; "));
        Users::default()
    });
    http::AuthRules { users: Arc::new(users), realm: config.realm.clone(), pass: config.pass }
}

pub(super) fn forward_auth(config: &ForwardAuth) -> http::ForwardAuth<Arc<str>> {
    http::ForwardAuth {
        upstream: config.upstream.as_str().into(),
        path: config.path.as_bytes().into(),
        copy: config.copy_headers.iter().map(|name| name.as_bytes().into()).collect(),
        answer_max: usize::try_from(config.answer_max.0).unwrap_or(usize::MAX),
    }
}

pub(super) fn mirror(config: &Mirror) -> http::Mirror<Arc<str>> {
    let body_max = usize::try_from(config.body_max.0).unwrap_or(usize::MAX);
    let upstream = config.upstream.as_str().into();
    http::Mirror::new(upstream, config.share.0, body_max, config.requests_max)
}

pub(super) fn rewrite(config: &Route) -> http::Rewrite {
    let strip = config.strip_prefix.as_ref();
    let strip = strip.map(|prefix| http::PathChange::Strip(prefix.as_bytes().into()));
    let replace = config.replace_path.as_ref();
    let replace =
        replace.map(|path| http::PathChange::Replace(super::template(path, Template::IN_PATHS)));
    http::Rewrite { path: strip.or(replace), host: config.host_header.clone() }
}

/// None where the listener decides alone.
pub(super) fn forwards(listener: &HttpListener, route: &Route) -> Option<http::Forwards> {
    let is_own = route.x_forwarded.is_some() || route.forwarded.is_some();
    is_own.then(|| http::Forwards {
        x_forwarded: route.x_forwarded.unwrap_or(listener.x_forwarded),
        forwarded: route.forwarded.unwrap_or(listener.forwarded),
    })
}

pub(super) fn edits(config: &HeaderEdits) -> http::Edits {
    let filled = |(name, text): (&String, &String)| {
        (name.as_bytes().into(), super::template(text, Template::IN_HEADERS))
    };
    let each = |(name, texts)| std::iter::repeat(name).zip(texts);
    http::Edits {
        remove: config.remove.iter().map(|name| name.as_bytes().into()).collect(),
        set: config.set.iter().map(filled).collect(),
        add: config.add.iter().flat_map(each).map(filled).collect(),
    }
}
