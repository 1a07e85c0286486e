//! HTTP/1 by hand, so that tests decide about every byte: a client that reads one answer, and backends that record what reached them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::backend::Backend;

/// An answer as a client reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Lower-case names.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// The fields after a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A client connection that sends what it is told and reads answers one by one.
pub(crate) struct Client<S: Read = TcpStream> {
    pub(crate) stream: BufReader<S>,
}

impl Client {
    pub(crate) fn connect(to: SocketAddr) -> Client {
        let stream = TcpStream::connect(to).expect("connect to the proxy");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a read timeout");
        stream.set_nodelay(true).expect("no delay");
        Client::over(stream)
    }

    /// Over a connection that has been made already.
    pub(crate) fn over(stream: TcpStream) -> Client {
        Client { stream: BufReader::new(stream) }
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Client<S> {
        // A proxy that refuses may have closed already; what it said is still to be read.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
        self
    }

    /// Sends a GET for a path of `app.test`, and reads its answer.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: app.test\r\n\r\n")).answer()
    }

    /// Reads one answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer(false).expect("an answer")
    }

    /// Reads one answer; an error is its lack, or that it was cut.
    pub(crate) fn try_answer(&mut self, to_head: bool) -> io::Result<Answer> {
        let line = read_line(&mut self.stream)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status =
            status.ok_or_else(|| io::Error::other(format!("not a status line: {line:?}")))?;
        let fields = read_fields(&mut self.stream)?;
        let mut answer = Answer { status, fields, ..Answer::default() };
        if to_head || (100..200).contains(&status) || status == 204 || status == 304 {
            return Ok(answer);
        }
        let length = answer.field("content-length").and_then(|length| length.parse().ok());
        if answer.field("transfer-encoding").is_some() {
            answer.body = read_chunks(&mut self.stream)?;
            answer.trailers = read_fields(&mut self.stream)?;
        } else if let Some(length) = length {
            answer.body = vec![0; length];
            self.stream.read_exact(&mut answer.body)?;
        } else {
            self.stream.read_to_end(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// Whether the proxy has ended the connection, after whatever is still to be read.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(line) => Ok(String::from_utf8_lossy(line).into_owned()),
        None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a line without its end")),
    }
}

fn read_fields(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut fields = Vec::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            return Ok(fields);
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(from)?;
        let digits = line.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(digits, 16).map_err(io::Error::other)?;
        if size == 0 {
            return Ok(body);
        }
        let start = body.len();
        body.resize(start + size, 0);
        from.read_exact(&mut body[start..])?;
        if !read_line(from)?.is_empty() {
            return Err(io::Error::other("a chunk is longer than it said"));
        }
    }
}

/// A request as a backend read it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A backend that keeps every request it has read, and answers each with what `answer` gives.
pub(crate) struct Recorder {
    pub(crate) backend: Backend,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Recorder {
    /// Answers each request with these bytes.
    pub(crate) fn answering(
        answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static,
    ) -> Recorder {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let backend = Backend::serving(move |stream| {
            let mut stream = BufReader::new(stream);
            while let Ok(request) = read_request(&mut stream) {
                let bytes = answer(&request);
                seen.lock().expect("no panic").push(request);
                stream.get_mut().write_all(&bytes)?;
            }
            Ok(())
        });
        Recorder { backend, asked }
    }

    /// Answers with the request line it got.
    pub(crate) fn echoing() -> Recorder {
        Recorder::answering(|request| ok(request.line.as_bytes()))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }
}

/// A whole answer with this body.
pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// The next request of a connection, whole.
pub(crate) fn read_request(from: &mut impl BufRead) -> io::Result<Asked> {
    let mut request = read_head(from)?;
    read_body(from, &mut request)?;
    Ok(request)
}

/// The head of the next request of a connection.
pub(crate) fn read_head(from: &mut impl BufRead) -> io::Result<Asked> {
    let line = read_line(from)?;
    Ok(Asked { line, fields: read_fields(from)?, ..Asked::default() })
}

/// What follows on a head.
pub(crate) fn read_body(from: &mut impl BufRead, request: &mut Asked) -> io::Result<()> {
    if request.field("transfer-encoding").is_some() {
        request.body = read_chunks(from)?;
        request.trailers = read_fields(from)?;
    } else if let Some(length) = request.field("content-length") {
        request.body = vec![0; length.parse().map_err(io::Error::other)?];
        from.read_exact(&mut request.body)?;
    }
    Ok(())
}

/// A config with the HTTP listener `web` over the upstream `app`.
pub(crate) fn config(backends: &[SocketAddr], upstream: &str, listener: &str) -> String {
    let backends: Vec<_> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "[upstream.app]\nbackends = [{}]\n{upstream}\n\
         [http.web]\nlisten = \"127.0.0.1:0\"\nupstream = \"app\"\n{listener}\n",
        backends.join(", ")
    )
}

/// Starts a proxy and says where its HTTP listener `web` is.
pub(crate) fn serve(config: &str) -> (evenkeel::Running, SocketAddr) {
    let running = super::start(config);
    let door = running.addresses("web")[0];
    (running, door)
}
