//! What a TCP listener must hold beyond its single values: upstreams that exist, and routes that have something to go by.

use super::{Complaints, balancing, door, names_upstream, packet, tls};
use crate::config::{BalancePer, Config, TcpListener, TcpRoute, Time};

/// Every upstream that a listener leads to, with the keys that name it.
pub(super) fn upstreams(listener: &TcpListener) -> impl Iterator<Item = (Vec<String>, &str)> {
    let keyed = |key: &str, name: &'_ Option<String>| name.as_deref().map(|_| vec![key.to_owned()]);
    let alone = [("upstream", &listener.upstream), ("plain-upstream", &listener.plain_upstream)];
    let alone = alone
        .into_iter()
        .filter_map(move |(key, name)| Some((keyed(key, name)?, name.as_deref()?)));
    let routes = listener.route.iter().enumerate().map(|(index, route)| {
        let keys = ["route".to_owned(), index.to_string(), "upstream".to_owned()];
        (keys.to_vec(), route.upstream.as_str())
    });
    alone.chain(routes)
}

pub(super) fn listener(config: &Config, listener: &TcpListener, complaints: &mut Complaints) {
    for (keys, name) in upstreams(listener) {
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        names_upstream(config, &keys, name, complaints);
        let knows = (listener.packet.is_some(), listener.balance_per == BalancePer::Packet);
        balancing::tcp_use(config, name, knows, &keys, complaints);
    }
    if listener.upstream.is_none() && listener.route.is_empty() {
        let advice = "add upstream = \"NAME\", or routes";
        complaints.error(&[], "this listener leads nowhere", advice);
    }
    let idle = listener.idle_timeout.0.map(Time);
    complaints.beyond_zero("idle-timeout", idle, "write \"off\" for never");
    let interval = listener.heartbeat_check_interval;
    complaints.beyond_zero("heartbeat-check-interval", interval, "leave it out");
    complaints.beyond_zero("max-duration", listener.max_duration, "leave it out for no end");
    complaints.beyond_zero("hello-timeout", Some(listener.hello_timeout), "10s is the default");
    if let Some(tls) = &listener.tls {
        complaints.below(&["tls"], |complaints| tls::verify(tls, complaints));
        if listener.plain_upstream.is_some() {
            let advice = "write allow-plain = true in tls, and route by what is known";
            complaints.error(&["plain-upstream"], "with tls, this is never used", advice);
        }
    } else if listener.plain_upstream.is_some() && listener.route.is_empty() {
        let advice = "add routes, or write upstream in its place";
        complaints.error(&["plain-upstream"], "without routes, nobody is asked for TLS", advice);
    }
    for (index, route) in listener.route.iter().enumerate() {
        complaints.below(&["route", &index.to_string()], |complaints| {
            self::route(listener, route, complaints);
        });
        let everything = |above: &TcpRoute| *above == unconditional(&above.upstream);
        if let Some(other) = listener.route[..index].iter().position(everything) {
            let message = format!(
                "this route can never match: route {} above takes everything it would",
                other + 1
            );
            complaints.warning(&["route", &index.to_string()], message, "move it up, or remove it");
        }
    }
    packet::listener(listener, complaints);
    door(&listener.into(), complaints);
}

fn unconditional(upstream: &str) -> TcpRoute {
    TcpRoute::new(upstream.to_owned())
}

fn route(listener: &TcpListener, route: &TcpRoute, complaints: &mut Complaints) {
    if route.client_certificate.is_some() && listener.tls.is_none() {
        let advice = "add tls with client-ca to the listener";
        let message = "without tls, no certificate of a client is ever seen";
        complaints.error(&["client-certificate"], message, advice);
    }
    for (index, protocol) in route.alpn.iter().enumerate() {
        protocol_name(&["alpn", &index.to_string()], protocol, complaints);
    }
}

/// RFC 7301 3.1.
pub(super) fn protocol_name(keys: &[&str], name: &str, complaints: &mut Complaints) {
    if name.is_empty() || name.len() > 255 {
        let advice = "write one such as \"h2\" or \"http/1.1\"";
        complaints.error(keys, "a protocol has a name of 1 to 255 bytes", advice);
    }
}
