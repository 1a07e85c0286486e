//! Backends and clients that speak in packets: four bytes of length, most significant first, and a body.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use evenkeel::{Running, Why};

use super::backend::{Backend, fresh_loopback};
use super::until_ended;

/// A listener that balances them.
pub(crate) const BY_PACKET: &str =
    "packet = { length = \"u32be\", max = \"2MB\" }\nbalance-per = \"packet\"";

pub(crate) fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], body].concat()
}

/// The body of the next packet; none at the end.
pub(crate) fn next(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    let mut filled = 0;
    while filled < 4 {
        match stream.read(&mut head[filled..])? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => filled += count,
        }
    }
    let mut body = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut body)?;
    Ok(Some(body))
}

/// Answers each packet with its name and what it got, after a pause.
pub(crate) fn answering(name: &'static str, pause: Duration) -> Backend {
    answering_at(SocketAddr::new(fresh_loopback(), 0), name, pause)
}

/// The same at a given address.
pub(crate) fn answering_at(at: SocketAddr, name: &'static str, pause: Duration) -> Backend {
    Backend::serving_at(at, move |mut stream| {
        while let Some(body) = next(&mut stream)? {
            std::thread::sleep(pause);
            stream.write_all(&frame(&[name.as_bytes(), &body].concat()))?;
        }
        Ok(())
    })
}

pub(crate) fn three(pause: Duration) -> ([Backend; 3], [SocketAddr; 3]) {
    let backends = ["A", "B", "C"].map(|name| answering(name, pause));
    let addresses = [0, 1, 2].map(|index: usize| backends[index].address);
    (backends, addresses)
}

/// Sends packets with these numbers at once, and reads the replies; gives the names of who answered, in order.
pub(crate) fn exchange(stream: &mut TcpStream, numbers: std::ops::Range<u32>) -> String {
    let all: Vec<u8> = numbers.clone().flat_map(|number| frame(&number.to_be_bytes())).collect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&all).unwrap());
    let names = numbers.map(|number| {
        let reply = next(stream).unwrap().expect("a reply");
        assert_eq!(&reply[1..], number.to_be_bytes(), "out of order");
        char::from(reply[0])
    });
    let names = names.collect();
    sender.join().unwrap();
    names
}

pub(crate) fn count(names: &str, name: char) -> usize {
    names.chars().filter(|found| *found == name).count()
}

/// Answers so many packets of each connection, reads one more, and resets.
pub(crate) fn dying(name: &'static str, after: usize) -> Backend {
    dying_at(SocketAddr::new(fresh_loopback(), 0), name, after)
}

/// The same at a given address.
pub(crate) fn dying_at(at: SocketAddr, name: &'static str, after: usize) -> Backend {
    Backend::serving_at(at, move |mut stream| {
        for _ in 0..after {
            let Some(body) = next(&mut stream)? else { return Ok(()) };
            stream.write_all(&frame(&[name.as_bytes(), &body].concat()))?;
        }
        next(&mut stream)?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    })
}

/// Closes a client's connection, and waits until the proxy says that it has ended so.
pub(crate) fn leave(stream: TcpStream, running: &Running, why: Why) {
    drop(stream);
    until_ended(running, why, 1);
}
