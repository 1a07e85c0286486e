//! One worker: an OS thread with its own event loop, its own accept sockets and its own scratch buffer.
//! It carries connections from accept to end and shares nothing on the byte path with the others.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::connections::{Asked, Listed};
pub(super) use super::crew::{Crew, LEFT};
use super::pulse::{self, Beat, Doing};
use super::stays::Stays;
use crate::connection::{Adopted, Desk, Guest, Introduced, Job, Parcel, Slot};
use crate::http;
use crate::listen::Acceptor;
use crate::observe::stripes;
use crate::plan::Share;
use crate::tcp::packets::PacketPool;
use crate::tcp::{Cut, Scratch};
use crate::upstream::Backend;

/// How many more connections than the least loaded worker one must have before it hands a fresh one over.
const DRIFT_MIN: usize = 8;

/// Threads of a worker that may wait for files.
const FILE_THREADS: usize = 4;

/// How often idle connections to backends are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// How often a busy worker's event loop wakes for its beat; see [`Worker::beat`].
const BEAT: Duration = Duration::from_millis(50);

/// Where memory is short: who counts as idle, in answers to the control thread without a turn between them; and the share of a
/// worker's connections that is closed at a time, since it takes a moment until that can be measured.
const IDLE_TURNS: u64 = 3;
const ROOM_SHARE: usize = 16;

/// Names of listeners whose numbers a worker remembers.
const LISTENERS_KNOWN: usize = 64;

/// A listening socket and what is served on it.
#[derive(Debug)]
pub(super) struct Acceptance {
    pub(super) fd: OwnedFd,
    pub(super) slot: Arc<Slot>,
    /// Whether connections are still to be accepted from it.
    pub(super) open: watch::Receiver<Accepting>,
}

/// Who accepts from a listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepting {
    /// We do.
    Here,
    /// Another process does, and has what is queued too.
    Elsewhere,
    /// Nobody does any more: what is queued is the last of it.
    NoLonger,
}

/// What a worker can be told.
#[derive(Debug)]
pub(super) enum Task {
    /// Carry a connection that another worker accepted.
    Serve(Guest),
    /// Carry a connection that another process carried.
    Adopt(Box<Adopted>),
    /// Accept from one more socket.
    Accept(Acceptance),
    /// Take connections apart that can go on in another process.
    Park(Parking),
    /// Have relays take short turns, so that all are asked soon, or long ones again.
    Hurry(bool),
    /// Have every connection go there as soon as it can; none takes that back.
    Leave(Option<mpsc::UnboundedSender<Parcel>>),
    /// Tell each connection that what it takes up next goes by a new plan; dropping this says that all have been told.
    TellNews(mpsc::Sender<()>),
    /// End connections that stay at one of these backends, unless it is in the config again.
    CutRemoved(Arc<[Arc<Backend>]>),
    /// End each connection as soon as nothing is under way on it.
    FinishAll,
    /// End every connection now.
    CutAll,
    /// Close connections that were idle for longest, as others need the memory.
    MakeRoom {
        /// Also those on which something is under way.
        must_be: bool,
    },
    /// Say which connections there are.
    List(Arc<Asked>, mpsc::UnboundedSender<Listed>),
    /// End the connection of this number now, and say whether there was one.
    Close(u64, oneshot::Sender<bool>),
    /// Say that you make progress, by the number of this question.
    Answer(u64, Instant),
    /// Do something that a test wants to see done, as if it were a part of this.
    #[cfg(test)]
    Do(Doing, Fault),
}

/// What a test has a worker do.
#[cfg(test)]
pub(super) struct Fault(pub(super) Box<dyn FnOnce() + Send>);

#[cfg(test)]
impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fault")
    }
}

/// Which connections are to be taken apart, and where they go.
#[derive(Debug, Clone)]
pub(super) struct Parking {
    /// No more than so many.
    pub(super) most: usize,
    /// In each attempt, each is asked once.
    pub(super) attempt: u64,
    /// Told when all have been asked, and held until each of them is parked, or has ended instead.
    pub(super) asked: mpsc::Sender<()>,
    pub(super) leaving: mpsc::UnboundedSender<Parcel>,
}

