//! A small process that keeps the rights which the serving one gives up: it starts the program that takes over in an upgrade, opens
//! files and ports for a reload, and runs hooks. It speaks to no network, and does nothing that a serving process in the hands
//! of a stranger could want: what may be opened or run is what the config on disk names, and what takes over is what it was told at its
//! own start.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

use super::charter::Charter;
use super::handover::channel::{self, Channel, pair};
use super::handover::give::{Successor, start};
use super::out_of_reach;
use crate::keeper::{self, Answer, Order};
use crate::observe::log_file::{self, Owner};

/// The command by which the program becomes a starter; not for people.
pub(crate) const COMMAND: &str = "starter";

/// What it is called, so that `pidof evenkeel` does not find it.
const NAME: &str = "ek-starter";

/// How long it may take over an answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// The longest answer.
const ANSWER_MAX: usize = 4096;

/// How often it looks whether what it has started has ended.
const LOOK: Duration = Duration::from_secs(1);

/// The line to it.
#[derive(Debug)]
pub(crate) struct Starter {
    /// For one question after the other, each with a number: an answer that came too late must not be taken for another's.
    line: Mutex<(OwnedFd, u64)>,
}

impl Starter {
    /// Starts it, with the rights that this process has now, for what this config names, if there is one, and for the user that
    /// this process becomes.
    pub(crate) fn begin(
        successor: &Successor,
        config: Option<&Path>,
        serves: Option<Owner>,
    ) -> io::Result<Starter> {
        let (line, theirs) = pair()?;
        let flags = rustix::fs::fcntl_getfl(&line)?;
        rustix::fs::fcntl_setfl(&line, flags - rustix::fs::OFlags::NONBLOCK)?;
        set_socket_timeout(&line, Timeout::Recv, Some(ANSWERS_WITHIN))?;
        let mut command = Command::new(&successor.program);
        command.arg0(NAME).arg(COMMAND).arg(&successor.program);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        if let Some((user, group)) = serves {
            command.arg("--user").arg(user.to_string()).arg("--group").arg(group.to_string());
        }
        if let Some(folder) = &successor.folder {
            // In the background, nobody reads what it says.
            command.arg("--folder").arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
        }
        command.arg("--").args(&successor.arguments).stdin(Stdio::from(theirs));
        command.env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command.spawn()?;
        Ok(Starter { line: Mutex::new((line, 0)) })
    }

    /// Has the program started with its end of a line; the number of its process.
    pub(super) fn start(&self, line: OwnedFd) -> io::Result<u32> {
        match self.ask(&Order::Start, Some(line.as_fd()))?.0 {
            Answer::Started(pid) => Ok(pid),
            Answer::Failed(why) => Err(io::Error::other(why)),
            _ => Err(not_understood()),
        }
    }

    /// How a process that it has started ended; none while it runs.
    pub(super) fn look(&self, pid: u32) -> io::Result<Option<String>> {
        match self.ask(&Order::Look(pid), None)?.0 {
            Answer::Runs => Ok(None),
            Answer::Ended(how) => Ok(Some(how)),
            _ => Err(not_understood()),
        }
    }

    pub(super) fn end(&self, pid: u32) -> io::Result<()> {
        self.ask(&Order::End(pid), None).map(drop)
    }

    pub(super) fn signal(&self, pid: u32, signal: Signal) -> io::Result<()> {
        let order = if signal == Signal::HUP { Order::Reload(pid) } else { Order::Stop(pid) };
        self.ask(&order, None).map(drop)
    }

    /// Asks, with a descriptor beside it; the answer, and the descriptor that came with it.
    pub(crate) fn ask(
        &self,
        order: &Order,
        fd: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Answer, Option<OwnedFd>)> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.1 += 1;
        let (line, number) = (line.0.as_fd(), line.1);
        let said = serde_json::to_vec(&(number, order))?;
        let fds: Vec<_> = fd.into_iter().collect();
        channel::send(line, &[IoSlice::new(&said)], &fds)?;
        let mut room = vec![0; ANSWER_MAX];
        loop {
            let (count, mut fds) = channel::receive(line, &mut room)?;
            if count == 0 {
                return Err(io::Error::other("the starter has ended"));
            }
            let (of, answer): (u64, Answer) = serde_json::from_slice(&room[..count])?;
            if of == number {
                return Ok((answer, fds.pop()));
            }
        }
    }
}

fn not_understood() -> io::Error {
    io::Error::other("the starter was not understood")
}

/// The starter's own life, up to the end of the process that it serves. Its line is at standard input.
pub(crate) fn serve(
    successor: &Successor,
    config: Option<PathBuf>,
    serves: Option<Owner>,
) -> io::Result<()> {
    let _ = std::fs::write("/proc/self/comm", NAME);
    let line = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let nothing = std::fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Signals that are meant for the serving process, or for all of a group, do not end it: that process's end does.
        let kinds = [
            SignalKind::hangup(),
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::interrupt(),
            SignalKind::terminate(),
            SignalKind::quit(),
        ];
        let _held = kinds.map(signal);
        let mut channel = Channel::new(line)?;
        let mut desk =
            Desk { successor, charter: Charter::of(config, serves), started: HashMap::new() };
        loop {
            let heard = tokio::select! {
                heard = channel.receive() => heard?,
                () = tokio::time::sleep(LOOK), if !desk.started.is_empty() => {
                    // Seen off, so that no number stays taken.
                    desk.started.values_mut().for_each(|child: &mut Child| drop(child.try_wait()));
                    continue;
                }
            };
            let Some((said, fds)) = heard else { return Ok(()) };
            let (number, order): (u64, Order) = serde_json::from_slice(said)?;
            let (answer, fd) = desk.obey(order, fds);
            let said = serde_json::to_vec(&(number, answer))?;
            let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
            channel.send(&[IoSlice::new(&said)], &fds).await?;
        }
    })
}

