//! Diagnostics: what the process says about itself, by `tracing`, on standard error or in a file. Access lines never go this way.
//! Whoever says something never waits for it to be written: lines go through a bounded queue to a thread of their own, and what
//! does not fit is counted and said. That thread begins late, so that it has the rights that the process keeps.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::clock;
use super::log_file::{self, Owner};

/// The environment variable that overrides `[log] level`, in the syntax of tracing's `EnvFilter`.
pub(crate) const LEVEL_VARIABLE: &str = "EVENKEEL_LOG";

/// Lines that may wait to be written before lines are lost.
const LINES_WAITING: usize = 4_096;

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Lines that this process has lost so far.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines of diagnostics could not be written so far.
pub(crate) fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// How diagnostics are written, and where.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) level: String,
    pub(crate) json: bool,
    /// Standard error if there is none.
    pub(crate) file: Option<PathBuf>,
    /// Whose the file is if it is made.
    pub(crate) owner: Option<Owner>,
}

/// The diagnostics of this process. Dropping it waits for what was said to be written, for a moment.
#[derive(Debug)]
pub(crate) struct Diagnostics {
    sink: Sink,
    /// Until its thread begins.
    writer: Option<Writer>,
}

impl Diagnostics {
    /// Takes diagnostics from now on; they are written from [`Diagnostics::begin`] on, or when this is dropped before.
    /// Where the embedding program has set up its own, those stay.
    pub(crate) fn take(settings: Settings) -> io::Result<Diagnostics> {
        let target = match &settings.file {
            None => Target::Stderr,
            Some(path) => Target::File(open(path, settings.owner)?),
        };
        let (queue, waiting) = sync_channel(LINES_WAITING);
        let sink = Sink { queue, lost: Arc::default(), reopen: Arc::default() };
        let (lost, reopen) = (Arc::clone(&sink.lost), Arc::clone(&sink.reopen));
        let to_file = settings.file.is_some();
        let (path, json) = (settings.file, settings.json);
        let writer = Writer { target, path, json, waiting, lost, reopen };
        subscribe(&settings.level, json, to_file, sink.clone());
        Ok(Diagnostics { sink, writer: Some(writer) })
    }

    /// Starts to write, on a thread that this one starts.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let thread = std::thread::Builder::new().name("diagnostics".into());
        thread.spawn(move || writer.run()).map(drop)
    }

    /// Opens the file anew, after it was moved away (signal USR1).
    pub(crate) fn reopen(&self) {
        self.sink.reopen.store(true, Relaxed);
        // If the queue is full, the writer is awake.
        let _ = self.sink.queue.try_send(Message::Wake);
    }
}

impl Diagnostics {
    /// Waits until what was said has been written, but not for long.
    pub(crate) fn settle(&mut self) {
        match &mut self.writer {
            Some(writer) => {
                while let Ok(message) = writer.waiting.try_recv() {
                    writer.take(message);
                }
            }
            None => {
                let (done, wait) = sync_channel(1);
                if self.sink.queue.try_send(Message::Tell(done)).is_ok() {
                    let _ = wait.recv_timeout(LAST_LINES);
                }
            }
        }
    }
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        self.settle();
    }
}

fn subscribe(level: &str, json: bool, to_file: bool, sink: Sink) {
    let wished = std::env::var(LEVEL_VARIABLE).ok().filter(|wish| !wish.is_empty());
    let wished = wished.map(EnvFilter::try_new).transpose();
    let (filter, complaint) = match wished {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("evenkeel={level}")));
    let wants_color = std::env::var_os("NO_COLOR").is_none();
    let in_color = !to_file && wants_color && io::stderr().is_terminal();
    let layer = tracing_subscriber::fmt().with_env_filter(filter).with_writer(sink);
    let _ = if json {
        layer.json().try_init()
    } else {
        layer.with_target(false).with_ansi(in_color).try_init()
    };
    if let Some(error) = complaint {
        tracing::warn!("{LEVEL_VARIABLE} is ignored: {error}; write a level, as `debug`");
    }
}

fn open(path: &Path, owner: Option<Owner>) -> io::Result<std::fs::File> {
    log_file::open(path, owner).map_err(|error| {
        io::Error::new(error.kind(), format!("open log file {}: {error}", path.display()))
    })
}

