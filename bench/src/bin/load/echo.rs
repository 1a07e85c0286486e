//! The server behind every proxy: echoes, discards, sends for ever, or does both of the latter.
//! The first byte of a connection picks, so one address, and one config of each proxy, is enough.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use crate::wire::{self, Watch};

const PIECE: usize = 256 * 1024;
const LISTENER: u64 = u64::MAX;
const BACKLOG: i32 = 4096;

/// Serves until killed.
pub fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = bind_listener(address)?;
    let mut watch = Watch::new()?;
    watch.add(&listener, LISTENER, EventFlags::IN)?;
    println!("ready {}", listener.local_addr()?);
    let mut buffers = Buffers { scratch: vec![0; PIECE], source: vec![wire::SOURCE; PIECE] };
    // Indexed by descriptor number: small, dense, and free again exactly when it is closed.
    let mut guests: Vec<Option<Guest>> = Vec::new();
    loop {
        for index in 0..watch.wait(Duration::from_secs(3600))? {
            let (token, flags) = watch.take(index);
            if token == LISTENER {
                accept(&listener, &watch, &mut guests);
            } else if let Some(slot) = guests.get_mut(token as usize) {
                let goes_on = slot
                    .as_mut()
                    .is_some_and(|guest| guest.serve(flags, &mut buffers, &watch).unwrap_or(false));
                if !goes_on {
                    *slot = None;
                }
            }
        }
    }
}

fn bind_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let listener = socket(family, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    bind(&listener, &address)?;
    listen(&listener, BACKLOG)?;
    let listener = TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &TcpListener, watch: &Watch, guests: &mut Vec<Option<Guest>>) {
    while let Ok((stream, _)) = listener.accept() {
        let slot = stream.as_raw_fd() as usize;
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| watch.add(&stream, slot as u64, EventFlags::IN));
        if watched.is_err() {
            continue;
        }
        if guests.len() <= slot {
            guests.resize_with(slot + 1, || None);
        }
        guests[slot] = Some(Guest { stream, mode: 0, held: Vec::new() });
    }
}

struct Buffers {
    scratch: Vec<u8>,
    source: Vec<u8>,
}

struct Guest {
    stream: TcpStream,
    /// The first byte that came, zero before that.
    mode: u8,
    /// Echo that the other side has not taken yet.
    held: Vec<u8>,
}

impl Guest {
    /// False when the connection is over.
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

    fn take(&mut self, bytes: &[u8], watch: &Watch) -> io::Result<()> {
        if self.mode == 0 {
            self.mode = bytes[0];
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
