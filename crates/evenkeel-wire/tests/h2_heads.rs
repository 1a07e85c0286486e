//! Fields of HTTP/2 as tables: what could be read differently by a backend of HTTP/1 is refused for its reason, and
//! what is good means what it says. What cannot be said to this crate at all (a pseudo-field twice, fields before
//! pseudo-fields) is tried in the proxy, frame by frame.

use evenkeel_wire::{Framing, Known};

use crate::h2_support::{Changes, expect_refused, expect_values_refused, good, request};
use crate::support::LIMITS;

#[test]
fn a_name_that_is_no_token_in_lower_case_is_refused() {
    let names = [
        "X-Upper",
        "Host",
        "cOntent-length",
        "a b",
        " a",
        "a ",
        "a\t",
        "a\r",
        "a\n",
        "a\r\nb",
        "a\0",
        "a\u{1}",
        "a\u{7f}",
        "\u{e9}",
        "a:b",
        "a:",
        "a(b)",
        "a\"b",
        "a/b",
        "a,b",
        "a;b",
        "a=b",
        "a@b",
        "a[b]",
        "a{b}",
        "a\\b",
        "a?b",
        "<a>",
        "content-length ",
        "transfer-encoding\t",
        "transfer-encoding: chunked\r\nx",
        "host:",
    ];
    for name in names {
        expect_values_refused(name, &["1"], true, "name-invalid");
    }
    expect_values_refused("", &["", "1"], true, "name-empty");
}

#[test]
fn a_value_with_controls_or_space_around_it_is_refused() {
    let values = [
        "a\r\nb: c",
        "a\nb",
        "a\rb",
        "\r\n",
        "a\r\n\r\nGET /smuggled HTTP/1.1",
        "a\0b",
        "a\u{1}b",
        "a\u{8}",
        "\u{b}a",
        "a\u{c}b",
        "a\u{1b}[0m",
        "a\u{7f}b",
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
    ];
    for name in ["x", "cookie", "content-length", "user-agent", "host"] {
        expect_values_refused(name, &values, false, "value-invalid");
    }
    for value in ["", "a\tb", "a b", "caf\u{e9}", "\"q\"", "a,b;c=d"] {
        assert_eq!(good(&[("x", value)], true).fields.named(b"x").next(), Some(value.as_bytes()));
    }
}

