//! A proxy between frames of HTTP/2 and a backend of HTTP/1 that keeps every byte it got, which a second parser reads.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use super::backend::Backend;
use super::frames::{Outcome, Peer, get, headers};
use super::http::{config, serve};

/// A request as the second parser read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        let these = self.fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        these.map(|(_, value)| &**value).collect()
    }
}

/// The requests at the beginning of some bytes, and what is left: the beginning of one more. Anything that is not a
/// request is a panic.
fn read_all(mut bytes: &[u8]) -> (Vec<Seen>, usize) {
    let mut all = Vec::new();
    while let Some((seen, length)) = read_one(bytes) {
        all.push(seen);
        bytes = &bytes[length..];
    }
    (all, bytes.len())
}

fn read_one(bytes: &[u8]) -> Option<(Seen, usize)> {
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut request = httparse::Request::new(&mut slots);
    let status = request.parse(bytes).unwrap_or_else(|e| panic!("{e}: {}", bytes.escape_ascii()));
    let httparse::Status::Complete(mut at) = status else { return None };
    let line = format!("{} {}", request.method?, request.path?);
    assert_eq!(request.version, Some(1));
    let fields: Vec<_> =
        request.headers.iter().map(|field| (field.name.to_owned(), field.value.to_vec())).collect();
    let mut seen = Seen { line, fields, body: Vec::new() };
    assert_eq!(seen.all("host").len(), 1, "{seen:?}");
    assert!(!seen.line.contains(['#', '\\']) && seen.line.split(' ').count() == 2, "{seen:?}");
    match (&seen.all("content-length")[..], &seen.all("transfer-encoding")[..]) {
        ([], []) => {}
        ([length], []) => {
            let length: usize = std::str::from_utf8(length).ok()?.parse().expect("a length");
            seen.body = bytes.get(at..at + length)?.to_vec();
            at += length;
        }
        ([], [b"chunked"]) => loop {
            let httparse::Status::Complete((skip, size)) =
                httparse::parse_chunk_size(&bytes[at..]).expect("a chunk")
            else {
                return None;
            };
            at += skip;
            if size == 0 {
                let mut slots = [httparse::EMPTY_HEADER; 200];
                let end = httparse::parse_headers(&bytes[at..], &mut slots).expect("trailers");
                let httparse::Status::Complete((length, trailers)) = end else { return None };
                seen.fields
                    .extend(trailers.iter().map(|f| (format!("+{}", f.name), f.value.to_vec())));
                return Some((seen, at + length));
            }
            let size = size as usize;
            seen.body.extend(bytes.get(at..at + size)?);
            assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n");
            at += size + 2;
        },
        _ => panic!("two ways to say where the body ends: {seen:?}"),
    }
    Some((seen, at))
}

/// What a backend got on each of its connections, and how many requests of it are answered.
type Tape = Arc<Mutex<Vec<(Vec<u8>, usize)>>>;

pub(crate) struct Trial {
    tape: Tape,
    _backend: Backend,
    _running: evenkeel::Running,
    pub(crate) door: std::net::SocketAddr,
}

impl Trial {
    pub(crate) fn new(listener: &str) -> Trial {
        let tape = Tape::default();
        let into = Arc::clone(&tape);
        let backend = Backend::serving(move |mut stream| {
            let connection = {
                let mut tape = into.lock().expect("no panic");
                tape.push((Vec::new(), 0));
                tape.len() - 1
            };
            let mut piece = [0; 4_096];
            loop {
                let count = stream.read(&mut piece)?;
                if count == 0 {
                    return Ok(());
                }
                let mut tape = into.lock().expect("no panic");
                let (bytes, answered) = &mut tape[connection];
                bytes.extend(&piece[..count]);
                let whole = read_all(bytes).0.len();
                for _ in *answered..whole {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                }
                *answered = whole;
            }
        });
        let (running, door) = serve(&config(&[backend.address], "", listener));
        Trial { tape, _backend: backend, _running: running, door }
    }

    /// Every whole request that arrived, but for the markers, and how many bytes are not of a whole one.
    pub(crate) fn arrived(&self) -> (Vec<Seen>, usize) {
        let tape = self.tape.lock().expect("no panic");
        let read: Vec<_> = tape.iter().map(|(bytes, _)| read_all(bytes)).collect();
        let left = read.iter().map(|(_, left)| left).sum();
        let all = read.into_iter().flat_map(|(seen, _)| seen);
        (all.filter(|seen| !seen.line.ends_with(" /marker")).collect(), left)
    }

    /// Sends these frames for stream 1 on a fresh connection, and says what became of it once a later request of
    /// somebody else has gone all the way.
    pub(crate) fn send(&self, frames: impl AsRef<[u8]>) -> Outcome {
        let mut peer = Peer::connect(self.door);
        peer.send(frames);
        let outcome = peer.outcome(1);
        let mut marker = Peer::connect(self.door);
        marker.send(headers(1, get("/marker"), true));
        assert_eq!(marker.outcome(1), Outcome::Status(200));
        outcome
    }

    /// Not one byte of it reaches the backend.
    pub(crate) fn refuses(&self, what: &str, frames: impl AsRef<[u8]>) {
        let outcome = self.send(frames);
        let refused = match outcome {
            Outcome::Status(status) => (400..=505).contains(&status),
            Outcome::Reset(_) | Outcome::GoAway(_) => true,
            Outcome::Ended => false,
        };
        assert!(refused, "{what}: {outcome:?}");
        assert_eq!(self.arrived(), (Vec::new(), 0), "{what}");
    }

    /// It arrives once, as this.
    pub(crate) fn passes(&self, frames: impl AsRef<[u8]>) -> Seen {
        let outcome = self.send(frames);
        assert_eq!(outcome, Outcome::Status(200));
        let (mut all, left) = self.arrived();
        assert_eq!((all.len(), left), (1, 0), "{all:?}");
        self.forget();
        all.remove(0)
    }

    pub(crate) fn forget(&self) {
        for (bytes, answered) in self.tape.lock().expect("no panic").iter_mut() {
            bytes.clear();
            *answered = 0;
        }
    }
}
