//! The new process of a hand-over. It makes everything ready before it says so, touches nothing of a connection before that is
//! its own, and goes on with what it holds if the old process dies.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::time::timeout;

use super::channel::{Channel, Heard};
use super::{READY_WITHIN, VERSION, Word};
use crate::connection::{Adopted, Handed};
use crate::descriptors;
use crate::process::control::Workers;
use crate::process::doors::{Doors, Inherited};
use crate::process::parts::{Parts, Shared};
use crate::tcp::relay::Waiting;
use crate::upstream::{Upstream, UpstreamPast};

/// The process that this one takes over from, at the other end of our standard input.
#[derive(Debug)]
pub(crate) struct Predecessor {
    fd: OwnedFd,
}

impl Predecessor {
    /// An error if this process was not started to take over.
    pub(crate) fn at_stdin() -> io::Result<Predecessor> {
        let stdin = rustix::stdio::stdin();
        let kind = rustix::net::sockopt::socket_type(stdin);
        if kind != Ok(rustix::net::SocketType::SEQPACKET) {
            return Err(io::Error::other(
                "--take-over is for a running evenkeel that starts its successor; use `evenkeel upgrade`",
            ));
        }
        let fd = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        // What this process starts must not find it.
        let nothing = std::fs::File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(&nothing)?;
        Ok(Predecessor { fd })
    }

    /// Tells it why this process cannot begin, so that it can tell whoever asked.
    pub(crate) fn refuse(&self, why: &str) {
        let word = serde_json::to_vec(&Word::Refused { why: why.to_owned() });
        let flags = rustix::net::SendFlags::NOSIGNAL;
        let _ = rustix::net::send(&self.fd, &word.unwrap_or_default(), flags);
    }

    /// Hears what it hands over before its connections. Runs on the runtime that goes on listening.
    pub(in crate::process) async fn listen(&self) -> io::Result<Legacy> {
        let fd = self.fd.as_fd().try_clone_to_owned()?;
        let mut legacy = Legacy::of(Channel::new(fd)?);
        loop {
            let heard = timeout(READY_WITHIN, legacy.channel.hear()).await;
            let heard = heard.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            let Some(Heard { word, mut fds, .. }) = heard else {
                return Err(io::Error::other("the process before ended before it had said all"));
            };
            match word {
                Word::Listener { section, wanted, is_lent } => legacy.listeners.push(Inherited {
                    section,
                    is_lent,
                    // Of another version, it may be written in a way that is not known here.
                    wanted: wanted.parse().ok(),
                    fd: fds.pop().ok_or_else(|| io::Error::other("a listener without a socket"))?,
                }),
                Word::Upstream(past) => legacy.note(past),
                Word::Hello { descriptors: Some(limit), .. } => {
                    descriptors::began_with(Some(limit));
                }
                Word::Prepare => return Ok(legacy),
                _ => {}
            }
        }
    }
}

/// What is taken over, and who still tells of it.
#[derive(Debug)]
pub(in crate::process) struct Legacy {
    channel: Channel,
    listeners: Vec<Inherited>,
    upstreams: Vec<UpstreamPast>,
    /// Connections that have been told of, and are not ours yet.
    batch: Vec<Coming>,
    /// Upstreams that are not in our config, for connections that go on.
    departed: Vec<Arc<Upstream>>,
    taken: u64,
}

#[derive(Debug)]
struct Coming {
    /// None where it is told of in words that are not known here.
    handed: Option<Box<Handed>>,
    sockets: Vec<OwnedFd>,
    waiting: Waiting,
    /// How many bytes are to wait.
    up: usize,
    down: usize,
}

impl Coming {
    /// Takes in bytes that came.
    fn take_in(&mut self, bytes: &[u8]) {
        let Waiting { up, down } = &mut self.waiting;
        let (upwards, downwards) = bytes.split_at((self.up - up.len()).min(bytes.len()));
        up.extend_from_slice(upwards);
        down.extend_from_slice(downwards);
    }

    fn is_whole(&self) -> bool {
        self.waiting.up.len() == self.up && self.waiting.down.len() == self.down
    }

    fn can_go_on(&self, here: Here<'_>) -> bool {
        let Some(handed) = self.handed.as_deref() else { return false };
        let leads_somewhere = match (&handed.carried_on, &handed.resting) {
            (Some(_), _) => self.sockets.len() == 2 && !here.parts.upstreams.is_empty(),
            (None, Some(_)) => {
                self.sockets.len() == 1 && here.doors.slot_of(&http(&handed.listener)).is_some()
            }
            (None, None) => false,
        };
        self.is_whole() && leads_somewhere && here.workers.is_some()
    }
}

/// The section of an HTTP listener.
fn http(listener: &str) -> String {
    format!("http.{listener}")
}

/// What serves here, for whatever comes.
#[derive(Clone, Copy)]
pub(in crate::process) struct Here<'a> {
    pub(in crate::process) parts: &'a Parts,
    pub(in crate::process) doors: &'a Doors,
    pub(in crate::process) shared: &'a Shared,
    /// None where this process is stopping: nothing is taken over then.
    pub(in crate::process) workers: Option<&'a Workers>,
}

/// What is to be told to whoever watches over this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::process) enum Progress {
    /// More will be heard.
    GoesOn,
    /// Everything that can come has come: this is the process that serves.
    Settled,
    /// The process before has ended.
    Ended,
}

impl Legacy {
    fn of(channel: Channel) -> Legacy {
        Legacy {
            channel,
            listeners: Vec::new(),
            upstreams: Vec::new(),
            batch: Vec::new(),
            departed: Vec::new(),
            taken: 0,
        }
    }

