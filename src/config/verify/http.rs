//! What an HTTP listener must hold beyond its single values: targets that exist, statuses that make sense, headers
//! that leave a message its one reading.

use std::collections::HashSet;
use std::path::PathBuf;

use evenkeel_wire::Known;
use indexmap::IndexMap;

use super::{Complaints, balancing, compress, dead_routes, door, gate, names_upstream, tls};
use crate::config::problem::shown;
use crate::config::{Bytes, Config, HeaderEdits, Http2, HttpListener, Reply, Route, Template};
use crate::config::{Page, Time, Variable, error_statuses};

pub(super) fn http_listener(config: &Config, listener: &HttpListener, complaints: &mut Complaints) {
    door(&listener.into(), complaints);
    if listener.upstream.is_none() && listener.route.is_empty() {
        let advice = "add upstream = \"NAME\", or routes";
        complaints.error(&[], "this listener leads nowhere", advice);
    }
    if let Some(upstream) = &listener.upstream {
        names_upstream(config, &["upstream"], upstream, complaints);
        balancing::http_use(config, upstream, &["upstream"], complaints);
    }
    if listener.http.is_empty() {
        let advice = "write [\"1.1\", \"2\"]";
        complaints.error(&["http"], "no version of HTTP is named", advice);
    }
    if let Some(tls) = &listener.tls {
        complaints.below(&["tls"], |complaints| {
            self::tls::verify(tls, complaints);
            for (key, is_there) in
                [("alpn", !tls.alpn.is_empty()), ("starttls", tls.starttls.is_some())]
            {
                if is_there {
                    let advice = "remove it; versions of HTTP are chosen by `http` of the listener";
                    complaints.error(&[key], format!("{key} is for TCP listeners"), advice);
                }
            }
        });
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
    gate::listener(listener, complaints);
    complaints.below(&["http2"], |complaints| http2(&listener.http2, complaints));
    for (index, route) in listener.route.iter().enumerate() {
        complaints.below(&["route", &index.to_string()], |complaints| {
            self::route(config, route, complaints);
        });
    }
    complaints.below(&["errors"], |complaints| errors(&listener.errors, complaints));
    dead_routes::verify(listener, complaints);
}

/// Pages are read here too: a page that is missing shall be known before it is needed.
fn errors(pages: &IndexMap<String, PathBuf>, complaints: &mut Complaints) {
    for (key, path) in pages {
        if error_statuses(key).is_none() {
            let message = format!("\"{}\" is not the status of an error", shown(key));
            let advice = "write one as \"404\", or \"4xx\" or \"5xx\" for all of them";
            complaints.error(&[key], message, advice);
        }
        if let Err(misread) = Page::read(path) {
            complaints.error(&[key], misread.message, misread.advice.unwrap_or_default());
        }
    }
}

fn http2(http2: &Http2, complaints: &mut Complaints) {
    complaints.within("streams-max", http2.streams_max, 1..=10_000);
    for (key, number) in [
        ("resets-per-second", http2.resets_per_second),
        ("pings-per-second", http2.pings_per_second),
        ("settings-per-second", http2.settings_per_second),
        ("control-frames-per-second", http2.control_frames_per_second),
    ] {
        complaints.within(key, number, 1..=u32::MAX);
    }
    // RFC 9113 6.9.1 ends windows there; smaller ones than the first could not be told in time (6.9.2).
    let (least, most) = (Bytes(65_535), Bytes(i32::MAX as u64));
    for (key, found) in
        [("stream-window", http2.stream_window), ("connection-window", http2.connection_window)]
    {
        if !(least.0..=most.0).contains(&found.0) {
            let message = format!("{key} must be {least} to {most}, not {found}");
            complaints.error(&[key], message, "256KiB and 1MiB are the defaults");
        }
    }
}

fn route(config: &Config, route: &Route, complaints: &mut Complaints) {
    target(route, complaints);
    if let Some(upstream) = &route.upstream {
        names_upstream(config, &["upstream"], upstream, complaints);
        balancing::http_use(config, upstream, &["upstream"], complaints);
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
    files(config, route, complaints);
    gate::route(config, route, complaints);
    balancing::split(config, route, complaints);
    complaints.below(&["errors"], |complaints| errors(&route.errors, complaints));
    match &route.redirect {
        Some(to) => redirect(to, route.redirect_status, complaints),
        None if route.redirect_status != Route::default().redirect_status => {
            let message = "redirect-status counts only with redirect";
            complaints.warning(&["redirect-status"], message, "add redirect, or remove it");
        }
        None => {}
    }
    if let Some(reply) = &route.reply {
        complaints.below(&["reply"], |complaints| fixed(reply, complaints));
    }
    let edits = [
        ("request-headers", &route.request_headers),
        ("response-headers", &route.response_headers),
    ];
    for (key, edits) in edits {
        complaints.below(&[key], |complaints| header_edits(edits, complaints));
    }
    complaints.beyond_zero("response-timeout", route.response_timeout, "leave it out");
    compress::verify(route, complaints);
    let forwards = route.upstream.is_some() || !route.split.is_empty() || route.r#try.is_some();
    let of_forwarding =
        [("retry", route.retry.is_some()), ("request-buffer", route.request_buffer.0 > 0)];
    for (key, _) in of_forwarding.iter().filter(|(_, is_there)| *is_there && !forwards) {
        let message = format!("{key} counts only where requests go to an upstream");
        complaints.warning(&[key], message, "add an upstream, or remove it");
    }
    if route.request_buffer > BUFFER_MAX {
        let message = format!("request-buffer must be at most {BUFFER_MAX}");
        complaints.error(&["request-buffer"], message, "each request may take this much memory");
    }
    if let Some(retry) = &route.retry {
        complaints.below(&["retry"], |complaints| {
            complaints.within("times", retry.times, 0..=10);
            complaints.beyond_zero("try-timeout", retry.try_timeout, "leave it out");
        });
    }
}

/// The most of a body that one request may have held.
const BUFFER_MAX: Bytes = Bytes::kib(64 * 1024);

/// A route leads to one place.
fn target(route: &Route, complaints: &mut Complaints) {
    let targets = [
        ("upstream", route.upstream.is_some()),
        ("split", !route.split.is_empty()),
        ("files", route.files.is_some()),
        ("redirect", route.redirect.is_some()),
        ("reply", route.reply.is_some()),
    ];
    let named: Vec<_> = targets.iter().filter(|(_, is_there)| *is_there).collect();
    match named[..] {
        [] => {
            let advice = "add upstream, split, files, redirect or reply";
            complaints.error(&[], "this route has no target", advice);
        }
        [_] => {}
        [(first, _), .., (last, _)] => {
            let message = format!("this route has both {first} and {last}");
            complaints.error(&[last], message, "a route has one target: remove the other");
        }
    }
}

fn files(config: &Config, route: &Route, complaints: &mut Complaints) {
    if let Some(tried) = &route.r#try {
        names_upstream(config, &["try"], &tried.0, complaints);
        balancing::http_use(config, &tried.0, &["try"], complaints);
    }
    for (index, name) in route.index.iter().enumerate() {
        let is_plain = !name.contains(|c: char| c.is_control() || c == '/' || c == '\\');
        if !is_plain || matches!(name.as_str(), "" | "." | "..") {
            let message = format!("\"{}\" is not the name of a file", shown(name));
            let advice = "write a name without a folder: \"index.html\"";
            complaints.error(&["index", &index.to_string()], message, advice);
        }
    }
    for (pattern, value) in &route.cache {
        if let Err(error) = glob::Pattern::new(pattern) {
            let message = format!("\"{}\" is not a pattern: {}", shown(pattern), error.msg);
            complaints.error(&["cache", pattern], message, "write a pattern such as \"*.css\"");
        } else if pattern.contains('/') {
            let message = format!("\"{}\" can never match", shown(pattern));
            let advice = "a pattern is for the name of a file, without its folder";
            complaints.error(&["cache", pattern], message, advice);
        }
        if value.is_empty() || !evenkeel_wire::is_value(value.as_bytes()) {
            let message = "this is not the value of Cache-Control";
            complaints.error(&["cache", pattern], message, "write \"max-age=3600\" or the like");
        }
    }
    for (index, coding) in route.precompressed.iter().enumerate() {
        if route.precompressed[..index].contains(coding) {
            let keys = ["precompressed", &index.to_string()];
            complaints.error(&keys, format!("\"{coding}\" stands here twice"), "remove it");
        }
    }
    let open_files = route.open_files.0.map(Time);
    complaints.beyond_zero("open-files", open_files, "write \"off\" to look each time");
    complaints.beyond_zero("file-timeout", Some(route.file_timeout), "10s is the default");
    if route.files.is_some() {
        return;
    }
    of_files(route, complaints);
}

/// Keys that say nothing without `files`.
fn of_files(route: &Route, complaints: &mut Complaints) {
    let default = Route::default();
    let of_files = [
        ("listing", route.listing),
        ("precompressed", !route.precompressed.is_empty()),
        ("cache", !route.cache.is_empty()),
        ("open-files", route.open_files != default.open_files),
        ("file-timeout", route.file_timeout != default.file_timeout),
        ("index", route.index != default.index),
        ("hidden", route.hidden),
        ("try", route.r#try.is_some()),
    ];
    for (key, _) in of_files.iter().filter(|(_, is_there)| *is_there) {
        let message = format!("{key} counts only with files");
        complaints.error(&[key], message, "add files = \"FOLDER\", or remove it");
    }
}

fn redirect(to: &str, status: u16, complaints: &mut Complaints) {
    if ![301, 302, 303, 307, 308].contains(&status) {
        let message = format!("{status} is not the status of a redirect");
        complaints.error(&["redirect-status"], message, "take 301, 302, 303, 307 or 308");
    }
    if to.is_empty() || !to.bytes().all(|byte| byte.is_ascii_graphic()) {
        let advice = "write a URL; what is not ASCII is written with %";
        complaints.error(&["redirect"], "this is not a place to send anybody", advice);
    }
    template(&["redirect"], to, Template::IN_REDIRECTS, complaints);
}

fn template(keys: &[&str], text: &str, known: &[Variable], complaints: &mut Complaints) {
    if let Err(misread) = Template::read(text, known) {
        complaints.error(keys, misread.message, misread.advice.unwrap_or_default());
    }
}

/// Headers can be changed, but not where a message ends or what belongs to one hop: that would be a second reading.
fn header_edits(edits: &HeaderEdits, complaints: &mut Complaints) {
    let mut seen = HashSet::new();
    for (name, value) in &edits.set {
        header_text(&["set", name], name, value, complaints);
        if !seen.insert(name.to_ascii_lowercase()) {
            let message = format!("\"{}\" stands here twice", shown(name));
            let advice = "capitals make no difference: remove one of them";
            complaints.error(&["set", name], message, advice);
        }
    }
    for (name, value) in
        edits.add.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
    {
        header_text(&["add", name], name, value, complaints);
    }
    for (index, name) in edits.remove.iter().enumerate() {
        let keys = ["remove", &index.to_string()];
        header_name(&keys, name, "a route", complaints);
        if seen.contains(&name.to_ascii_lowercase()) {
            let message = format!("\"{}\" is both set and removed", shown(name));
            complaints.error(&keys, message, "set replaces what was there: remove it here");
        }
    }
}

fn header_text(keys: &[&str], name: &str, value: &str, complaints: &mut Complaints) {
    header_name(keys, name, "a route", complaints);
    if !evenkeel_wire::is_value(value.as_bytes()) {
        let message = "this is not the value of a header";
        let advice = "leave out control characters, and spaces at either end";
        complaints.error(keys, message, advice);
    }
    template(keys, value, Template::IN_HEADERS, complaints);
}

/// A name that may stand there, and none that frames a message.
pub(super) fn header_name(keys: &[&str], name: &str, whose: &str, complaints: &mut Complaints) {
    if !evenkeel_wire::is_name(name.as_bytes()) {
        let message = format!("\"{}\" is not the name of a header", shown(name));
        complaints.error(keys, message, "");
    }
    // Some servers read an underscore as a hyphen.
    let is_ours = matches!(
        Known::of(name.replace('_', "-").as_bytes()),
        Known::Host
            | Known::Connection
            | Known::ContentLength
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    );
    if is_ours {
        let message = format!("\"{}\" cannot be changed by {whose}", shown(name));
        let advice = "it says where a message goes or ends, which is decided for each hop anew";
        complaints.error(keys, message, advice);
    }
}

fn fixed(reply: &Reply, complaints: &mut Complaints) {
    if !(200..600).contains(&reply.status) {
        let message = format!("{} is not the status of an answer", reply.status);
        complaints.error(&["status"], message, "take one of 200 to 599");
    }
    // RFC 9110 15.3.5, 15.4.5.
    if matches!(reply.status, 204 | 304) && !reply.body.is_empty() {
        let message = format!("an answer of status {} has no body", reply.status);
        complaints.warning(&["body"], message, "take another status, or leave the body out");
    }
    if !evenkeel_wire::is_value(reply.content_type.as_bytes()) {
        let message = "content-type is not the value of a header";
        complaints.error(&["content-type"], message, "write a type such as \"text/html\"");
    }
}