#[test]
fn fields_of_a_connection_are_refused() {
    let rows: &[(Changes<'_>, &str)] = &[
        (&[("connection", "close")], "connection-field"),
        (&[("connection", "keep-alive")], "connection-field"),
        (&[("connection", "x-forwarded-for")], "connection-field"),
        (&[("connection", "")], "connection-field"),
        (&[("keep-alive", "timeout=5")], "connection-field"),
        (&[("proxy-connection", "keep-alive")], "connection-field"),
        (&[("transfer-encoding", "chunked")], "connection-field"),
        (&[("transfer-encoding", "identity")], "connection-field"),
        (&[("transfer-encoding", "")], "connection-field"),
        (&[("transfer-encoding", "chunked"), ("content-length", "5")], "connection-field"),
        (&[("upgrade", "websocket")], "connection-field"),
        (&[("upgrade", "h2c")], "connection-field"),
        (&[("te", "gzip")], "connection-field"),
        (&[("te", "trailers, gzip")], "connection-field"),
        (&[("te", "gzip, trailers")], "connection-field"),
        (&[("te", "trailers;q=1")], "connection-field"),
        (&[("te", "chunked")], "connection-field"),
        (&[("te", "")], "connection-field"),
        (&[("te", "trailers"), ("te", "gzip")], "connection-field"),
        (&[("content_length", "5")], "underscore-look-alike"),
        (&[("transfer_encoding", "chunked")], "underscore-look-alike"),
        (&[("x_forwarded_for", "1.2.3.4")], "underscore-look-alike"),
        (&[("x-forwarded_for", "1.2.3.4")], "underscore-look-alike"),
        (&[("x_forwarded_host", "b.test")], "underscore-look-alike"),
        (&[("x_forwarded_proto", "https")], "underscore-look-alike"),
        (&[("x_forwarded_port", "1")], "underscore-look-alike"),
        (&[("x_request_id", "1")], "underscore-look-alike"),
    ];
    expect_refused(rows, |changes| request(changes, false));
    expect_refused(rows, |changes| request(changes, true));
    assert_eq!(good(&[("te", "trailers")], true).fields.first(Known::Te), Some(&b"trailers"[..]));
    assert_eq!(good(&[("x_own", "1")], true).fields.len(), 1);
}

#[test]
fn a_length_that_is_no_plain_number_or_not_that_of_the_frames_is_refused() {
    let invalid = [
        "", "+5", "-5", "-0", "0x5", "5.0", "5e0", "five", "\u{665}", "5;", "1_0", "5 5", "\"5\"",
        "5/5",
    ];
    for ends in [true, false] {
        expect_values_refused("content-length", &invalid, ends, "content-length-invalid");
        expect_values_refused(
            "content-length",
            &["5,5", "5, 5", "5,6", "5,", "5 ,"],
            ends,
            "content-length-repeated",
        );
        let beyond = ["18446744073709551616", "18446744073709551621", "99999999999999999999999999"];
        expect_values_refused("content-length", &beyond, ends, "content-length-overflow");
        let twice: [Changes<'_>; 3] = [
            &[("content-length", "5"), ("content-length", "5")],
            &[("content-length", "5"), ("content-length", "6")],
            &[("content-length", "0"), ("content-length", "0")],
        ];
        for row in twice {
            expect_refused(&[(row, "content-length-repeated")], |changes| request(changes, ends));
        }
    }
    expect_values_refused(
        "content-length",
        &["1", "5", "18446744073709551615"],
        true,
        "length-contradicts",
    );
    let framed = |changes: Changes<'_>, ends| good(changes, ends).framing;
    assert_eq!(framed(&[], true), Framing::None);
    assert_eq!(framed(&[], false), Framing::Chunked);
    assert_eq!(framed(&[("content-length", "0")], true), Framing::None);
    assert_eq!(framed(&[("content-length", "0")], false), Framing::Length(0));
    assert_eq!(framed(&[("content-length", "007")], false), Framing::Length(7));
    assert_eq!(
        framed(&[("content-length", "18446744073709551615")], false),
        Framing::Length(u64::MAX)
    );
}

#[test]
fn too_much_of_anything_is_refused() {
    let one = [("x", "")];
    let (most, more) = (one.repeat(LIMITS.fields_max), one.repeat(LIMITS.fields_max + 1));
    assert_eq!(good(&most, true).fields.len(), LIMITS.fields_max);
    let crumbs = [("cookie", "a=b")].repeat(LIMITS.fields_max + 1);
    let nameless = [("x", ""), ("", "")].repeat(LIMITS.fields_max);
    let large = "v".repeat(LIMITS.head_max);
    let half = "v".repeat(LIMITS.head_max / 2);
    let rows: [(Changes<'_>, &str); 7] = [
        (&[(":authority", &large)], "head-too-large"),
        (&[(":authority", &half), ("x", &half)], "head-too-large"),
        (&more, "fields-too-many"),
        (&crumbs, "fields-too-many"),
        (&[("x", &large)], "head-too-large"),
        (&[("x", &half), ("y", &half)], "head-too-large"),
        (&nameless, "name-empty"),
    ];
    expect_refused(&rows, |changes| request(changes, true));
}

#[test]
fn bodies_and_expectations_that_may_not_be_are_refused() {
    let rows: [(Changes<'_>, &str); 5] = [
        (&[(":method", "TRACE")], "body-not-allowed"),
        (&[(":method", "TRACE"), ("content-length", "5")], "body-not-allowed"),
        (&[("expect", "200-ok")], "expect-unknown"),
        (&[("expect", "")], "expect-unknown"),
        (&[("expect", "100-continue"), ("expect", "x")], "expect-unknown"),
    ];
    expect_refused(&rows, |changes| request(changes, false));
    assert!(good(&[("expect", "100-continue")], false).expects_continue);
    assert!(!good(&[("expect", "100-continue")], true).expects_continue);
}

#[test]
fn good_heads_say_what_was_sent() {
    let crumbs = good(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")], true);
    assert_eq!(crumbs.fields.all(Known::Cookie).collect::<Vec<_>>(), [b"a=1; b=2; c=3"]);
    assert_eq!(crumbs.fields.len(), 2);
    let empty = good(&[("cookie", ""), ("cookie", "a=1"), ("cookie", "")], true);
    assert_eq!(empty.fields.all(Known::Cookie).collect::<Vec<_>>(), [b"a=1"]);
    assert_eq!(good(&[(":method", "OPTIONS"), (":path", "*")], true).target, b"*");
    for path in
        ["/", "//", "/a?", "/?a=b&c", "/a%20b", "/{a}|^`", "/a;b=c", "/a?b?c/", "/..", "/~a'(b)"]
    {
        assert_eq!(good(&[(":path", path)], true).target, path.as_bytes());
    }
    for authority in
        ["a.test", "A.test:8080", "127.0.0.1", "[::1]", "[::1]:80", "a_b.test", "xn--a.test."]
    {
        assert_eq!(good(&[(":authority", authority)], true).authority, authority.as_bytes());
    }
}
