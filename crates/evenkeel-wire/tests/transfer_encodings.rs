//! Spellings of Transfer-Encoding, each of which some server has taken for `chunked` and another
//! has not. One field line says `chunked` and nothing else; every other spelling is refused.

use evenkeel_wire::{Framing, Method};

use crate::support::{expect_refusals, post, request, response};

const INVALID: &str = "transfer-encoding-invalid";
const UNKNOWN: &str = "transfer-coding-unknown";

/// The line as it is sent, without its end.
const REFUSED: &[(&[u8], &str)] = &[
    (b"Transfer-Encoding:", INVALID),
    (b"Transfer-Encoding: identity", INVALID),
    (b"Transfer-Encoding: gzip", INVALID),
    (b"Transfer-Encoding: xchunked", INVALID),
    (b"Transfer-Encoding: chunkedx", INVALID),
    (b"Transfer-Encoding: chunke", INVALID),
    (b"Transfer-Encoding: chunk", INVALID),
    (b"Transfer-Encoding: chunked chunked", INVALID),
    (b"Transfer-Encoding: chunked,", INVALID),
    (b"Transfer-Encoding: chunked, ", INVALID),
    (b"Transfer-Encoding: ,chunked", INVALID),
    (b"Transfer-Encoding: , chunked", INVALID),
    (b"Transfer-Encoding: ,", INVALID),
    (b"Transfer-Encoding: chunked,chunked", INVALID),
    (b"Transfer-Encoding: chunked, chunked", INVALID),
    (b"Transfer-Encoding: chunked, identity", INVALID),
    (b"Transfer-Encoding: chunked, gzip", INVALID),
    (b"Transfer-Encoding: chunked, gzip, chunked", INVALID),
    (b"Transfer-Encoding: gzip,, chunked", INVALID),
    (b"Transfer-Encoding: gzip chunked", INVALID),
    (b"Transfer-Encoding: gzip; q=1, chunked", INVALID),
    (b"Transfer-Encoding: \"chunked\"", INVALID),
    (b"Transfer-Encoding: 'chunked'", INVALID),
    (b"Transfer-Encoding: \"x, chunked\"", INVALID),
    (b"Transfer-Encoding: \"x\", chunked", INVALID),
    (b"Transfer-Encoding: chunked;", INVALID),
    (b"Transfer-Encoding: chunked;q=1", INVALID),
    (b"Transfer-Encoding: chunked; foo", INVALID),
    (b"Transfer-Encoding: ;chunked", INVALID),
    (b"Transfer-Encoding: chunked=", INVALID),
    (b"Transfer-Encoding: =chunked", INVALID),
    (b"Transfer-Encoding: : chunked", INVALID),
    (b"Transfer-Encoding:: chunked", INVALID),
    (b"Transfer-Encoding: Transfer-Encoding: chunked", INVALID),
    (b"Transfer-Encoding: chunked.", INVALID),
    (b"Transfer-Encoding: (x) chunked", INVALID),
    (b"Transfer-Encoding: chun\xffked", INVALID),
    (b"Transfer-Encoding: \xa0chunked", INVALID),
    (b"Transfer-Encoding: chunked\xa0", INVALID),
    (b"Transfer-Encoding: \xef\xbb\xbfchunked", INVALID),
    (b"Transfer-Encoding: chun\xc3\xaaked", INVALID),
    (b"Transfer-Encoding: chun\xe2\x84\xaaed", INVALID),
    (b"Transfer-Encoding: gzip, chunked", UNKNOWN),
    (b"Transfer-Encoding: gzip,chunked", UNKNOWN),
    (b"Transfer-Encoding: identity, chunked", UNKNOWN),
    (b"Transfer-Encoding: deflate, gzip, CHUNKED", UNKNOWN),
    (b"Transfer-Encoding: x, chunked", UNKNOWN),
    (b"Transfer-Encoding: \x0bchunked", "value-invalid"),
    (b"Transfer-Encoding: \x0cchunked", "value-invalid"),
    (b"Transfer-Encoding: \x00chunked", "value-invalid"),
    (b"Transfer-Encoding: chunked\x0b", "value-invalid"),
    (b"Transfer-Encoding: chunked\x00", "value-invalid"),
    (b"Transfer-Encoding: chunked\x08", "value-invalid"),
    (b"Transfer-Encoding: chunked\x7f", "value-invalid"),
    (b"Transfer-Encoding: chunked\r", "bare-cr"),
    (b"Transfer-Encoding: \rchunked", "bare-cr"),
    (b"Transfer-Encoding: \nchunked", "bare-lf"),
    (b"Transfer-Encoding: chunked\n", "bare-lf"),
    (b"Transfer-Encoding:\r\n chunked", "obs-fold"),
    (b"Transfer-Encoding:\r\n\tchunked", "obs-fold"),
    (b"Transfer-Encoding: chunked\r\n , gzip", "obs-fold"),
    (b" Transfer-Encoding: chunked", "obs-fold"),
    (b"\tTransfer-Encoding: chunked", "obs-fold"),
    (b"X: y\n Transfer-Encoding: chunked", "bare-lf"),
    (b"Transfer-Encoding : chunked", "space-before-colon"),
    (b"Transfer-Encoding\t: chunked", "space-before-colon"),
    (b"Transfer-Encoding\x0b: chunked", "name-invalid"),
    (b"Transfer-Encoding\x00: chunked", "name-invalid"),
    (b"\x00Transfer-Encoding: chunked", "name-invalid"),
    (b"\x0bTransfer-Encoding: chunked", "name-invalid"),
    (b"\xffTransfer-Encoding: chunked", "name-invalid"),
    (b"Transfer Encoding: chunked", "name-invalid"),
    (b"\"Transfer-Encoding\": chunked", "name-invalid"),
    (b"(x)Transfer-Encoding: chunked", "name-invalid"),
    (b"Transfer-Encoding; chunked", "colon-missing"),
    (b"Transfer-Encoding chunked", "colon-missing"),
    (b"Transfer_Encoding: chunked", "underscore-look-alike"),
    (b"transfer_encoding: chunked", "underscore-look-alike"),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "transfer-encoding-repeated"),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", "transfer-encoding-repeated"),
    (b"Transfer-Encoding: chunked\r\nX: y\r\ntransfer-encoding:", "transfer-encoding-repeated"),
    (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", INVALID),
    (b"Transfer-Encoding:\r\nTransfer-Encoding: chunked", INVALID),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 5", "te-with-length"),
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked", "te-with-length"),
    (b"Content-Length: 0\r\nTransfer-Encoding: chunked", "te-with-length"),
];