    /// Notes what is known of an upstream, or of a part of its backends.
    fn note(&mut self, past: UpstreamPast) {
        match self.upstreams.iter_mut().find(|known| known.name == past.name) {
            Some(known) => known.backends.extend(past.backends),
            None => self.upstreams.push(past),
        }
    }

    /// The sockets that are listened on, and what is known of upstreams.
    pub(in crate::process) fn take(&mut self) -> (Vec<Inherited>, Vec<UpstreamPast>) {
        (std::mem::take(&mut self.listeners), std::mem::take(&mut self.upstreams))
    }

    /// Says that everything is ready, and waits until it is to begin.
    pub(in crate::process) async fn ready(&mut self) -> io::Result<()> {
        let program = concat!("evenkeel ", env!("CARGO_PKG_VERSION")).to_owned();
        self.channel.say(&Word::Ready { version: VERSION, program }, &[], &[]).await?;
        loop {
            match self.channel.hear().await? {
                Some(Heard { word: Word::Accept, .. }) => return Ok(()),
                Some(_) => {}
                None => return Err(io::Error::other("the process before goes on by itself")),
            }
        }
    }

    /// Says that it has begun.
    pub(in crate::process) async fn accepting(&self) {
        let _ = self.channel.say(&Word::Accepting, &[], &[]).await;
    }

    /// The next word. Nothing is lost if it is not waited for to the end.
    pub(in crate::process) async fn hear(&mut self) -> io::Result<Option<Message>> {
        Ok(self.channel.hear().await?.map(Message))
    }

    /// Does what a word says.
    pub(in crate::process) async fn obey(
        &mut self,
        message: io::Result<Option<Message>>,
        here: Here<'_>,
    ) -> Progress {
        let heard = match message {
            Ok(Some(Message(heard))) => heard,
            Ok(None) => {
                // It has died in the middle of a batch: nobody else has it.
                self.adopt_batch(here);
                return Progress::Ended;
            }
            Err(error) => {
                tracing::error!("upgrade: the process before cannot be understood: {error}");
                return Progress::Ended;
            }
        };
        let Heard { word, bytes, fds } = heard;
        match word {
            Word::Connection { handed, up, down } => {
                let (handed, waiting) = (Some(handed), Waiting::default());
                self.batch.push(Coming { handed, sockets: fds, waiting, up, down });
            }
            // It counts, so that it can be refused.
            Word::Unknown if !fds.is_empty() => {
                let (handed, waiting) = (None, Waiting::default());
                self.batch.push(Coming { handed, sockets: fds, waiting, up: 0, down: 0 });
            }
            // What was not announced shows in the batch: such a connection is never whole.
            Word::Bytes => {
                self.batch.iter_mut().last().into_iter().for_each(|it| it.take_in(&bytes));
            }
            Word::Batch { count, number } => self.hold(count, number, here).await,
            Word::Commit => self.adopt_batch(here),
            Word::Abandon => self.batch.clear(),
            Word::Settled => {
                // What was not given by now was kept.
                self.batch.clear();
                tracing::info!(connections = self.taken, "upgrade: taken over");
                return Progress::Settled;
            }
            _ => {}
        }
        Progress::GoesOn
    }

    /// Says which connections of a batch can go on here.
    async fn hold(&mut self, count: usize, number: u64, here: Here<'_>) {
        let is_whole = self.batch.len() == count;
        let refused: Vec<usize> = match is_whole {
            true => (0..count).filter(|at| !self.batch[*at].can_go_on(here)).collect(),
            false => (0..count).collect(),
        };
        if !is_whole {
            self.batch.clear();
        }
        let mut places = 0..;
        self.batch.retain(|_| places.next().is_none_or(|at| !refused.contains(&at)));
        if let Err(error) = self.channel.say(&Word::Held { refused, number }, &[], &[]).await {
            tracing::error!("upgrade: the process before does not listen: {error}");
        }
    }

    /// Goes on with what is in the batch.
    fn adopt_batch(&mut self, here: Here<'_>) {
        let batch = std::mem::take(&mut self.batch);
        let Some(workers) = here.workers else { return };
        for coming in batch.into_iter().filter(|coming| coming.can_go_on(here)) {
            if let Some(adopted) = self.adopt(coming, here) {
                self.taken += 1;
                workers.adopt(adopted);
            }
        }
    }

    fn adopt(&mut self, coming: Coming, here: Here<'_>) -> Option<Adopted> {
        let Coming { handed, mut sockets, waiting, .. } = coming;
        let handed = *handed?;
        if let Some(told) = &handed.carried_on {
            let upstream = self.upstream(&told.upstream, here.parts)?;
            let place = upstream.adopt(&told.backend);
            let service = here.parts.service_of(&handed.listener, told.is_tunnel(), here.shared);
            let sockets = sockets.try_into().ok()?;
            return Adopted::carried(handed, sockets, waiting, &service, place);
        }
        let slot = here.doors.slot_of(&http(&handed.listener))?;
        Adopted::resting(handed, sockets.pop()?, waiting, slot)
    }

    fn upstream(&mut self, name: &str, parts: &Parts) -> Option<Arc<Upstream>> {
        let all = parts.upstreams.iter().chain(&self.departed);
        if let Some(known) = all.into_iter().find(|upstream| *upstream.rules.name == *name) {
            return Some(Arc::clone(known));
        }
        let like = &parts.upstreams.first()?.rules;
        let departed = Upstream::departed(name, like).ok()?;
        self.departed.push(Arc::clone(&departed));
        Some(departed)
    }
}

/// A word of the process before, on its way to [`Legacy::obey`].
#[derive(Debug)]
pub(in crate::process) struct Message(Heard);
