//! The old process of a hand-over. It stops accepting only once the new one could begin, and gives a connection up only once the
//! new one has it; until then everything can go on here, and does where anything fails.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::channel::{Channel, pair};
use super::{ANSWER_WITHIN, BACKENDS_AT_A_TIME, BATCH, PIECE, READY_WITHIN, VERSION, Word};
use crate::connection::Parcel;
use crate::descriptors;
use crate::process::control::Workers;
use crate::process::doors::Doors;
use crate::process::starter::Starter;
use crate::process::worker::Parking;
use crate::upstream::Upstream;

/// How long a process that has closed its end may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// The program that takes over.
#[derive(Debug, Clone)]
pub(crate) struct Successor {
    /// As it was called when this process started, so that it is whatever stands there now.
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Where it is started, if not here.
    pub(crate) folder: Option<PathBuf>,
    /// Who starts it in the place of this process, which has given up rights that it is to have.
    pub(crate) starter: Option<Arc<Starter>>,
}

/// Why nothing was handed over, and everything goes on as before.
#[derive(Debug)]
pub(crate) enum HandoverError {
    /// It is stopping, or has stopped.
    Stopping,
    /// It was handed over to itself, and the process before has connections left.
    BeforeIsLeft,
    /// It is the first process of a container or machine, with which all others end.
    FirstProcess,
    NotStarted(PathBuf, io::Error),
    /// The new process ended; what came of it, if that is known.
    Ended(&'static str, Option<String>),
    /// The new process says that it cannot begin.
    Refused(String),
    Late(&'static str),
    Broken(&'static str, io::Error),
}

impl std::fmt::Display for HandoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HandoverError::Stopping => f.write_str("it is stopping"),
            HandoverError::BeforeIsLeft => f.write_str(
                "the process before this one still has connections to finish; try again when it has ended",
            ),
            HandoverError::FirstProcess => f.write_str(
                "it is process 1, and everything here ends with process 1: start another container, and stop this one",
            ),
            HandoverError::NotStarted(program, error) => {
                write!(f, "{} could not be started: {error}", program.display())
            }
            HandoverError::Ended(step, Some(how)) => {
                write!(f, "the new process ended while it was to {step}: {how}")
            }
            HandoverError::Ended(step, None) => {
                write!(f, "the new process closed the line while it was to {step}")
            }
            HandoverError::Refused(why) => write!(f, "the new process refuses: {why}"),
            HandoverError::Late(step) => write!(f, "the new process took too long to {step}"),
            HandoverError::Broken(step, error) => write!(f, "{step}: {error}"),
        }
    }
}

impl std::error::Error for HandoverError {}

/// The new process, from its start until it is on its own.
#[derive(Debug)]
pub(in crate::process) struct Giving {
    channel: Channel,
    child: Option<Begun>,
    attempt: u64,
    /// Batches that were begun.
    batches: u64,
    /// Connections that have gone.
    pub(in crate::process) given: u64,
}

impl Drop for Giving {
    /// What was not let go must not go on with half of what it was told.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.end();
        }
    }
}

/// Starts the new process, and has it make ready. Nothing has changed here when this is done.
pub(in crate::process) async fn begin(
    successor: &Successor,
    doors: &Doors,
    upstreams: &[Arc<Upstream>],
    attempt: u64,
) -> Result<Giving, HandoverError> {
    if std::process::id() == 1 {
        return Err(HandoverError::FirstProcess);
    }
    let not_started = |error| HandoverError::NotStarted(successor.program.clone(), error);
    let (ours, theirs) = pair().map_err(not_started)?;
    let child = Begun::start(successor, theirs).map_err(not_started)?;
    let channel = Channel::new(ours).map_err(not_started)?;
    let mut giving = Giving { channel, child: Some(child), attempt, batches: 0, given: 0 };
    // Who does not listen must not hold this up for ever.
    let told = timeout(READY_WITHIN, giving.tell(doors, upstreams)).await;
    told.unwrap_or(Err(HandoverError::Late("listen")))?;
    match giving.hear("make ready", READY_WITHIN).await? {
        Word::Ready { version, program } => {
            tracing::info!(version, "upgrade: {program} is ready");
            Ok(giving)
        }
        Word::Refused { why } => Err(HandoverError::Refused(why)),
        other => Err(unexpected("make ready", &other)),
    }
}

