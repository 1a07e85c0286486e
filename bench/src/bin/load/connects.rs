//! New connections: connect, ask once, read the answer, close, with some of them under way.
//! Source addresses rotate through 127.0.0.2 and up, so that waiting ports never run out.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with};

use crate::exchange::{Answer, Exchange};
use crate::window::{self, Phase, Report, Window};
use crate::wire::{self, Watch};

const SOURCES: u8 = 200;
/// A proxy that refuses this many is not being measured any more.
const MOST_FAILURES: u64 = 10_000;

/// Runs until the window closes and reports connections that got their answer.
pub fn run(
    to: SocketAddr,
    concurrency: usize,
    exchange: Exchange,
    mut window: Window,
) -> io::Result<Report> {
    let mut run = Run {
        to,
        exchange,
        scratch: vec![0; 16 * 1024],
        watch: Watch::new()?,
        visits: Vec::with_capacity(concurrency),
        opened: 0,
        done: 0,
        failed: 0,
        times: window::times(),
    };
    for token in 0..concurrency {
        let visit = run.visit(token)?;
        run.visits.push(visit);
    }
    loop {
        for index in 0..run.watch.wait(Duration::from_millis(20))? {
            let (token, flags) = run.watch.take(index);
            run.step(token as usize, flags)?;
        }
        match window.phase(Instant::now()) {
            Phase::Go => {}
            Phase::Open => {
                (run.done, run.failed) = (0, 0);
                run.times.reset();
            }
            Phase::Close => break,
        }
    }
    Ok(window.close(run.done, run.failed, &run.times))
}

struct Run {
    to: SocketAddr,
    exchange: Exchange,
    scratch: Vec<u8>,
    watch: Watch,
    visits: Vec<Visit>,
    opened: u64,
    done: u64,
    failed: u64,
    times: Histogram<u64>,
}

struct Visit {
    stream: TcpStream,
    began: Instant,
    sent: bool,
    answer: Answer,
}

impl Run {
    /// Begins a connection; it is watched for edges, once, to save a call each.
    fn visit(&mut self, token: usize) -> io::Result<Visit> {
        let began = Instant::now();
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family = if self.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        if self.to.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            let last = 2 + (self.opened % u64::from(SOURCES)) as u8;
            bind(&socket, &SocketAddr::from(([127, 0, 0, last], 0)))?;
        }
        self.opened += 1;
        match connect(&socket, &self.to) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        self.watch.add(&socket, token as u64, edges)?;
        let answer = Answer::new(self.exchange.awaited);
        Ok(Visit { stream: TcpStream::from(socket), began, sent: false, answer })
    }

    fn step(&mut self, token: usize, flags: EventFlags) -> io::Result<()> {
        let visit = &mut self.visits[token];
        let ended = match visit.go_on(flags, &self.exchange.request, &mut self.scratch) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                self.done += 1;
                window::note(&mut self.times, visit.began.elapsed());
                None
            }
            Err(error) => Some(error),
        };
        if let Some(error) = ended {
            self.failed += 1;
            if self.failed > MOST_FAILURES {
                return Err(error);
            }
        }
        self.visits[token] = self.visit(token)?;
        Ok(())
    }
}

impl Visit {
    /// True when the whole answer is here.
    fn go_on(&mut self, flags: EventFlags, request: &[u8], scratch: &mut [u8]) -> io::Result<bool> {
        if !self.sent && flags.contains(EventFlags::OUT) && !flags.contains(EventFlags::ERR) {
            self.stream.write_all(request)?;
            self.sent = true;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            // Only a short read promises another edge when more comes.
            while let Some(read) = wire::ready(self.stream.read(scratch))? {
                if read == 0 {
                    return Err(wire::closed());
                }
                if self.answer.take(&scratch[..read])? {
                    return Ok(true);
                }
                if read < scratch.len() {
                    break;
                }
            }
        }
        Ok(false)
    }
}
