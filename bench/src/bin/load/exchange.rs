//! What goes over a connection and what shall come back: an echo, or an HTTP/1.1 answer whose status
//! and length are checked. It touches no socket, so that every measure can use it.

use std::io;

/// A proxy may add to a head, but not that much.
const MOST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 64;

/// What one connection asks again and again.
pub struct Exchange {
    pub request: Vec<u8>,
    pub awaited: Awaited,
}

/// What ends an exchange.
#[derive(Clone, Copy)]
pub enum Awaited {
    /// This many bytes.
    Echo(usize),
    /// Status 200 and a body of exactly this many bytes.
    Body(usize),
}

/// One HTTP/1.1 request, and the length of the body that answers it.
pub struct Page {
    pub path: String,
    pub body: usize,
    /// Bytes to send along; more than none makes it a POST.
    pub upload: usize,
    /// Ask the server to close afterwards.
    pub last: bool,
}

impl Exchange {
    pub fn echo(request: Vec<u8>) -> Exchange {
        let awaited = Awaited::Echo(request.len());
        Exchange { request, awaited }
    }

    pub fn http(page: &Page) -> Exchange {
        let method = if page.upload > 0 { "POST" } else { "GET" };
        let mut head = format!("{method} {} HTTP/1.1\r\nHost: localhost\r\n", page.path);
        if page.upload > 0 {
            head += &format!("Content-Length: {}\r\n", page.upload);
        }
        if page.last {
            head += "Connection: close\r\n";
        }
        let mut request = (head + "\r\n").into_bytes();
        request.resize(request.len() + page.upload, b'u');
        Exchange { request, awaited: Awaited::Body(page.body) }
    }
}

/// How much of an answer is here.
pub struct Answer {
    awaited: Awaited,
    /// A head that came in pieces.
    head: Vec<u8>,
    /// Bytes still to come; `None` until the head is complete.
    left: Option<usize>,
    /// The server will close the connection after this answer.
    pub closes: bool,
}

impl Answer {
    pub fn new(awaited: Awaited) -> Answer {
        Answer { awaited, head: Vec::new(), left: None, closes: false }
    }

    /// Takes what came. True when the answer is complete, and then the next one may begin; an
    /// error when it is not what was asked for, or longer.
    pub fn take(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let (came, left) = match (self.awaited, self.left) {
            (Awaited::Echo(size), None) => (bytes.len(), size),
            (_, Some(left)) => (bytes.len(), left),
            (Awaited::Body(size), None) => match self.take_head(bytes, size)? {
                Some(behind) => (behind, size),
                None => return Ok(false),
            },
        };
        let left = left.checked_sub(came).ok_or_else(|| wrong("it is longer than asked for"))?;
        self.left = (left > 0).then_some(left);
        Ok(left == 0)
    }

    /// How many bytes of the body came with the head, when the head is complete.
    fn take_head(&mut self, bytes: &[u8], size: usize) -> io::Result<Option<usize>> {
        if self.head.is_empty() {
            let parsed = parse(bytes, size)?;
            if parsed.is_none() {
                self.head.extend_from_slice(bytes);
            }
            return Ok(self.note(parsed, bytes.len()));
        }
        self.head.extend_from_slice(bytes);
        if self.head.len() > MOST_HEAD {
            return Err(wrong("its head does not end"));
        }
        let (parsed, all) = (parse(&self.head, size)?, self.head.len());
        if parsed.is_some() {
            self.head.clear();
        }
        Ok(self.note(parsed, all))
    }

    fn note(&mut self, parsed: Option<(usize, bool)>, all: usize) -> Option<usize> {
        let (length, closes) = parsed?;
        self.closes = closes;
        Some(all - length)
    }
}

/// Length of the head, and whether it announces the end of the connection.
fn parse(bytes: &[u8], size: usize) -> io::Result<Option<(usize, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let status = response.parse(bytes).map_err(|error| wrong(&error.to_string()))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    if response.code != Some(200) {
        return Err(wrong(&format!("its status is {}", response.code.unwrap_or(0))));
    }
    let (mut said, mut closes) = (None, false);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            said = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if said != Some(size) {
        return Err(wrong(&format!("its length is {said:?}, not {size}")));
    }
    Ok(Some((length, closes)))
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("wrong answer: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc";

    #[test]
    fn an_answer_may_come_in_any_pieces() {
        for cut in 1..ANSWER.len() {
            let mut answer = Answer::new(Awaited::Body(3));
            for _ in 0..2 {
                assert!(!answer.take(&ANSWER[..cut]).unwrap());
                assert!(answer.take(&ANSWER[cut..]).unwrap());
            }
        }
    }

    #[test]
    fn a_wrong_status_or_length_is_an_error() {
        assert!(Answer::new(Awaited::Body(4)).take(ANSWER).is_err());
        let longer = [ANSWER, b"d"].concat();
        assert!(Answer::new(Awaited::Body(3)).take(&longer).is_err());
        let refused = b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\n";
        assert!(Answer::new(Awaited::Body(3)).take(refused).is_err());
    }
}
