//! What a process asks of the one that keeps the rights which it has given up: to open a file, bind a port, run a program. Asked is
//! only where the system has said no, and granted only what the config on disk names. Where nobody keeps rights, the no stands.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// Start the program that takes over, with the line that comes with this.
    Start,
    /// Say whether a program that was started runs.
    Look(u32),
    /// End it.
    End(u32),
    /// Have it read its config again.
    Reload(u32),
    /// Have it stop in order.
    Stop(u32),
    /// Open a file to read.
    Read(PathBuf),
    /// Open a log file.
    Append(PathBuf),
    /// Move a log file away, keep so many of before, and open a new one.
    Rotate(PathBuf, u32),
    /// Bind the socket that comes with this.
    Bind(SocketAddr),
    /// Run the program that makes or removes a record in DNS, which writes its complaints to the pipe that comes with this.
    Hook {
        /// As the config names it.
        program: PathBuf,
        /// The verb, the domain and the value.
        arguments: [String; 3],
    },
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// The number of a process.
    Started(u32),
    Runs,
    Ended(String),
    /// It is done, and what was opened comes with this.
    Done,
    /// The config does not name it.
    NotNamed,
    /// It cannot be, by the number that the system gave.
    Errno(i32),
    Failed(String),
}

impl Answer {
    /// Of an error of the system.
    pub(crate) fn of(error: &io::Error) -> Answer {
        match error.raw_os_error() {
            Some(number) => Answer::Errno(number),
            None => Answer::Failed(error.to_string()),
        }
    }
}

/// How it is asked.
type Ask =
    dyn Fn(&Order, Option<BorrowedFd<'_>>) -> io::Result<(Answer, Option<OwnedFd>)> + Send + Sync;

static KEEPER: OnceLock<Box<Ask>> = OnceLock::new();

/// Somebody keeps rights, from now on to the end of the process.
pub(crate) fn is(ask: Box<Ask>) {
    let _ = KEEPER.set(ask);
}

/// Whether somebody keeps rights.
pub(crate) fn is_there() -> bool {
    KEEPER.get().is_some()
}

/// Opens a file to read. It may be anything, a pipe too: that is never waited for.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    or_ask(open_here(path), || Order::Read(path.to_owned()))
}

/// The same with the rights of this process.
pub(crate) fn open_here(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// The file that a log goes to, where this process cannot open it.
pub(crate) fn log_file(opened: io::Result<File>, path: &Path) -> io::Result<File> {
    or_ask(opened, || Order::Append(path.to_owned()))
}

/// The file that a log goes on in, where this process cannot move the one before away.
pub(crate) fn rotated_log(moved: io::Result<File>, path: &Path, keep: u32) -> io::Result<File> {
    or_ask(moved, || Order::Rotate(path.to_owned(), keep))
}

/// Binds a socket to an address to listen on.
pub(crate) fn bind(socket: &socket2::Socket, address: SocketAddr) -> io::Result<()> {
    use std::os::fd::AsFd;
    match (socket.bind(&address.into()), KEEPER.get()) {
        (Err(error), Some(ask)) if error.kind() == ErrorKind::PermissionDenied => {
            match ask(&Order::Bind(address), Some(socket.as_fd())) {
                Ok((Answer::Done, _)) => Ok(()),
                Ok((Answer::Errno(number), _)) => Err(io::Error::from_raw_os_error(number)),
                _ => Err(error),
            }
        }
        (outcome, _) => outcome,
    }
}

/// Starts a hook whose complaints go to a pipe; the number of its process.
pub(crate) fn start_hook(
    program: &Path,
    arguments: [String; 3],
    complaints: BorrowedFd<'_>,
) -> io::Result<u32> {
    let order = Order::Hook { program: program.to_owned(), arguments };
    match ask(&order, Some(complaints))? {
        Answer::Started(number) => Ok(number),
        Answer::NotNamed => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "whoever may start it has not found it in the config as it is now",
        )),
        Answer::Errno(number) => Err(io::Error::from_raw_os_error(number)),
        other => Err(not_understood(&other)),
    }
}

/// How a program that was started has ended; none while it runs.
pub(crate) fn look(number: u32) -> io::Result<Option<String>> {
    match ask(&Order::Look(number), None)? {
        Answer::Runs => Ok(None),
        Answer::Ended(how) => Ok(Some(how)),
        other => Err(not_understood(&other)),
    }
}

/// Ends a program that was started.
pub(crate) fn end(number: u32) {
    let _ = ask(&Order::End(number), None);
}

/// Has a process read its config again, that was started in the place of this one.
pub(crate) fn have_read(process: Pid) -> io::Result<()> {
    let told = kill_process(process, Signal::HUP);
    let number = process.as_raw_nonzero().get().unsigned_abs();
    match told {
        Err(Errno::PERM) if is_there() => match ask(&Order::Reload(number), None)? {
            Answer::Runs => Ok(()),
            other => Err(not_understood(&other)),
        },
        told => Ok(told?),
    }
}

fn ask(order: &Order, fd: Option<BorrowedFd<'_>>) -> io::Result<Answer> {
    let ask = KEEPER.get().ok_or_else(|| io::Error::other("nobody keeps rights"))?;
    ask(order, fd).map(|(answer, _)| answer)
}

fn or_ask(opened: io::Result<File>, order: impl FnOnce() -> Order) -> io::Result<File> {
    match (opened, KEEPER.get()) {
        (Err(error), Some(ask)) if error.kind() == ErrorKind::PermissionDenied => {
            match ask(&order(), None) {
                Ok((Answer::Done, Some(fd))) => Ok(File::from(fd)),
                Ok((Answer::Errno(number), _)) => Err(io::Error::from_raw_os_error(number)),
                _ => Err(error),
            }
        }
        (opened, _) => opened,
    }
}

fn not_understood(answer: &Answer) -> io::Error {
    io::Error::other(format!("whoever keeps the rights answers with {answer:?}"))
}