/// A process that was started, by this one or in its place.
#[derive(Debug)]
enum Begun {
    Here(Child),
    There(Arc<Starter>, u32),
}

impl Begun {
    fn start(successor: &Successor, line: OwnedFd) -> io::Result<Begun> {
        match &successor.starter {
            Some(starter) => Ok(Begun::There(Arc::clone(starter), starter.start(line)?)),
            None => Ok(Begun::Here(start(successor, line)?)),
        }
    }

    fn id(&self) -> u32 {
        match self {
            Begun::Here(child) => child.id(),
            Begun::There(_, pid) => *pid,
        }
    }

    /// How it ended; none while it runs.
    fn look(&mut self) -> io::Result<Option<String>> {
        match self {
            Begun::Here(child) => Ok(child.try_wait()?.map(|status| status.to_string())),
            Begun::There(starter, pid) => starter.look(*pid),
        }
    }

    fn end(&mut self) {
        let ended = match self {
            Begun::Here(child) => child.kill().and_then(|()| child.wait().map(drop)),
            Begun::There(starter, pid) => starter.end(*pid),
        };
        if let Err(error) = ended {
            tracing::warn!("upgrade: the new process could not be ended: {error}");
        }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        match self {
            Begun::Here(child) => Ok(kill_process(Pid::from_child(child), signal)?),
            Begun::There(starter, pid) => starter.signal(*pid, signal),
        }
    }
}

/// Starts the program with its end of the line; when this returns, nobody else has that.
pub(in crate::process) fn start(successor: &Successor, line: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(&successor.program);
    if let Some(folder) = &successor.folder {
        command.current_dir(folder);
    }
    command
        .args(&successor.arguments)
        .stdin(Stdio::from(line))
        // They are for this process alone: the sockets that it was given are handed over, and whoever is watched is another.
        .env_remove("LISTEN_PID")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_FDNAMES")
        .env_remove("WATCHDOG_PID")
        .spawn()
}

fn unexpected(step: &'static str, word: &Word) -> HandoverError {
    let said = serde_json::to_string(word).unwrap_or_default();
    HandoverError::Broken(step, io::Error::other(format!("it said {said}")))
}

impl Giving {
    async fn tell(
        &mut self,
        doors: &Doors,
        upstreams: &[Arc<Upstream>],
    ) -> Result<(), HandoverError> {
        const STEP: &str = "listen";
        let program = concat!("evenkeel ", env!("CARGO_PKG_VERSION")).to_owned();
        let descriptors = descriptors::before();
        self.say(STEP, &Word::Hello { version: VERSION, program, descriptors }).await?;
        for (section, wanted, is_lent, fd) in doors.sockets() {
            let (section, wanted) = (section.to_owned(), wanted.to_string());
            let word = Word::Listener { section, wanted, is_lent };
            let said = self.channel.say(&word, &[], &[fd]).await;
            self.said(STEP, said).await?;
        }
        for upstream in upstreams {
            let past = upstream.past();
            for part in past.in_parts(BACKENDS_AT_A_TIME) {
                self.say(STEP, &Word::Upstream(part)).await?;
            }
        }
        self.say(STEP, &Word::Prepare).await
    }

    async fn say(&mut self, step: &'static str, word: &Word) -> Result<(), HandoverError> {
        let said = self.channel.say(word, &[], &[]).await;
        self.said(step, said).await
    }

