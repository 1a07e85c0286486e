//! What a route may demand of requests and change in their paths: limits that let somebody in, files of users that can
//! be read, prefixes that a path of the route can have.

use super::http::header_name;
use super::{Complaints, names_upstream};
use crate::config::problem::shown;
use crate::config::{
    BasicAuth, Bytes, Config, ForwardAuth, HttpListener, Mirror, PathPattern, RateLimit, Route,
    Template, Time, Users, Variable,
};

/// More would take more memory than anybody means.
const KEYS_MAX: u32 = 10_000_000;

pub(super) fn listener(listener: &HttpListener, complaints: &mut Complaints) {
    if let Some(limit) = &listener.rate_limit {
        complaints.below(&["rate-limit"], |complaints| rate_limit(limit, complaints));
    }
}

pub(super) fn route(config: &Config, route: &Route, complaints: &mut Complaints) {
    if let Some(limit) = &route.rate_limit {
        complaints.below(&["rate-limit"], |complaints| rate_limit(limit, complaints));
    }
    complaints.at_least_one("requests-max", route.requests_max);
    if let Some(auth) = &route.basic_auth {
        complaints.below(&["basic-auth"], |complaints| basic_auth(auth, complaints));
    }
    if let Some(auth) = &route.forward_auth {
        complaints.below(&["forward-auth"], |complaints| forward_auth(config, auth, complaints));
    }
    if let Some(mirror) = &route.mirror {
        complaints.below(&["mirror"], |complaints| self::mirror(config, mirror, complaints));
    }
    paths(route, complaints);
    user_is_known(route, complaints);
    if route.upstream.is_some() || route.r#try.is_some() || !route.split.is_empty() {
        return;
    }
    let of_upstreams = [
        ("mirror", route.mirror.is_some()),
        ("strip-prefix", route.strip_prefix.is_some()),
        ("replace-path", route.replace_path.is_some()),
        ("host-header", route.host_header.is_some()),
        ("x-forwarded", route.x_forwarded.is_some()),
        ("forwarded", route.forwarded.is_some()),
    ];
    for (key, _) in of_upstreams.iter().filter(|(_, is_there)| *is_there) {
        let message = format!("{key} counts only with an upstream");
        complaints.error(&[key], message, "add upstream = \"NAME\", or remove it");
    }
}

fn rate_limit(limit: &RateLimit, complaints: &mut Complaints) {
    complaints.within("requests", limit.requests, 1..=u32::MAX);
    complaints.at_least_one("burst", limit.burst);
    complaints.within("keys-max", limit.keys_max, 1..=KEYS_MAX);
    complaints.beyond_zero("per", Some(limit.per), "write the time in which so many may come");
    // Below a nanosecond each, time is no longer told apart.
    if limit.per > Time(std::time::Duration::ZERO)
        && limit.per.0.as_nanos() < u128::from(limit.requests)
    {
        complaints.error(&["requests"], "these are more requests than can be counted", "");
    }
}

fn basic_auth(auth: &BasicAuth, complaints: &mut Complaints) {
    if !evenkeel_wire::is_value(auth.realm.as_bytes()) || auth.realm.contains(['"', '\\']) {
        let message = "this cannot be the name of a realm";
        complaints.error(&["realm"], message, "leave out quotes, backslashes and controls");
    }
    for problem in Users::from_file(&auth.users_file).err().into_iter().flatten() {
        let advice = "write each user with `htpasswd -B FILE USER`";
        complaints.error(&["users-file"], problem, advice);
    }
}

fn forward_auth(config: &Config, auth: &ForwardAuth, complaints: &mut Complaints) {
    names_upstream(config, &["upstream"], &auth.upstream, complaints);
    let (path, query) = auth.path.split_once('?').unwrap_or((&auth.path, ""));
    let is_path = matches!(path.parse(), Ok(PathPattern::Exact(_)));
    if !is_path || !query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        let message = format!("\"{}\" is not a path", shown(&auth.path));
        complaints.error(&["path"], message, "write what to ask for: \"/verify\"");
    }
    for (index, name) in auth.copy_headers.iter().enumerate() {
        header_name(&["copy-headers", &index.to_string()], name, "a route", complaints);
    }
    let most = Bytes::kib(1024);
    if auth.answer_max > most {
        let message = format!("answer-max must be at most {most}, not {}", auth.answer_max);
        complaints.error(&["answer-max"], message, "");
    }
}