/// What it does, and with what.
struct Desk<'s> {
    successor: &'s Successor,
    charter: Charter,
    started: HashMap<u32, Child>,
}

impl Desk<'_> {
    fn obey(&mut self, order: Order, mut fds: Vec<OwnedFd>) -> (Answer, Option<OwnedFd>) {
        let answer = match order {
            Order::Read(path) if self.charter.may_read(&path) => return opened(self.read(&path)),
            Order::Append(path) if self.charter.may_append(&path) => {
                return opened(self.append(&path));
            }
            Order::Rotate(path, keep) if self.charter.may_append(&path) => {
                return opened(self.rotate(&path, keep.max(1)));
            }
            Order::Bind(address) if self.charter.may_bind(address) => match fds.pop() {
                Some(socket) => match rustix::net::bind(&socket, &address) {
                    Ok(()) => Answer::Done,
                    Err(error) => Answer::of(&error.into()),
                },
                None => Answer::Failed("an order without a socket".to_owned()),
            },
            Order::Hook { program, arguments } if self.charter.may_run(&program) => {
                self.run_hook(&program, &arguments, fds.pop())
            }
            Order::Read(_)
            | Order::Append(_)
            | Order::Rotate(..)
            | Order::Bind(_)
            | Order::Hook { .. } => Answer::NotNamed,
            Order::Start => match fds.pop().map(|line| start(self.successor, line)) {
                Some(started) => self.note(started),
                None => Answer::Failed("an order without a line".to_owned()),
            },
            Order::Look(pid) => match self.started.get_mut(&pid).map(Child::try_wait) {
                Some(Ok(Some(status))) => Answer::Ended(status.to_string()),
                Some(_) => Answer::Runs,
                None => unknown(),
            },
            Order::End(pid) => match self.started.remove(&pid) {
                Some(mut child) => {
                    let _ = child.kill();
                    match child.wait() {
                        Ok(status) => Answer::Ended(status.to_string()),
                        Err(error) => Answer::Failed(error.to_string()),
                    }
                }
                None => unknown(),
            },
            Order::Reload(pid) => tell(self.started.get(&pid), Signal::HUP),
            Order::Stop(pid) => tell(self.started.get(&pid), Signal::TERM),
        };
        (answer, None)
    }

    /// A file to read, which may be a pipe: whoever asked for it looks.
    fn read(&self, path: &Path) -> io::Result<File> {
        match self.charter.serves {
            Some(_) => out_of_reach::open(path),
            None => keeper::open_here(path),
        }
    }

    fn append(&self, path: &Path) -> io::Result<File> {
        match self.charter.serves {
            Some(owner) => log_file::open_here(&out_of_reach::resolved(path)?, Some(owner)),
            None => log_file::open_here(path, None),
        }
    }

    fn rotate(&self, path: &Path, keep: u32) -> io::Result<File> {
        match self.charter.serves {
            Some(owner) => log_file::rotate_here(&out_of_reach::resolved(path)?, keep, Some(owner)),
            None => log_file::rotate_here(path, keep, None),
        }
    }

    fn run_hook(
        &mut self,
        program: &Path,
        arguments: &[String; 3],
        complaints: Option<OwnedFd>,
    ) -> Answer {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(complaints) = complaints {
            command.stderr(complaints);
        }
        // It needs no more rights than whoever asks for it.
        if let Some((user, group)) = self.charter.serves {
            command.uid(user).gid(group);
        }
        self.note(command.spawn())
    }

    fn note(&mut self, started: io::Result<Child>) -> Answer {
        match started {
            Ok(child) => {
                let pid = child.id();
                self.started.insert(pid, child);
                Answer::Started(pid)
            }
            Err(error) => Answer::Failed(error.to_string()),
        }
    }
}

fn opened(opened: io::Result<File>) -> (Answer, Option<OwnedFd>) {
    match opened {
        Ok(file) => (Answer::Done, Some(file.into())),
        Err(error) => (Answer::of(&error), None),
    }
}

fn tell(child: Option<&Child>, signal: Signal) -> Answer {
    match child.map(|child| kill_process(Pid::from_child(child), signal)) {
        Some(Ok(())) => Answer::Runs,
        Some(Err(error)) => Answer::Failed(error.to_string()),
        None => unknown(),
    }
}

fn unknown() -> Answer {
    Answer::Failed("no such process".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_came_too_late_is_taken_for_no_other() {
        let (line, theirs) = pair().unwrap();
        let flags = rustix::fs::fcntl_getfl(&line).unwrap();
        rustix::fs::fcntl_setfl(&line, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
        let starter = Starter { line: Mutex::new((line, 1)) };
        // The first question was given up.
        for (number, said) in [(1, "of the first"), (2, "of the second")] {
            let answer = serde_json::to_vec(&(number, Answer::Ended(said.to_owned()))).unwrap();
            channel::send(theirs.as_fd(), &[IoSlice::new(&answer)], &[]).unwrap();
        }
        assert_eq!(starter.look(7).unwrap().as_deref(), Some("of the second"));
        drop(theirs);
        assert!(starter.look(7).is_err());
    }
}
