//! Metrics by listener. `listener` is its section in the config; the other labels are words of closed lists.

use std::collections::BTreeMap;

use super::{Metric, metric};
use crate::observe::ended::{Side, Why};
use crate::observe::exposition::Exposition;
use crate::observe::exposition::Kind::{Counter, Gauge, Histogram};
use crate::observe::sheets::{CLASSES, HANDSHAKE_FLAWS, WAYS};
use crate::process::{ListenerState, Reading};

/// In the order of the docs.
pub(super) const METRICS: &[Metric] = &[
    metric(
        Gauge,
        "evenkeel_listener_connections_open",
        "Connections of clients that are served.",
        |reading, out| each(reading, |name, it| out.add(&[("listener", name)], it.open)),
    ),
    metric(
        Counter,
        "evenkeel_listener_connections_accepted_total",
        "Connections accepted, refused ones included.",
        |reading, out| {
            each(reading, |name, it| out.add(&[("listener", name)], it.reading.accepted));
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_connections_ended_total",
        "Connections that have ended, by reason and by the side whose doing it was.",
        |reading, out| {
            each(reading, |name, it| add_ends(out, name, &it.reading.ended));
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_requests_total",
        "HTTP requests by the class of the status they were answered with; none for those without an answer.",
        |reading, out| {
            each_http(reading, |name, it| {
                for (class, count) in CLASSES.iter().zip(it.reading.requests) {
                    out.add(&[("listener", name), ("status", class)], count);
                }
            });
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_requests_ended_total",
        "HTTP requests that have ended, by reason and by the side whose doing it was.",
        |reading, out| {
            each_http(reading, |name, it| add_ends(out, name, &it.reading.answered));
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_limits_hit_total",
        "Connections and requests that were refused or ended because of a limit, by limit.",
        |reading, out| {
            each(reading, |name, it| {
                let all = Why::ALL.iter().zip(it.reading.limits);
                for (why, count) in all.filter(|(why, _)| why.side() == Side::Limit) {
                    out.add(&[("listener", name), ("limit", why.as_str())], count);
                }
            });
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_traffic_bytes_total",
        "Bytes of ended connections and requests, up from clients or down to them; on HTTP of bodies.",
        |reading, out| {
            each(reading, |name, it| {
                out.add(&[("listener", name), ("direction", "up")], it.reading.bytes_up);
                out.add(&[("listener", name), ("direction", "down")], it.reading.bytes_down);
            });
        },
    ),
    metric(
        Histogram,
        "evenkeel_listener_connection_duration_seconds",
        "How long connections lasted, from accept to end.",
        |reading, out| {
            each(reading, |name, it| {
                out.add_times(&[("listener", name)], &it.reading.connection_times);
            });
        },
    ),
    metric(
        Histogram,
        "evenkeel_listener_request_duration_seconds",
        "How long HTTP requests took, from their head to the end of their answer.",
        |reading, out| {
            each_http(reading, |name, it| {
                out.add_times(&[("listener", name)], &it.reading.request_times);
            });
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_tls_handshakes_total",
        "TLS handshakes with clients that were done.",
        |reading, out| {
            each_tls(reading, |name, it| out.add(&[("listener", name)], it.reading.handshakes));
        },
    ),
    metric(
        Counter,
        "evenkeel_listener_tls_handshakes_failed_total",
        "TLS handshakes with clients that came to nothing, by cause.",
        |reading, out| {
            each_tls(reading, |name, it| {
                for (flaw, count) in HANDSHAKE_FLAWS.iter().zip(it.reading.handshakes_failed) {
                    out.add(&[("listener", name), ("cause", flaw.as_str())], count);
                }
            });
        },
    ),
    metric(
        Gauge,
        "evenkeel_listener_certificate_expiry_timestamp_seconds",
        "Until when the certificate for a name is valid, in seconds since 1970; of several for one name, the first to expire.",
        |reading, out| {
            each_tls(reading, |name, it| {
                let mut first: BTreeMap<&str, i64> = BTreeMap::new();
                for certificate in it.certificates.iter().flat_map(|all| all.iter()) {
                    for known in &certificate.names {
                        let until = first.entry(known).or_insert(i64::MAX);
                        *until = (*until).min(certificate.not_after);
                    }
                }
                for (known, until) in first {
                    out.add(&[("listener", name), ("name", known)], until as f64);
                }
            });
        },
    ),
];

fn each(reading: &Reading, mut write: impl FnMut(&str, &ListenerState)) {
    reading.listeners.iter().for_each(|it| write(&it.section, it));
}

fn each_http(reading: &Reading, mut write: impl FnMut(&str, &ListenerState)) {
    let is_http = |it: &&ListenerState| it.section.starts_with("http.");
    reading.listeners.iter().filter(is_http).for_each(|it| write(&it.section, it));
}

fn each_tls(reading: &Reading, mut write: impl FnMut(&str, &ListenerState)) {
    let speaks_tls = |it: &&ListenerState| it.certificates.is_some();
    reading.listeners.iter().filter(speaks_tls).for_each(|it| write(&it.section, it));
}

fn add_ends(out: &mut Exposition, listener: &str, ends: &[u64; WAYS]) {
    for (why, count) in Why::ALL.iter().zip(ends) {
        let (reason, side) = (why.as_str(), why.side().as_str());
        out.add(&[("listener", listener), ("reason", reason), ("side", side)], *count);
    }
}