/// One worker's own things; never leaves its thread.
struct Worker {
    number: usize,
    beat: Arc<Beat>,
    /// Numbers of the listeners' names in it, so that the table of all workers need not be asked for each connection.
    listeners: RefCell<Vec<(Arc<str>, u32)>>,
    crew: Arc<Crew>,
    desk: Rc<Desk>,
    stays: Rc<Stays>,
    finishing: Cell<bool>,
    leaving: Cell<bool>,
    cutting: Cell<bool>,
    /// Sockets that are accepted from.
    acceptors: Cell<usize>,
    /// Whether idle connections to backends are looked after.
    sweeping: Cell<bool>,
    idle: Notify,
    /// Connections taken on since the last beat; none when the worker does not beat.
    since_beat: Cell<Option<u32>>,
    accepting: watch::Receiver<bool>,
}

/// Runs a worker until accepting has stopped and its last connection has ended.
pub(super) fn run(
    (number, beat): (usize, Arc<Beat>),
    crew: Arc<Crew>,
    (acceptances, tasks): (Vec<Acceptance>, mpsc::UnboundedReceiver<Task>),
    mut accepting: watch::Receiver<bool>,
    share: Share,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(FILE_THREADS)
        .build_local(LocalOptions::default())?;
    Beat::belongs_here(&beat);
    stripes::be_worker(number);
    let worker = Rc::new(Worker {
        number,
        beat,
        listeners: RefCell::default(),
        crew,
        desk: Rc::new(Desk {
            scratch: RefCell::new(Scratch::new(share.pipes)),
            http: http::Local::new(share.files, FILE_THREADS, share.compress),
            packets: PacketPool::default(),
            pace: Rc::default(),
            leaving: RefCell::default(),
        }),
        stays: Rc::default(),
        finishing: Cell::new(false),
        leaving: Cell::new(false),
        cutting: Cell::new(false),
        acceptors: Cell::new(0),
        sweeping: Cell::new(false),
        idle: Notify::new(),
        since_beat: Cell::new(None),
        accepting: accepting.clone(),
    });
    runtime.block_on(async {
        worker.beat.begin();
        acceptances.into_iter().for_each(|acceptance| worker.begin_to_accept(acceptance));
        let follow = Rc::clone(&worker).follow(tasks);
        let follow = pulse::during(&worker.beat, Doing::FOLLOWING, follow);
        let follow = tokio::task::spawn_local(follow);
        let _ = accepting.wait_for(|accepting| !accepting).await;
        worker.all_ended().await;
        follow.abort();
    });
    // A thread that hangs in a folder that does not answer must not hold up the stop.
    runtime.shutdown_background();
    Ok(())
}

impl Worker {
    fn begin_to_accept(self: &Rc<Self>, acceptance: Acceptance) {
        self.acceptors.set(self.acceptors.get() + 1);
        self.look_after_idle(&acceptance.slot);
        let listener = self.number_of(&acceptance.slot.now().listener);
        let worker = Rc::clone(self);
        let accept = async move {
            if let Err(error) = worker.accept(acceptance).await {
                tracing::error!("a listening socket failed: {error}");
            }
            worker.acceptors.set(worker.acceptors.get() - 1);
            worker.idle.notify_one();
        };
        tokio::task::spawn_local(pulse::during(&self.beat, Doing::accepting(listener), accept));
    }

    /// Accepts until told to stop, and then whatever the kernel has queued already.
    async fn accept(self: &Rc<Self>, acceptance: Acceptance) -> io::Result<()> {
        let Acceptance { fd, slot, mut open } = acceptance;
        let mut accepting = self.accepting.clone();
        let mut acceptor = Acceptor::new(fd, slot.now().listener.to_string())?;
        let take = |fd, client| {
            if let Some(guest) = slot.admit(fd, client) {
                self.assign(guest);
            }
        };
        loop {
            tokio::select! {
                accepted = acceptor.accept(take) => accepted?,
                _ = accepting.wait_for(|accepting| !accepting) => break,
                _ = open.wait_for(|open| *open != Accepting::Here) => break,
            }
        }
        if *open.borrow() != Accepting::Elsewhere {
            acceptor.accept_queued(take);
        }
        Ok(())
    }

    /// Begins to sweep, once there may be idle connections.
    fn look_after_idle(self: &Rc<Self>, slot: &Slot) {
        let keeps_idle = match &slot.now().job {
            Job::Http(_) => true,
            Job::Tcp(site) => site.rules.packets.is_some(),
        };
        if keeps_idle && !self.sweeping.replace(true) {
            let sweep = Rc::clone(self).sweep();
            tokio::task::spawn_local(pulse::during(&self.beat, Doing::TIDYING, sweep));
        }
    }

