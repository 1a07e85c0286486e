//! Both ends of the connections, each a thread with an event loop: clients that transfer or only say a byte now and then, and
//! the backend that transfers with them or says back what it hears. Every byte is checked, and who closes early is counted.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::content::{BLOCK, Content};
use super::shared::Shared;

/// What is sent at a time where there is a rate.
const PIECE: usize = 16 * 1024;
/// A connection says this many bytes first: of what kind it is and its number.
const HELLO: usize = 8;
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
/// Connections that may be on their way to the backend at the same time.
const ARRIVING_MAX: usize = 100;
/// The most that a sender has under way, so that a thousand at full speed fit into the kernel's
/// memory for TCP: where they do not, it drops what comes, and waits are those before it is sent again.
const UNDER_WAY_MAX: u64 = 128 * 1024;
const IDLE_EVERY: f64 = 1.0;
const LISTENER: u64 = u64::MAX;

/// What is run.
#[derive(Clone, Copy)]
pub struct Load {
    pub transfers: u32,
    pub idle: u32,
    /// Bytes a second of each transfer, each way; none is as fast as it goes.
    pub rate: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Backend,
}

/// What an end found.
#[derive(Default)]
pub struct Found {
    /// For each window, the longest gap of each transfer, in seconds.
    pub gaps: Vec<Vec<f64>>,
    /// For each window, the longest time that a byte took there and back, over all that are idle.
    pub answers: Vec<f64>,
    /// Reads that brought other bytes than were due.
    pub wrong: u64,
    /// Connections that ended before the run did.
    pub closed: u64,
    /// Bytes of idle connections that never came back.
    pub unanswered: u64,
    /// The fewest answers that an idle connection got.
    pub fewest_answers: u64,
    pub blocked_by: Option<String>,
}

struct Connection {
    stream: TcpStream,
    kind: Kind,
}

enum Kind {
    /// It has not said yet what it is.
    Fresh(Vec<u8>),
    Transfer(Transfer),
    Idle(Idle),
    Echo,
}

struct Transfer {
    number: u32,
    sent: u64,
    received: u64,
    /// Bytes that it may send by now.
    owed: u64,
    /// Whether it is waited for until it takes more.
    awaits_room: bool,
    last: Instant,
    longest: Duration,
}

#[derive(Default)]
struct Idle {
    said: u8,
    asked: Option<Instant>,
    answers: u64,
}

/// One end.
pub struct End {
    side: Side,
    load: Load,
    shared: Arc<Shared>,
    content: Content,
    epoll: rustix::fd::OwnedFd,
    listener: Option<TcpListener>,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    transfers: Vec<usize>,
    idle: Vec<usize>,
    /// Pieces given out so far, and idle connections asked so far.
    given: (u64, u64),
    began: Instant,
    window: u64,
    is_over: bool,
    room: Vec<u8>,
    longest_answer: Duration,
    found: Found,
}

