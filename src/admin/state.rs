//! `GET /v1/state`: everything that can be seen of the running process, as JSON for those who draw it. Times are in milliseconds;
//! counters only grow, so that whoever reads twice has a rate. Fields may be added.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::api::Desk;
use crate::observe::count::{Distribution, STEPS};
use crate::observe::ended::{Side, Why};
use crate::observe::recent;
use crate::observe::sheets::{CLASSES, EJECTION_CAUSES, HANDSHAKE_FLAWS, WAYS};
use crate::process::{ListenerState, ProcessState, Reading};
use crate::upstream::{BackendState, UpstreamState};

/// How everything is now.
pub(super) fn of(desk: &Desk) -> Value {
    let reading = desk.remote.reading();
    let Reading { process, listeners, upstreams } = &reading;
    let waits = *desk.waits_until.borrow();
    let left = waits.map(|until| until.saturating_duration_since(std::time::Instant::now()));
    let counts = &process.counts;
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_ms": whole_millis(desk.started.elapsed()),
        "now_at_ms": since_1970(SystemTime::now()),
        "draining": process.is_draining,
        "confirm_within_ms": left.map(whole_millis),
        "open": counts.open,
        "accepted": counts.accepted,
        "bytes_up": counts.bytes_up,
        "bytes_down": counts.bytes_down,
        "requests": by_class(&counts.requests),
        "ended": by_name(counts.ended.iter().map(|(why, count)| (why.as_str(), *count))),
        "requests_ended": by_reason(&process.reasons.answered),
        "limits": limits(&process.reasons.limits),
        "process": of_process(process),
        "listeners": listeners.iter().map(of_listener).collect::<Vec<_>>(),
        "upstreams": upstreams.iter().map(|it| of_upstream(it, listeners)).collect::<Vec<_>>(),
        "certificates": certificates(listeners),
        "decisions": desk.decisions(),
        "events": recent::all().iter().map(of_event).collect::<Vec<_>>(),
    })
}

fn of_event(said: &recent::Said) -> Value {
    json!({ "at_ms": since_1970(said.at), "level": said.level, "text": said.text })
}

fn of_process(process: &ProcessState) -> Value {
    let events = &process.events;
    let workers = process.workers.iter().enumerate().map(|(number, worker)| {
        json!({
            "number": number,
            "open": worker.open,
            "busy": worker.busy_share,
            "delay_ms": {
                "p50": worker.delays.quantile(0.5).map(millis),
                "p99": worker.delays.quantile(0.99).map(millis),
                "max": millis(worker.longest_delay),
            },
        })
    });
    json!({
        "descriptors": { "open": process.descriptors_open, "max": process.descriptors_max },
        "memory": {
            "used": process.memory.used,
            "max": process.memory.budget,
            "by": by_name(process.memory.by.iter().copied()),
        },
        "workers": workers.collect::<Vec<_>>(),
        "reloads": {
            "done": events.reloads,
            "refused": events.reloads_refused,
            "last_at_ms": events.reloaded_at,
        },
        "upgrades": { "done": events.upgrades, "failed": events.upgrades_failed },
        "panics": process.counts.panics(),
        "stalls": process.counts.stalls,
        "log_lines_lost": { "access": events.lines_lost, "diagnostics": process.lines_lost },
    })
}

fn of_listener(it: &ListenerState) -> Value {
    let reading = &it.reading;
    let is_http = it.section.starts_with("http.");
    let (kind, total) = match is_http {
        true => ("http", &reading.request_times),
        false => ("tcp", &reading.connection_times),
    };
    let flaws = HANDSHAKE_FLAWS.iter().map(|flaw| flaw.as_str());
    let ends = match is_http {
        true => &reading.answered,
        false => &reading.ended,
    };
    json!({
        "name": it.section,
        "kind": kind,
        "addresses": it.addresses,
        "tls": it.certificates.is_some(),
        "open": it.open,
        "accepted": reading.accepted,
        "bytes_up": reading.bytes_up,
        "bytes_down": reading.bytes_down,
        "requests": by_class(&reading.requests),
        "ended": by_reason(ends),
        "connections_ended": by_reason(&reading.ended),
        "handshakes": {
            "done": reading.handshakes,
            "failed": by_name(flaws.zip(reading.handshakes_failed)),
        },
        "upstreams": it.upstreams.iter().map(|name| &**name).collect::<Vec<_>>(),
        "latency": { "total": distribution(total) },
    })
}

