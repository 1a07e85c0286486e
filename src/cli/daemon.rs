//! Going into the background. The program is started once more, as a child that cuts itself loose from the terminal, and the
//! first process stays until that one serves or has failed: its exit code is the start's, and it passes on what is said.
//! There is no fork without exec here: a process with more than a moment behind it cannot be copied safely.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::{complain, exit};

/// Tells the child what it is; not for people.
pub(super) const CHILD: &str = "in-background";

/// What the child says when it serves.
const READY: &[u8] = b"ready";

/// How long words may still be on their way when the child has said that it is ready.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the child and waits until it serves; the exit code.
pub(super) fn start(program: &Path) -> u8 {
    let started = spawn(program);
    let (mut child, mut line) = match started {
        Ok(started) => started,
        Err(error) => {
            complain(&format!("evenkeel: start in the background: {error}"));
            return exit::NOT_STARTED;
        }
    };
    let told = pass_on(&mut child);
    let mut word = Vec::new();
    let is_ready = line.read_to_end(&mut word).is_ok() && word == READY;
    if is_ready {
        let _ = told.recv_timeout(LAST_WORDS);
        return exit::FINE;
    }
    let outcome = child.wait();
    let _ = told.recv_timeout(LAST_WORDS);
    match outcome {
        Ok(status) => {
            complain(&format!("evenkeel: it has not started: {}", in_words(status)));
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            code.filter(|code| *code != exit::FINE).unwrap_or(exit::NOT_STARTED)
        }
        Err(error) => {
            complain(&format!("evenkeel: wait for the start: {error}"));
            exit::NOT_STARTED
        }
    }
}

fn spawn(program: &Path) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    command.args(arguments).arg(format!("--{CHILD}"));
    command.stdin(OwnedFd::from(theirs)).stderr(Stdio::piped());
    // A watchdog that was meant for this process is meant for that one.
    command.env_remove("WATCHDOG_PID");
    let child = command.spawn()?;
    // With the command, our copy of the child's end is closed: its end is seen here.
    Ok((child, ours))
}

/// Passes on what the child says, until it says no more.
fn pass_on(child: &mut Child) -> mpsc::Receiver<()> {
    let (done, told) = mpsc::channel();
    if let Some(mut said) = child.stderr.take() {
        std::thread::spawn(move || {
            let _ = io::copy(&mut said, &mut io::stderr());
            let _ = done.send(());
        });
    }
    told
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// The child's line to whoever started it.
#[derive(Debug)]
pub(super) struct Announcement(UnixStream);

impl Announcement {
    /// Cuts this process loose from whatever it was started in. From now on relative paths mean nothing any more.
    pub(super) fn prepare() -> io::Result<Announcement> {
        let line = io::stdin().as_fd().try_clone_to_owned()?;
        rustix::process::setsid()?;
        std::env::set_current_dir("/")?;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        Ok(Announcement(UnixStream::from(line)))
    }

    /// Gives up the standard streams and says that it serves; fails if nobody waits for it any more.
    pub(super) fn ready(mut self) -> io::Result<()> {
        let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        rustix::stdio::dup2_stdout(&nothing)?;
        rustix::stdio::dup2_stderr(&nothing)?;
        self.0.write_all(READY)
    }
}
