//! The access log: one line per connection, text or JSON, written by a thread of its own.
//! A worker never waits for it: lines go through a bounded channel, and what does not fit is counted and said.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clock::write_time;
use super::ended::{Ended, RequestLine};

/// Lines that may wait for the disk before lines are lost.
const LINES_WAITING: usize = 8_192;

/// How long a line may sit in our buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Where the lines go and what they look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) to: Destination,
    pub(crate) json: bool,
}

/// Where access lines go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Destination {
    Stdout,
    Stderr,
    Off,
    File(PathBuf),
}

/// The workers' end of the access log.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    lines: Option<SyncSender<Ended>>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
}

impl AccessLog {
    /// Opens the destination and starts the writing thread, which ends when the last `AccessLog` is dropped.
    pub(crate) fn open(settings: &Settings) -> io::Result<(AccessLog, Option<JoinHandle<()>>)> {
        let lost = Arc::new(AtomicU64::new(0));
        let reopen = Arc::new(AtomicBool::new(false));
        let Some(sink) = open_sink(&settings.to)? else {
            return Ok((AccessLog { lines: None, lost, reopen }, None));
        };
        let (lines, queue) = sync_channel(LINES_WAITING);
        let writer = Writer {
            sink,
            to: settings.to.clone(),
            json: settings.json,
            lost: Arc::clone(&lost),
            reopen: Arc::clone(&reopen),
            text: String::new(),
            complained: false,
        };
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run(&queue))?;
        Ok((AccessLog { lines: Some(lines), lost, reopen }, Some(thread)))
    }

    /// Whether anybody reads what is written.
    pub(crate) fn is_on(&self) -> bool {
        self.lines.is_some()
    }

    /// Hands a record over; never waits.
    pub(crate) fn write(&self, record: Ended) {
        if let Some(lines) = &self.lines
            && lines.try_send(record).is_err()
        {
            self.lost.fetch_add(1, Relaxed);
        }
    }

    /// Asks for the file to be opened anew, after it was moved away (signal USR1).
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }
}

fn open_sink(to: &Destination) -> io::Result<Option<Box<dyn Write + Send>>> {
    Ok(match to {
        Destination::Off => None,
        Destination::Stdout => Some(Box::new(io::stdout())),
        Destination::Stderr => Some(Box::new(io::stderr())),
        Destination::File(path) => {
            let file: File =
                OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("open access log {}: {error}", path.display()),
                    )
                })?;
            Some(Box::new(file))
        }
    })
}

struct Writer {
    sink: Box<dyn Write + Send>,
    to: Destination,
    json: bool,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    text: String,
    complained: bool,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Ended>) {
        let mut flushed = Instant::now();
        loop {
            let outcome = queue.recv_timeout(FLUSH_AFTER.saturating_sub(flushed.elapsed()));
            match outcome {
                Ok(record) => self.add(&record),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.text.len() >= 65_536 || flushed.elapsed() >= FLUSH_AFTER {
                self.flush();
                flushed = Instant::now();
            }
        }
        self.flush();
    }

    fn add(&mut self, record: &Ended) {
        if self.json {
            write_json(&mut self.text, record);
        } else {
            write_text(&mut self.text, record);
        }
        self.text.push('\n');
    }

    fn flush(&mut self) {
        if self.reopen.swap(false, Relaxed) {
            match open_sink(&self.to) {
                Ok(Some(sink)) => self.sink = sink,
                Ok(None) => {}
                Err(error) => tracing::error!("{error}; going on with the old file"),
            }
        }
        let lost = self.lost.swap(0, Relaxed);
        if lost > 0 {
            tracing::warn!(lost, "access lines were lost: the log cannot be written fast enough");
        }
        if self.text.is_empty() {
            return;
        }
        let written = self.sink.write_all(self.text.as_bytes()).and_then(|()| self.sink.flush());
        let failed_before = std::mem::replace(&mut self.complained, written.is_err());
        if let Err(error) = written
            && !failed_before
        {
            tracing::error!("write access log: {error}; lines are being lost");
        }
        self.text.clear();
    }
}

