//! HTTP/2 by hand, so that tests decide about every byte: frames, a small HPACK encoder, a client and a server.
//! It shares no code with the library that is tried, and reads of what comes back only what a test judges by.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::client::connect;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags: of DATA and HEADERS, of SETTINGS and PING, of HEADERS and CONTINUATION.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Errors that a test expects (RFC 9113 section 7).
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error of a RST_STREAM or GOAWAY.
    pub(crate) fn error(&self) -> Option<u32> {
        let at = match self.kind {
            RESET => 0,
            GOAWAY => 4,
            _ => return None,
        };
        self.payload.get(at..at + 4).map(number)
    }

    /// The status, if it is the head of an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        if self.kind == HEADERS { status(&self.payload) } else { None }
    }

    pub(crate) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    frame_saying(payload.len(), kind, flags, stream, payload)
}

/// A frame that says another length than its payload has.
pub(crate) fn frame_saying(
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(length).expect("a frame").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A whole head in one frame.
pub(crate) fn headers(stream: u32, block: impl AsRef<[u8]>, ends: bool) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | u8::from(ends), stream, block)
}

pub(crate) fn data(stream: u32, bytes: impl AsRef<[u8]>, ends: bool) -> Vec<u8> {
    frame(DATA, u8::from(ends), stream, bytes)
}

pub(crate) fn reset(stream: u32, error: u32) -> Vec<u8> {
    frame(RESET, 0, stream, error.to_be_bytes())
}

pub(crate) fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
}

pub(crate) fn go_away(last: u32, error: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, [last.to_be_bytes(), error.to_be_bytes()].concat())
}

pub(crate) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in pairs {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

/// A number with a prefix of so many bits, under the bits of `first` (RFC 7541 section 5.1).
fn integer(first: u8, bits: u32, mut number: usize) -> Vec<u8> {
    let most = (1 << bits) - 1;
    if number < most {
        return vec![first | number as u8];
    }
    let mut bytes = vec![first | most as u8];
    number -= most;
    while number >= 128 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&integer(0, 7, bytes.len()), bytes].concat()
}

/// A field that goes into no table (RFC 7541 section 6.2.2).
pub(crate) fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0], text(name.as_ref()), text(value.as_ref())].concat()
}

/// A field that goes into the dynamic table, where the newest has index 62 (RFC 7541 section 6.2.1).
pub(crate) fn entry(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x40], text(name.as_ref()), text(value.as_ref())].concat()
}

/// A field by its index (RFC 7541 section 6.1).
pub(crate) fn reference(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// The index of the newest entry of the dynamic table.
pub(crate) const NEWEST: usize = 62;

/// Fields one by one, in no table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| literal(name, value)).collect()
}

/// The four pseudo-fields of a request to `app.test`.
pub(crate) fn request(method: &str, path: &str) -> Vec<u8> {
    block(&[(":method", method), (":scheme", "http"), (":authority", "app.test"), (":path", path)])
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path)
}

/// The status at the beginning of a block, from an encoder that was told to keep no table.
fn status(mut block: &[u8]) -> Option<u16> {
    // Changes of the table's size come first (RFC 7541 section 6.3).
    while let [0x20..=0x3f, rest @ ..] = block {
        block = rest;
    }
    const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block {
        [first @ 0x88..=0x8e, ..] => STATUSES.get(usize::from(first - 0x88)).copied(),
        // The name by its index, 8 to 14, the value as text.
        [0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e, length, value @ ..] => {
            let value = value.get(..usize::from(length & 0x7f))?;
            let digits = if length & 0x80 == 0 { value.to_vec() } else { huffman_digits(value) };
            std::str::from_utf8(&digits).ok()?.parse().ok()
        }
        _ => None,
    }
}

/// Three digits in the code of RFC 7541 appendix B: 0, 1 and 2 have five bits, the others six.
fn huffman_digits(bytes: &[u8]) -> Vec<u8> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut digits = Vec::new();
    while digits.len() < 3 {
        let mut take = |count: usize| bits.by_ref().take(count).fold(0, |sum, bit| sum << 1 | bit);
        match take(5) {
            short @ 0..=2 => digits.push(b'0' + short),
            start => digits.push(b'0' + (start << 1 | take(1)) - 0b01_0110),
        }
    }
    digits
}

