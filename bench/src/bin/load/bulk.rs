//! Bytes in one direction or both, as fast as the path takes them, in large pieces.
//! Counts what this side wrote and read; buffers on the way fill during the warm-up.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::event::epoll::EventFlags;

use crate::window::{self, Phase, Report, Window};
use crate::wire::{self, Watch};

const PIECE: usize = 256 * 1024;

/// Which way the bytes go, seen from the client.
#[derive(Clone, Copy, ValueEnum)]
pub enum Direction {
    Up,
    Down,
    Both,
}

impl Direction {
    fn first_byte(self) -> u8 {
        match self {
            Direction::Up => wire::DISCARD,
            Direction::Down => wire::SOURCE,
            Direction::Both => wire::BOTH,
        }
    }

    fn flags(self) -> EventFlags {
        match self {
            Direction::Up => EventFlags::OUT,
            Direction::Down => EventFlags::IN,
            Direction::Both => EventFlags::IN | EventFlags::OUT,
        }
    }
}

/// Runs until the window closes and reports bytes, both directions together.
pub fn run(
    to: SocketAddr,
    connections: usize,
    direction: Direction,
    mut window: Window,
) -> io::Result<Report> {
    let mut watch = Watch::new()?;
    let mut streams: Vec<TcpStream> = Vec::with_capacity(connections);
    for token in 0..connections {
        let mut stream = wire::connect(to)?;
        stream.write_all(&[direction.first_byte()])?;
        watch.add(&stream, token as u64, direction.flags())?;
        streams.push(stream);
    }
    let payload = vec![direction.first_byte(); PIECE];
    let mut scratch = vec![0; PIECE];
    let mut moved = 0;
    loop {
        for index in 0..watch.wait(Duration::from_millis(20))? {
            let (token, flags) = watch.take(index);
            let stream = &mut streams[token as usize];
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                match wire::ready(stream.read(&mut scratch))? {
                    Some(0) => return Err(wire::closed()),
                    read => moved += read.unwrap_or(0) as u64,
                }
            }
            if flags.contains(EventFlags::OUT) {
                moved += wire::ready(stream.write(&payload))?.unwrap_or(0) as u64;
            }
        }
        match window.phase(Instant::now()) {
            Phase::Go => {}
            Phase::Open => moved = 0,
            Phase::Close => return Ok(window.close(moved, 0, &window::times())),
        }
    }
}
