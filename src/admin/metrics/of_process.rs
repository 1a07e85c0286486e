//! Metrics of the process as a whole, and of its workers.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Metric, metric};
use crate::observe::exposition::Kind::{Counter, Gauge, Histogram};

/// In the order of the docs.
pub(super) const METRICS: &[Metric] = &[
    metric(Gauge, "evenkeel_build_info", "Always 1; the version is its label.", |_, out| {
        out.add(&[("version", env!("CARGO_PKG_VERSION"))], 1_u64);
    }),
    metric(
        Gauge,
        "evenkeel_start_time_seconds",
        "When this process began to serve, in seconds since 1970.",
        |reading, out| out.add(&[], seconds(reading.process.began)),
    ),
    metric(
        Gauge,
        "evenkeel_draining",
        "1 while the process is on its way out, else 0.",
        |reading, out| out.add(&[], reading.process.is_draining),
    ),
    metric(
        Counter,
        "evenkeel_connections_handed_over_total",
        "Connections that went on in the next process, by an upgrade.",
        |reading, out| out.add(&[], reading.process.counts.handed_over),
    ),
    metric(
        Counter,
        "evenkeel_connections_taken_over_total",
        "Connections that began in the process before, and went on here.",
        |reading, out| out.add(&[], reading.process.counts.taken_over),
    ),
    metric(
        Counter,
        "evenkeel_reloads_total",
        "Reloads of the config by their result: done or refused.",
        |reading, out| {
            let events = &reading.process.events;
            out.add(&[("result", "done")], events.reloads);
            out.add(&[("result", "refused")], events.reloads_refused);
        },
    ),
    metric(
        Gauge,
        "evenkeel_last_reload_timestamp_seconds",
        "When the config was reloaded last, in seconds since 1970; 0 if it was not.",
        |reading, out| {
            out.add(&[], reading.process.events.reloaded_at.unwrap_or(0) as f64 / 1000.0);
        },
    ),
    metric(
        Counter,
        "evenkeel_upgrades_total",
        "Upgrades by their result: done, of which this process is the new one, or failed.",
        |reading, out| {
            let events = &reading.process.events;
            out.add(&[("result", "done")], events.upgrades);
            out.add(&[("result", "failed")], events.upgrades_failed);
        },
    ),
    metric(
        Counter,
        "evenkeel_panics_total",
        "Connections ended by a fault in Evenkeel; the log has the place.",
        |reading, out| out.add(&[], reading.process.counts.panics()),
    ),
    metric(
        Counter,
        "evenkeel_stalls_total",
        "Times that a worker made no progress for a second; the log says what it was doing.",
        |reading, out| out.add(&[], reading.process.counts.stalls),
    ),
    metric(
        Counter,
        "evenkeel_log_lines_lost_total",
        "Lines that could not be written, by log: access or diagnostics.",
        |reading, out| {
            out.add(&[("log", "access")], reading.process.events.lines_lost);
            out.add(&[("log", "diagnostics")], reading.process.lines_lost);
        },
    ),
    metric(
        Counter,
        "evenkeel_access_lines_left_out_total",
        "Access lines not written because of access-sample and access-skip.",
        |reading, out| out.add(&[], reading.process.counts.access_lines_left_out),
    ),
    metric(
        Counter,
        "evenkeel_trace_spans_total",
        "Spans of requests by what became of them: sent to the collector, or lost.",
        |reading, out| {
            let events = &reading.process.events;
            out.add(&[("result", "sent")], events.spans_sent);
            out.add(&[("result", "lost")], events.spans_lost);
        },
    ),
    metric(
        Gauge,
        "evenkeel_memory_used_bytes",
        "Memory in use, as it is held against the budget.",
        |reading, out| out.add(&[], reading.process.memory.used),
    ),
    metric(
        Gauge,
        "evenkeel_memory_budget_bytes",
        "The budget of memory: memory-max, or a share of what the control group allows; no sample if there is none.",
        |reading, out| {
            reading.process.memory.budget.into_iter().for_each(|budget| out.add(&[], budget));
        },
    ),
    metric(
        Gauge,
        "evenkeel_memory_bytes",
        "Memory by owner: heap with stacks, shared, program, and kernel-buffers of sockets where the control group is ours alone.",
        |reading, out| {
            for (owner, bytes) in &reading.process.memory.by {
                out.add(&[("owner", owner)], *bytes);
            }
        },
    ),
    metric(
        Gauge,
        "evenkeel_descriptors_open",
        "Descriptors that the process has open.",
        |reading, out| out.add(&[], reading.process.descriptors_open),
    ),
    metric(
        Gauge,
        "evenkeel_descriptors_max",
        "Descriptors that it may have open; no sample if there is no limit.",
        |reading, out| {
            reading.process.descriptors_max.into_iter().for_each(|max| out.add(&[], max));
        },
    ),
    metric(
        Gauge,
        "evenkeel_worker_connections_open",
        "Connections that a worker carries.",
        |reading, out| {
            for (number, worker) in reading.process.workers.iter().enumerate() {
                out.add(&[("worker", &number.to_string())], worker.open);
            }
        },
    ),
    metric(
        Counter,
        "evenkeel_worker_busy_seconds_total",
        "Time in which a worker was not waiting; its rate is the share of the time in which it is busy.",
        |reading, out| {
            for (number, worker) in reading.process.workers.iter().enumerate() {
                out.add(&[("worker", &number.to_string())], worker.busy.as_secs_f64());
            }
        },
    ),
    metric(
        Histogram,
        "evenkeel_worker_delay_seconds",
        "How long what a worker is to do has waited for its turn, asked twice a second.",
        |reading, out| {
            for (number, worker) in reading.process.workers.iter().enumerate() {
                out.add_times(&[("worker", &number.to_string())], &worker.delays);
            }
        },
    ),
];

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