    /// Serves a fresh connection here, or on the least loaded worker when this one has drifted too far above it.
    fn assign(self: &Rc<Self>, guest: Guest) {
        match self.less_loaded() {
            None => self.take_on(guest),
            Some(other) => {
                if let Err(mpsc::error::SendError(Task::Serve(guest))) =
                    self.crew.tasks[other].send(Task::Serve(guest))
                {
                    self.crew.loads[other].fetch_sub(1, AcqRel);
                    self.take_on(guest);
                }
            }
        }
    }

    /// The worker to hand a fresh connection to, with its place there counted already.
    fn less_loaded(&self) -> Option<usize> {
        let own = self.crew.loads[self.number].load(Relaxed);
        if own < DRIFT_MIN {
            return None;
        }
        let loads = self.crew.loads.iter().map(|load| load.load(Relaxed)).enumerate();
        let (least, load) =
            loads.filter(|(_, load)| *load != LEFT).min_by_key(|(_, load)| *load)?;
        if own < load + DRIFT_MIN || own <= load + load / 4 {
            return None;
        }
        self.crew.take_place_at(least).then_some(least)
    }

    fn take_on(self: &Rc<Self>, guest: Guest) {
        self.crew.loads[self.number].fetch_add(1, Relaxed);
        self.serve(guest);
    }

    /// Keeps a timer running that is nearer than any timeout of a connection, while connections come.
    ///
    /// tokio wakes its own event loop, with a system call and an event, for each timer that is due before all
    /// others; without the beat that is every connect timeout. An idle worker does not beat.
    async fn beat(self: Rc<Self>) {
        loop {
            tokio::time::sleep(BEAT).await;
            if self.since_beat.replace(Some(0)) == Some(0) {
                self.since_beat.set(None);
                return;
            }
        }
    }

