//! What a built-in backend says on one port: HTTP to whoever asks in it, and to all others its name and an echo.
//! It is as simple as a backend can be; everything clever is the proxy's.

use std::io;
use std::time::Duration;

use evenkeel_wire::{Framing, Limits, Method, Read, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The path where nothing is.
pub(super) const MISSING: &str = "/missing";

/// Who has said nothing for this long waits for us to begin. The proxy sends a request as soon as it is connected.
const SILENCE: Duration = Duration::from_millis(500);

const LIMITS: Limits = Limits { head_max: 64 * 1024, line_max: 16 * 1024, fields_max: 256 };

/// What a request begins with.
const METHODS: [&str; 7] = ["GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH "];

/// Serves one connection to its end.
pub(super) async fn serve(name: &'static str, stream: TcpStream) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let mut first = [0; 8];
    let begun = match timeout(SILENCE, stream.peek(&mut first)).await {
        Ok(count) => &first[..count?],
        Err(_) => &[],
    };
    match METHODS.iter().any(|method| begun.starts_with(method.as_bytes())) {
        true => answer(name, stream).await,
        false => greet_and_echo(name, stream).await,
    }
}

async fn greet_and_echo(name: &str, mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(format!("hello from {name}\n").as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}

/// Request after request. What cannot be read ends the connection: the proxy passes nothing of that kind on.
async fn answer(name: &str, mut stream: TcpStream) -> io::Result<()> {
    let (mut request, mut bytes) = (Request::default(), Vec::new());
    loop {
        let length = loop {
            match request.read(&bytes, &LIMITS).map_err(|_| io::ErrorKind::InvalidData)? {
                Read::Whole { length } => break length,
                Read::Partial if stream.read_buf(&mut bytes).await? == 0 => return Ok(()),
                Read::Partial => {}
            }
        };
        bytes.drain(..length);
        let goes_on = match request.framing {
            Framing::None => true,
            Framing::Length(length) => pass_over(&mut stream, &mut bytes, length).await?,
            Framing::Chunked | Framing::UntilClose => false,
        };
        stream.write_all(&reply(name, &request, goes_on)).await?;
        if !goes_on {
            return stream.shutdown().await;
        }
    }
}

/// Reads a body away; whether it was whole.
async fn pass_over(stream: &mut TcpStream, ahead: &mut Vec<u8>, length: u64) -> io::Result<bool> {
    let there = usize::try_from(length).unwrap_or(usize::MAX).min(ahead.len());
    ahead.drain(..there);
    let mut rest = stream.take(length - there as u64);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(rest.limit() == 0)
}

fn reply(name: &str, request: &Request, goes_on: bool) -> Vec<u8> {
    let path = request.target.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, text) = match path {
        _ if !goes_on => ("411 Length Required", format!("{name} takes no body in chunks\n")),
        path if path == MISSING.as_bytes() => {
            ("404 Not Found", format!("{name} has no such page\n"))
        }
        _ => ("200 OK", format!("hello from {name}\n")),
    };
    let (length, ends) = (text.len(), if goes_on { "" } else { "Connection: close\r\n" });
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n{ends}\r\n"
    );
    let body = if request.method == Method::Head { "" } else { &text };
    [head.as_bytes(), body.as_bytes()].concat()
}
