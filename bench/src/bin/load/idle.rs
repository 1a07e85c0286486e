//! Opens connections, sends one message over each so that both halves stand, and holds them.
//! Says `ready` on stdout and ends with the first line, or the end, of stdin.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::wire;

const SIZE: usize = 64;

/// Holds `connections` open until told to let go.
pub fn hold(to: SocketAddr, connections: usize) -> io::Result<()> {
    let mut streams = Vec::with_capacity(connections);
    for number in 0..connections {
        let at = |error: io::Error| {
            io::Error::new(error.kind(), format!("idle connection {number}: {error}"))
        };
        streams.push(open(to).map_err(at)?);
    }
    println!("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(())
}

fn open(to: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[wire::ECHO; SIZE])?;
    stream.read_exact(&mut [0; SIZE])?;
    Ok(stream)
}
