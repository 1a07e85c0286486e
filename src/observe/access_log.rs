//! The access log: one line per connection or request, written by a thread of its own.
//! A worker never waits for it: lines go through a bounded channel, and what does not fit is counted and said.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::counts::Tally;
use super::ended::{Ended, Why};
use super::line::{self, Fields};
use super::log_file::Owner;
use super::selection::Selection;
use super::target::{Entry, Loss, Severity, Target, To};
use crate::config::AccessFormat;
use crate::config::secrets::{self, HIDDEN};

/// Lines that may wait for their target before lines are lost.
const LINES_WAITING: usize = 8_192;

/// And how much of what clients sent may wait with them.
const BYTES_WAITING: usize = 16 * 1024 * 1024;

/// How long a line may sit in our buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// How much may sit there: half of the smallest file.
const FLUSH_AT: usize = 32 * 1024;

/// How often it is told that lines are being lost while others are written.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Where the lines go and what they look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    /// Nowhere, if there is none.
    pub(crate) to: Option<To>,
    pub(crate) format: AccessFormat,
    pub(crate) selection: Selection,
    /// Parameters of a query whose values are not shown.
    pub(crate) hide_query: Vec<String>,
}

/// The workers' end of the access log.
#[derive(Debug, Clone)]
pub(crate) struct AccessLog {
    lines: Option<SyncSender<Ended>>,
    load: Arc<Load>,
    reopen: Arc<AtomicBool>,
    selection: Arc<Selection>,
    headers: Arc<[String]>,
    tally: Arc<Tally>,
}

/// What waits, and what did not find room.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    /// Not told yet.
    lost: AtomicU64,
}

impl AccessLog {
    /// Opens the destination; a file that is made belongs to `owner`. Lines wait until the writer begins.
    pub(crate) fn open(
        settings: &Settings,
        tally: &Arc<Tally>,
        owner: Option<Owner>,
    ) -> io::Result<(AccessLog, Option<Writer>)> {
        let mut log = AccessLog {
            lines: None,
            load: Arc::default(),
            reopen: Arc::default(),
            selection: Arc::new(settings.selection.clone()),
            headers: settings.format.headers().into(),
            tally: Arc::clone(tally),
        };
        let Some(to) = settings.to.clone() else { return Ok((log, None)) };
        let target = Target::open(&to, owner).map_err(|error| {
            io::Error::new(error.kind(), format!("open access log {}: {error}", to.words()))
        })?;
        let (lines, queue) = sync_channel(LINES_WAITING);
        let writer = Writer {
            queue,
            target,
            to,
            format: settings.format.clone(),
            hide_query: settings.hide_query.clone(),
            load: Arc::clone(&log.load),
            tally: Arc::clone(tally),
            reopen: Arc::clone(&log.reopen),
            text: String::new(),
            is_failing: false,
            told: None,
        };
        log.lines = Some(lines);
        Ok((log, Some(writer)))
    }

    /// Whether an end like this has a line. It is asked once for each, since whoever is left out is counted.
    pub(crate) fn takes(&self, why: Why, status: Option<u16>, target: Option<&[u8]>) -> bool {
        if self.lines.is_none() {
            return false;
        }
        let takes = self.selection.takes(why, status, target);
        if !takes {
            self.tally.left_out();
        }
        takes
    }

    /// The headers of a request that its record has to hold, in lower case.
    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Hands a record over that was found to have a line; never waits.
    pub(crate) fn write(&self, record: Ended) {
        let Some(lines) = &self.lines else { return };
        let size = record.size();
        let has_room = self.load.bytes.fetch_add(size, Relaxed) + size <= BYTES_WAITING;
        if !has_room || lines.try_send(record).is_err() {
            self.load.bytes.fetch_sub(size, Relaxed);
            self.load.lost.fetch_add(1, Relaxed);
            self.tally.lines_lost(1);
        }
    }

    /// Asks for the file to be opened anew, after it was moved away (signal USR1).
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }
}

