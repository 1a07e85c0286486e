//! What an upstream must hold to be of use: backends that can be told apart, health that can change
//! its mind, limits that leave something to do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use super::{Complaints, balancing, keepalive};
use crate::config::problem::shown;
use crate::config::{
    Address, H2Limits, Health, IdleConnections, KeepAlive, Probe, SendProxy, Upstream,
};

/// Balancing tables and per-backend counts are sized for this many.
const BACKENDS_MAX: usize = 10_000;

pub(super) fn verify(upstream: &Upstream, complaints: &mut Complaints) {
    backends(upstream, complaints);
    sources(upstream, complaints);
    balancing::upstream(upstream, complaints);
    let connect = Some(upstream.connect_timeout);
    complaints.beyond_zero("connect-timeout", connect, "write a time such as \"3s\"");
    let response = Some(upstream.response_timeout);
    complaints.beyond_zero("response-timeout", response, "write a time such as \"60s\"");
    if let KeepAlive::On(idle) = &upstream.keep_alive {
        complaints.below(&["keep-alive"], |complaints| idle_connections(idle, complaints));
    }
    if upstream.queue_max > 0 {
        let advice = "write queue-max = 0 for no queue";
        complaints.beyond_zero("queue-timeout", Some(upstream.queue_timeout), advice);
    }
    complaints.within("eject-after", upstream.eject_after, 1..=u32::MAX);
    let advice = "write health = \"off\" for no ejection";
    complaints.beyond_zero("eject-time", Some(upstream.eject_time), advice);
    if upstream.eject_time > upstream.eject_time_max {
        let (time, max) = (upstream.eject_time, upstream.eject_time_max);
        let message = format!("eject-time ({time}) is longer than eject-time-max ({max})");
        complaints.error(&["eject-time"], message, "lower the one or raise the other");
    }
    if upstream.h2 && upstream.send_proxy.is_some() {
        let message = "many clients share a connection of HTTP/2, so that no header can name them";
        complaints.error(&["send-proxy"], message, "leave out h2, or send-proxy");
    }
    if !upstream.send_proxy_tlvs.is_empty() && upstream.send_proxy != Some(SendProxy::V2) {
        let advice = "write send-proxy = \"v2\"";
        complaints.error(&["send-proxy-tlvs"], "only version 2 has room for them", advice);
    }
    if upstream.transparent && upstream.h2 {
        let message =
            "many clients share a connection of HTTP/2, so that none can come from its address";
        complaints.error(&["transparent"], message, "leave out h2, or transparent");
    }
    if upstream.transparent && !upstream.source.is_empty() {
        let message = "source does nothing with transparent: clients' own addresses are used";
        complaints.error(&["source"], message, "remove one of them");
    }
    if let Some(tls) = upstream.tls.on() {
        complaints.below(&["tls"], |complaints| super::tls::outward(tls, upstream, complaints));
    }
    complaints.below(&["h2-limits"], |complaints| h2_limits(&upstream.h2_limits, complaints));
    complaints.within("eject-max-percent", upstream.eject_max_percent.0.into(), 0..=100);
    complaints.within("fail-open", upstream.fail_open.0.into(), 0..=100);
    complaints.beyond_zero("user-timeout", upstream.user_timeout, "leave it out for the default");
    keepalive(&upstream.keepalive, complaints);
    if let Health::Active(active) = &upstream.health {
        complaints.below(&["health"], |complaints| probe(active, complaints));
    }
}

fn h2_limits(limits: &H2Limits, complaints: &mut Complaints) {
    for (key, number) in [
        ("heads-per-second", limits.heads_per_second),
        ("resets-per-second", limits.resets_per_second),
        ("pings-per-second", limits.pings_per_second),
        ("settings-per-second", limits.settings_per_second),
        ("control-frames-per-second", limits.control_frames_per_second),
    ] {
        complaints.within(key, number, 1..=u32::MAX);
    }
}

fn idle_connections(idle: &IdleConnections, complaints: &mut Complaints) {
    if idle.max == 0 {
        let advice = "write keep-alive = \"off\" for none";
        complaints.error(&["max"], "max must be at least 1, not 0", advice);
    }
    let advice = "write keep-alive = \"off\" for no idle connections";
    complaints.beyond_zero("idle", Some(idle.idle), advice);
    complaints.within("requests", idle.requests, 1..=u32::MAX);
}