fn mirror(config: &Config, mirror: &Mirror, complaints: &mut Complaints) {
    names_upstream(config, &["upstream"], &mirror.upstream, complaints);
    complaints.within("requests-max", mirror.requests_max, 1..=10_000);
    if mirror.share.0 == 0 {
        let advice = "write a share such as \"10%\", or remove the mirror";
        complaints.error(&["share"], "no request is ever copied", advice);
    }
    let most = Bytes::kib(1024);
    if mirror.body_max > most {
        let message = format!("body-max must be at most {most}, not {}", mirror.body_max);
        complaints.error(&["body-max"], message, "");
    }
}

fn paths(route: &Route, complaints: &mut Complaints) {
    if route.strip_prefix.is_some() && route.replace_path.is_some() {
        let message = "this route has both strip-prefix and replace-path";
        complaints.error(&["replace-path"], message, "remove one of them");
    }
    if let Some(prefix) = &route.strip_prefix {
        let is_path = matches!(prefix.parse(), Ok(PathPattern::Exact(_)));
        if !is_path || prefix.ends_with('/') {
            let message = format!("\"{}\" cannot be stripped", shown(prefix));
            let advice = "write the beginning of a path, without a slash at its end: \"/api\"";
            complaints.error(&["strip-prefix"], message, advice);
        } else if !route.path.is_empty() && !route.path.iter().any(|path| may_begin(path, prefix)) {
            let message = format!("no path of this route begins with \"{}\"", shown(prefix));
            complaints.error(&["strip-prefix"], message, "compare it with path");
        }
    }
    if let Some(path) = &route.replace_path {
        replaced(path, complaints);
    }
}

/// Whether a request that the pattern takes can have a path that begins with the prefix.
fn may_begin(path: &PathPattern, prefix: &str) -> bool {
    let is_within = |path: &str, prefix: &str| {
        path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    match path {
        PathPattern::Any | PathPattern::Regex(_) => true,
        PathPattern::Exact(path) => is_within(path, prefix),
        PathPattern::Below(path) => is_within(path, prefix) || is_within(prefix, path),
    }
}

fn replaced(path: &str, complaints: &mut Complaints) {
    let key = ["replace-path"];
    let template = match Template::read(path, Template::IN_PATHS) {
        Ok(template) => template,
        Err(misread) => {
            let advice = misread.advice.unwrap_or_default();
            return complaints.error(&key, misread.message, advice);
        }
    };
    // With something plain in the places of its variables it must be a path by itself.
    let plain: String = template.parts.iter().map(|part| part.text().unwrap_or("/x")).collect();
    let advice = "write a path without a query: \"/new{rest}\"";
    match plain.parse() {
        Ok(PathPattern::Exact(_)) => {}
        Ok(_) => complaints.error(&key, format!("\"{}\" is not one path", shown(path)), advice),
        Err(_) => complaints.error(&key, format!("\"{}\" is not a path", shown(path)), advice),
    }
}

/// `{user}` would always be empty without anybody to ask for it.
fn user_is_known(route: &Route, complaints: &mut Complaints) {
    if route.basic_auth.is_some() {
        return;
    }
    for (key, edits) in
        [("request-headers", &route.request_headers), ("response-headers", &route.response_headers)]
    {
        let set = edits.set.iter().map(|(name, text)| ("set", name, text));
        let add = edits.add.iter();
        let add = add.flat_map(|(name, texts)| texts.iter().map(move |text| ("add", name, text)));
        for (list, name, text) in set.chain(add) {
            let template = Template::read(text, Template::IN_HEADERS).unwrap_or_default();
            if template.has(Variable::User) {
                let message = "\"{user}\" is always empty on this route";
                complaints.error(&[key, list, name], message, "add basic-auth, or remove it");
            }
        }
    }
}