/// What writes the lines. It has no thread yet: that is started when the process has the rights that it keeps.
pub(crate) struct Writer {
    queue: Receiver<Ended>,
    target: Target,
    to: To,
    format: AccessFormat,
    hide_query: Vec<String>,
    load: Arc<Load>,
    tally: Arc<Tally>,
    reopen: Arc<AtomicBool>,
    text: String,
    is_failing: bool,
    /// When losses were told last.
    told: Option<Instant>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("to", &self.to).finish_non_exhaustive()
    }
}

impl Writer {
    /// Starts the writing thread, which ends when the last `AccessLog` is dropped.
    pub(crate) fn begin(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("access-log".into()).spawn(move || self.run())
    }

    fn run(mut self) {
        let mut flushed = Instant::now();
        loop {
            let outcome = self.queue.recv_timeout(FLUSH_AFTER.saturating_sub(flushed.elapsed()));
            match outcome {
                Ok(record) => self.add(record),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.target.waiting() >= FLUSH_AT || flushed.elapsed() >= FLUSH_AFTER {
                self.flush();
                flushed = Instant::now();
            }
        }
        self.flush();
        self.told = None;
        self.tell_losses();
    }

    fn add(&mut self, mut record: Ended) {
        self.load.bytes.fetch_sub(record.size(), Relaxed);
        hide_secrets(&mut record, &self.hide_query);
        self.text.clear();
        line::write(&mut self.text, &self.format, &record);
        let fields = match self.to {
            To::Journald(..) => Fields::of(&record),
            _ => Fields::default(),
        };
        self.target.add(&Entry {
            severity: severity(&record),
            at: record.at + record.phases.total,
            kind: "access",
            text: &self.text,
            fields: &fields.pairs(),
        });
    }

    fn flush(&mut self) {
        if self.reopen.swap(false, Relaxed)
            && let Err(error) = self.target.reopen()
        {
            let to = self.to.words();
            tracing::error!("open access log {to}: {error}; going on with the old file");
        }
        if let Err(said) = self.target.make_room() {
            tracing::error!("{said}");
        }
        if self.target.waiting() > 0 {
            match self.target.flush() {
                Ok(()) => self.is_failing = false,
                Err(Loss { lines, cause }) => {
                    self.load.lost.fetch_add(lines, Relaxed);
                    self.tally.lines_lost(lines);
                    if !std::mem::replace(&mut self.is_failing, true) {
                        let to = self.to.words();
                        tracing::error!("write access log to {to}: {cause}; lines are being lost");
                    }
                }
            }
        }
        self.tell_losses();
    }

    /// Once lines are written again, and now and then while only some are.
    fn tell_losses(&mut self) {
        if self.is_failing || self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        let lost = self.load.lost.swap(0, Relaxed);
        if lost > 0 {
            self.told = Some(Instant::now());
            let to = self.to.words();
            tracing::warn!(lost, "access lines were lost: {to} did not take them fast enough");
        }
    }
}

/// What a record is to a syslog.
fn severity(record: &Ended) -> Severity {
    use super::ended::Side;
    let is_error = record.request.as_ref().is_some_and(|it| it.status.is_some_and(|s| s >= 500));
    let is_meant = matches!(
        record.why,
        Why::ClientFinished | Why::BackendFinished | Why::Answered | Why::Replied
    );
    match record.why.side() {
        Side::Us if !is_meant => Severity::Error,
        Side::Backend | Side::Limit | Side::Timeout if !is_meant => Severity::Warning,
        _ if is_error => Severity::Warning,
        _ => Severity::Info,
    }
}

/// Takes out of a record what would let its reader in.
fn hide_secrets(record: &mut Ended, parameters: &[String]) {
    let Some(request) = &mut record.request else { return };
    let target = Some(&mut request.target);
    for url in target.into_iter().chain(&mut request.referer) {
        if let Some(plain) = secrets::without_secrets(url, parameters) {
            *url = plain;
        }
    }
    for (name, value) in &mut request.headers {
        if secrets::is_secret_header(name) && !value.is_empty() {
            HIDDEN.clone_into(value);
        } else if let Some(plain) = secrets::without_secrets(value, parameters) {
            *value = plain;
        }
    }
}
