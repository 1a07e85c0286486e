//! A second opinion: the request that we would write on is read by hyper, which must find the same
//! method, target, fields and body, and nothing behind it. hyper splits lines with `httparse` as
//! we do, but judges targets, lengths and transfer codings by its own rules. Used by a fuzz target
//! too, which includes this file by its path.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use evenkeel_wire::{Framing, Limits, Method, Read, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::rt::ReadBufCursor;
use hyper::service::service_fn;

use crate::fuzz_bodies::write_request;

const LIMITS: Limits = Limits { head_max: 2_048, line_max: 512, fields_max: 20 };
const BODY: &[u8] = b"GET /in-body HTTP/1.1\r\nHost: x\r\n\r\n";
const BODY_LENGTH_MAX: u64 = 1_000;

/// What hyper made of one request: head, body or the end of it, and whether it was read whole.
struct Seen {
    head: hyper::http::request::Parts,
    body: Option<Vec<u8>>,
}

/// Any bytes: when they are a request, hyper must see the one that we saw, once. Answers whether
/// there was anything to compare: hyper may refuse what we take.
pub(crate) fn request_head(bytes: &[u8]) -> bool {
    let mut request = Request::default();
    if !matches!(request.read(bytes, &LIMITS), Ok(Read::Whole { .. })) {
        return false;
    }
    // An Upgrade or CONNECT takes the connection over, and lengths have to stay small here.
    let body = match request.framing {
        _ if request.upgrade || request.method == Method::Connect => return false,
        Framing::Length(length) if length > BODY_LENGTH_MAX => return false,
        Framing::Length(length) => BODY.iter().copied().cycle().take(length as usize).collect(),
        Framing::Chunked => BODY.to_vec(),
        Framing::None | Framing::UntilClose => Vec::new(),
    };
    let mut written = write_request(&request);
    match request.framing {
        Framing::Chunked => {
            evenkeel_wire::write_chunk_size(&mut written, body.len());
            written.extend_from_slice(&body);
            written.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        _ => written.extend_from_slice(&body),
    }
    let seen = read_by_hyper(written.clone());
    // What hyper does not take at all cannot be read in a second way.
    let [seen] = seen.as_slice() else {
        assert!(seen.is_empty(), "more than one request in {}", written.escape_ascii());
        return false;
    };
    assert_eq!(seen.head.method.as_str().as_bytes(), request.method.as_bytes());
    assert_eq!(seen.head.uri.to_string().as_bytes(), request.target);
    assert_eq!(seen.body.as_ref(), Some(&body), "{}", written.escape_ascii());
    let host = seen.head.headers.get("host").map_or(b"".as_slice(), |host| host.as_bytes());
    assert_eq!(host, request.authority);
    for field in request.fields.iter() {
        let name = str::from_utf8(field.name).expect("a name is ASCII");
        let mut values = seen.head.headers.get_all(name).iter();
        assert!(values.any(|value| value.as_bytes() == field.value), "{name}");
    }
    let hosts = usize::from(!request.authority.is_empty());
    assert_eq!(seen.head.headers.len(), request.fields.len() + hosts);
    true
}

fn read_by_hyper(bytes: Vec<u8>) -> Vec<Seen> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.ok().map(|body| body.to_bytes().to_vec());
            seen.borrow_mut().push(Seen { head, body });
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let serving =
        hyper::server::conn::http1::Builder::new().serve_connection(Wire { bytes, at: 0 }, service);
    let mut serving = pin!(serving);
    let mut context = Context::from_waker(Waker::noop());
    // Everything is there from the start, so that nothing is ever waited for; a body and its
    // reader may take turns.
    for _ in 0..16 {
        if serving.as_mut().poll(&mut context).is_ready() {
            break;
        }
    }
    seen.take()
}

/// A connection on which these bytes have come and nothing more; what is written is gone.
struct Wire {
    bytes: Vec<u8>,
    at: usize,
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // An end would make hyper give the request up before it was answered.
        if self.at == self.bytes.len() {
            return Poll::Pending;
        }
        let length = to.remaining().min(self.bytes.len() - self.at);
        to.put_slice(&self.bytes[self.at..self.at + length]);
        self.at += length;
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(from.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