fn backends(upstream: &Upstream, complaints: &mut Complaints) {
    let backends = &upstream.backends;
    if backends.is_empty() {
        let advice = "write at least one address";
        complaints.error(&["backends"], "an upstream needs a backend", advice);
        return;
    }
    if backends.len() > BACKENDS_MAX {
        let message = format!("{} backends are over {BACKENDS_MAX}", backends.len());
        complaints.error(&["backends"], message, "split them over more than one upstream");
    }
    let mut seen = HashMap::new();
    for (index, backend) in backends.iter().enumerate() {
        complaints.below(&["backends", &index.to_string()], |complaints| {
            let written = shown(&backend.address.to_string());
            if backend.address.port() == Some(0) {
                let message = format!("\"{written}\" cannot be connected to");
                complaints.error(&["address"], message, "write the backend's port, not 0");
            }
            complaints.socket_path(&["address"], &backend.address);
            complaints.at_least_one("connections-max", backend.connections_max);
            if let Some(first) = seen.insert(target(&backend.address), index) {
                let message =
                    format!("\"{written}\" stands here twice (first as number {})", first + 1);
                complaints.error(&["address"], message, "give one of them the larger weight");
            }
        });
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        let message = "every backend has weight 0, so that none is used";
        complaints.warning(&["backends"], message, "give one of them a weight");
    }
    if backends.iter().all(|backend| backend.backup) {
        let message = "every backend is a backup, which is as if none were";
        complaints.warning(&["backends"], message, "take backup = true from those used first");
    }
}

/// The address that would be connected to: `:80` is the loopback, and names do not mind case.
fn target(address: &Address) -> Address {
    match address {
        Address::Port(port) => Address::Ip((Ipv4Addr::LOCALHOST, *port).into()),
        Address::Name { host, port } => Address::Name { host: host.to_lowercase(), port: *port },
        address => address.clone(),
    }
}

fn sources(upstream: &Upstream, complaints: &mut Complaints) {
    if upstream.source.is_empty() {
        return;
    }
    let stranded = upstream.backends.iter().find(|backend| match target(&backend.address) {
        Address::Ip(backend) => {
            !upstream.source.iter().any(|source| source.is_ipv4() == backend.is_ipv4())
        }
        _ => false,
    });
    if let Some(backend) = stranded {
        let family = if upstream.source.iter().all(IpAddr::is_ipv4) { "IPv6" } else { "IPv4" };
        let message = format!("no source address can reach \"{}\"", backend.address);
        complaints.warning(&["source"], message, format!("add an {family} address"));
    }
}

