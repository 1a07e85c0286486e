//! The check by HTTP: one request on a connection of its own, whose answer must have an expected status and, if asked
//! for, a text in its body. It is read as strictly as any answer, and no further than is needed to judge it.

use std::io;
use std::ops::RangeInclusive;

use evenkeel_wire::{ChunkLimits, Chunked, Framing, Limits, Method, Read, Response, Step};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEAD: Limits = Limits { head_max: 32 * 1024, line_max: 8 * 1024, fields_max: 256 };

/// Interim answers (1xx) to one check.
const INTERIM_MAX: u32 = 8;

/// Bytes of the body that are looked through.
const BODY_MAX: usize = 64 * 1024;

/// What is asked and what is expected.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HttpCheck {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) status: Vec<RangeInclusive<u16>>,
    /// What must occur in the beginning of the body.
    pub(crate) body: Option<Vec<u8>>,
}

impl HttpCheck {
    /// Asks, and judges the answer. `name` is the host of a check that names none.
    pub(super) async fn run(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        name: &str,
    ) -> io::Result<()> {
        stream.write_all(self.request(name).as_bytes()).await?;
        let mut input = Input { stream, bytes: Vec::new() };
        let response = self.read_head(&mut input).await?;
        if !self.status.iter().any(|range| range.contains(&response.status)) {
            return Err(io::Error::other(format!("HTTP status {}", response.status)));
        }
        match &self.body {
            Some(expected) => look_for(expected, &mut input, response.framing).await,
            None => Ok(()),
        }
    }

    fn request(&self, name: &str) -> String {
        let HttpCheck { method, path, host, headers, .. } = self;
        let host = host.as_deref().unwrap_or(name);
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
            request.push_str("User-Agent: evenkeel-health\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request + "Connection: close\r\n\r\n"
    }

    async fn read_head(
        &self,
        input: &mut Input<'_, impl AsyncRead + Unpin>,
    ) -> io::Result<Response> {
        let method = Method::of(self.method.as_bytes()).unwrap_or_default();
        let mut response = Response::default();
        for _ in 0..=INTERIM_MAX {
            loop {
                let read = response.read(&input.bytes, &method, &HEAD).map_err(|refusal| {
                    let reason = refusal.reason.as_str();
                    io::Error::other(format!("the answer is not HTTP/1: {reason}"))
                })?;
                match read {
                    Read::Whole { length } => {
                        input.bytes.drain(..length);
                        break;
                    }
                    Read::Partial if input.more().await? == 0 => {
                        return Err(io::Error::other(
                            "the answer is not HTTP/1: it ends in its head",
                        ));
                    }
                    Read::Partial => {}
                }
            }
            if response.status >= 200 {
                return Ok(response);
            }
        }
        Err(io::Error::other("too many interim answers"))
    }
}

/// What has come and was not used up yet.
struct Input<'s, S> {
    stream: &'s mut S,
    bytes: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Input<'_, S> {
    async fn more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 4096];
        let count = self.stream.read(&mut piece).await?;
        self.bytes.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

/// Reads the body as far as it may go on, until the text has been seen.
async fn look_for(
    expected: &[u8],
    input: &mut Input<'_, impl AsyncRead + Unpin>,
    framing: Framing,
) -> io::Result<()> {
    let mut body = Body::new(framing);
    let mut text = Vec::new();
    loop {
        let searched = text.len();
        let is_over = body.decode(&mut input.bytes, &mut text)?;
        text.truncate(BODY_MAX);
        // What was searched before can be part of it only with its end.
        let from = (searched + 1).saturating_sub(expected.len());
        let found = text.get(from..).unwrap_or_default();
        if expected.is_empty() || found.windows(expected.len()).any(|window| window == expected) {
            return Ok(());
        }
        if is_over || text.len() == BODY_MAX {
            return Err(io::Error::other("the body is not as expected"));
        }
        if input.more().await? == 0 {
            let broke_off = framing != Framing::UntilClose;
            let what = if broke_off { "the body broke off" } else { "the body is not as expected" };
            return Err(io::Error::other(what));
        }
    }
}

enum Body {
    Plain { left: u64 },
    Chunked(Box<Chunked>),
}

