//! Where lines are written, whatever that is: a stream, a file, a syslog, journald. It belongs to a thread that may wait, and even there
//! nothing waits for ever where that can be helped: what a target does not take is lost, counted, and told once it takes lines again.

use std::io::{self, ErrorKind, Write};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::journald::Journald;
use super::log_file::Owner;
use super::rotation::LogFile;
use super::syslog::Syslog;
use crate::config::{self, Rotation, SyslogAt};

/// How long a target may take nothing before the lines that wait for it are lost. A pipe or a terminal may take longer: there the
/// system waits, and what comes meanwhile is lost at the queue.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum To {
    Stdout,
    Stderr,
    File(PathBuf, Option<Rotation>),
    Syslog(SyslogAt, config::Syslog),
    /// By its socket, with the name of the program.
    Journald(PathBuf, String),
}

impl To {
    /// Where the access log goes, if anywhere.
    pub(crate) fn of_access(log: &config::Log) -> Option<To> {
        Some(match &log.access {
            config::AccessTo::Stdout => To::Stdout,
            config::AccessTo::Stderr => To::Stderr,
            config::AccessTo::Off => return None,
            config::AccessTo::File(path) => To::File(path.clone(), log.rotate.clone()),
            config::AccessTo::Syslog(at) => To::Syslog(at.clone(), log.syslog.clone()),
            config::AccessTo::Journald(at) => To::Journald(at.clone(), log.syslog.name.clone()),
        })
    }

    /// Where diagnostics go.
    pub(crate) fn of_diagnostics(log: &config::Log) -> To {
        match (&log.file, &log.to) {
            (Some(path), _) => To::File(path.clone(), log.rotate.clone()),
            (None, config::LogTo::Stderr) => To::Stderr,
            (None, config::LogTo::Syslog(at)) => To::Syslog(at.clone(), log.syslog.clone()),
            (None, config::LogTo::Journald(at)) => {
                To::Journald(at.clone(), log.syslog.name.clone())
            }
        }
    }

    /// In words, for whoever is told that something went wrong there.
    pub(super) fn words(&self) -> String {
        match self {
            To::Stdout => "standard output".to_owned(),
            To::Stderr => "standard error".to_owned(),
            To::File(path, _) => path.display().to_string(),
            To::Syslog(SyslogAt::Unix(path), _) => format!("the syslog at {}", path.display()),
            To::Syslog(SyslogAt::Udp(at) | SyslogAt::Tcp(at), _) => format!("the syslog at {at}"),
            To::Journald(path, _) => format!("journald at {}", path.display()),
        }
    }
}

/// How severe a line is (RFC 5424 6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Error = 3,
    Warning = 4,
    Info = 6,
    Debug = 7,
}

/// One line, and what is known of it besides.
#[derive(Debug)]
pub(super) struct Entry<'e> {
    pub(super) severity: Severity,
    pub(super) at: SystemTime,
    /// `access` or `diagnostics`.
    pub(super) kind: &'static str,
    /// Without a line end. It may have some in it.
    pub(super) text: &'e str,
    /// By names in upper case; only journald has room for them.
    pub(super) fields: &'e [(&'e str, &'e str)],
}

/// Lines that were not written, and why.
#[derive(Debug)]
pub(super) struct Loss {
    pub(super) lines: u64,
    pub(super) cause: io::Error,
}

/// Lines that wait to be written together, and what takes them.
#[derive(Debug)]
pub(super) struct Target {
    sink: Sink,
    buffer: Vec<u8>,
    /// Where in the buffer each line ends.
    ends: Vec<usize>,
    /// Whether the last line came through in part, so that the next one begins after a line end.
    is_torn: bool,
}

#[derive(Debug)]
enum Sink {
    Stream(Stream),
    File(LogFile),
    Syslog(Syslog),
    Journald(Journald),
}

#[derive(Debug)]
enum Stream {
    Stdout,
    Stderr,
}

impl Target {
    /// Opens a file, which belongs to `owner` if it is made. What is behind a socket is looked for when there is something to say.
    pub(super) fn open(to: &To, owner: Option<Owner>) -> io::Result<Target> {
        let sink = match to {
            To::Stdout => Sink::Stream(Stream::Stdout),
            To::Stderr => Sink::Stream(Stream::Stderr),
            To::File(path, rotation) => Sink::File(LogFile::open(path, rotation.clone(), owner)?),
            To::Syslog(at, settings) => Sink::Syslog(Syslog::new(at.clone(), settings)),
            To::Journald(at, name) => Sink::Journald(Journald::new(at.clone(), name.clone())),
        };
        Ok(Target { sink, buffer: Vec::new(), ends: Vec::new(), is_torn: false })
    }

