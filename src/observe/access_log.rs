//! The access log: one line per connection or request, written by a thread of its own.
//! A worker never waits for it: lines go through a bounded channel, and what does not fit is counted and said.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::counts::Tally;
use super::ended::{Ended, Why};
use super::line;
use super::log_file::{self, Owner};
use super::selection::Selection;
use crate::config::AccessFormat;

/// Lines that may wait for the disk before lines are lost.
const LINES_WAITING: usize = 8_192;

/// How long a line may sit in our buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(100);

/// Where the lines go and what they look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Settings {
    pub(crate) to: Destination,
    pub(crate) format: AccessFormat,
    pub(crate) selection: Selection,
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
    selection: Arc<Selection>,
    headers: Arc<[String]>,
    tally: Arc<Tally>,
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
            lost: Arc::default(),
            reopen: Arc::default(),
            selection: Arc::new(settings.selection.clone()),
            headers: settings.format.headers().into(),
            tally: Arc::clone(tally),
        };
        let Some(sink) = open_sink(&settings.to, owner)? else {
            return Ok((log, None));
        };
        let (lines, queue) = sync_channel(LINES_WAITING);
        let writer = Writer {
            queue,
            sink,
            to: settings.to.clone(),
            format: settings.format.clone(),
            lost: Arc::clone(&log.lost),
            reopen: Arc::clone(&log.reopen),
            tally: Arc::clone(tally),
            text: String::new(),
            complained: false,
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
        if let Some(lines) = &self.lines
            && lines.try_send(record).is_err()
        {
            self.lost.fetch_add(1, Relaxed);
            self.tally.lines_lost(1);
        }
    }

    /// Asks for the file to be opened anew, after it was moved away (signal USR1).
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }
}

fn open_sink(to: &Destination, owner: Option<Owner>) -> io::Result<Option<Box<dyn Write + Send>>> {
    Ok(match to {
        Destination::Off => None,
        Destination::Stdout => Some(Box::new(io::stdout())),
        Destination::Stderr => Some(Box::new(io::stderr())),
        Destination::File(path) => {
            let file = log_file::open(path, owner).map_err(|error| {
                io::Error::new(error.kind(), format!("open access log {}: {error}", path.display()))
            })?;
            Some(Box::new(file))
        }
    })
}

/// What writes the lines. It has no thread yet: that is started when the process has the rights that it keeps.
pub(crate) struct Writer {
    queue: Receiver<Ended>,
    sink: Box<dyn Write + Send>,
    to: Destination,
    format: AccessFormat,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    tally: Arc<Tally>,
    text: String,
    complained: bool,
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
        line::write(&mut self.text, &self.format, record);
        self.text.push('\n');
    }

    fn flush(&mut self) {
        if self.reopen.swap(false, Relaxed) {
            match open_sink(&self.to, None) {
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
        if written.is_err() {
            // Some of it may have got there; nobody can say how much.
            self.tally.lines_lost(self.text.matches('\n').count() as u64);
        }
        let failed_before = std::mem::replace(&mut self.complained, written.is_err());
        if let Err(error) = written
            && !failed_before
        {
            tracing::error!("write access log: {error}; lines are being lost");
        }
        self.text.clear();
    }
}
