//! Raw clients: connect from a chosen address, read to the end or the reset, reset instead of closing.
//! Every socket gets time limits, so that a promise that is not kept fails instead of hanging.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// No read or write in a test may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How a stream came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Last {
    End,
    Reset,
}

pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)
        .unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    patient(stream)
}

/// Connects from a local address, so that the proxy sees another client.
pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0))).expect("bind the source address");
    socket.connect(&to.into()).unwrap_or_else(|error| panic!("connect to {to}: {error}"));
    patient(socket.into())
}

/// Gives a stream its time limits.
pub(crate) fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// Closes with a reset instead of an end (`SO_LINGER` of zero).
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Reads all that comes, and how it ends.
pub(crate) fn read_to_last(mut stream: impl Read) -> (Vec<u8>, Last) {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Ok(_) => (all, Last::End),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (all, Last::Reset),
        Err(error) => panic!("neither end nor reset after {} bytes: {error}", all.len()),
    }
}

/// Reads one line, byte by byte, so that what follows stays unread; empty when the stream ends.
pub(crate) fn line(mut stream: impl Read) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        match stream.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("no line: {error}"),
        }
    }
    String::from_utf8(line).expect("text").trim_end().to_owned()
}

/// Connects, hears a backend's name and closes; empty when refused.
pub(crate) fn visit(to: SocketAddr) -> String {
    // A backend's reset may be passed on before the connect is known to have succeeded.
    match TcpStream::connect_timeout(&to, PATIENCE) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => String::new(),
        Err(error) => panic!("connect to {to}: {error}"),
        Ok(stream) => line(patient(stream)),
    }
}

/// Sends and expects the same back.
pub(crate) fn assert_echo(mut stream: impl Read + Write, bytes: &[u8]) {
    stream.write_all(bytes).expect("send");
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).expect("the echo");
    assert!(back == bytes, "the echo differs");
}

/// Whether the proxy serves: the echo comes back. False when it closes instead.
pub(crate) fn is_served(mut stream: impl Read + Write) -> bool {
    let mut byte = [0];
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut byte).is_ok()
}
