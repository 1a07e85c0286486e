//! Chunked bodies: the same data however they are cut, and no size, extension or trailer that
//! another reader could take differently.

use evenkeel_wire::{ChunkLimits, Chunked, Limits, Step, write_chunk_size};
use proptest::prelude::*;

use crate::support::expect_refusals;

const LIMITS: ChunkLimits = ChunkLimits {
    extension_max: 16,
    trailers: Limits { head_max: 128, line_max: 0, fields_max: 4 },
};

/// Decodes the pieces in turn: the data, and what is left behind the end of the body.
pub(crate) fn decode<'a>(
    chunked: &mut Chunked,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), &'static str> {
    let (mut data, mut behind) = (Vec::new(), None);
    for piece in pieces {
        let mut rest = piece;
        while behind.is_none() && !rest.is_empty() {
            match chunked.step(rest).map_err(|refusal| refusal.reason.as_str())? {
                Step::Data { skip, length } => {
                    assert_ne!(length, 0);
                    data.extend_from_slice(&rest[skip..skip + length]);
                    rest = &rest[skip + length..];
                }
                Step::More { consumed } => {
                    assert_eq!(consumed, rest.len());
                    rest = &[];
                }
                Step::End { consumed } => {
                    behind = Some(rest[consumed..].to_vec());
                    rest = &[];
                }
            }
        }
        if let (Some(behind), false) = (&mut behind, rest.is_empty()) {
            behind.extend_from_slice(rest);
        }
    }
    Ok((data, behind))
}

fn whole(body: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), &'static str> {
    decode(&mut Chunked::new(LIMITS), [body])
}

const BODY: &[u8] =
    b"5\r\nhello\r\n0001;a=\"b\";c\r\n \r\nA\r\n0123456789\r\n00;x\r\nX-Sum: 1\r\nETag: y\r\n\r\nGET";

#[test]
fn a_body_cut_anywhere_gives_the_same_data() {
    let expected = Ok((b"hello 0123456789".to_vec(), Some(b"GET".to_vec())));
    assert_eq!(whole(BODY), expected);
    let mut chunked = Chunked::new(LIMITS);
    assert_eq!(
        decode(&mut chunked, BODY[..BODY.len() - 3].chunks(1)).unwrap().1.as_deref(),
        Some(b"".as_slice())
    );
    for first in 0..BODY.len() {
        for second in first..BODY.len() {
            chunked.restart();
            let pieces = [&BODY[..first], &BODY[first..second], &BODY[second..]];
            let (data, _) = decode(&mut chunked, pieces).unwrap();
            assert_eq!(data, b"hello 0123456789", "cut at {first} and {second}");
            let trailers: Vec<_> = chunked.trailers().iter().map(|field| field.value).collect();
            assert_eq!(trailers, [b"1", b"y"]);
        }
    }
}

#[test]
fn a_body_that_is_cut_short_never_ends() {
    for cut in 0..BODY.len() - 3 {
        assert_eq!(whole(&BODY[..cut]).unwrap().1, None, "at {cut}");
    }
    assert_eq!(Chunked::new(LIMITS).step(b""), Ok(Step::More { consumed: 0 }));
}

#[test]
fn nothing_is_read_behind_the_end() {
    let mut chunked = Chunked::new(LIMITS);
    assert_eq!(chunked.step(b"0\r\n\r\n\0\0"), Ok(Step::End { consumed: 5 }));
    assert_eq!(chunked.step(b"\0"), Ok(Step::End { consumed: 0 }));
}

#[test]
fn broken_bodies_are_refused_for_their_reason() {
    let cases: &[(&[u8], &str)] = &[
        (b"\r\n", "chunk-size-invalid"),
        (b"\n", "chunk-size-invalid"),
        (b"x\r\n", "chunk-size-invalid"),
        (b"+5\r\n", "chunk-size-invalid"),
        (b"-1\r\n", "chunk-size-invalid"),
        (b"0x5\r\n", "chunk-size-invalid"),
        (b"5x\r\n", "chunk-size-invalid"),
        (b"5g\r\n", "chunk-size-invalid"),
        (b" 5\r\n", "chunk-size-invalid"),
        (b"\t5\r\n", "chunk-size-invalid"),
        (b"5 \r\n", "chunk-size-invalid"),
        (b"5 ;a\r\n", "chunk-size-invalid"),
        (b"5\t\r\n", "chunk-size-invalid"),
        (b"5_0\r\n", "chunk-size-invalid"),
        (b"5.\r\n", "chunk-size-invalid"),
        (b"5,\r\n", "chunk-size-invalid"),
        (b";a\r\n", "chunk-size-invalid"),
        (b"\x005\r\n", "chunk-size-invalid"),
        (b"5\x00\r\n", "chunk-size-invalid"),
        (b"\xef\xbc\x95\r\n", "chunk-size-invalid"),
        (b"5\nhello", "bare-lf"),
        (b"5\rhello", "bare-cr"),
        (b"5\r\r\n", "bare-cr"),
        (b"5;a\nhello", "bare-lf"),
        (b"5;a\rhello", "bare-cr"),
        (b"2;\nxx\r\n0\r\n\r\n", "bare-lf"),
        (b"5;a\x00\r\n", "chunk-extension-invalid"),
        (b"5;a\x0b\r\n", "chunk-extension-invalid"),
        (b"5;a\x7f\r\n", "chunk-extension-invalid"),
        (b"5;0123456789abcdef\r\n", "chunk-extension-too-long"),
        (b"8000000000000000\r\n", "chunk-size-overflow"),
        (b"ffffffffffffffff\r\n", "chunk-size-overflow"),
        (b"10000000000000005\r\n", "chunk-size-overflow"),
        (b"00000000000000005\r\n", "chunk-size-overflow"),
        (b"5\r\nhello0\r\n\r\n", "chunk-end-missing"),
        (b"5\r\nhello\n0\r\n\r\n", "chunk-end-missing"),
        (b"5\r\nhello\r0\r\n\r\n", "chunk-end-missing"),
        (b"5\r\nhello!\r\n0\r\n\r\n", "chunk-end-missing"),
        (b"5\r\nhello\r\n\r\n0\r\n\r\n", "chunk-size-invalid"),
        (b"0\r\n\n", "bare-lf"),
        (b"0\r\n\rX", "bare-cr"),
        (b"0\r\nA: b\n\r\n", "bare-lf"),
        (b"0\r\nA: b\rc\r\n\r\n", "bare-cr"),
        (b"0\r\nA: b\r\n c\r\n\r\n", "obs-fold"),
        (b"0\r\n A: b\r\n\r\n", "obs-fold"),
        (b"0\r\nA : b\r\n\r\n", "space-before-colon"),
        (b"0\r\n: b\r\n\r\n", "name-empty"),
        (b"0\r\nGET / HTTP/1.1\r\n\r\n", "colon-missing"),
        (b"0\r\nA: \x00\r\n\r\n", "value-invalid"),
        (b"0\r\nContent_Length: 5\r\n\r\n", "underscore-look-alike"),
        (b"0\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n", "trailers-too-many"),
    ];
    expect_refusals(cases, |body| whole(body).err());
    for body in cases.iter().map(|(body, _)| body) {
        let in_bytes = decode(&mut Chunked::new(LIMITS), body.chunks(1)).err();
        assert_eq!(in_bytes, whole(body).err(), "{}", body.escape_ascii());
    }
}

