//! Metrics by upstream and by backend. `upstream` is its name in the config and `backend` an address; names that are looked up stand
//! for a bounded number of those.

use super::{Metric, metric};
use crate::observe::exposition::Kind::{Counter, Gauge, Histogram};
use crate::observe::sheets::{CLASSES, CONNECT_FLAWS, EJECTION_CAUSES};
use crate::process::Reading;
use crate::upstream::{BackendState, UpstreamState};

/// The states that a backend can be in.
const STATES: [&str; 5] = ["healthy", "unhealthy", "ejected", "drained", "down"];

/// In the order of the docs.
pub(super) const METRICS: &[Metric] = &[
    metric(
        Counter,
        "evenkeel_upstream_retries_total",
        "Tries after one that failed, to connect or to have a request answered.",
        |reading, out| each(reading, |name, it| out.add(&[("upstream", name)], it.retries)),
    ),
    metric(
        Gauge,
        "evenkeel_upstream_queue_waiting",
        "Connections and requests that wait for a place at a backend.",
        |reading, out| each(reading, |name, it| out.add(&[("upstream", name)], it.waiting)),
    ),
    metric(
        Gauge,
        "evenkeel_upstream_queue_max",
        "How many may wait: queue-max.",
        |reading, out| each(reading, |name, it| out.add(&[("upstream", name)], it.queue_max)),
    ),
    metric(
        Counter,
        "evenkeel_upstream_queue_refused_total",
        "Those that found the queue full.",
        |reading, out| each(reading, |name, it| out.add(&[("upstream", name)], it.queue_refused)),
    ),
    metric(
        Counter,
        "evenkeel_upstream_queue_timeouts_total",
        "Those that waited for queue-timeout in vain.",
        |reading, out| each(reading, |name, it| out.add(&[("upstream", name)], it.queue_timeouts)),
    ),
    metric(
        Gauge,
        "evenkeel_backend_state",
        "1 for the state that a backend is in, 0 for the others: healthy, unhealthy, ejected, drained, down.",
        |reading, out| {
            each_backend(reading, |[upstream, backend], it| {
                for state in STATES {
                    out.add(&[upstream, backend, ("state", state)], it.counts.state == state);
                }
            });
        },
    ),
    metric(
        Gauge,
        "evenkeel_backend_weight",
        "The weight: the configured one, or one that an operator has set.",
        |reading, out| each_backend(reading, |labels, it| out.add(&labels, it.counts.weight)),
    ),
    metric(
        Gauge,
        "evenkeel_backend_connections_open",
        "Connections of clients and requests that are at a backend now.",
        |reading, out| each_backend(reading, |labels, it| out.add(&labels, it.counts.open)),
    ),
    metric(
        Gauge,
        "evenkeel_backend_connections_idle",
        "Connections to a backend that are kept for the next request, as of a second ago.",
        |reading, out| each_backend(reading, |labels, it| out.add(&labels, it.idle)),
    ),
    metric(
        Counter,
        "evenkeel_backend_connections_total",
        "Connections made to a backend.",
        |reading, out| each_backend(reading, |labels, it| out.add(&labels, it.counts.connections)),
    ),
    metric(
        Counter,
        "evenkeel_backend_connections_failed_total",
        "Connections that could not be made to a backend, by cause.",
        |reading, out| {
            each_backend(reading, |[upstream, backend], it| {
                for ((_, cause), count) in CONNECT_FLAWS.iter().zip(it.reading.connects_failed) {
                    out.add(&[upstream, backend, ("cause", cause)], count);
                }
            });
        },
    ),
    metric(
        Counter,
        "evenkeel_backend_requests_total",
        "HTTP requests sent to a backend, also those that it did not answer.",
        |reading, out| each_backend(reading, |labels, it| out.add(&labels, it.counts.requests)),
    ),
    metric(
        Counter,
        "evenkeel_backend_responses_total",
        "HTTP answers of a backend by the class of their status.",
        |reading, out| {
            each_backend(reading, |[upstream, backend], it| {
                let all = CLASSES.iter().zip(it.reading.responses);
                for (class, count) in all.skip(1) {
                    out.add(&[upstream, backend, ("status", class)], count);
                }
            });
        },
    ),
    metric(
        Counter,
        "evenkeel_backend_traffic_bytes_total",
        "Bytes of ended connections and requests, up to a backend or down from it; on HTTP of bodies.",
        |reading, out| {
            each_backend(reading, |[upstream, backend], it| {
                out.add(&[upstream, backend, ("direction", "up")], it.reading.bytes_up);
                out.add(&[upstream, backend, ("direction", "down")], it.reading.bytes_down);
            });
        },
    ),
    metric(
        Histogram,
        "evenkeel_backend_connect_duration_seconds",
        "How long it took to connect to a backend, its TLS handshake included.",
        |reading, out| {
            each_backend(reading, |labels, it| out.add_times(&labels, &it.reading.connect_times));
        },
    ),
    metric(
        Histogram,
        "evenkeel_backend_first_byte_duration_seconds",
        "How long the first byte of an answer took, from sending the request; on TCP from connecting.",
        |reading, out| {
            each_backend(reading, |labels, it| {
                out.add_times(&labels, &it.reading.first_byte_times);
            });
        },
    ),
    metric(
        Histogram,
        "evenkeel_backend_duration_seconds",
        "How long a request took at a backend, to the end of its answer; by packet, to the reply; on TCP, the whole connection.",
        |reading, out| {
            each_backend(reading, |labels, it| out.add_times(&labels, &it.reading.total_times));
        },
    ),
    metric(
        Counter,
        "evenkeel_backend_ejections_total",
        "Ejections of a backend by cause: failures in a row, errors as a share of answers, or slow.",
        |reading, out| {
            each_backend(reading, |[upstream, backend], it| {
                for (cause, count) in EJECTION_CAUSES.iter().zip(it.reading.ejections) {
                    out.add(&[upstream, backend, ("cause", cause)], count);
                }
            });
        },
    ),
    metric(
        Counter,
        "evenkeel_backend_checks_total",
        "Active health checks of a backend by result: passed or failed.",
        |reading, out| {
            each_backend(reading, |[upstream, backend], it| {
                let reading = &it.reading;
                out.add(&[upstream, backend, ("result", "passed")], reading.checks_passed);
                out.add(&[upstream, backend, ("result", "failed")], reading.checks_failed);
            });
        },
    ),
];

fn each(reading: &Reading, mut write: impl FnMut(&str, &UpstreamState)) {
    reading.upstreams.iter().for_each(|it| write(&it.name, it));
}

fn each_backend<'r>(
    reading: &'r Reading,
    mut write: impl FnMut([(&'static str, &'r str); 2], &'r BackendState),
) {
    for upstream in &reading.upstreams {
        for backend in &upstream.backends {
            let labels = [("upstream", &*upstream.name), ("backend", &*backend.counts.address)];
            write(labels, backend);
        }
    }
}