    /// Goes on in the file that is at the path now, after it was moved away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match &mut self.sink {
            Sink::File(file) => {
                self.is_torn = false;
                file.reopen()
            }
            _ => Ok(()),
        }
    }

    /// Adds a line to those that are written next.
    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        match &self.sink {
            Sink::Stream(_) | Sink::File(_) => {
                self.buffer.extend_from_slice(entry.text.as_bytes());
                self.buffer.push(b'\n');
            }
            Sink::Syslog(syslog) => syslog.write(&mut self.buffer, entry),
            Sink::Journald(journald) => journald.write(&mut self.buffer, entry),
        }
        self.ends.push(self.buffer.len());
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Begins a new file where one is due. What goes wrong with it is told once, in words.
    pub(super) fn make_room(&mut self) -> Result<(), String> {
        match &mut self.sink {
            Sink::File(file) if !self.buffer.is_empty() => {
                let is_new = file.make_room(self.buffer.len())?;
                self.is_torn &= !is_new;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Writes what waits; of what is not taken, nothing is kept.
    pub(super) fn flush(&mut self) -> Result<(), Loss> {
        let (written, outcome) = match &mut self.sink {
            Sink::Syslog(syslog) => syslog.send(&self.buffer, &self.ends),
            Sink::Journald(journald) => journald.send(&self.buffer, &self.ends),
            Sink::File(file) => by_bytes(file, &self.buffer, &self.ends, &mut self.is_torn),
            Sink::Stream(stream) => by_bytes(stream, &self.buffer, &self.ends, &mut self.is_torn),
        };
        let lines = (self.ends.len() - written.min(self.ends.len())) as u64;
        self.buffer.clear();
        self.ends.clear();
        // One very long line does not keep its memory.
        self.buffer.shrink_to(128 * 1024);
        outcome.map_err(|cause| Loss { lines, cause })
    }
}

/// Writes lines one behind the other; how many went as a whole.
fn by_bytes(
    sink: &mut impl Write,
    buffer: &[u8],
    ends: &[usize],
    is_torn: &mut bool,
) -> (usize, io::Result<()>) {
    if buffer.is_empty() {
        return (0, Ok(()));
    }
    if *is_torn {
        if let Err(error) = sink.write_all(b"\n") {
            return (0, Err(error));
        }
        *is_torn = false;
    }
    let mut written = 0;
    let outcome = loop {
        match sink.write(&buffer[written..]) {
            Ok(0) => break Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
        if written == buffer.len() {
            break Ok(());
        }
    };
    let whole = ends.partition_point(|end| *end <= written);
    *is_torn = written > whole.checked_sub(1).map_or(0, |last| ends[last]);
    (whole, outcome)
}

impl Stream {
    fn fd(&self) -> BorrowedFd<'static> {
        match self {
            Stream::Stdout => rustix::stdio::stdout(),
            Stream::Stderr => rustix::stdio::stderr(),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fd = self.fd();
        loop {
            match rustix::io::write(fd, bytes) {
                // Somebody who shares it has set it so that nobody waits.
                Err(rustix::io::Errno::AGAIN) => until_it_takes(fd)?,
                outcome => return Ok(outcome?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn until_it_takes(fd: BorrowedFd<'_>) -> io::Result<()> {
    let most = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&fd, PollFlags::OUT)], Some(&most))? {
        0 => Err(io::Error::new(ErrorKind::TimedOut, "nobody reads it")),
        _ => Ok(()),
    }
}

/// Text that is at most so long, cut where a character ends.
pub(super) fn at_most(text: &str, most: usize) -> &str {
    let most = most.min(text.len());
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with room for so many bytes.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.1 - self.0.len()).min(3);
            self.0.extend_from_slice(&bytes[..count]);
            if count == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_by_a_full_disk_is_lost_alone_and_the_next_one_begins_anew() {
        let mut is_torn = false;
        let mut disk = Disk(Vec::new(), 8);
        let (lines, ends) = (b"one\ntwo\nthree\n", [4, 8, 14]);
        let (whole, outcome) = by_bytes(&mut disk, lines, &ends, &mut is_torn);
        assert!(whole == 2 && outcome.is_err() && !is_torn, "it was full at the end of a line");
        disk.1 = 10;
        let (whole, outcome) = by_bytes(&mut disk, b"three\n", &[6], &mut is_torn);
        assert!(whole == 0 && outcome.is_err() && is_torn);
        disk.1 = 100;
        let (whole, outcome) = by_bytes(&mut disk, b"four\n", &[5], &mut is_torn);
        assert!(whole == 1 && outcome.is_ok() && !is_torn);
        assert_eq!(disk.0, b"one\ntwo\nth\nfour\n");
    }

    #[test]
    fn a_text_is_cut_where_a_character_ends() {
        assert_eq!((at_most("aé", 2), at_most("aé", 3), at_most("aé", 9)), ("a", "aé", "aé"));
    }
}
