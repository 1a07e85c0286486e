//! A small process that keeps the rights which the serving one gives up. It does one thing with them: start the program that takes
//! over in an upgrade, so that it can read keys and open ports as at the first start. It must never take a path or a word of
//! the command line from the serving process: what is to be started it is told at its own start, and never again.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::net::RecvFlags;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::handover::channel::{self, Channel, pair};
use super::handover::give::{Successor, start};

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

/// What it is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    /// Start the program with the line that comes with this.
    Start,
    /// Say whether it runs.
    Look(u32),
    /// End it.
    End(u32),
    /// Have it read its config again.
    Reload(u32),
    /// Have it stop in order.
    Stop(u32),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Answer {
    Started(u32),
    Runs,
    Ended(String),
    Failed(String),
}

/// The line to it.
#[derive(Debug)]
pub(crate) struct Starter {
    line: OwnedFd,
}

impl Starter {
    /// Starts it, with the rights that this process has now.
    pub(crate) fn begin(successor: &Successor) -> io::Result<Starter> {
        let (line, theirs) = pair()?;
        let flags = rustix::fs::fcntl_getfl(&line)?;
        rustix::fs::fcntl_setfl(&line, flags - rustix::fs::OFlags::NONBLOCK)?;
        set_socket_timeout(&line, Timeout::Recv, Some(ANSWERS_WITHIN))?;
        let mut command = Command::new(&successor.program);
        command.arg0(NAME).arg(COMMAND).arg(&successor.program);
        if let Some(folder) = &successor.folder {
            // In the background, nobody reads what it says.
            command.arg("--folder").arg(folder).stdout(Stdio::null()).stderr(Stdio::null());
        }
        command.arg("--").args(&successor.arguments).stdin(Stdio::from(theirs));
        command.env_remove("LISTEN_FDS").env_remove("LISTEN_PID");
        command.spawn()?;
        Ok(Starter { line })
    }

    /// Has the program started with its end of a line; the number of its process.
    pub(super) fn start(&self, line: OwnedFd) -> io::Result<u32> {
        match self.ask(&Order::Start, Some(&line))? {
            Answer::Started(pid) => Ok(pid),
            Answer::Failed(why) => Err(io::Error::other(why)),
            _ => Err(not_understood()),
        }
    }

    /// How a process that it has started ended; none while it runs.
    pub(super) fn look(&self, pid: u32) -> io::Result<Option<String>> {
        match self.ask(&Order::Look(pid), None)? {
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

    fn ask(&self, order: &Order, line: Option<&OwnedFd>) -> io::Result<Answer> {
        let said = serde_json::to_vec(order)?;
        let fds: Vec<_> = line.into_iter().map(AsFd::as_fd).collect();
        channel::send(self.line.as_fd(), &[IoSlice::new(&said)], &fds)?;
        let mut room = vec![0; ANSWER_MAX];
        match rustix::net::recv(&self.line, &mut room[..], RecvFlags::empty())? {
            (_, 0) => Err(io::Error::other("the starter has ended")),
            (_, count) => Ok(serde_json::from_slice(&room[..count])?),
        }
    }
}

fn not_understood() -> io::Error {
    io::Error::other("the starter was not understood")
}

/// The starter's own life, up to the end of the process that it serves. Its line is at standard input.
pub(crate) fn serve(successor: &Successor) -> io::Result<()> {
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
        let mut started = HashMap::new();
        loop {
            let heard = tokio::select! {
                heard = channel.receive() => heard?,
                () = tokio::time::sleep(LOOK), if !started.is_empty() => {
                    // Seen off, so that no number stays taken.
                    started.values_mut().for_each(|child: &mut Child| drop(child.try_wait()));
                    continue;
                }
            };
            let Some((said, fds)) = heard else { return Ok(()) };
            let answer = match serde_json::from_slice(said) {
                Ok(order) => obey(order, fds, successor, &mut started),
                Err(error) => Answer::Failed(error.to_string()),
            };
            let said = serde_json::to_vec(&answer)?;
            channel.send(&[IoSlice::new(&said)], &[]).await?;
        }
    })
}

fn obey(
    order: Order,
    mut fds: Vec<OwnedFd>,
    successor: &Successor,
    started: &mut HashMap<u32, Child>,
) -> Answer {
    let unknown = || Answer::Failed("no such process".to_owned());
    match order {
        Order::Start => match fds.pop().map(|line| start(successor, line)) {
            Some(Ok(child)) => {
                let pid = child.id();
                started.insert(pid, child);
                Answer::Started(pid)
            }
            Some(Err(error)) => Answer::Failed(error.to_string()),
            None => Answer::Failed("an order without a line".to_owned()),
        },
        Order::Look(pid) => match started.get_mut(&pid).map(Child::try_wait) {
            Some(Ok(Some(status))) => Answer::Ended(status.to_string()),
            Some(_) => Answer::Runs,
            None => unknown(),
        },
        Order::End(pid) => match started.remove(&pid) {
            Some(mut child) => {
                let _ = child.kill();
                match child.wait() {
                    Ok(status) => Answer::Ended(status.to_string()),
                    Err(error) => Answer::Failed(error.to_string()),
                }
            }
            None => unknown(),
        },
        Order::Reload(pid) => tell(started.get(&pid), Signal::HUP).unwrap_or_else(unknown),
        Order::Stop(pid) => tell(started.get(&pid), Signal::TERM).unwrap_or_else(unknown),
    }
}

fn tell(child: Option<&Child>, signal: Signal) -> Option<Answer> {
    match kill_process(Pid::from_child(child?), signal) {
        Ok(()) => Some(Answer::Runs),
        Err(error) => Some(Answer::Failed(error.to_string())),
    }
}