impl Body {
    fn new(framing: Framing) -> Body {
        match framing {
            Framing::None => Body::Plain { left: 0 },
            Framing::Length(left) => Body::Plain { left },
            Framing::UntilClose => Body::Plain { left: u64::MAX },
            Framing::Chunked => {
                let limits = ChunkLimits { extension_max: 1024, trailers: HEAD };
                Body::Chunked(Box::new(Chunked::new(limits)))
            }
        }
    }

    /// Moves data from what has come to the text; whether the body is over.
    fn decode(&mut self, from: &mut Vec<u8>, text: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Body::Plain { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(from.len());
                text.extend(from.drain(..count));
                *left -= count as u64;
                Ok(*left == 0)
            }
            Body::Chunked(chunked) => loop {
                let step = chunked.step(from).map_err(|refusal| {
                    let reason = refusal.reason.as_str();
                    io::Error::other(format!("the body is not HTTP/1: {reason}"))
                })?;
                match step {
                    Step::Data { skip, length } => {
                        from.drain(..skip);
                        text.extend(from.drain(..length));
                    }
                    Step::More { consumed } => {
                        from.drain(..consumed);
                        return Ok(false);
                    }
                    Step::End { .. } => return Ok(true),
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: Option<&str>) -> HttpCheck {
        HttpCheck {
            method: "GET".to_owned(),
            path: "/".to_owned(),
            host: None,
            headers: Vec::new(),
            status: vec![200..=299],
            body: body.map(|body| body.as_bytes().to_vec()),
        }
    }

    /// What comes of a check to which this is answered, in pieces of so many bytes.
    fn judged(check: &HttpCheck, answer: &[u8], piece: usize) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut ours, mut theirs) = tokio::io::duplex(piece);
            let answers = async {
                // What is not wanted any more cannot be written, and what is asked need not be read whole.
                let _ = theirs.read(&mut [0; 1]).await;
                let (mut from, mut to) = tokio::io::split(theirs);
                let drain = async { while from.read(&mut [0; 256]).await.is_ok_and(|n| n > 0) {} };
                let write = async {
                    let _ = to.write_all(answer).await;
                    let _ = to.shutdown().await;
                };
                tokio::join!(drain, write);
            };
            let run = async {
                let judged = check.run(&mut ours, "app").await;
                drop(ours);
                judged
            };
            let (judged, ()) = tokio::join!(run, answers);
            judged.map_err(|error| error.to_string())
        })
    }

    #[test]
    fn only_a_well_formed_answer_with_an_expected_status_is_good() {
        for good in [
            &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
            b"HTTP/1.0 200\r\n\r\n",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            assert_eq!(judged(&check(None), good, 7), Ok(()), "{good:?}");
        }
        for bad in [
            &b"HTTP/1.1 500 No\r\n\r\n"[..],
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"HTTP/1.1 +20 x\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"SSH-2.0-x\r\n",
            b"",
        ] {
            assert!(judged(&check(None), bad, 4096).is_err(), "{bad:?}");
        }
        assert!(judged(&check(None), &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(20), 64).is_err());
    }

    #[test]
    fn a_text_is_found_wherever_it_stands_and_however_it_comes() {
        let check = check(Some("all good"));
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nx all good!"[..],
            b"HTTP/1.1 200 OK\r\n\r\n.. all good",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nxall \r\n6\r\ngood!!\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\nall good",
        ] {
            for piece in [1, 3, 4096] {
                assert_eq!(judged(&check, answer, piece), Ok(()), "{answer:?} by {piece}");
            }
        }
    }

    #[test]
    fn a_body_without_the_text_is_bad_and_is_not_read_for_ever() {
        let check = check(Some("good"));
        for answer in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ngood"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngoo",
            b"HTTP/1.1 204 OK\r\n\r\ngood",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\ngood\r\n",
        ] {
            assert!(judged(&check, answer, 5).is_err(), "{answer:?}");
        }
        let late = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'.'; BODY_MAX - 3], b"good"].concat();
        let just = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b'.'; BODY_MAX - 4], b"good"].concat();
        assert!(judged(&check, &late, 1000).is_err());
        assert_eq!(judged(&check, &just, 1000), Ok(()));
    }
}
