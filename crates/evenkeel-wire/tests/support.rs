//! Reading in one line, for tables of heads.

use evenkeel_wire::{Limits, Method, Read, Request, Response};

pub(crate) const LIMITS: Limits = Limits { head_max: 4_096, line_max: 1_024, fields_max: 40 };

/// Reads a request that must be whole, or the word of its refusal.
pub(crate) fn request(head: impl AsRef<[u8]>) -> Result<Request, &'static str> {
    let mut request = Request::default();
    match request.read(head.as_ref(), &LIMITS) {
        Ok(Read::Whole { .. }) => Ok(request),
        Ok(Read::Partial) => Err("partial"),
        Err(refusal) => Err(refusal.reason.as_str()),
    }
}

/// The same for the answer to a request of this method.
pub(crate) fn response(head: impl AsRef<[u8]>, to: &Method) -> Result<Response, &'static str> {
    let mut response = Response::default();
    match response.read(head.as_ref(), to, &LIMITS) {
        Ok(Read::Whole { .. }) => Ok(response),
        Ok(Read::Partial) => Err("partial"),
        Err(refusal) => Err(refusal.reason.as_str()),
    }
}

/// A POST with these field lines, each with its line end, behind a Host.
pub(crate) fn post(lines: impl AsRef<[u8]>) -> Result<Request, &'static str> {
    let head = b"POST /x HTTP/1.1\r\nHost: a.test\r\n";
    request([head, lines.as_ref(), b"\r\n"].concat())
}

/// Fails with every head that was not refused for its reason.
pub(crate) fn expect_refusals<H: AsRef<[u8]>>(
    cases: &[(H, &str)],
    read: impl Fn(&[u8]) -> Option<&'static str>,
) {
    let mut wrong = Vec::new();
    for (head, reason) in cases {
        let found = read(head.as_ref()).unwrap_or("accepted");
        if found != *reason {
            wrong.push(format!("{}: {found}, not {reason}", head.as_ref().escape_ascii()));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
