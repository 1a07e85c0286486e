//! What we say ourselves: small, honest pages for refusals and failures, fixed replies and redirects.
//! A refusal says what was wrong, never what is behind us.

use evenkeel_wire::{Fields, Framing, Known, Response, elements};

use super::local::Local;

/// An answer of our own.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
    /// Further fields, checked already.
    pub(super) fields: Vec<(&'static str, String)>,
}

impl Reply {
    /// The page of a failure: `cause` is the word of the access log, for machines.
    pub(super) fn failure(status: u16, cause: &str, request_id: &str, asked: &Fields) -> Reply {
        let phrase = phrase(status);
        let (content_type, body) = if wants_json(asked) {
            let value = serde_json::json!({
                "status": status, "error": phrase, "cause": cause, "request_id": request_id,
            });
            ("application/json", format!("{value}\n"))
        } else {
            let page = format!(
                "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{status} {phrase}</title>\n\
                 <h1>{status} {phrase}</h1>\n<p>Cause: {cause}. Request: {request_id}</p>\n"
            );
            ("text/html; charset=utf-8", page)
        };
        let mut fields = vec![("X-Evenkeel-Cause", cause.to_owned())];
        if !request_id.is_empty() {
            fields.push(("X-Request-Id", request_id.to_owned()));
        }
        if status == 503 {
            fields.push(("Retry-After", "1".to_owned()));
        }
        Reply { status, content_type, body: body.into_bytes(), fields }
    }

    /// One that sends the client elsewhere.
    pub(super) fn redirect(status: u16, to: String) -> Reply {
        let mut reply = Reply::plain(status, "text/plain", Vec::new());
        reply.fields.push(("Location", to));
        reply
    }

    /// A reply with a plain body.
    pub(super) fn plain(status: u16, content_type: &'static str, body: Vec<u8>) -> Reply {
        Reply { status, content_type, body, fields: Vec::new() }
    }

    /// Fills in the head, and says what body goes with it. HEAD is told the length and gets no body; 204 and 304
    /// have neither.
    pub(super) fn fill(&self, response: &mut Response, local: &Local, is_head: bool) -> &[u8] {
        begin(response, self.status, local);
        for (name, value) in &self.fields {
            response.fields.push(name.as_bytes(), value.as_bytes());
        }
        if !has_body(self.status) {
            return &[];
        }
        if !self.body.is_empty() && !self.content_type.is_empty() {
            response.fields.push(b"Content-Type", self.content_type.as_bytes());
        }
        let length = self.body.len() as u64;
        if is_head {
            response.fields.push(b"Content-Length", length.to_string().as_bytes());
            return &[];
        }
        response.framing = Framing::Length(length);
        &self.body
    }
}

/// Begins an answer of our own: status, reason and date.
pub(super) fn begin(response: &mut Response, status: u16, local: &Local) {
    response.clear();
    response.status = status;
    response.reason.extend_from_slice(phrase(status).as_bytes());
    local.with_date(|date| response.fields.push(b"Date", date));
}

fn has_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// Whether `Accept` asks for JSON before HTML.
pub(super) fn wants_json(asked: &Fields) -> bool {
    let accepted = asked.all(Known::Accept).flat_map(elements);
    let kinds = accepted.map(|kind| kind.split(|byte| *byte == b';').next().unwrap_or_default());
    for kind in kinds.map(<[u8]>::trim_ascii) {
        if kind.eq_ignore_ascii_case(b"application/json") || kind.ends_with(b"+json") {
            return true;
        }
        if kind.eq_ignore_ascii_case(b"text/html") {
            return false;
        }
    }
    false
}

/// The reason phrase of a status (RFC 9110 15), as far as we or a route may say it.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