const ACCEPTED: &[&[u8]] = &[
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding:chunked",
    b"transfer-encoding: CHUNKED",
    b"TRANSFER-ENCODING: Chunked",
    b"Transfer-Encoding: \t chunked",
    b"Transfer-Encoding: chunked \t ",
];

/// Names that share no reading with Transfer-Encoding: plain fields without a meaning for us.
const OTHER_NAMES: &[&[u8]] = &[
    b"Transfer--Encoding: chunked",
    b"TransferEncoding: chunked",
    b"Transfer-Encodin: chunked",
    b"XTransfer-Encoding: chunked",
    b"Transfer-Encoding-: chunked",
    b"Transfer.Encoding: chunked",
];

fn ended(line: &[u8]) -> Vec<u8> {
    [line, b"\r\n"].concat()
}

#[test]
fn every_other_spelling_of_chunked_is_refused_in_requests() {
    expect_refusals(REFUSED, |line| post(ended(line)).err());
    for line in ACCEPTED {
        let framing = post(ended(line)).map(|read| read.framing);
        assert_eq!(framing, Ok(Framing::Chunked), "{}", line.escape_ascii());
    }
    for line in OTHER_NAMES {
        let framing = post(ended(line)).map(|read| read.framing);
        assert_eq!(framing, Ok(Framing::None), "{}", line.escape_ascii());
    }
}

#[test]
fn every_other_spelling_of_chunked_is_refused_in_responses() {
    let answer = |line: &[u8], to: &Method| {
        response([b"HTTP/1.1 200 OK\r\n", line, b"\r\n\r\n"].concat(), to)
    };
    for to in [Method::Get, Method::Head] {
        expect_refusals(REFUSED, |line| answer(line, &to).err());
    }
    for line in ACCEPTED {
        let framing = answer(line, &Method::Get).map(|read| read.framing);
        assert_eq!(framing, Ok(Framing::Chunked), "{}", line.escape_ascii());
    }
    for line in OTHER_NAMES {
        let framing = answer(line, &Method::Get).map(|read| read.framing);
        assert_eq!(framing, Ok(Framing::UntilClose), "{}", line.escape_ascii());
    }
}

#[test]
fn the_older_version_has_no_transfer_encoding() {
    for line in ACCEPTED {
        let head = [b"POST / HTTP/1.0\r\n", *line, b"\r\n\r\n"].concat();
        assert_eq!(request(head).unwrap_err(), "transfer-encoding-on-1.0");
        let head = [b"HTTP/1.0 200 OK\r\n", *line, b"\r\n\r\n"].concat();
        assert_eq!(response(head, &Method::Get).unwrap_err(), "transfer-encoding-on-1.0");
    }
}
