//! The HTTP/1.1 server behind every proxy: bodies by path, uploads read and answered.
//! As thin as it can be, since what it burns is taken from the proxy under test.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

use rustix::event::epoll::EventFlags;

use crate::guests::{self, Guest};
use crate::wire::{self, Watch};

const PIECE: usize = 256 * 1024;
const MOST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;

/// Paths and the lengths of their bodies; an upload gets the last.
const PAGES: [(&str, usize); 4] =
    [("/1k", 1024), ("/100k", 100 * 1024), ("/10m", 10 * 1024 * 1024), ("/upload", 2)];

/// Serves until killed.
pub fn serve(address: SocketAddr) -> io::Result<()> {
    let answers = PAGES.map(|(_, size)| {
        let head = format!("HTTP/1.1 200 OK\r\nServer: origin\r\nContent-Length: {size}\r\n\r\n");
        let mut answer = head.into_bytes();
        answer.resize(answer.len() + size, b'd');
        answer
    });
    guests::serve::<Proxy>(&[address], Shared { scratch: vec![0; PIECE], answers })
}

struct Shared {
    scratch: Vec<u8>,
    answers: [Vec<u8>; PAGES.len()],
}

/// A connection from a proxy.
struct Proxy {
    stream: TcpStream,
    /// What came and could not be looked at yet: part of a head, or the next request.
    held: Vec<u8>,
    /// Bytes of an upload that are still to come.
    upload_left: usize,
    page: usize,
    /// How much of the answer has gone; `None` with nothing to answer.
    answered: Option<usize>,
    closes: bool,
}

/// What a head says.
struct Request {
    page: usize,
    upload: usize,
    closes: bool,
}

impl Guest for Proxy {
    type Shared = Shared;

    fn welcome(stream: TcpStream) -> Proxy {
        let (held, upload_left, page) = (Vec::new(), 0, 0);
        Proxy { stream, held, upload_left, page, answered: None, closes: false }
    }

    fn serve(&mut self, flags: EventFlags, shared: &mut Shared, watch: &Watch) -> io::Result<bool> {
        let Shared { scratch, answers } = shared;
        if flags.contains(EventFlags::OUT) {
            if !self.write(answers)? {
                return Ok(true);
            }
            watch.modify(&self.stream, self.stream.as_raw_fd() as u64, EventFlags::IN)?;
            return self.take(&[], answers, watch);
        }
        match wire::ready(self.stream.read(scratch))? {
            Some(0) => Ok(false),
            Some(read) => self.take(&scratch[..read], answers, watch),
            None => Ok(true),
        }
    }
}

impl Proxy {
    /// False when the connection is over.
    fn take(
        &mut self,
        bytes: &[u8],
        answers: &[Vec<u8>; PAGES.len()],
        watch: &Watch,
    ) -> io::Result<bool> {
        let joined;
        let mut rest = bytes;
        if !self.held.is_empty() {
            self.held.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.held);
            rest = &joined;
        }
        while !rest.is_empty() {
            if self.upload_left == 0 {
                let Some((length, request)) = parse(rest)? else { break };
                rest = &rest[length..];
                (self.page, self.closes) = (request.page, request.closes);
                self.upload_left = request.upload;
            }
            let came = self.upload_left.min(rest.len());
            self.upload_left -= came;
            rest = &rest[came..];
            if self.upload_left > 0 {
                continue;
            }
            self.answered = Some(0);
            if !self.write(answers)? {
                watch.modify(&self.stream, self.stream.as_raw_fd() as u64, EventFlags::OUT)?;
                break;
            }
            if self.closes {
                return Ok(false);
            }
        }
        self.held.extend_from_slice(rest);
        if self.held.len() > MOST_HEAD + PIECE { Err(wire::closed()) } else { Ok(true) }
    }

    /// True when all of the answer has gone.
    fn write(&mut self, answers: &[Vec<u8>; PAGES.len()]) -> io::Result<bool> {
        let answer = &answers[self.page];
        while let Some(gone) = self.answered {
            if gone == answer.len() {
                self.answered = None;
                break;
            }
            match wire::ready(self.stream.write(&answer[gone..]))? {
                Some(written) => self.answered = Some(gone + written),
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Length of the head and what it says, when all of it is here.
fn parse(bytes: &[u8]) -> io::Result<Option<(usize, Request)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let status = request.parse(bytes).map_err(|error| wrong(&error.to_string()))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let path = request.path.unwrap_or_default();
    let page = PAGES.iter().position(|(known, _)| *known == path);
    let page = page.ok_or_else(|| wrong("no such page"))?;
    let mut found = Request { page, upload: 0, closes: false };
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
            found.upload = value.ok_or_else(|| wrong("no length"))?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(wrong("only bodies of a known length are read"));
        } else if header.name.eq_ignore_ascii_case("connection") {
            found.closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    Ok(Some((length, found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_whole_or_not_at_all() {
        let head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 70\r\n\r\nbody";
        assert!(parse(&head[..30]).unwrap().is_none());
        let (length, request) = parse(head).unwrap().unwrap();
        assert_eq!((length, request.upload), (head.len() - 4, 70));
        assert_eq!(PAGES[request.page].0, "/upload");
        assert!(parse(b"GET /other HTTP/1.1\r\n\r\n").is_err());
    }
}