/// Reads one frame; an error is the end, or silence for too long.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<Frame> {
    let mut head = [0; 9];
    from.read_exact(&mut head)?;
    let mut payload = vec![0; number(&head[..3]) as usize];
    from.read_exact(&mut payload)?;
    Ok(Frame { kind: head[3], flags: head[4], stream: number(&head[5..]) & 0x7fff_ffff, payload })
}

/// A client that sends what it is told.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

/// All that came until the connection ended.
#[derive(Debug)]
pub(crate) struct Rest {
    frames: Vec<Frame>,
}

impl Rest {
    /// The error of the last GOAWAY.
    pub(crate) fn go_away(&self) -> Option<u32> {
        let mut all = self.frames.iter().filter(|frame| frame.kind == GOAWAY);
        all.next_back().and_then(Frame::error)
    }

    pub(crate) fn count(&self, kind: u8) -> usize {
        self.frames.iter().filter(|frame| frame.kind == kind).count()
    }
}

impl Peer {
    /// Connects, greets with these settings, and asks for answers whose heads use no table.
    pub(crate) fn greeting(to: SocketAddr, pairs: &[(u16, u32)]) -> Peer {
        let mut peer = Peer { stream: connect(to) };
        let pairs = [&[(1, 0)], pairs].concat();
        peer.send([PREFACE, &settings(&pairs)].concat());
        peer
    }

    pub(crate) fn connect(to: SocketAddr) -> Peer {
        Peer::greeting(to, &[])
    }

    /// Sends; whether it was taken. A proxy that has had enough closes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        match self.stream.write_all(bytes.as_ref()) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing was taken for too long")
            }
            Err(_) => false,
        }
    }

    /// Sends the same bytes again and again, at most so often; how often it was taken.
    pub(crate) fn flood(&mut self, times: usize, bytes: impl AsRef<[u8]>) -> usize {
        (0..times).take_while(|_| self.send(bytes.as_ref())).count()
    }

    /// The next frame; none when the connection has ended.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        match read_frame(&mut self.stream) {
            Ok(frame) => Some(frame),
            Err(error) if is_end(&error) => None,
            Err(error) => panic!("neither a frame nor the end: {error}"),
        }
    }

    /// The first frame for which `wanted` holds; everything before it is passed over.
    pub(crate) fn until(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("ended before {what}"));
            if wanted(&frame) {
                return frame;
            }
        }
    }

    /// Waits for the status of a stream's final answer, or that the stream or the connection was given up.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        loop {
            let Some(frame) = self.next() else { return Outcome::Ended };
            match (frame.kind, frame.status(), frame.error()) {
                (HEADERS, Some(status), _) if frame.stream == stream && status >= 200 => {
                    return Outcome::Status(status);
                }
                (RESET, _, Some(error)) if frame.stream == stream => return Outcome::Reset(error),
                (GOAWAY, _, Some(error)) if error != 0 => return Outcome::GoAway(error),
                _ => {}
            }
        }
    }

    /// Reads to the end of the connection.
    pub(crate) fn rest(mut self) -> Rest {
        let mut frames = Vec::new();
        while let Some(frame) = self.next() {
            frames.push(frame);
        }
        Rest { frames }
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Status(u16),
    Reset(u32),
    GoAway(u32),
    Ended,
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}

/// The server's side of a connection: takes the preface, greets, and hands each request's stream to `answer`,
/// whose bytes go back as they are. SETTINGS and PING are answered.
pub(crate) fn serve_frames(
    mut stream: TcpStream,
    answer: impl Fn(&mut TcpStream, u32) -> io::Result<()>,
) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&settings(&[]))?;
    loop {
        let frame = read_frame(&mut stream)?;
        match frame.kind {
            SETTINGS | PING if frame.flags & ACK == 0 => {
                let back = if frame.kind == PING { frame.payload } else { Vec::new() };
                stream.write_all(&self::frame(frame.kind, ACK, 0, back))?;
            }
            HEADERS => answer(&mut stream, frame.stream)?,
            _ => {}
        }
    }
}
