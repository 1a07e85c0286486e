//! Answers of HTTP/2 and what comes after bodies, as tables: held to the same rules as requests.

use evenkeel_wire::{Fields, Framing, Method, Response};

use crate::h2_support::{Changes, expect_refused};
use crate::support::LIMITS;

fn response(
    status: u16,
    fields: Changes<'_>,
    to: &Method,
    ends: bool,
) -> Result<Response, &'static str> {
    let mut response = Response::default();
    let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let taken = response.take_h2(status, pairs, to, ends, &LIMITS);
    taken.map(|()| response).map_err(|refusal| refusal.reason.as_str())
}

#[test]
fn an_answer_with_two_readings_is_refused() {
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("content-length", "5"), ("content-length", "5")], "content-length-repeated"),
        (&[("content-length", "5,5")], "content-length-repeated"),
        (&[("content-length", "+5")], "content-length-invalid"),
        (&[("content-length", "")], "content-length-invalid"),
        (&[("content-length", "18446744073709551616")], "content-length-overflow"),
        (&[("transfer-encoding", "chunked")], "connection-field"),
        (&[("connection", "close")], "connection-field"),
        (&[("keep-alive", "timeout=5")], "connection-field"),
        (&[("proxy-connection", "close")], "connection-field"),
        (&[("upgrade", "h2c")], "connection-field"),
        (&[("X-Upper", "1")], "name-invalid"),
        (&[("a\r\nb", "1")], "name-invalid"),
        (&[("", "1")], "name-empty"),
        (&[("x", "a\r\nset-cookie: b=c")], "value-invalid"),
        (&[("x", "a\0")], "value-invalid"),
        (&[("x", " a")], "value-invalid"),
        (&[("content_length", "5")], "underscore-look-alike"),
    ];
    for to in [Method::Get, Method::Head, Method::Post] {
        for status in [200, 304, 404, 500] {
            expect_refused(rows, |fields| response(status, fields, &to, false));
        }
    }
    let one: Changes<'_> = &[("content-length", "5")];
    assert_eq!(response(200, one, &Method::Get, true), Err("length-contradicts"));
    assert_eq!(response(101, &[], &Method::Get, false), Err("status-line-invalid"));
    assert_eq!(response(101, &[], &Method::Connect, false), Err("status-line-invalid"));
    let many = [("x", "")].repeat(LIMITS.fields_max + 1);
    assert_eq!(response(200, &many, &Method::Get, true), Err("fields-too-many"));
}

#[test]
fn the_body_of_an_answer_is_where_its_status_and_method_allow_one() {
    let five: Changes<'_> = &[("content-length", "5")];
    let framed = |status, fields, to: &Method, ends| {
        response(status, fields, to, ends).map(|response| (response.framing, response.fields.len()))
    };
    assert_eq!(framed(200, five, &Method::Get, false), Ok((Framing::Length(5), 1)));
    assert_eq!(framed(200, &[], &Method::Get, false), Ok((Framing::Chunked, 0)));
    assert_eq!(framed(200, &[], &Method::Get, true), Ok((Framing::None, 0)));
    // HEAD and 304 tell a length and have no body.
    assert_eq!(framed(200, five, &Method::Head, true), Ok((Framing::None, 1)));
    assert_eq!(framed(304, five, &Method::Get, true), Ok((Framing::None, 1)));
    // 204 and interim answers may not even tell one.
    assert_eq!(framed(204, five, &Method::Get, true), Ok((Framing::None, 0)));
    assert_eq!(framed(103, five, &Method::Get, false), Ok((Framing::None, 0)));
}

#[test]
fn trailers_cannot_change_the_message() {
    let take = |fields: Changes<'_>| {
        let mut trailers = Fields::default();
        let pairs = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let taken = trailers.take_h2_trailers(pairs, &LIMITS);
        taken.map(|()| trailers).map_err(|refusal| refusal.reason.as_str())
    };
    let (many, large) = ([("x", "")].repeat(LIMITS.fields_max + 1), "v".repeat(LIMITS.head_max));
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("X-Upper", "1")], "name-invalid"),
        (&[("", "1")], "name-empty"),
        (&[("a\r\nb", "1")], "name-invalid"),
        (&[("x", "a\r\nb")], "value-invalid"),
        (&[("connection", "close")], "connection-field"),
        (&[("transfer-encoding", "chunked")], "connection-field"),
        (&[("te", "gzip")], "connection-field"),
        (&[("upgrade", "x")], "connection-field"),
        (&[("content_length", "5")], "underscore-look-alike"),
        (&many, "trailers-too-many"),
        (&[("x", &large)], "trailers-too-large"),
    ];
    expect_refused(rows, take);
    let late = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "authorization",
        "cookie",
        "set-cookie",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
        "x-request-id",
        "cache-control",
        "expect",
        "trailer",
        "location",
        "vary",
        "www-authenticate",
        "age",
        "x-real-ip",
    ];
    for name in late {
        let kept = take(&[(name, "1"), ("grpc-status", "0")]).expect("left out, not refused");
        assert_eq!(kept.len(), 1, "{name}");
        assert_eq!(kept.named(b"grpc-status").next(), Some(&b"0"[..]));
    }
}
