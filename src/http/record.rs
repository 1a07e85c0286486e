//! The record of one request, gathered while it is served and written once when it has ended.
//! Its text is only put together when somebody reads the access log.

use std::sync::Arc;
use std::time::SystemTime;

use evenkeel_wire::{Fields, Known, Request, Version};
use tokio::time::Instant;

use super::Site;
use super::forwarded::Caller;
use crate::observe::ended::{Ended, Phases, RequestLine, Why};
use crate::observe::meter::Asked;
use crate::upstream::connect::Efforts;

/// How one request ended.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) why: Why,
    pub(super) detail: Option<String>,
    /// The status the client was answered with.
    pub(super) status: Option<u16>,
    pub(super) upstream: Option<Arc<str>>,
    pub(super) backend: Option<Arc<str>>,
    pub(super) efforts: Efforts,
    /// When the backend's answer began.
    pub(super) first_byte: Option<Instant>,
    /// Bytes of the request's body.
    pub(super) up: u64,
    /// Bytes of the answer's body.
    pub(super) down: u64,
}

impl Told {
    pub(super) fn new(why: Why) -> Told {
        Told {
            why,
            detail: None,
            status: None,
            upstream: None,
            backend: None,
            efforts: Efforts::default(),
            first_byte: None,
            up: 0,
            down: 0,
        }
    }
}

/// Writes the record of a request that began at `began`.
pub(super) fn publish(
    site: &Site,
    caller: &Caller,
    began: Instant,
    request_id: &str,
    request: &Request,
    told: Told,
) {
    let total = began.elapsed();
    let Told { why, status, up, down, .. } = told;
    site.meter.asked(&Asked { why, status, up, down, total });
    if !site.log.takes(told.why, told.status, Some(&request.target)) {
        return;
    }
    site.log.write(Ended {
        at: SystemTime::now() - total,
        client: caller.address,
        name: None,
        certificate: caller.shown().cloned(),
        listener: Arc::clone(&site.listener),
        upstream: told.upstream.unwrap_or_else(|| "-".into()),
        backend: told.backend,
        why: told.why,
        detail: told.detail,
        bytes_up: told.up,
        bytes_down: told.down,
        phases: Phases {
            queue: told.efforts.queue,
            connect: told.efforts.connect,
            first_byte: told.first_byte.map(|at| at - began),
            total,
        },
        tried: told.efforts.tried,
        request: Some(Box::new(request_line(request, request_id, told.status, site.log.headers()))),
    });
}

pub(super) fn request_line(
    request: &Request,
    id: &str,
    status: Option<u16>,
    headers: &[String],
) -> RequestLine {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let field = |fields: &Fields, known| fields.first(known).map(text);
    RequestLine {
        id: id.to_owned(),
        method: text(request.method.as_bytes()),
        host: text(&request.authority),
        target: text(&request.target),
        version: match request.version {
            Version::Http10 => "HTTP/1.0".into(),
            Version::Http11 => "HTTP/1.1".into(),
            Version::Http2 => "HTTP/2.0".into(),
        },
        status,
        user_agent: field(&request.fields, Known::UserAgent),
        referer: field(&request.fields, Known::Referer),
        headers: headers.iter().filter_map(|name| headers_named(request, name)).collect(),
    }
}

/// A header that stands more than once is told as one list (RFC 9110 5.3).
fn headers_named(request: &Request, name: &str) -> Option<(String, String)> {
    let values: Vec<_> = request.fields.named(name.as_bytes()).collect();
    let value = String::from_utf8_lossy(&values.join(&b", "[..])).into_owned();
    (!values.is_empty()).then(|| (name.to_owned(), value))
}