/// What the writer is sent.
#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Look whether there is something else to do.
    Wake,
    /// Say when everything before has been written.
    Tell(SyncSender<()>),
}

/// The end of the queue that lines are put into.
#[derive(Debug, Clone)]
struct Sink {
    queue: SyncSender<Message>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = &'a Sink;

    fn make_writer(&'a self) -> &'a Sink {
        self
    }
}

/// Each call has a whole line.
impl Write for &Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
            LOST.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
enum Target {
    Stderr,
    File(std::fs::File),
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Target::Stderr => io::stderr().write_all(bytes),
            Target::File(file) => file.write_all(bytes),
        }
    }
}

#[derive(Debug)]
struct Writer {
    target: Target,
    path: Option<PathBuf>,
    json: bool,
    waiting: Receiver<Message>,
    lost: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.waiting.recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        if self.reopen.swap(false, Relaxed)
            && let Some(path) = &self.path
        {
            // Whoever could give a file away has become somebody else by now.
            match open(path, None) {
                Ok(file) => self.target = Target::File(file),
                Err(error) => drop(self.say(&format!("{error}; going on with the old file"))),
            }
        }
        let lost = self.lost.swap(0, Relaxed);
        if lost > 0 {
            let text = format!("{lost} lines of diagnostics were lost: they could not be written");
            // Then the next one that can be written says it.
            if self.say(&text).is_err() {
                self.lost.fetch_add(lost, Relaxed);
            }
        }
        match message {
            Message::Line(line) => {
                if self.target.write(&line).is_err() {
                    self.lost.fetch_add(1, Relaxed);
                    LOST.fetch_add(1, Relaxed);
                }
            }
            Message::Wake => {}
            Message::Tell(done) => drop(done.try_send(())),
        }
    }

    /// Says something of its own; it cannot go through the queue that it empties.
    fn say(&mut self, text: &str) -> io::Result<()> {
        let mut now = String::new();
        clock::write_time(&mut now, SystemTime::now());
        let line = match self.json {
            true => serde_json::json!({
                "timestamp": now, "level": "ERROR", "fields": { "message": text }, "target": "evenkeel"
            })
            .to_string(),
            false => format!("{now} ERROR {text}"),
        };
        self.target.write(format!("{line}\n").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer of its own, which takes from a queue for a few lines.
    fn writer(target: &Path, path: &Path, lines: usize) -> (Sink, Writer) {
        let (queue, waiting) = sync_channel(lines);
        let sink = Sink { queue, lost: Arc::default(), reopen: Arc::default() };
        let (lost, reopen) = (Arc::clone(&sink.lost), Arc::clone(&sink.reopen));
        let (target, path) = (Target::File(open(target, None).unwrap()), Some(path.to_owned()));
        (sink, Writer { target, path, json: false, waiting, lost, reopen })
    }

    impl Writer {
        fn take_all(&mut self) {
            while let Ok(message) = self.waiting.try_recv() {
                self.take(message);
            }
        }
    }

    fn say(mut sink: &Sink, lines: usize) {
        for number in 0..lines {
            sink.write_all(format!("line {number}\n").as_bytes()).unwrap();
        }
    }

    #[test]
    fn whoever_speaks_never_waits_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
        let (sink, mut writer) = writer(&path, &path, 2);
        // Nobody takes them, so that only two find room.
        say(&sink, 5);
        std::fs::rename(&path, &moved).unwrap();
        sink.reopen.store(true, Relaxed);
        writer.take_all();
        let written = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = written.lines().collect();
        assert!(lines[0].contains(" ERROR 3 lines of diagnostics were lost"), "{written}");
        assert_eq!(lines[1..], ["line 0", "line 1"]);
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "");
    }

    #[test]
    fn what_a_full_disk_has_not_taken_is_told_once_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (sink, mut writer) = writer(Path::new("/dev/full"), &path, 8);
        writer.json = true;
        say(&sink, 3);
        writer.take_all();
        sink.reopen.store(true, Relaxed);
        say(&sink, 1);
        writer.take_all();
        let written = std::fs::read_to_string(&path).unwrap();
        let (told, line) = written.split_once('\n').unwrap();
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        let words = told["fields"]["message"].as_str().unwrap();
        assert!(words.starts_with("3 lines of diagnostics were lost"), "{written}");
        assert_eq!(line, "line 0\n");
    }
}