fn write_text(line: &mut String, record: &Ended) {
    let Ended { client, listener, upstream, why, bytes_up, bytes_down, tried, .. } = record;
    write_time(line, record.at);
    let backend = record.backend.as_deref().unwrap_or("-");
    let _ = write!(
        line,
        " {client} {listener} {upstream} {backend} {} {} up={bytes_up} down={bytes_down} queue=",
        why.as_str(),
        why.side().as_str()
    );
    write_millis(line, record.phases.queue);
    line.push_str(" connect=");
    write_millis(line, record.phases.connect);
    line.push_str(" first=");
    write_millis(line, record.phases.first_byte);
    line.push_str(" total=");
    write_millis(line, Some(record.phases.total));
    let _ = write!(line, " tried={tried}");
    if let Some(request) = &record.request {
        write_request(line, request);
    }
    if let Some(detail) = &record.detail {
        let _ = write!(line, " detail={detail:?}");
    }
}

/// What a client wrote is quoted, with its control characters and quotes escaped: one request is one line.
fn write_request(line: &mut String, request: &RequestLine) {
    match request.status {
        Some(status) => {
            let _ = write!(line, " status={status}");
        }
        None => line.push_str(" status=-"),
    }
    let RequestLine { id, method, host, target, version, user_agent, referer, .. } = request;
    let _ =
        write!(line, " id={id} host={host:?} request={:?}", format!("{method} {target} {version}"));
    for (name, value) in [("agent", user_agent), ("referer", referer)] {
        if let Some(value) = value {
            let _ = write!(line, " {name}={value:?}");
        }
    }
}

fn write_json(line: &mut String, record: &Ended) {
    let mut time = String::new();
    write_time(&mut time, record.at);
    let millis = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1000.0);
    let mut value = serde_json::json!({
        "time": time,
        "client": record.client.to_string(),
        "listener": &*record.listener,
        "upstream": &*record.upstream,
        "backend": record.backend.as_deref(),
        "why": record.why.as_str(),
        "side": record.why.side().as_str(),
        "bytes_up": record.bytes_up,
        "bytes_down": record.bytes_down,
        "queue_ms": millis(record.phases.queue),
        "connect_ms": millis(record.phases.connect),
        "first_byte_ms": millis(record.phases.first_byte),
        "total_ms": millis(Some(record.phases.total)),
        "tried": record.tried,
        "detail": record.detail,
    });
    if let (Some(request), Some(object)) = (&record.request, value.as_object_mut()) {
        let request = serde_json::json!({
            "id": request.id,
            "method": request.method,
            "host": request.host,
            "target": request.target,
            "protocol": request.version,
            "status": request.status,
            "user_agent": request.user_agent,
            "referer": request.referer,
        });
        object.extend(request.as_object().cloned().into_iter().flatten());
    }
    let _ = write!(line, "{value}");
}

fn write_millis(line: &mut String, time: Option<Duration>) {
    match time {
        Some(time) => {
            let micros = time.as_micros();
            let _ = write!(line, "{}.{:03}ms", micros / 1000, micros % 1000);
        }
        None => line.push('-'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    use crate::observe::ended::{ClientAddress, Phases, Why};

    fn record() -> Ended {
        Ended {
            at: UNIX_EPOCH + Duration::from_millis(1_709_210_096_789),
            client: ClientAddress::Ip("192.0.2.7:4242".parse().unwrap()),
            listener: "public".into(),
            upstream: "app".into(),
            backend: Some("10.0.0.1:80".into()),
            why: Why::ConnectRefused,
            detail: Some("two\nlines \u{1b}[31m".into()),
            bytes_up: 3,
            bytes_down: 4,
            phases: Phases { total: Duration::from_micros(1_500), ..Phases::default() },
            tried: 2,
            request: None,
        }
    }

    #[test]
    fn a_text_line_says_who_where_why_and_how_much() {
        let mut line = String::new();
        write_text(&mut line, &record());
        assert_eq!(
            line,
            "2024-02-29T12:34:56.789Z 192.0.2.7:4242 public app 10.0.0.1:80 connect-refused backend \
             up=3 down=4 queue=- connect=- first=- total=1.500ms tried=2 detail=\"two\\nlines \\u{1b}[31m\""
        );
    }

    #[test]
    fn a_line_is_one_line_whatever_the_detail_holds() {
        let mut line = String::new();
        write_json(&mut line, &record());
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["why"], "connect-refused");
        assert_eq!(value["total_ms"], 1.5);
    }
}
