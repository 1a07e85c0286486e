//! HTTP/1.1 requests over connections that stay: a closed loop with one under way on each, or an
//! open loop at a fixed rate, whose requests wait for a free connection and count from when they
//! were due. Status and length of every answer are checked; a wrong one ends the run.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;

use crate::exchange::{Answer, Exchange};
use crate::pace::{Pace, TIMER};
use crate::window::{self, Phase, Report, Window};
use crate::wire::{self, Watch};

/// A proxy that cuts this many is not being measured any more.
const MOST_FAILURES: u64 = 10_000;

/// How many connections, what they ask, and how often a second if that is fixed.
pub struct Shape {
    pub connections: usize,
    pub exchange: Exchange,
    pub rate: Option<f64>,
}

/// Runs until the window closes and reports requests answered.
pub fn run(to: SocketAddr, shape: Shape, mut window: Window) -> io::Result<Report> {
    let rate = shape.rate;
    let mut run = Run::open(to, shape)?;
    let mut pace = rate.map(|rate| Pace::start(rate, &run.watch)).transpose()?;
    if pace.is_none() {
        run.waiting = vec![Instant::now(); run.talks.len()].into();
    }
    run.dispatch()?;
    loop {
        for index in 0..run.watch.wait(Duration::from_millis(20))? {
            match run.watch.take(index) {
                (TIMER, _) => {
                    if let Some(pace) = &mut pace {
                        let due = pace.due()?;
                        run.waiting.extend(due.map(|number| pace.moment(number)));
                    }
                }
                (talk, flags) => run.step(talk as usize, flags, pace.is_none())?,
            }
            run.dispatch()?;
        }
        match window.phase(Instant::now()) {
            Phase::Go => {}
            Phase::Open => {
                (run.answered, run.failed) = (0, 0);
                run.times.reset();
            }
            Phase::Close => break,
        }
    }
    if pace.is_some() {
        run.note_unanswered();
    }
    Ok(window.close(run.answered, run.failed, &run.times))
}

struct Run {
    to: SocketAddr,
    watch: Watch,
    talks: Vec<Talk>,
    exchange: Exchange,
    scratch: Vec<u8>,
    /// When requests that no connection has taken yet were due.
    waiting: VecDeque<Instant>,
    /// Connections with nothing under way.
    free: VecDeque<usize>,
    answered: u64,
    failed: u64,
    times: Histogram<u64>,
}

impl Run {
    fn open(to: SocketAddr, shape: Shape) -> io::Result<Run> {
        let Shape { connections, exchange, .. } = shape;
        let watch = Watch::new()?;
        let talks: io::Result<Vec<Talk>> =
            (0..connections).map(|token| Talk::open(to, token, &exchange, &watch)).collect();
        Ok(Run {
            to,
            watch,
            talks: talks?,
            exchange,
            scratch: vec![0; 256 * 1024],
            waiting: VecDeque::new(),
            free: (0..connections).collect(),
            answered: 0,
            failed: 0,
            times: window::times(),
        })
    }

    /// Gives what waits to whoever is free.
    fn dispatch(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty()
            && let Some(token) = self.free.pop_front()
        {
            let talk = &mut self.talks[token];
            (talk.due, talk.sent) = (self.waiting.pop_front(), 0);
            if talk.write(token, &self.exchange.request, &self.watch).is_err() {
                self.fail(token)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, token: usize, flags: EventFlags, closed_loop: bool) -> io::Result<()> {
        let talk = &mut self.talks[token];
        let writable = flags.contains(EventFlags::OUT);
        if writable && talk.write(token, &self.exchange.request, &self.watch).is_err() {
            return self.fail(token);
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        let read = match wire::ready(talk.stream.read(&mut self.scratch)) {
            Ok(None) => return Ok(()),
            Ok(Some(read)) if read > 0 => read,
            Ok(Some(_)) | Err(_) => return self.fail(token),
        };
        if !talk.answer.take(&self.scratch[..read])? {
            return Ok(());
        }
        if talk.sent < self.exchange.request.len() {
            return self.fail(token);
        }
        let now = Instant::now();
        if let Some(due) = talk.due.take() {
            self.answered += 1;
            window::note(&mut self.times, now.saturating_duration_since(due));
        }
        if talk.answer.closes {
            *talk = Talk::open(self.to, token, &self.exchange, &self.watch)?;
        }
        self.free.push_back(token);
        if closed_loop {
            self.waiting.push_back(now);
        }
        Ok(())
    }

    /// Opens the connection anew. What was under way on it counts as failed and is asked again;
    /// one that was closed with nothing under way lost nothing.
    fn fail(&mut self, token: usize) -> io::Result<()> {
        let due = self.talks[token].due;
        self.talks[token] = Talk::open(self.to, token, &self.exchange, &self.watch)?;
        if let Some(due) = due {
            self.failed += 1;
            self.waiting.push_front(due);
            self.free.push_back(token);
        }
        if self.failed > MOST_FAILURES { Err(wire::closed()) } else { Ok(()) }
    }

    /// What has no answer at the end counts with its age so far, or a stall would hide.
    fn note_unanswered(&mut self) {
        let now = Instant::now();
        let under_way = self.talks.iter().filter_map(|talk| talk.due);
        for due in under_way.chain(self.waiting.iter().copied()) {
            window::note(&mut self.times, now.saturating_duration_since(due));
        }
    }
}

/// One connection and the request under way on it.
struct Talk {
    stream: TcpStream,
    answer: Answer,
    due: Option<Instant>,
    sent: usize,
    waits_for_room: bool,
}

impl Talk {
    fn open(to: SocketAddr, token: usize, exchange: &Exchange, watch: &Watch) -> io::Result<Talk> {
        let stream = wire::connect(to)?;
        watch.add(&stream, token as u64, EventFlags::IN)?;
        let answer = Answer::new(exchange.awaited);
        Ok(Talk { stream, answer, due: None, sent: 0, waits_for_room: false })
    }

    fn write(&mut self, token: usize, request: &[u8], watch: &Watch) -> io::Result<()> {
        while self.sent < request.len() {
            match wire::ready(self.stream.write(&request[self.sent..]))? {
                Some(written) => self.sent += written,
                None => break,
            }
        }
        let waits = self.sent < request.len();
        if waits != self.waits_for_room {
            self.waits_for_room = waits;
            let room = if waits { EventFlags::OUT } else { EventFlags::empty() };
            watch.modify(&self.stream, token as u64, EventFlags::IN | room)?;
        }
        Ok(())
    }
}
