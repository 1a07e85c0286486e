//! The loop of a server: accept, watch, serve whoever has something to say. One thread, epoll.
//! What is said to a guest is the business of the servers that stand on this: echo and origin.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};

use crate::wire::Watch;

/// Tokens from here on are listeners, those below are descriptors of guests.
const FIRST_LISTENER: u64 = 1 << 32;
const BACKLOG: i32 = 4096;

/// One accepted connection.
pub trait Guest {
    /// What all guests share.
    type Shared;

    fn welcome(stream: TcpStream) -> Self;

    /// False when the connection is over.
    fn serve(
        &mut self,
        flags: EventFlags,
        shared: &mut Self::Shared,
        watch: &Watch,
    ) -> io::Result<bool>;
}

/// Serves at all these addresses until killed.
pub fn serve<G: Guest>(addresses: &[SocketAddr], mut shared: G::Shared) -> io::Result<()> {
    let mut watch = Watch::new()?;
    let mut listeners = Vec::with_capacity(addresses.len());
    for (&address, number) in addresses.iter().zip(0..) {
        let listener = bind_listener(address)?;
        watch.add(&listener, FIRST_LISTENER + number, EventFlags::IN)?;
        println!("ready {}", listener.local_addr()?);
        listeners.push(listener);
    }
    // Indexed by descriptor number: small, dense, and free again exactly when it is closed.
    let mut guests: Vec<Option<G>> = Vec::new();
    loop {
        for index in 0..watch.wait(Duration::from_secs(3600))? {
            let (token, flags) = watch.take(index);
            if token >= FIRST_LISTENER {
                accept(&listeners[(token - FIRST_LISTENER) as usize], &watch, &mut guests);
            } else if let Some(slot) = guests.get_mut(token as usize) {
                let goes_on = slot
                    .as_mut()
                    .is_some_and(|guest| guest.serve(flags, &mut shared, &watch).unwrap_or(false));
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

fn accept<G: Guest>(listener: &TcpListener, watch: &Watch, guests: &mut Vec<Option<G>>) {
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
        guests[slot] = Some(G::welcome(stream));
    }
}