/// Who a connection is, as its first bytes.
pub fn hello(kind: u8, number: u32) -> [u8; HELLO] {
    let [a, b, c, d] = number.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

impl End {
    /// Connects everything; the event loop comes later.
    pub fn clients(load: Load, to: SocketAddr, shared: Arc<Shared>) -> io::Result<End> {
        let mut end = End::new(Side::Client, load, shared)?;
        for number in 0..load.transfers + load.idle {
            end.let_arrive(number as usize);
            let mut stream = TcpStream::connect(to)?;
            let transfers = number < load.transfers;
            stream.write_all(&hello(if transfers { b'T' } else { b'I' }, number))?;
            let kind = match transfers {
                true => Kind::Transfer(Transfer::new(number)),
                false => Kind::Idle(Idle::default()),
            };
            end.admit(stream, kind)?;
        }
        Ok(end)
    }

    /// Waits while too many are on their way: no queue of the kernel is to be measured here.
    fn let_arrive(&self, connected: usize) {
        let begun = Instant::now();
        while connected > self.shared.arrived.load(Relaxed) + ARRIVING_MAX
            && begun.elapsed() < Duration::from_secs(5)
        {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn backend(load: Load, listener: TcpListener, shared: Arc<Shared>) -> io::Result<End> {
        let mut end = End::new(Side::Backend, load, shared)?;
        listener.set_nonblocking(true)?;
        epoll::add(&end.epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        end.listener = Some(listener);
        Ok(end)
    }

    fn new(side: Side, load: Load, shared: Arc<Shared>) -> io::Result<End> {
        Ok(End {
            side,
            load,
            shared,
            content: Content::new(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            listener: None,
            connections: Vec::new(),
            free: Vec::new(),
            transfers: Vec::new(),
            idle: Vec::new(),
            given: (0, 0),
            began: Instant::now(),
            window: 0,
            is_over: false,
            room: vec![0; BLOCK],
            longest_answer: Duration::ZERO,
            found: Found::default(),
        })
    }

    /// Runs until it is told to quit.
    pub fn run(mut self) -> Found {
        if let Err(error) = self.turns() {
            self.found.blocked_by = Some(error.to_string());
        }
        let idle = self.connections.iter().flatten().filter_map(|connection| {
            if let Kind::Idle(idle) = &connection.kind { Some(idle) } else { None }
        });
        let counted = idle.map(|idle| (idle.answers, u64::from(idle.asked.is_some())));
        let (fewest, unanswered) = counted.fold((u64::MAX, 0), |(fewest, all), (answers, open)| {
            (fewest.min(answers), all + open)
        });
        (self.found.fewest_answers, self.found.unanswered) = (fewest, unanswered);
        self.found
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        self.began = Instant::now();
        while !self.shared.quit.load(Relaxed) {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&TICK)) {
                Err(rustix::io::Errno::INTR) => {}
                outcome => drop(outcome?),
            }
            for event in events.drain(..) {
                match { event.data }.u64() {
                    LISTENER => self.accept()?,
                    key => self.serve(key as usize, event.flags)?,
                }
            }
            if !self.is_over {
                self.is_over = self.shared.is_over.load(Relaxed);
                match self.is_over {
                    true => self.fall_silent()?,
                    false => self.give_turns()?,
                }
            }
            self.follow_window();
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        while let Some(listener) = &self.listener {
            match listener.accept() {
                Ok((stream, _)) => self.admit(stream, Kind::Fresh(Vec::new()))?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn admit(&mut self, stream: TcpStream, kind: Kind) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let key = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        epoll::add(&self.epoll, &stream, EventData::new_u64(key as u64), EventFlags::IN)?;
        self.connections[key] = Some(Connection { stream, kind });
        self.note_kind(key);
        Ok(())
    }

    /// Files a connection under what it turned out to be.
    fn note_kind(&mut self, key: usize) {
        let Some(connection) = &self.connections[key] else { return };
        match &connection.kind {
            Kind::Transfer(_) => self.transfers.push(key),
            Kind::Idle(_) => self.idle.push(key),
            Kind::Fresh(_) | Kind::Echo => {}
        }
    }

    fn watch(&self, key: usize) -> io::Result<()> {
        let Some(Connection { stream, kind: Kind::Transfer(transfer) }) = &self.connections[key]
        else {
            return Ok(());
        };
        let both = EventFlags::IN | EventFlags::OUT;
        let flags = if transfer.awaits_room { both } else { EventFlags::IN };
        Ok(epoll::modify(&self.epoll, stream, EventData::new_u64(key as u64), flags)?)
    }

    fn serve(&mut self, key: usize, flags: EventFlags) -> io::Result<()> {
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(key)?;
        }
        if flags.contains(EventFlags::OUT) {
            self.send(key)?;
        }
        Ok(())
    }

    fn read(&mut self, key: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[key] else { return Ok(()) };
        let mut room = std::mem::take(&mut self.room);
        let outcome = match connection.stream.read(&mut room) {
            Ok(0) => self.end(key),
            Ok(count) => self.take_in(key, &room[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(_) => self.end(key),
        };
        self.room = room;
        outcome
    }

    fn end(&mut self, key: usize) -> io::Result<()> {
        let gone = self.connections[key].take();
        self.free.push(key);
        let was_to_stay =
            matches!(gone, Some(Connection { kind: Kind::Transfer(_) | Kind::Idle(_), .. }));
        if was_to_stay {
            // When the other end has been told to go, it has not been closed on the way.
            self.found.closed += u64::from(!self.shared.quit.load(Relaxed));
            self.transfers.retain(|other| *other != key);
            self.idle.retain(|other| *other != key);
        }
        Ok(())
    }

    fn take_in(&mut self, key: usize, bytes: &[u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[key] else { return Ok(()) };
        match &mut connection.kind {
            Kind::Fresh(said) => {
                let count = bytes.len().min(HELLO - said.len());
                said.extend_from_slice(&bytes[..count]);
                if said.len() < HELLO {
                    return Ok(());
                }
                let number = u32::from_be_bytes([said[4], said[5], said[6], said[7]]);
                let stays = said[0] != b'N';
                connection.kind = match said[0] {
                    b'T' => Kind::Transfer(Transfer::new(number)),
                    _ => Kind::Echo,
                };
                self.note_kind(key);
                self.shared.arrived.fetch_add(usize::from(stays), Relaxed);
                if bytes.len() > count { self.take_in(key, &bytes[count..]) } else { Ok(()) }
            }
            Kind::Transfer(transfer) => {
                let now = Instant::now();
                transfer.longest = transfer.longest.max(now - transfer.last);
                transfer.last = now;
                let stream = transfer.number * 2 + u32::from(self.side == Side::Client);
                let due = self.content.at(stream, transfer.received, bytes.len());
                self.found.wrong += u64::from(due != bytes);
                transfer.received += bytes.len() as u64;
                self.shared.come[stream as usize].store(transfer.received, Relaxed);
                let way = match self.side {
                    Side::Client => &self.shared.down,
                    Side::Backend => &self.shared.up,
                };
                way.received.fetch_add(bytes.len() as u64, Relaxed);
                Ok(())
            }
            Kind::Idle(idle) => {
                let asked = idle.asked.take();
                let is_due = asked.is_some() && bytes == [idle.said];
                self.found.wrong += u64::from(!is_due);
                idle.answers += 1;
                let took = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
                self.longest_answer = self.longest_answer.max(took);
                Ok(())
            }
            // So few bytes fit into any buffer; if not, the client misses them.
            Kind::Echo => connection.stream.write_all(bytes).or_else(|_| self.end(key)),
        }
    }

    /// Sends once what may be sent.
    fn send(&mut self, key: usize) -> io::Result<()> {
        let Some(Connection { stream, kind: Kind::Transfer(transfer) }) =
            &mut self.connections[key]
        else {
            return Ok(());
        };
        let number = transfer.number * 2 + u32::from(self.side == Side::Backend);
        let under_way = transfer.sent - self.shared.come[number as usize].load(Relaxed);
        let room = UNDER_WAY_MAX.saturating_sub(under_way);
        let most = if self.load.rate.is_some() { room.min(transfer.owed) } else { room };
        if most == 0 || self.is_over {
            let awaited = std::mem::take(&mut transfer.awaits_room);
            return if awaited { self.watch(key) } else { Ok(()) };
        }
        let bytes = self.content.at(number, transfer.sent, most.min(BLOCK as u64) as usize);
        let wanted = bytes.len() as u64;
        let count = match stream.write(bytes) {
            Ok(count) => count as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return self.end(key),
        };
        transfer.sent += count;
        transfer.owed = transfer.owed.saturating_sub(count);
        let way = match self.side {
            Side::Client => &self.shared.up,
            Side::Backend => &self.shared.down,
        };
        way.sent.fetch_add(count, Relaxed);
        if transfer.awaits_room != (count < wanted) {
            transfer.awaits_room = count < wanted;
            self.watch(key)?;
        }
        Ok(())
    }

    /// Whether at full speed it has room for a piece.
    fn wants_to_send(&self, key: usize) -> bool {
        let Some(Connection { kind: Kind::Transfer(transfer), .. }) = &self.connections[key] else {
            return false;
        };
        let number = transfer.number * 2 + u32::from(self.side == Side::Backend);
        let under_way = transfer.sent - self.shared.come[number as usize].load(Relaxed);
        !transfer.awaits_room && under_way + PIECE as u64 <= UNDER_WAY_MAX
    }

    /// Gives each transfer what it may send by now, and asks the idle ones whose turn it is, evenly over time.
    fn give_turns(&mut self) -> io::Result<()> {
        let elapsed = self.began.elapsed().as_secs_f64();
        let transfers = self.transfers.len() as u64;
        let pace = self.load.rate.unwrap_or(0.0) * transfers as f64 / PIECE as f64;
        while self.given.0 < (elapsed * pace) as u64 {
            let key = self.transfers[(self.given.0 % transfers) as usize];
            self.given.0 += 1;
            if let Some(Connection { kind: Kind::Transfer(transfer), .. }) =
                &mut self.connections[key]
            {
                transfer.owed += PIECE as u64;
                if !transfer.awaits_room {
                    self.send(key)?;
                }
            }
        }
        for place in 0..self.transfers.len() {
            // One that ended meanwhile has left a gap at the end.
            let Some(&key) = self.transfers.get(place) else { break };
            if self.load.rate.is_none() && self.wants_to_send(key) {
                self.send(key)?;
            }
        }
        let idle = self.idle.len() as u64;
        while self.given.1 < (elapsed * idle as f64 / IDLE_EVERY) as u64 {
            let key = self.idle[(self.given.1 % idle) as usize];
            self.given.1 += 1;
            self.ask(key)?;
        }
        Ok(())
    }

    /// Has an idle connection say a byte, unless it still waits for the last.
    fn ask(&mut self, key: usize) -> io::Result<()> {
        let Some(Connection { stream, kind: Kind::Idle(idle) }) = &mut self.connections[key] else {
            return Ok(());
        };
        if idle.asked.is_some() {
            return Ok(());
        }
        idle.said = idle.said.wrapping_add(1);
        idle.asked = Some(Instant::now());
        stream.write_all(&[idle.said]).or_else(|_| self.end(key))
    }

    fn fall_silent(&mut self) -> io::Result<()> {
        for key in self.transfers.clone() {
            if let Some(Connection { kind: Kind::Transfer(transfer), .. }) =
                &mut self.connections[key]
            {
                (transfer.awaits_room, transfer.owed) = (false, 0);
            }
            self.watch(key)?;
        }
        Ok(())
    }

    /// Begins to note gaps, or files those of a window that is over.
    fn follow_window(&mut self) {
        let window = self.shared.window();
        if window == self.window {
            return;
        }
        self.window = window;
        let now = Instant::now();
        let is_open = window % 2 == 1;
        let mut gaps = Vec::with_capacity(self.transfers.len());
        for key in &self.transfers {
            if let Some(Connection { kind: Kind::Transfer(transfer), .. }) =
                &mut self.connections[*key]
            {
                // A gap that goes on counts as far as it has come.
                gaps.push(transfer.longest.max(now - transfer.last).as_secs_f64());
                transfer.longest = Duration::ZERO;
            }
        }
        let answer = std::mem::take(&mut self.longest_answer).as_secs_f64();
        if !is_open {
            self.found.gaps.push(gaps);
            self.found.answers.push(answer);
        }
    }
}

impl Transfer {
    fn new(number: u32) -> Transfer {
        let last = Instant::now();
        Transfer {
            number,
            sent: 0,
            received: 0,
            owed: 0,
            awaits_room: false,
            last,
            longest: Duration::ZERO,
        }
    }
}
