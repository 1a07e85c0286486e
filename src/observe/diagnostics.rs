//! Diagnostics: what the process says about itself, by `tracing`, wherever its config wants it. Access lines never go this way.
//! Whoever says something never waits for it to be written: lines go through a bounded queue to a thread of their own, and what
//! does not fit is counted and said. That thread begins late, so that it has the rights that the process keeps.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::log_file::Owner;
use super::recent::Remember;
use super::target::{Entry, Loss, Severity, Target, To, at_most};
use super::{clock, escape};

/// The environment variable that overrides `[log] level`, in the syntax of tracing's `EnvFilter`.
pub(crate) const LEVEL_VARIABLE: &str = "EVENKEEL_LOG";

/// Lines that may wait to be written before lines are lost.
const LINES_WAITING: usize = 4_096;

/// And how many bytes they may have.
const BYTES_WAITING: usize = 8 * 1024 * 1024;

/// The longest line; a backtrace has less.
const LINE_MAX: usize = 64 * 1024;

/// How long the last lines may take to be written.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Lines that were lost in this process so far.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines of diagnostics were lost in this process so far.
pub(crate) fn lost() -> u64 {
    LOST.load(Relaxed)
}

/// How diagnostics are written, and where.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) level: String,
    pub(crate) json: bool,
    pub(crate) to: To,
    /// Whose a file is if it is made.
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
        let Settings { level, json, to, owner } = settings;
        let target = Target::open(&to, owner).map_err(|error| {
            io::Error::new(error.kind(), format!("open log file {}: {error}", to.words()))
        })?;
        let (sink, waiting) = Sink::new(LINES_WAITING);
        let form = Form::of(&to, json);
        subscribe(&level, form, sink.clone());
        let writer =
            Writer { target, to, form, waiting, load: Arc::clone(&sink.load), is_failing: false };
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
        self.sink.load.reopen.store(true, Relaxed);
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

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text {
        colors: bool,
    },
    /// Without the time and the level, which the target tells by itself.
    Bare,
    Json,
    /// What was said and its fields apart, in JSON on the way to the writer.
    Fields,
}

impl Form {
    fn of(to: &To, json: bool) -> Form {
        let wants_color = std::env::var_os("NO_COLOR").is_none();
        match to {
            To::Journald(..) => Form::Fields,
            _ if json => Form::Json,
            To::Syslog(..) => Form::Bare,
            To::Stderr => Form::Text { colors: wants_color && io::stderr().is_terminal() },
            To::Stdout | To::File(..) => Form::Text { colors: false },
        }
    }
}

fn subscribe(level: &str, form: Form, sink: Sink) {
    let wished = std::env::var(LEVEL_VARIABLE).ok().filter(|wish| !wish.is_empty());
    let wished = wished.map(EnvFilter::try_new).transpose();
    let (filter, complaint) = match wished {
        Ok(filter) => (filter, None),
        Err(error) => (None, Some(error)),
    };
    let filter = filter.unwrap_or_else(|| EnvFilter::new(format!("evenkeel={level}")));
    let layer = tracing_subscriber::fmt::layer().with_writer(sink);
    let layer = match form {
        Form::Json | Form::Fields => layer.json().boxed(),
        Form::Text { colors } => layer.with_target(false).with_ansi(colors).boxed(),
        Form::Bare => {
            let bare = layer.with_target(false).with_ansi(false);
            bare.with_level(false).without_time().boxed()
        }
    };
    let _ = tracing_subscriber::registry().with(layer).with(Remember).with(filter).try_init();
    if let Some(error) = complaint {
        tracing::warn!("{LEVEL_VARIABLE} is ignored: {error}; write a level, as `debug`");
    }
}

/// What the writer is sent.
#[derive(Debug)]
enum Message {
    Line(Severity, Vec<u8>),
    /// Look whether there is something else to do.
    Wake,
    /// Say when everything before has been written.
    Tell(SyncSender<()>),
}

/// The end of the queue that lines are put into.
#[derive(Debug, Clone)]
struct Sink {
    queue: SyncSender<Message>,
    load: Arc<Load>,
}

/// What waits, what did not find room, and whether a file is to be opened anew.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    /// Not told yet.
    lost: AtomicU64,
    reopen: AtomicBool,
}

impl Load {
    fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Relaxed);
        LOST.fetch_add(lines, Relaxed);
    }
}

