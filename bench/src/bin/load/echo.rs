//! The server behind every proxy: echoes, discards, sends for ever, or does both of the latter.
//! The first byte of a connection picks, so one address, and one config of each proxy, is enough;
//! a byte that picks nothing, such as the length of a packet, is echoed with all that follows.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use rustix::event::epoll::EventFlags;

use crate::guests::{self, Guest};
use crate::wire::{self, Watch};

const PIECE: usize = 256 * 1024;

/// Serves until killed.
pub fn serve(addresses: &[SocketAddr]) -> io::Result<()> {
    let buffers = Buffers { scratch: vec![0; PIECE], source: vec![wire::SOURCE; PIECE] };
    guests::serve::<Peer>(addresses, buffers)
}

struct Buffers {
    scratch: Vec<u8>,
    source: Vec<u8>,
}

struct Peer {
    stream: TcpStream,
    /// What the first byte picked, zero before it came.
    mode: u8,
    /// Echo that the other side has not taken yet.
    held: Vec<u8>,
}

impl Guest for Peer {
    type Shared = Buffers;

    fn welcome(stream: TcpStream) -> Peer {
        Peer { stream, mode: 0, held: Vec::new() }
    }

    fn serve(
        &mut self,
        flags: EventFlags,
        buffers: &mut Buffers,
        watch: &Watch,
    ) -> io::Result<bool> {
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            match wire::ready(self.stream.read(&mut buffers.scratch))? {
                Some(0) => return Ok(false),
                Some(read) => self.take(&buffers.scratch[..read], watch)?,
                None => {}
            }
        }
        if flags.contains(EventFlags::OUT) {
            if matches!(self.mode, wire::SOURCE | wire::BOTH) {
                wire::ready(self.stream.write(&buffers.source))?;
            } else {
                self.write_held(watch)?;
            }
        }
        Ok(true)
    }
}

impl Peer {
    fn take(&mut self, bytes: &[u8], watch: &Watch) -> io::Result<()> {
        if self.mode == 0 {
            self.mode = match bytes[0] {
                known @ (wire::DISCARD | wire::SOURCE | wire::BOTH) => known,
                _ => wire::ECHO,
            };
            if matches!(self.mode, wire::SOURCE | wire::BOTH) {
                self.watch(watch, EventFlags::IN | EventFlags::OUT)?;
            }
        }
        if matches!(self.mode, wire::DISCARD | wire::SOURCE | wire::BOTH) {
            return Ok(());
        }
        let written = wire::ready(self.stream.write(bytes))?.unwrap_or(0);
        if written < bytes.len() {
            self.held.extend_from_slice(&bytes[written..]);
            self.watch(watch, EventFlags::OUT)?;
        }
        Ok(())
    }

    /// Reads no more until all that is held has gone.
    fn write_held(&mut self, watch: &Watch) -> io::Result<()> {
        let written = wire::ready(self.stream.write(&self.held))?.unwrap_or(0);
        self.held.drain(..written);
        if self.held.is_empty() {
            self.held = Vec::new();
            self.watch(watch, EventFlags::IN)?;
        }
        Ok(())
    }

    fn watch(&self, watch: &Watch, flags: EventFlags) -> io::Result<()> {
        watch.modify(&self.stream, self.stream.as_raw_fd() as u64, flags)
    }
}