    /// An end that nobody listens at any more is the new process's end.
    async fn said(
        &mut self,
        step: &'static str,
        said: io::Result<()>,
    ) -> Result<(), HandoverError> {
        match said {
            Ok(()) => Ok(()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                // It may have said why.
                match self.hear(step, ENDS_WITHIN).await? {
                    Word::Refused { why } => Err(HandoverError::Refused(why)),
                    other => Err(unexpected(step, &other)),
                }
            }
            Err(error) => Err(HandoverError::Broken(step, error)),
        }
    }

    async fn hear(&mut self, step: &'static str, within: Duration) -> Result<Word, HandoverError> {
        loop {
            match timeout(within, self.channel.hear()).await {
                Err(_) => return Err(HandoverError::Late(step)),
                Ok(Err(error)) => return Err(HandoverError::Broken(step, error)),
                Ok(Ok(None)) => return Err(HandoverError::Ended(step, self.status().await)),
                Ok(Ok(Some(heard))) if matches!(heard.word, Word::Unknown) => {}
                Ok(Ok(Some(heard))) => return Ok(heard.word),
            }
        }
    }

    /// What came of a process that has closed its end.
    async fn status(&mut self) -> Option<String> {
        let child = self.child.as_mut()?;
        let ended = async {
            loop {
                match child.look() {
                    Ok(Some(how)) => return Some(how),
                    Ok(None) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(_) => return None,
                }
            }
        };
        timeout(ENDS_WITHIN, ended).await.ok().flatten()
    }

    /// Has the new process accept. From here on both are at work.
    pub(in crate::process) async fn let_accept(&mut self) -> Result<(), HandoverError> {
        const STEP: &str = "accept";
        self.say(STEP, &Word::Accept).await?;
        match self.hear(STEP, ANSWER_WITHIN).await? {
            Word::Accepting => Ok(()),
            Word::Refused { why } => Err(HandoverError::Refused(why)),
            other => Err(unexpected(STEP, &other)),
        }
    }

    /// Hands over every connection that can go now, and was not asked before; how many went.
    pub(in crate::process) async fn pass(
        &mut self,
        workers: &Workers,
    ) -> Result<u64, HandoverError> {
        let before = self.given;
        for worker in 0..workers.count() {
            while self.pass_some(workers, worker).await? {}
        }
        Ok(self.given - before)
    }

    /// The same for some of a worker's; whether there were any.
    async fn pass_some(&mut self, workers: &Workers, worker: usize) -> Result<bool, HandoverError> {
        let (asked, mut all_asked) = mpsc::channel(1);
        let (leaving, mut parcels) = mpsc::unbounded_channel();
        workers.park(worker, Parking { most: BATCH, attempt: self.attempt, asked, leaving });
        // A worker with much to do asks late, which harms nobody: nothing rests before it does.
        let given_up = tokio::time::sleep(READY_WITHIN);
        let mut given_up = std::pin::pin!(given_up);
        let mut any = false;
        // Each goes as soon as it rests: those who have much to say rest late, and nobody waits for them.
        loop {
            tokio::select! {
                biased;
                Some(parcel) = parcels.recv() => {
                    any = true;
                    self.follow(parcel, &mut parcels).await?;
                }
                // The first word is that all have been asked; the end is that none is left to park.
                word = all_asked.recv() => match word {
                    Some(()) => given_up.as_mut().reset(Instant::now() + ANSWER_WITHIN),
                    None => break,
                },
                () = &mut given_up => break,
            }
        }
        // Who comes later finds nobody here, and goes on.
        parcels.close();
        while let Ok(parcel) = parcels.try_recv() {
            any = true;
            self.follow(parcel, &mut parcels).await?;
        }
        Ok(any)
    }

    /// Hands over connections that were offered, with those that were so at the same time.
    pub(in crate::process) async fn follow(
        &mut self,
        first: Parcel,
        offered: &mut mpsc::UnboundedReceiver<Parcel>,
    ) -> Result<(), HandoverError> {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(parcel) = offered.try_recv()
        {
            batch.push(parcel);
        }
        self.hand(batch).await
    }