#[test]
fn the_largest_size_fits_into_63_bits() {
    let mut chunked = Chunked::new(LIMITS);
    assert_eq!(chunked.step(b"7fffffffffffffff\r\nab"), Ok(Step::Data { skip: 18, length: 2 }));
    assert_eq!(chunked.step(b"\r\n0\r\n"), Ok(Step::Data { skip: 0, length: 5 }));
    assert_eq!(whole(b"0000000000000001\r\nx\r\n0\r\n\r\n").unwrap().0, b"x");
}

#[test]
fn trailers_that_come_too_late_are_dropped() {
    let names = [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "X-Forwarded-For",
        "X-Forwarded-By",
        "Forwarded",
        "TE",
        "Trailer",
        "Upgrade",
        "Content-Type",
        "content-own",
        "Expect",
        "Range",
        "If-Match",
        "Cache-Control",
        "Location",
        "WWW-Authenticate",
        "Proxy-Authorization",
        "Max-Forwards",
        "X-Real-IP",
        "Via",
        "Vary",
    ];
    for name in names {
        let mut chunked = Chunked::new(LIMITS);
        let body = format!("0\r\n{name}: x\r\nGrpc-Status: 0\r\n\r\n");
        decode(&mut chunked, [body.as_bytes()]).unwrap();
        let left: Vec<_> = chunked.trailers().iter().map(|field| field.name).collect();
        assert_eq!(left, [b"Grpc-Status"], "{name}");
    }
}

#[test]
fn trailers_are_limited_in_bytes() {
    let body = |length: usize| format!("0\r\nA: {}\r\n\r\n", "x".repeat(length));
    let room = LIMITS.trailers.head_max - "A: \r\n\r\n".len();
    assert!(whole(body(room).as_bytes()).unwrap().1.is_some());
    assert_eq!(whole(body(room + 1).as_bytes()).unwrap_err(), "trailers-too-large");
    let endless = [b"0\r\n".as_slice(), &[b'a'; 1_000]].concat();
    assert_eq!(whole(&endless).unwrap_err(), "trailers-too-large");
}

#[test]
fn a_flood_of_extensions_is_refused_and_signed_uploads_are_not() {
    let signature = "b".repeat(64);
    let limits = ChunkLimits { extension_max: 128, ..LIMITS };
    let large = format!("2000;chunk-signature={signature}\r\n{}\r\n", "x".repeat(0x2000));
    let small = format!("1;chunk-signature={signature}\r\nx\r\n");
    let run = |chunk: &str| {
        let mut chunked = Chunked::new(limits);
        (0..2_000).try_for_each(|_| decode(&mut chunked, [chunk.as_bytes()]).map(drop))
    };
    assert_eq!(run(&large), Ok(()));
    assert_eq!(run(&small), Err("chunk-extension-too-long"));
}

#[test]
fn sizes_are_written_in_hexadecimal() {
    for size in [0, 1, 9, 10, 15, 16, 31, 255, 256, 65_535, 1 << 20, usize::MAX] {
        let mut out = Vec::new();
        write_chunk_size(&mut out, size);
        assert_eq!(out, format!("{size:x}\r\n").into_bytes());
    }
}

proptest! {
    #[test]
    fn what_is_written_in_chunks_is_read_back_however_it_is_cut(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            write_chunk_size(&mut body, chunk.len());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"0\r\nX: y\r\n\r\n");
        let end = body.len();
        body.extend_from_slice(&rest);
        let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(end)).collect();
        places.extend([0, end]);
        places.sort();
        let pieces = places.windows(2).map(|pair| &body[pair[0]..pair[1]]);
        let mut chunked = Chunked::new(LIMITS);
        let (data, behind) = decode(&mut chunked, pieces).unwrap();
        prop_assert_eq!(data, chunks.concat());
        prop_assert_eq!(behind, Some(Vec::new()));
        prop_assert_eq!(whole(&body).unwrap().1, Some(rest));
    }
}
