//! Messages there and back, as a closed loop with one message under way on each connection, or as
//! an open loop at a fixed rate. In the open loop latency counts from the intended sending time.
//! Messages may be packets, several of which are sent at a time and awaited together.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;

use crate::pace::{Pace, TIMER};
use crate::packets;
use crate::window::{self, Phase, Report, Window};
use crate::wire::{self, Watch};

/// How many connections, how large a message, and how many a second if that is fixed.
pub struct Shape {
    pub connections: usize,
    pub size: usize,
    /// So many packets at a time, where messages are packets.
    pub packets: Option<usize>,
    pub rate: Option<f64>,
}

/// Runs until the window closes and reports messages answered.
pub fn run(to: SocketAddr, shape: Shape, mut window: Window) -> io::Result<Report> {
    let mut run = Run::open(to, &shape)?;
    let mut pace = shape.rate.map(|rate| Pace::start(rate, &run.watch)).transpose()?;
    if pace.is_none() {
        let now = Instant::now();
        (0..shape.connections).try_for_each(|index| run.talks[index].send(&run.payload, now))?;
    }
    loop {
        let ready = run.watch.wait(Duration::from_millis(20))?;
        for index in 0..ready {
            match run.watch.take(index).0 {
                TIMER => run.tick(pace.as_mut())?,
                talk => run.receive(talk as usize, shape.rate.is_none())?,
            }
        }
        match window.phase(Instant::now()) {
            Phase::Go => {}
            Phase::Open => {
                run.answered = 0;
                run.times.reset();
            }
            Phase::Close => break,
        }
    }
    if shape.rate.is_some() {
        run.note_unanswered();
    }
    Ok(window.close(run.answered, 0, &run.times))
}

struct Run {
    watch: Watch,
    talks: Vec<Talk>,
    /// What is sent at a time, and how long each message within it is.
    payload: Vec<u8>,
    size: usize,
    scratch: Vec<u8>,
    answered: u64,
    times: Histogram<u64>,
}

impl Run {
    fn open(to: SocketAddr, shape: &Shape) -> io::Result<Run> {
        let watch = Watch::new()?;
        let mut talks = Vec::with_capacity(shape.connections);
        for token in 0..shape.connections {
            let stream = wire::connect(to)?;
            watch.add(&stream, token as u64, EventFlags::IN)?;
            talks.push(Talk { stream, due: VecDeque::with_capacity(4), received: 0, owed: 0 });
        }
        let payload = match shape.packets {
            Some(count) => packets::several(count, shape.size),
            None => vec![wire::ECHO; shape.size.max(1)],
        };
        Ok(Run {
            watch,
            talks,
            size: payload.len() / shape.packets.unwrap_or(1).max(1),
            payload,
            scratch: vec![0; 64 * 1024],
            answered: 0,
            times: window::times(),
        })
    }

    /// Sends all that is due by now, over the connections in turn.
    fn tick(&mut self, pace: Option<&mut Pace>) -> io::Result<()> {
        let Some(pace) = pace else { return Ok(()) };
        for number in pace.due()? {
            let talk = (number % self.talks.len() as u64) as usize;
            self.talks[talk].send(&self.payload, pace.moment(number))?;
        }
        Ok(())
    }

    fn receive(&mut self, talk: usize, closed_loop: bool) -> io::Result<()> {
        let talk = &mut self.talks[talk];
        let Some(read) = wire::ready(talk.stream.read(&mut self.scratch))? else { return Ok(()) };
        if read == 0 {
            return Err(wire::closed());
        }
        let now = Instant::now();
        let mut came = &self.scratch[..read];
        while !came.is_empty() {
            let (before, left) = (talk.received, self.payload.len() - talk.received);
            let (now_came, later) = came.split_at(left.min(came.len()));
            came = later;
            talk.received += now_came.len();
            if now_came != &self.payload[before..talk.received] {
                return Err(wrong());
            }
            self.answered += (talk.received / self.size - before / self.size) as u64;
            if talk.received < self.payload.len() {
                break;
            }
            talk.received = 0;
            if let Some(due) = talk.due.pop_front() {
                window::note(&mut self.times, now.saturating_duration_since(due));
            }
            if closed_loop {
                talk.send(&self.payload, now)?;
            }
        }
        talk.flush(&self.payload)
    }

    /// What has no answer at the end counts with its age so far, or a stall would hide.
    fn note_unanswered(&mut self) {
        let now = Instant::now();
        for due in self.talks.iter().flat_map(|talk| &talk.due) {
            window::note(&mut self.times, now.saturating_duration_since(*due));
        }
    }
}

/// One connection, the sending times of what is under way on it, and bytes not yet taken.
struct Talk {
    stream: TcpStream,
    due: VecDeque<Instant>,
    received: usize,
    owed: usize,
}

impl Talk {
    fn send(&mut self, payload: &[u8], due: Instant) -> io::Result<()> {
        self.due.push_back(due);
        self.owed += payload.len();
        self.flush(payload)
    }

    fn flush(&mut self, payload: &[u8]) -> io::Result<()> {
        while self.owed > 0 {
            // What is owed ends where a payload ends.
            let begun = self.owed % payload.len();
            let begin = if begun == 0 { 0 } else { payload.len() - begun };
            match wire::ready(self.stream.write(&payload[begin..]))? {
                Some(written) => self.owed -= written,
                None => break,
            }
        }
        Ok(())
    }
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what came back is not what was sent")
}