    /// Closes idle connections to backends when their time is over.
    async fn sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.desk.http.sweep();
            self.desk.packets.sweep();
        }
    }

    /// Starts serving a connection that is counted already.
    fn serve(self: &Rc<Self>, guest: Guest) {
        let known = guest.introduced();
        let doing = Doing::serving(self.number_of(&known.listener), known.client);
        let (desk, cut, stay) = self.begin_stay(known);
        self.spawn(doing, &cut, guest.serve(desk, Rc::clone(&cut), stay));
    }

    /// Everything a connection needs that begins to be served here.
    fn begin_stay(self: &Rc<Self>, known: Introduced) -> (Rc<Desk>, Rc<Cut>, Stay) {
        match self.since_beat.get() {
            Some(count) => self.since_beat.set(Some(count.saturating_add(1))),
            None => {
                self.since_beat.set(Some(1));
                tokio::task::spawn_local(Rc::clone(self).beat());
            }
        }
        let cut = Rc::new(Cut::default());
        cut.leave(self.leaving.get());
        if self.finishing.get() {
            cut.ask_to_finish();
        }
        if self.cutting.get() {
            cut.ask();
        }
        let key = self.stays.begin(&cut, known);
        let stay = Stay { worker: Rc::clone(self), key };
        (Rc::clone(&self.desk), cut, stay)
    }

    /// Serves a connection, so that it is seen what this worker does, and when the connection had a turn.
    fn spawn(&self, doing: Doing, cut: &Rc<Cut>, serving: impl Future<Output = ()> + 'static) {
        let seen = pulse::during(&self.beat, doing, serving).noted_in(Rc::clone(cut));
        tokio::task::spawn_local(seen);
    }

    /// Has connections take themselves apart that can.
    fn park(&self, parking: &Parking) {
        *self.desk.leaving.borrow_mut() = Some(parking.leaving.clone());
        let cuts = self.each_cut();
        let asked = cuts.iter().filter(|cut| cut.ask_to_park(parking.attempt, &parking.asked));
        asked.take(parking.most).for_each(drop);
        // There is room: it is the first word, and whoever listens waits for no other.
        let _ = parking.asked.try_send(());
    }

    fn number_of(&self, listener: &Arc<str>) -> u32 {
        let mut known = self.listeners.borrow_mut();
        if let Some((_, number)) = known.iter().find(|(name, _)| Arc::ptr_eq(name, listener)) {
            return *number;
        }
        // Each reload brings names anew.
        if known.len() >= LISTENERS_KNOWN {
            known.clear();
        }
        let number = self.beat.number_of(listener);
        known.push((Arc::clone(listener), number));
        number
    }

    /// Carries out what the control thread and the other workers ask for.
    async fn follow(self: Rc<Self>, mut tasks: mpsc::UnboundedReceiver<Task>) {
        while let Some(task) = tasks.recv().await {
            match task {
                Task::Serve(guest) => self.serve(guest),
                Task::Adopt(adopted) => {
                    let known = adopted.introduced();
                    let doing = Doing::serving(self.number_of(&known.listener), known.client);
                    let (desk, cut, stay) = self.begin_stay(known);
                    self.spawn(doing, &cut, adopted.serve(desk, Rc::clone(&cut), stay));
                }
                Task::Accept(acceptance) => self.begin_to_accept(acceptance),
                Task::Park(parking) => self.park(&parking),
                Task::Hurry(hurries) => self.desk.scratch.borrow_mut().hurry(hurries),
                Task::Leave(to) => {
                    self.leaving.set(to.is_some());
                    *self.desk.leaving.borrow_mut() = to;
                    self.each_cut().iter().for_each(|cut| cut.leave(self.leaving.get()));
                }
                Task::TellNews(told) => {
                    self.each_cut().iter().for_each(|cut| cut.tell_news());
                    drop(told);
                    // There may be idle connections now where there were none.
                    if !self.sweeping.replace(true) {
                        let sweep = Rc::clone(&self).sweep();
                        tokio::task::spawn_local(pulse::during(&self.beat, Doing::TIDYING, sweep));
                    }
                }
                Task::MakeRoom { must_be } => self.make_room(must_be),
                Task::List(asked, answer) => {
                    let listed = Rc::clone(&self.stays).list(asked, answer);
                    let listed = pulse::during(&self.beat, Doing::FOLLOWING, listed);
                    tokio::task::spawn_local(listed);
                }
                Task::Close(number, answer) => {
                    // Whoever asked may have left.
                    let _ = answer.send(self.stays.close(number));
                }
                Task::Answer(question, asked) => self.beat.answer(question, asked),
                #[cfg(test)]
                Task::Do(doing, fault) => {
                    let does = pulse::during(&self.beat, doing, async move { (fault.0)() });
                    tokio::task::spawn_local(does);
                }
                Task::CutRemoved(removed) => {
                    self.each_cut().iter().for_each(|cut| cut.ask_if_at(&removed));
                }
                Task::FinishAll => {
                    self.finishing.set(true);
                    self.desk.http.close_idle();
                    self.desk.packets.close_idle();
                    self.each_cut().iter().for_each(|cut| cut.ask_to_finish());
                }
                Task::CutAll => {
                    self.cutting.set(true);
                    self.each_cut().iter().for_each(|cut| cut.ask());
                }
            }
        }
    }

    /// Closes idle connections to backends, and a share of those of clients: whoever had no turn for longest goes first.
    fn make_room(&self, must_be: bool) {
        self.desk.http.close_idle();
        self.desk.packets.close_idle();
        let now = self.beat.now();
        let is_idle = |cut: &Rc<Cut>| now.saturating_sub(cut.had_turn()) >= IDLE_TURNS;
        let all = self.each_cut();
        let share = all.len().div_ceil(ROOM_SHARE);
        let mut idle: Vec<_> = all.into_iter().filter(is_idle).collect();
        idle.sort_by_key(|cut| cut.had_turn());
        idle.iter().take(share).for_each(|cut| cut.make_room(must_be));
        // What has ended since the last time; an allocator that keeps it would have us refuse clients for nothing.
        evenkeel_sys::give_memory_back();
    }

    fn each_cut(&self) -> Vec<Rc<Cut>> {
        self.stays.cuts()
    }

    async fn all_ended(&self) {
        while self.acceptors.get() > 0 {
            self.idle.notified().await;
        }
        // Leaving and being handed a connection exclude each other.
        let load = &self.crew.loads[self.number];
        while load.compare_exchange(0, LEFT, AcqRel, Relaxed).is_err() {
            self.idle.notified().await;
        }
    }
}

/// The stay of one connection on a worker; dropping it, also in a panic, takes it off the worker's books.
struct Stay {
    worker: Rc<Worker>,
    key: usize,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.worker.stays.end(self.key);
        self.worker.crew.loads[self.worker.number].fetch_sub(1, AcqRel);
        self.worker.idle.notify_one();
    }
}