fn probe(probe: &Probe, complaints: &mut Complaints) {
    let kinds = [
        ("tcp", probe.tcp),
        ("send", probe.send.is_some() || probe.expect.is_some()),
        ("http", probe.http.is_some()),
    ];
    let chosen: Vec<&str> = kinds.iter().filter(|(_, set)| *set).map(|(key, _)| *key).collect();
    if let [first, .., last] = chosen[..] {
        let key = if last == "send" && probe.send.is_none() { "expect" } else { last };
        let message = format!("a check is either {first} or {key}, not both");
        complaints.error(&[key], message, "keep one of tcp, send/expect, http");
    }
    if let Some(path) = &probe.http
        && (!path.starts_with('/') || path.contains(|c: char| c.is_control() || c.is_whitespace()))
    {
        let message = format!("\"{}\" is not the path of a request", shown(path));
        complaints.error(&["http"], message, "begin with \"/\" and leave out spaces: \"/healthz\"");
    }
    if let Some(host) = &probe.host {
        if host.is_empty() || host.contains(|c: char| c.is_control() || c.is_whitespace()) {
            let message = format!("\"{}\" is not a host", shown(host));
            complaints.error(&["host"], message, "write it as in a URL: \"app.example.com\"");
        }
        if probe.http.is_none() {
            let message = "host counts only for an http check";
            complaints.warning(&["host"], message, "add http = \"/\", or remove it");
        }
    }
    if probe.status.is_empty() {
        complaints.error(
            &["status"],
            "no status would count as healthy",
            "write 200, or leave it out",
        );
    }
    balancing::probe(probe, complaints);
    if probe.port == Some(0) {
        complaints.error(&["port"], "port 0 cannot be connected to", "write the port to check");
    }
    complaints.beyond_zero("every", Some(probe.every), "write a time such as \"2s\"");
    complaints.beyond_zero("timeout", Some(probe.timeout), "write a time such as \"2s\"");
    if probe.timeout > probe.every {
        let (timeout, every) = (probe.timeout, probe.every);
        let message = format!("a check may take {timeout}, but is due again after {every}");
        complaints.warning(&["timeout"], message, "lower timeout or raise every");
    }
    complaints.within("rise", probe.rise, 1..=u32::MAX);
    complaints.within("fall", probe.fall, 1..=u32::MAX);
    complaints.within("jitter", probe.jitter.0.into(), 0..=100);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Backend, Balance, Bytestring, HashBy, HashOn, Percent, Severity, Time};

    fn complaint(change: impl FnOnce(&mut Upstream)) -> String {
        let mut upstream = Upstream::new(vec![Backend::new("127.0.0.1:80".parse().unwrap())]);
        change(&mut upstream);
        let mut complaints = Complaints::default();
        verify(&upstream, &mut complaints);
        let lines = complaints.list.iter().map(|complaint| {
            let mark = if complaint.severity == Severity::Warning { "?" } else { "" };
            format!("{}{mark}: {}", complaint.path.join("."), complaint.message)
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn probed(change: impl FnOnce(&mut Probe)) -> String {
        let mut probe = Probe::default();
        change(&mut probe);
        complaint(|upstream| upstream.health = Health::Active(probe))
    }

    fn backend(address: &str) -> Backend {
        Backend::new(address.parse().unwrap())
    }

    #[test]
    fn an_upstream_of_defaults_is_fine() {
        assert_eq!(complaint(|_| ()), "");
        assert_eq!(probed(|_| ()), "");
    }

    #[test]
    fn backends_must_be_there_and_differ() {
        assert!(complaint(|upstream| upstream.backends.clear()).contains("needs a backend"));
        let zero = complaint(|upstream| upstream.backends.push(backend("a:0")));
        assert!(zero.starts_with("backends.1.address: "), "{zero}");
        for twice in ["127.0.0.1:80", ":80"] {
            let twice = complaint(|upstream| upstream.backends.push(backend(twice)));
            assert!(twice.contains("twice (first as number 1)"), "{twice}");
        }
        let names = ["db:1", "DB:1"].map(backend).to_vec();
        assert!(complaint(|upstream| upstream.backends = names).contains("twice"));
        let many: Vec<_> = (0..=10_000).map(|n| backend(&format!("b{n}:1"))).collect();
        assert!(complaint(|upstream| upstream.backends = many).contains("over 10000"));
    }

    #[test]
    fn backends_that_are_never_used_are_warned_about() {
        let weightless = complaint(|upstream| upstream.backends[0].weight = 0);
        assert!(weightless.starts_with("backends?: every backend has weight 0"), "{weightless}");
        let backup = complaint(|upstream| upstream.backends[0].backup = true);
        assert!(backup.starts_with("backends?: every backend is a backup"), "{backup}");
        let far = complaint(|upstream| upstream.source = vec!["::1".parse().unwrap()]);
        assert!(far.starts_with("source?: no source address can reach"), "{far}");
    }

    #[test]
    fn senseless_limits_are_refused() {
        let zero = Time::seconds(0);
        assert!(complaint(|upstream| upstream.connect_timeout = zero).contains("connect-timeout"));
        assert!(complaint(|upstream| upstream.queue_timeout = zero).contains("queue-timeout"));
        let unqueued = |upstream: &mut Upstream| {
            upstream.queue_timeout = zero;
            upstream.queue_max = 0;
        };
        assert_eq!(complaint(unqueued), "");
        let long = complaint(|upstream| upstream.eject_time = Time::seconds(301));
        assert!(long.contains("eject-time (5m1s) is longer than eject-time-max (5m)"), "{long}");
        assert!(complaint(|upstream| upstream.fail_open = Percent(101)).contains("0 to 100"));
        for load in [1.0, 0.0, f64::NAN] {
            let balance =
                Balance::Hash { by: HashBy::Source, on: HashOn::Ring, bounded_load: Some(load) };
            assert!(complaint(|upstream| upstream.balance = balance).contains("above 1"));
        }
    }

    #[test]
    fn kept_connections_are_kept_for_something() {
        let kept = |change: fn(&mut IdleConnections)| {
            let mut idle = IdleConnections::default();
            change(&mut idle);
            complaint(|upstream| upstream.keep_alive = KeepAlive::On(idle))
        };
        assert!(kept(|idle| idle.max = 0).starts_with("keep-alive.max: "));
        assert!(kept(|idle| idle.idle = Time::seconds(0)).starts_with("keep-alive.idle: "));
        assert!(kept(|idle| idle.requests = 0).starts_with("keep-alive.requests: "));
        assert_eq!(complaint(|upstream| upstream.keep_alive = KeepAlive::Off), "");
        let response = complaint(|upstream| upstream.response_timeout = Time::seconds(0));
        assert!(response.starts_with("response-timeout: "), "{response}");
    }

    #[test]
    fn a_probe_checks_one_thing_in_one_way() {
        let both = probed(|probe| {
            probe.tcp = true;
            probe.expect = Some(Bytestring(b"ok".to_vec()));
        });
        assert!(both.starts_with("health.expect: a check is either tcp or expect"), "{both}");
        for path in ["healthz", "/a b", "/\n", ""] {
            let wrong = probed(|probe| probe.http = Some(path.to_owned()));
            assert!(wrong.contains("is not the path"), "{path}");
        }
        assert_eq!(probed(|probe| probe.http = Some("/".to_owned())), "");
        assert!(probed(|probe| probe.rise = 0).contains("rise must be at least 1"));
        assert!(probed(|probe| probe.every = Time::seconds(0)).contains("every must be longer"));
        let late = probed(|probe| probe.timeout = Time::seconds(3));
        assert!(late.starts_with("health.timeout?: a check may take 3s"), "{late}");
    }
}