    /// Hands over a batch. Where this fails, what is in it goes on here, and is forgotten there.
    async fn hand(&mut self, batch: Vec<Parcel>) -> Result<(), HandoverError> {
        let handed = self.try_hand(batch).await;
        if handed.is_err() {
            // Else it would be taken for ours to give when this process ends.
            let _ = self.channel.say(&Word::Abandon, &[], &[]).await;
        }
        handed
    }

    async fn try_hand(&mut self, batch: Vec<Parcel>) -> Result<(), HandoverError> {
        const STEP: &str = "take connections";
        self.batches += 1;
        let sent = timeout(ANSWER_WITHIN, self.send(batch)).await;
        let sent = sent.unwrap_or(Err(HandoverError::Late(STEP)))?;
        let mut sent: Vec<_> = sent.into_iter().map(Some).collect();
        self.say(STEP, &Word::Batch { count: sent.len(), number: self.batches }).await?;
        loop {
            match self.hear(STEP, ANSWER_WITHIN).await? {
                // To a batch that was given up.
                Word::Held { number, .. } if number != self.batches => {}
                Word::Held { refused, .. } => {
                    for at in refused {
                        // Dropped, it goes on here.
                        sent.get_mut(at).and_then(Option::take);
                    }
                    break;
                }
                other => return Err(unexpected(STEP, &other)),
            }
        }
        self.say(STEP, &Word::Commit).await?;
        for parcel in sent.into_iter().flatten() {
            self.given += u64::from(parcel.gone.send(()).is_ok());
        }
        Ok(())
    }

    /// Sends connections; those that cannot be told of stay, and are not among what comes of it.
    async fn send(&mut self, batch: Vec<Parcel>) -> Result<Vec<Parcel>, HandoverError> {
        const STEP: &str = "take connections";
        let mut sent = Vec::with_capacity(batch.len());
        for parcel in batch {
            let (up, down) = (&parcel.waiting.up, &parcel.waiting.down);
            let word = Word::Connection {
                handed: Box::new(parcel.handed.clone()),
                up: up.len(),
                down: down.len(),
            };
            let fds: Vec<_> = parcel.sockets.iter().map(|socket| socket.as_fd()).collect();
            match self.channel.say(&word, &[], &fds).await {
                // A path that JSON cannot hold.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
                said => self.said(STEP, said).await?,
            }
            for piece in up.chunks(PIECE).chain(down.chunks(PIECE)) {
                let said = self.channel.say(&Word::Bytes, piece, &[]).await;
                self.said(STEP, said).await?;
            }
            sent.push(parcel);
        }
        Ok(sent)
    }

    /// Tells the new process that it is the one that serves.
    pub(in crate::process) async fn settle(&mut self) -> Result<(), HandoverError> {
        self.say("go on alone", &Word::Settled).await
    }

    /// Leaves it on its own, whatever becomes of this one. Whoever starts a process is told of its end; we end before that.
    pub(in crate::process) fn let_go(&mut self) {
        self.child = None;
    }

    /// Sends it a signal.
    pub(in crate::process) fn signal(&self, signal: Signal) {
        let told = self.child.as_ref().map_or(Ok(()), |child| child.signal(signal));
        if let Err(error) = told {
            tracing::warn!("upgrade: the new process could not be told: {error}");
        }
    }

    /// Whether the new process still runs.
    pub(in crate::process) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.look(), Ok(None)))
    }

    /// It, while it is not on its own.
    pub(in crate::process) fn process(&self) -> Option<Pid> {
        let number = self.child.as_ref().map(Begun::id)?;
        i32::try_from(number).ok().and_then(Pid::from_raw)
    }

    /// Its number; 0 once it is on its own.
    pub(in crate::process) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Begun::id)
    }
}
