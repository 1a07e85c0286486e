//! Sends spans to a collector, as OTLP over HTTP in JSON, on a thread of its own: many at a time, and each once. A collector that is
//! away or slow costs spans, which are counted, and nothing else.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Span;
use crate::config::Collector;
use crate::observe::counts::Tally;

/// Spans that are sent at a time.
const BATCH: usize = 512;

/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// How long connecting, each write and the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// As much of an answer is read: its status is in the first line.
const ANSWER_MAX: u64 = 1024;

/// What sends spans.
#[derive(Debug)]
pub(crate) struct Exporter {
    to: Collector,
    queue: Receiver<Span>,
    tally: Arc<Tally>,
    has_complained: bool,
}

impl Exporter {
    pub(super) fn new(to: Collector, queue: Receiver<Span>, tally: &Arc<Tally>) -> Exporter {
        Exporter { to, queue, tally: Arc::clone(tally), has_complained: false }
    }

    /// Starts the sending thread, which ends when the last tracer is dropped.
    pub(crate) fn begin(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("traces".into()).spawn(move || self.run())
    }

    fn run(mut self) {
        while let Ok(first) = self.queue.recv() {
            let (mut spans, until) = (vec![first], Instant::now() + GATHER);
            while spans.len() < BATCH {
                match self.queue.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(span) => spans.push(span),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
                }
            }
            self.send(&spans);
        }
    }

    fn send(&mut self, spans: &[Span]) {
        let count = spans.len() as u64;
        match self.post(message(spans).to_string().as_bytes()) {
            Ok(()) => {
                self.tally.spans(count, 0);
                if std::mem::take(&mut self.has_complained) {
                    tracing::info!("traces: {} takes spans again", self.to);
                }
            }
            Err(error) => {
                self.tally.spans(0, count);
                if !std::mem::replace(&mut self.has_complained, true) {
                    tracing::warn!("traces: {}: {error}; spans are being lost", self.to);
                }
            }
        }
    }

    fn post(&self, body: &[u8]) -> io::Result<()> {
        let mut stream = self.connect()?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Collector { authority, path } = &self.to;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat())?;
        let mut answer = Vec::new();
        let read = stream.take(ANSWER_MAX).read_to_end(&mut answer);
        let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok());
        match status.and_then(|status| status.parse::<u16>().ok()) {
            Some(200..=299) => Ok(()),
            Some(status) => Err(io::Error::other(format!("answered with {status}"))),
            None => Err(read.err().unwrap_or_else(|| io::Error::other("gave no answer"))),
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::other("its name has no address");
        for address in self.to.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The message of these spans (OTLP 1.5, JSON: numbers of 64 bits are texts, ids are hexadecimal).
fn message(spans: &[Span]) -> Value {
    let resource = [text("service.name", "evenkeel"), text("service.version", VERSION)];
    json!({
        "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{
                "scope": { "name": "evenkeel", "version": VERSION },
                "spans": spans.iter().map(told).collect::<Vec<_>>(),
            }],
        }],
    })
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Names of attributes are those of OpenTelemetry's conventions for HTTP servers, and `evenkeel.` for what they do not know.
fn told(span: &Span) -> Value {
    let ended = span.began + span.total;
    let mut attributes = vec![
        text("http.request.method", &span.method),
        text("url.scheme", span.scheme),
        text("url.path", &span.path),
        text("server.address", &span.host),
        text("client.address", &span.client),
        text("evenkeel.listener", &span.listener),
        text("evenkeel.request.id", &span.request_id),
        text("evenkeel.reason", span.why.as_str()),
        number("evenkeel.tried", span.tried.into()),
    ];
    attributes.extend(span.upstream.as_deref().map(|name| text("evenkeel.upstream", name)));
    attributes.extend(span.backend.as_deref().map(|name| text("evenkeel.backend", name)));
    let status = span.status.map(|status| number("http.response.status_code", status.into()));
    attributes.extend(status);
    let first_byte = span
        .first_byte
        .map(|after| json!({ "name": "first byte", "timeUnixNano": nanos(span.began + after) }));
    let has_failed = span.status.is_none_or(|status| status >= 500);
    json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "parentSpanId": span.context.parent.map_or(String::new(), |it| format!("{it:016x}")),
        "name": format!("{} {}", span.method, span.listener),
        // That of a server.
        "kind": 2,
        "startTimeUnixNano": nanos(span.began),
        "endTimeUnixNano": nanos(ended),
        "attributes": attributes,
        "events": first_byte.into_iter().collect::<Vec<_>>(),
        "status": if has_failed { json!({ "code": 2 }) } else { json!({}) },
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn number(key: &str, value: u64) -> Value {
    json!({ "key": key, "value": { "intValue": value.to_string() } })
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
