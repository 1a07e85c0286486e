//! Spans of sampled HTTP requests, for a collector of OpenTelemetry. Whoever leaves one never waits: it goes into a bounded queue, and
//! what does not fit, or cannot be sent, is counted. This is the one door: without a collector nothing here is called.

mod context;
mod export;

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use evenkeel_wire::TraceParent;

use super::counts::Tally;
use super::ended::Why;
use crate::config::Collector;
pub(crate) use context::Context;
pub(crate) use export::Exporter;

/// Spans that may wait before some are lost.
const SPANS_WAITING: usize = 4096;

/// What was configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) to: Collector,
    /// The share of requests that leave a span, in percent.
    pub(crate) sample: u8,
}

/// Where spans are left.
#[derive(Debug, Clone)]
pub(crate) struct Tracer {
    spans: SyncSender<Span>,
    sample: u8,
    tally: Arc<Tally>,
}

/// One request, as it is told. Texts are cut to a length before they get here.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) began: SystemTime,
    pub(crate) total: Duration,
    /// From the beginning to the first byte of the answer.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) listener: Arc<str>,
    pub(crate) upstream: Option<Arc<str>>,
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) method: String,
    pub(crate) scheme: &'static str,
    pub(crate) host: String,
    /// Without its query, which may hold what is nobody's business.
    pub(crate) path: String,
    pub(crate) client: String,
    pub(crate) request_id: String,
    pub(crate) status: Option<u16>,
    pub(crate) why: Why,
    /// Backends tried.
    pub(crate) tried: u32,
}

impl Tracer {
    /// A tracer, and what sends its spans; that has no thread yet.
    pub(crate) fn open(settings: &Settings, tally: &Arc<Tally>) -> (Tracer, Exporter) {
        let (spans, queue) = sync_channel(SPANS_WAITING);
        let tracer = Tracer { spans, sample: settings.sample, tally: Arc::clone(tally) };
        (tracer, Exporter::new(settings.to.clone(), queue, tally))
    }

    /// What becomes of a request that came with this `traceparent`: the context of its span, if it is to have one. A proxy that is
    /// `trusted` has decided already, and its trace goes on; anybody else's is not ours.
    pub(crate) fn begin(&self, traceparent: Option<&[u8]>, trusted: bool) -> Option<Context> {
        match traceparent.filter(|_| trusted).and_then(TraceParent::read) {
            Some(parent) => parent.sampled.then(|| Context::below(parent)),
            None => context::is_drawn(self.sample).then(Context::root),
        }
    }

    /// Leaves a span; never waits.
    pub(crate) fn leave(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.tally.spans(0, 1);
        }
    }
}
