//! Failures as a client of gRPC reads them: a status in the head and no body, in place of a page.
//! Some clients take the bytes of a page for a message and report nonsense, so a page must never go to them.

use evenkeel_wire::{Fields, Known};

use super::reply::Reply;

/// Whether a request is a call of gRPC, in any of its encodings.
pub(super) fn is_call(asked: &Fields) -> bool {
    asked.all(Known::ContentType).any(|value| {
        let kind = value.get(.."application/grpc".len()).unwrap_or_default();
        kind.eq_ignore_ascii_case(b"application/grpc")
    })
}

/// Turns the page of a failure into a status of gRPC; the status of HTTP stays, for everybody between.
pub(super) fn answer(reply: &mut Reply, cause: &str) {
    reply.body.clear();
    reply.fields.push(("Content-Type", "application/grpc".to_owned()));
    reply.fields.push(("Grpc-Status", code(reply.status).to_string()));
    reply.fields.push(("Grpc-Message", format!("HTTP status {}, cause: {cause}", reply.status)));
}

/// What a status of HTTP means to gRPC ("HTTP to gRPC Status Code Mapping" in its documentation); what is too large is
/// told as servers of gRPC tell it.
fn code(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        413 | 431 => 8,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