fn of_upstream(it: &UpstreamState, listeners: &[ListenerState]) -> Value {
    let leads_here = |listener: &&ListenerState| listener.upstreams.contains(&it.name);
    let names = listeners.iter().filter(leads_here).map(|listener| &listener.section);
    json!({
        "name": &*it.name,
        "balance": it.balance,
        "retries": it.retries,
        "queue": {
            "waiting": it.waiting,
            "max": it.queue_max,
            "refused": it.queue_refused,
            "timeouts": it.queue_timeouts,
        },
        "listeners": names.collect::<Vec<_>>(),
        "backends": it.backends.iter().map(of_backend).collect::<Vec<_>>(),
    })
}

fn of_backend(it: &BackendState) -> Value {
    let (counts, reading) = (&it.counts, &it.reading);
    let checks = it.checks.iter().map(
        |check| json!({ "at_ms": since_1970(check.at), "ok": check.passed, "said": check.said }),
    );
    let ejections = EJECTION_CAUSES.iter().copied().zip(reading.ejections);
    json!({
        "backend": counts.address,
        "state": counts.state,
        "reason": it.reason,
        "operator": counts.said,
        "weight": counts.weight,
        "backup": it.backup,
        "open": counts.open,
        "idle": it.idle,
        "connections-max": it.connections_max,
        "connections": counts.connections,
        "failures": counts.failures,
        "requests": counts.requests,
        "responses": by_class(&reading.responses),
        "bytes_up": reading.bytes_up,
        "bytes_down": reading.bytes_down,
        "ejections": by_name(ejections.filter(|(_, count)| *count > 0)),
        "latency": {
            "connect": distribution(&reading.connect_times),
            "first_byte": distribution(&reading.first_byte_times),
            "total": distribution(&reading.total_times),
        },
        "health": checks.collect::<Vec<_>>(),
    })
}

fn certificates(listeners: &[ListenerState]) -> Vec<Value> {
    let all = listeners.iter().flat_map(|listener| {
        let shown = listener.certificates.iter().flat_map(|all| all.iter());
        shown.map(|certificate| {
            json!({
                "listener": listener.section,
                "names": certificate.names,
                "issuer": certificate.issuer,
                "not_after_at_ms": certificate.not_after.saturating_mul(1000),
                "stands_in": certificate.stands_in,
            })
        })
    });
    all.collect()
}

/// Limits that were hit.
fn limits(counts: &[u64; WAYS]) -> Map<String, Value> {
    let all = Why::ALL.iter().zip(*counts).filter(|(why, _)| why.side() == Side::Limit);
    by_name(all.map(|(why, count)| (why.as_str(), count)))
}

fn by_class(counts: &[u64; 6]) -> Map<String, Value> {
    by_name(CLASSES.iter().copied().zip(*counts))
}

/// Those that there were.
fn by_reason(counts: &[u64; WAYS]) -> Map<String, Value> {
    let all = Why::ALL.iter().zip(*counts).filter(|(_, count)| *count > 0);
    by_name(all.map(|(why, count)| (why.as_str(), count)))
}

fn by_name(counts: impl Iterator<Item = (&'static str, u64)>) -> Map<String, Value> {
    counts.map(|(name, count)| (name.to_owned(), count.into())).collect()
}

/// Its steps as pairs of an end and how many took that long at most.
fn distribution(times: &Distribution) -> Value {
    let mut below = 0;
    let ends = STEPS.iter().map(|end| json!(millis(*end))).chain([json!("inf")]);
    let buckets = ends.zip(times.steps).map(|(end, count)| {
        below += count;
        json!([end, below])
    });
    json!({
        "buckets": buckets.collect::<Vec<_>>(),
        "count": times.count(),
        "sum_ms": millis(times.sum),
        "p50_ms": times.quantile(0.5).map(millis),
        "p90_ms": times.quantile(0.9).map(millis),
        "p99_ms": times.quantile(0.99).map(millis),
    })
}

fn millis(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn whole_millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, whole_millis)
}
