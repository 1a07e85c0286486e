//! The system calls that no safe crate offers yet, each behind a safe function.
//! This is the only crate of Evenkeel that may hold `unsafe`; it knows nothing of the proxy and allocates nothing.

mod shared;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

pub use shared::SharedWords;

use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

/// Registers a non-blocking descriptor with the event loop of the current tokio runtime.
/// Must be called within a runtime that has its I/O driver enabled; panics otherwise, as tokio does.
pub fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `AsyncFd` needs a value that owns its descriptor and names the same one until it is dropped.
    // An `OwnedFd` is exactly that, and `AsyncFd` lends it out only by shared reference.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(io::Error::from)
}

/// Reads what is there into the free part of a buffer, which is not filled with zeros first (recv(2)). 0 is the end
/// of the stream, or no room.
pub fn receive(socket: impl AsFd, into: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing but bytes is written to it, so what was initialized stays so.
    let room = unsafe { into.unfilled_mut() };
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length describe `room`.
    let count =
        unsafe { libc::recv(socket.as_fd().as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0) };
    let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has written so many bytes from the beginning of the free part on.
    unsafe { into.assume_init(count) };
    into.advance(count);
    Ok(count)
}

/// Lets a socket be bound to an address that is not this machine's own, so that a peer sees somebody else
/// (`IP_TRANSPARENT` and `IPV6_TRANSPARENT`, ip(7)). It takes the right CAP_NET_ADMIN or CAP_NET_RAW.
pub fn allow_foreign_source(socket: impl AsFd, is_ipv4: bool) -> io::Result<()> {
    let (level, option) = match is_ipv4 {
        true => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        false => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    };
    switch_on(socket, level, option)
}

/// Leaves choosing the source port to `connect`, so that a socket bound to a source address does not
/// use up a port for every destination (`IP_BIND_ADDRESS_NO_PORT`, ip(7), Linux 4.2).
pub fn bind_address_no_port(socket: impl AsFd) -> io::Result<()> {
    switch_on(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)
}

fn switch_on(socket: impl AsFd, level: libc::c_int, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length describe `on`, which outlives it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes written to a stream socket that its peer has not acknowledged yet (`SIOCOUTQ`, tcp(7)).
pub fn unsent_bytes(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is borrowed for the call, and TIOCOUTQ (the same number as SIOCOUTQ) writes one int.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 {
        Ok(usize::try_from(bytes).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Has mimalloc give memory that this thread has freed back to the system, at once instead of sometime. Where another allocator
/// is in use, nothing happens.
pub fn give_memory_back() {
    // It is what the symbol belongs to.
    use libmimalloc_sys as _;
    unsafe extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: it takes a truth value by value, as mimalloc.h declares it, and may be called at any time on any thread.
    unsafe { mi_collect(true) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_socket_accepts_bind_address_no_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        bind_address_no_port(&listener).unwrap();
    }

    #[test]
    fn what_is_received_is_behind_what_was_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        client.write_all(b"abcdef").unwrap();
        let mut room = [std::mem::MaybeUninit::uninit(); 7];
        let mut into = ReadBuf::uninit(&mut room);
        into.put_slice(b"xyz");
        assert_eq!(receive(&peer, &mut into).unwrap(), 4);
        assert_eq!(into.filled(), b"xyzabcd");
        drop(client);
        let (mut one, mut other) = ([0; 2], [0; 2]);
        assert_eq!(receive(&peer, &mut ReadBuf::new(&mut one)).unwrap(), 2);
        assert_eq!(receive(&peer, &mut ReadBuf::new(&mut other)).unwrap(), 0);
        assert_eq!(&one, b"ef");
    }

    #[test]
    fn unread_bytes_beyond_the_peers_window_count_as_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _peer = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 65536]).is_ok() {}
        assert!(unsent_bytes(&client).unwrap() > 0);
    }
}