impl Sink {
    fn new(lines: usize) -> (Sink, Receiver<Message>) {
        let (queue, waiting) = sync_channel(lines);
        (Sink { queue, load: Arc::default() }, waiting)
    }

    fn put(&self, severity: Severity, line: &[u8]) {
        let line = &line[..line.len().min(LINE_MAX)];
        let has_room = self.load.bytes.fetch_add(line.len(), Relaxed) + line.len() <= BYTES_WAITING;
        if !has_room || self.queue.try_send(Message::Line(severity, line.to_vec())).is_err() {
            self.load.bytes.fetch_sub(line.len(), Relaxed);
            self.load.lose(1);
        }
    }
}

/// A line in the making, and how severe it is.
struct Line<'a> {
    sink: &'a Sink,
    severity: Severity,
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { sink: self, severity: Severity::Info }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        let severity = match *meta.level() {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warning,
            Level::INFO => Severity::Info,
            Level::DEBUG | Level::TRACE => Severity::Debug,
        };
        Line { sink: self, severity }
    }
}

/// Each call has a whole line.
impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.sink.put(self.severity, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Writer {
    target: Target,
    to: To,
    form: Form,
    waiting: Receiver<Message>,
    load: Arc<Load>,
    is_failing: bool,
}

impl Writer {
    fn run(mut self) {
        while let Ok(message) = self.waiting.recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        if self.load.reopen.swap(false, Relaxed)
            && let Err(error) = self.target.reopen()
        {
            let to = self.to.words();
            self.say(&format!("open log file {to}: {error}; going on with the old file"));
        }
        let lost = self.load.lost.swap(0, Relaxed);
        if lost > 0
            && !self
                .say(&format!("{lost} lines of diagnostics were lost: they could not be written"))
        {
            // Then the next one that can be written says it.
            self.load.lost.fetch_add(lost, Relaxed);
        }
        match message {
            Message::Line(severity, line) => {
                self.load.bytes.fetch_sub(line.len(), Relaxed);
                let line = String::from_utf8_lossy(&line);
                if !self.write(severity, line.trim_end_matches('\n')) {
                    self.load.lose(1);
                }
            }
            Message::Wake => {}
            Message::Tell(done) => drop(done.try_send(())),
        }
    }

    /// Writes a line of `tracing`; whether it could be written.
    fn write(&mut self, severity: Severity, line: &str) -> bool {
        let mut text = String::new();
        let said;
        match self.form {
            Form::Json => escape::write_json(&mut text, at_most(line, LINE_MAX)),
            Form::Text { colors } => escape::write_text(&mut text, line, colors),
            Form::Bare => escape::write_text(&mut text, line, false),
            Form::Fields => {
                said = fields(line);
                for (name, value) in &said {
                    // The words themselves come first.
                    let separator = if text.is_empty() { "" } else { " " };
                    let shown = if name == "MESSAGE" {
                        value.clone()
                    } else {
                        format!("{separator}{}={value}", name.to_lowercase())
                    };
                    escape::write_text(&mut text, &shown, false);
                }
                let pairs = said.iter().filter(|(name, _)| name != "MESSAGE");
                let pairs: Vec<_> =
                    pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect();
                return self.put(severity, &text, &pairs);
            }
        }
        self.put(severity, &text, &[])
    }

    /// Says something of its own; it cannot go through the queue that it empties.
    fn say(&mut self, text: &str) -> bool {
        let mut now = String::new();
        clock::write_time(&mut now, SystemTime::now());
        let line = match self.form {
            Form::Json => serde_json::json!({
                "timestamp": now, "level": "ERROR", "fields": { "message": text }, "target": "evenkeel"
            })
            .to_string(),
            Form::Text { .. } => format!("{now} ERROR {text}"),
            Form::Bare | Form::Fields => text.to_owned(),
        };
        self.put(Severity::Error, &line, &[])
    }

    fn put(&mut self, severity: Severity, text: &str, fields: &[(&str, &str)]) -> bool {
        let at = SystemTime::now();
        self.target.add(&Entry { severity, at, kind: "diagnostics", text, fields });
        let unmoved = self.target.make_room().err();
        let outcome = self.target.flush();
        if let (Err(Loss { cause, .. }), false) = (&outcome, self.is_failing) {
            self.tell_elsewhere(cause);
        }
        self.is_failing = outcome.is_err();
        if let Some(said) = unmoved {
            // It is told once, so this does not come round again.
            self.say(&said);
        }
        outcome.is_ok()
    }

    /// Says on standard error that diagnostics get lost, for whoever started the process.
    fn tell_elsewhere(&self, cause: &io::Error) {
        if self.to != To::Stderr {
            let said = format!(
                "evenkeel: write diagnostics to {}: {cause}; they are being lost\n",
                self.to.words()
            );
            let _ = io::stderr().write_all(said.as_bytes());
        }
    }
}

/// What was said, and the fields beside it, by names in upper case. The words come first.
fn fields(line: &str) -> Vec<(String, String)> {
    let Ok(serde_json::Value::Object(event)) = serde_json::from_str(line) else {
        return vec![("MESSAGE".to_owned(), line.to_owned())];
    };
    let fields = event.get("fields").and_then(serde_json::Value::as_object);
    let mut said: Vec<_> = fields
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let kept = name.bytes().map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' => char::from(byte.to_ascii_uppercase()),
                b'0'..=b'9' => char::from(byte),
                _ => '_',
            });
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (kept.collect::<String>(), value)
        })
        .collect();
    said.sort_by_key(|(name, _)| name != "MESSAGE");
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::Path;

    /// A writer of its own, which takes from a queue for a few lines.
    fn writer(path: &Path, lines: usize) -> (Sink, Writer) {
        let (sink, waiting) = Sink::new(lines);
        let to = To::File(path.to_owned(), None);
        let target = Target::open(&to, None).unwrap();
        let form = Form::Text { colors: false };
        let writer =
            Writer { target, to, form, waiting, load: Arc::clone(&sink.load), is_failing: false };
        (sink, writer)
    }

    impl Writer {
        fn take_all(&mut self) {
            while let Ok(message) = self.waiting.try_recv() {
                self.take(message);
            }
        }
    }

    fn say(sink: &Sink, lines: usize) {
        for number in 0..lines {
            sink.put(Severity::Info, format!("line {number}\n").as_bytes());
        }
    }

    #[test]
    fn whoever_speaks_never_waits_and_what_is_lost_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("moved"));
        let (sink, mut writer) = writer(&path, 2);
        // Nobody takes them, so that only two find room.
        say(&sink, 5);
        std::fs::rename(&path, &moved).unwrap();
        sink.load.reopen.store(true, Relaxed);
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
        // Whatever is written to it, its disk is full.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let (sink, mut writer) = writer(&path, 8);
        writer.form = Form::Json;
        say(&sink, 3);
        writer.take_all();
        std::fs::remove_file(&path).unwrap();
        sink.load.reopen.store(true, Relaxed);
        say(&sink, 1);
        writer.take_all();
        let written = std::fs::read_to_string(&path).unwrap();
        let (told, line) = written.split_once('\n').unwrap();
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        let words = told["fields"]["message"].as_str().unwrap();
        assert!(words.starts_with("3 lines of diagnostics were lost"), "{written}");
        assert_eq!(line, "line 0\n");
    }
    #[test]
    fn what_somebody_else_wrote_cannot_pass_for_a_line_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (sink, mut writer) = writer(&path, 8);
        sink.put(Severity::Info, b"one\n2026 ERROR forged\r\x1b[31m\xff\xe2\x80\xa8\n");
        writer.take_all();
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written, "one\n    2026 ERROR forged\\u{d}\\u{1b}[31m\u{fffd}\\u{2028}\n");
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_too() {
        let folder = tempfile::tempdir().unwrap();
        let (sink, _writer) = writer(&folder.path().join("log"), LINES_WAITING);
        let line = vec![b'a'; LINE_MAX];
        for _ in 0..BYTES_WAITING / LINE_MAX + 3 {
            sink.put(Severity::Info, &line);
        }
        assert_eq!(sink.load.lost.load(Relaxed), 3);
        assert_eq!(sink.load.bytes.load(Relaxed), BYTES_WAITING);
    }

    #[test]
    fn fields_have_names_of_journald_and_the_words_come_first() {
        let line = r#"{"timestamp":"t","level":"INFO","fields":{"listener":"web","a.b":3,"message":"hello"},"target":"evenkeel"}"#;
        let expected = [("MESSAGE", "hello"), ("A_B", "3"), ("LISTENER", "web")];
        assert_eq!(fields(line), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
