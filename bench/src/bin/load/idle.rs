//! Opens connections, asks once over each so that both halves stood, and holds them.
//! Says `ready` on stdout and ends with the first line, or the end, of stdin.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::exchange::{Answer, Exchange};
use crate::wire;

/// Holds `connections` open until told to let go.
pub fn hold(to: SocketAddr, connections: usize, exchange: &Exchange) -> io::Result<()> {
    let mut streams = Vec::with_capacity(connections);
    for number in 0..connections {
        let at = |error: io::Error| {
            io::Error::new(error.kind(), format!("idle connection {number}: {error}"))
        };
        streams.push(open(to, exchange).map_err(at)?);
    }
    println!("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(())
}

fn open(to: SocketAddr, exchange: &Exchange) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&exchange.request)?;
    let (mut answer, mut scratch) = (Answer::new(exchange.awaited), [0; 4096]);
    loop {
        match stream.read(&mut scratch)? {
            0 => return Err(wire::closed()),
            read if answer.take(&scratch[..read])? => return Ok(stream),
            _ => {}
        }
    }
}
